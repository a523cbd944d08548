"""The comparison as a table, as plots and as raw rows."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lib.hardware import Machine
from lib.pairs import Spread, spread
from lib.peer_scenarios import Measured

UNITS = {
    "prefix": ("time to first token, hit / miss", False),
    "arrival": ("p95 gap beside a long prompt / median gap", False),
    "embeddings": ("sentences/s", True),
}
TOKENS = ("tokens/s", True)
"""What a figure is, and whether more is better."""


@dataclass(slots=True)
class Comparison:
    """All that was measured in one run; every figure is kept."""

    machine: Machine
    command: str
    versions: dict[str, str]
    rows: list[Measured] = field(default_factory=list)

    def scenarios(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(row.scenario for row in self.rows))

    def servers(self, scenario: str) -> list[str]:
        """Those that took part."""
        return list(dict.fromkeys(row.server for row in self.rows if row.scenario == scenario))

    def figure(self, scenario: str, server: str) -> Spread:
        """The median, the least and the greatest of the rounds."""
        return spread([row.value for row in self.rows if (row.scenario, row.server) == (scenario, server)])

    def ratio(self, scenario: str, server: str, to: str, *, by_cpu: bool = False) -> Spread | None:
        """This server's figure over another's, round by round; None if they share no round. `by_cpu`: of what each did
        in a second of its own processor time, which others' work on the machine changes less."""
        rows = [row for row in self.rows if row.scenario == scenario and (row.cores or not by_cpu)]
        values = {(row.round, row.server): row.value / (row.cores if by_cpu and row.cores else 1) for row in rows}
        both = [values[n, server] / values[n, to] for n, name in values if name == server and (n, to) in values]
        return spread(both) if both else None

    def markdown(self, ours: str) -> str:
        """A table for each scenario."""
        blocks = [f"{self.machine.line()}\n\n`{self.command}`"]
        blocks += [self._table(scenario, ours) for scenario in self.scenarios()]
        return "\n\n".join(blocks) + "\n"

    def _table(self, scenario: str, ours: str) -> str:
        what, more_is_better = unit_of(scenario)
        lines = [f"## {scenario}: {what}", ""]
        lines.append("| server | median (least to greatest) | of ours | by processor time |")
        lines.append("| --- | --- | --- | --- |")
        for server in self.servers(scenario):
            wall, cpu = (self.ratio(scenario, server, ours, by_cpu=by_cpu) for by_cpu in (False, True))
            relative = " | " if server == ours else f"{said(wall)} | {said(cpu) if more_is_better else ''}"
            lines.append(f"| {server} | {said(self.figure(scenario, server))} | {relative} |")
        busy = max(row.others_cores for row in self.rows if row.scenario == scenario)
        return "\n".join([*lines, "", f"Others' work on the machine: at most {busy:.2f} cores."])

    def write(self, stem: Path, ours: str) -> None:
        """Writes `stem`.md, `stem`.json and `stem`.png."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".md").write_text(self.markdown(ours))
        facts = {"machine": asdict(self.machine), "command": self.command, "versions": self.versions}
        rows = [asdict(row) for row in self.rows]
        stem.with_suffix(".json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
        if rows:
            self._plot(stem.with_suffix(".png"), ours)

    def _plot(self, path: Path, ours: str) -> None:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        scenarios = self.scenarios()
        figure, axes = plt.subplots(len(scenarios), 1, figsize=(9, 2.2 * len(scenarios)), squeeze=False)
        for axis, scenario in zip(axes[:, 0], scenarios, strict=True):
            servers = self.servers(scenario)[::-1]
            figures = [self.figure(scenario, server) for server in servers]
            errors = [[f.median - f.low for f in figures], [f.high - f.median for f in figures]]
            colours = ["#d95f02" if server == ours else "#7f9fb8" for server in servers]
            axis.barh(servers, [f.median for f in figures], xerr=errors, color=colours, height=0.6, capsize=2)
            what, more_is_better = unit_of(scenario)
            better = "more is better" if more_is_better else "less is better"
            axis.set_title(f"{scenario}: {what} ({better})", fontsize=9, loc="left")
            axis.tick_params(labelsize=8)
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        plt.close(figure)


def unit_of(scenario: str) -> tuple[str, bool]:
    """What a scenario's figure is, and whether more of it is better."""
    return next((unit for name, unit in UNITS.items() if scenario.startswith(name)), TOKENS)


def said(value: Spread | None) -> str:
    """A figure with its spread; "" for none."""
    if value is None:
        return ""
    digits = 1 if value.median >= 10 else 3
    return f"{value.median:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"
