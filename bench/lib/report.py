"""The results of a run as tables and as files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.hardware import Machine
from rich.console import Console
from rich.markdown import Markdown


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach and whether it was."""

    name: str
    value: str
    target: str
    met: bool


@dataclass(slots=True)
class Report:
    """What has been measured so far. `raw` goes into the JSON file only."""

    machine: Machine
    command: str
    engine: dict[str, Any] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)
    streaming: dict[str, Any] | None = None
    slow_readers: list[dict[str, Any]] = field(default_factory=list)
    abandon: dict[str, Any] | None = None
    targets: list[Target] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        blocks = [f"{self.machine.line()}\n\n`{self.command}`"]
        if self.models:
            blocks.append(_model_table(self.models))
        if self.streaming:
            blocks.append(_streaming_table(self.streaming))
        if self.slow_readers:
            blocks.append(_slow_table(self.slow_readers))
        if self.abandon:
            blocks.append(_abandon_table(self.abandon))
        if self.targets:
            rows = [[t.name, t.value, t.target, "yes" if t.met else "**no**"] for t in self.targets]
            blocks.append(_table(["figure", "measured", "target", "met"], rows))
        return "\n\n".join(blocks) + "\n"

    def show(self, console: Console) -> None:
        """Drawn tables on a terminal; elsewhere the Markdown itself, which no narrow width breaks."""
        if console.is_terminal:
            console.print(Markdown(self.markdown()))
        else:
            print(self.markdown())

    def write(self, stem: Path) -> None:
        """Writes `stem`.json and `stem`.md."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".md").write_text(self.markdown())
        stem.with_suffix(".json").write_text(json.dumps(self._document(), separators=(",", ":")) + "\n")

    def _document(self) -> dict[str, Any]:
        return {
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _plain(self.machine),
            "command": self.command,
            "engine": self.engine,
            "models": self.models,
            "streaming": self.streaming,
            "slow_readers": self.slow_readers,
            "abandon": self.abandon,
            "targets": [_plain(target) for target in self.targets],
            "raw": self.raw,
        }


def _plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _range(values: Mapping[str, float], digits: int) -> str:
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f} to {values['high']:.{digits}f})"


def _model_table(figures: Sequence[Mapping[str, Any]]) -> str:
    head = ["model", "clients", "pairs", "bare tok/s", "server tok/s", "ratio (least to greatest)"]
    head += [
        "token totals differ",
        "prompt tokens cached",
        "failed",
        "TTFT p50 / p95 ms",
        "ITL p50 / p95 ms",
        "bare prefill batch",
        "others' cores",
    ]
    rows = [
        [
            str(f["model"]),
            str(f["clients"]),
            str(f["pairs"]),
            f"{f['baseline_tokens_per_s']:.1f}",
            f"{f['server_tokens_per_s']:.1f}",
            _range(f["ratio"], 3),
            f"{f['token_difference']:.2%}",
            str(f["cached_prompt_tokens"]),
            str(f["failed"]),
            _latency(f["ttft_ms"]),
            _latency(f["itl_ms"]),
            str(f["setting"]["prefill_batch_size"]),
            f"{f['others_cores']:.2f}",
        ]
        for f in figures
    ]
    return _table(head, rows)


def _latency(values: Mapping[str, float]) -> str:
    return f"{values['p50']:.1f} / {values['p95']:.1f}" if values else "-"


def _streaming_table(f: Mapping[str, Any]) -> str:
    head = [
        "scripted, clients",
        "pairs",
        "bare Starlette tok/s",
        "server tok/s",
        "ratio",
        "server events/s",
        "events per token",
    ]
    head += ["front end µs/token", "worker µs/token", "client µs/token", "failed", "others' cores"]
    row = [
        str(f["clients"]),
        str(f["pairs"]),
        _range(f["baseline_tokens_per_s"], 0),
        _range(f["server_tokens_per_s"], 0),
        _range(f["ratio"], 3),
        _range(f["server_events_per_s"], 0),
        f"{f['events_per_token']:.3f}",
        f"{f['front_end_us_per_token']:.1f}",
        f"{f['worker_us_per_token']:.1f}",
        f"{f['client_us_per_token']:.1f}",
        str(f["failed"]),
        f"{f['others_cores']:.2f}",
    ]
    return _table(head, [row])


def _slow_table(readers: Sequence[Mapping[str, Any]]) -> str:
    head = ["unread tokens", "held s", "RSS before MiB", "peak while unread", "peak while read"]
    head += ["neighbour's 200 tokens ms", "tokens received", "events received", "outcome"]
    rows = [
        [
            str(r["tokens"]),
            f"{r['held_s']:.0f}",
            f"{r['before_mib']:.1f}",
            f"{r['peak_held_mib']:.1f}",
            f"{r['peak_read_mib']:.1f}",
            f"{r['neighbour_e2e_ms']:.1f}",
            str(r["received_tokens"]),
            str(r["received_events"]),
            str(r["outcome"]),
        ]
        for r in readers
    ]
    return _table(head, rows)


def _abandon_table(f: Mapping[str, Any]) -> str:
    head = ["abandoned one by one: p50 / p99 / max ms", "50 at once ms", "admitted", "disturbed"]
    head += ["the rest", "zero after ms", "error lines in the log", "exit code"]
    one = f["one_by_one_ms"]
    row = [
        f"{one['p50']:.1f} / {one['p99']:.1f} / {one['max']:.1f}",
        f"{f['at_once_ms']:.1f}",
        str(f["admitted"]),
        "yes" if f["disturbed"] else "no",
        ", ".join(f"{count} {outcome}" for outcome, count in f["rest_outcomes"].items()),
        f"{f['settled_ms']:.1f}",
        str(len(f["log_troubles"])),
        str(f["exit_code"]),
    ]
    return _table(head, [row])
