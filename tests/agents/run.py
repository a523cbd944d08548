"""Has real coding agents do a small task with a server whose model plays a script; `make agents` starts it.

Each works in a folder of its own, with a home of its own and no other environment, as `mlx-server connect` configures
it: it changes a file, runs a command, reads what that prints, and says that it is done. With --record its requests are
kept for the tests, without their prose.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(HERE)]

import psutil  # noqa: E402
from agents import AFTER, AGENTS, BEFORE, DONE, FILE, SEEN, Agent  # noqa: E402
from prose import Replacer  # noqa: E402
from recorder import Exchange, recording  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from support.running.oracles import ENVIRONMENT, make_oracle, script  # noqa: E402
from support.running.servers import Server  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from mlx_server.app.config.settings import default_cache_dir  # noqa: E402
from mlx_server.app.demo.demo import ensure_demo_model  # noqa: E402

INSTALLED = ROOT / ".agents"
TRACES = HERE / "traces"
TIMEOUT_S = 300
GENERATING = ("/v1/chat/completions", "/v1/responses", "/v1/messages")


@dataclass(frozen=True)
class Outcome:
    """How it went with an agent: what is `wrong`, if anything, and what it asked."""

    agent: Agent
    wrong: str
    exchanges: list[Exchange]
    output: str


class NotInstalled(Exception):  # noqa: N818 - named for the fact
    """Raised when an agent can't be installed on this machine."""


def install(agent: Agent) -> list[Path]:
    """The folders of an agent's programs. Raises NotInstalled."""
    modules = INSTALLED / "node_modules"
    if not (modules / ".package-lock.json").exists():
        INSTALLED.mkdir(exist_ok=True)
        shutil.copyfile(HERE / "package.json", INSTALLED / "package.json")
        subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=INSTALLED, check=True)
    programs = [modules / ".bin"]
    if not agent.python:
        if not (modules / agent.package).exists():
            raise NotInstalled(f"npm can't install {agent.package} here")
        return programs
    environment = INSTALLED / agent.name
    if not (environment / ".installed").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], check=True)
        into = ["--python", str(environment / "bin" / "python")]
        subprocess.run([*uv, "pip", "install", "--quiet", *into, agent.package], check=True)
        (environment / ".installed").touch()
    return [environment / "bin", *programs]


def try_agent(agent: Agent, server: Server) -> Outcome:
    """Let it do its task. Raises NotInstalled."""
    programs = install(agent)
    with tempfile.TemporaryDirectory(prefix="agent-") as home, recording(server.root) as recorder:
        folder = Path(home) / "project"
        folder.mkdir()
        (folder / FILE).write_text(BEFORE)
        env = {
            "HOME": home,
            "PATH": os.pathsep.join([*map(str, programs), "/usr/local/bin", "/usr/bin", "/bin"]),
            "TERM": "dumb",
            **agent.environment,
            **connected(agent, recorder.url, home),
        }
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        prompt = f"Please do this: {script(*agent.steps(folder))}"
        command = [argument.replace(".continue/", f"{home}/.continue/") for argument in agent.command(prompt)]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
            output, code = done.stdout + done.stderr, done.returncode
        except subprocess.TimeoutExpired as late:
            output, code = str(late.stdout), -1
        finally:
            end_all_of(home)
        asked = [each for each in recorder.exchanges if each.path.partition("?")[0] in GENERATING]
        return Outcome(agent, what_is_wrong(agent, folder, code, output, asked), asked, output)


def end_all_of(home: str) -> None:
    """End what an agent with that home has left running: Cline 3.0.65 leaves a daemon, in a session of its own."""
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("HOME") == home:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def connected(agent: Agent, url: str, home: str) -> dict[str, str]:
    """Have `mlx-server connect` write the agent's files; the environment that it names."""
    connect = [sys.executable, "-m", "mlx_server.app", "connect", agent.client, "--url", url, "--model", "oracle"]
    env = {**os.environ, "HOME": home}
    done = subprocess.run([*connect, "--write", "--yes"], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    exports = (line.removeprefix("export ") for line in done.stdout.splitlines() if line.startswith("export "))
    return dict(export.split("=", 1) for export in exports)


def what_is_wrong(agent: Agent, folder: Path, code: int, output: str, asked: list[Exchange]) -> str:
    """The first thing that is not as it should be; nothing if all is."""
    refused = next((each for each in asked if each.status != 200), None)
    if refused is not None:
        return f"{refused.path} was answered with {refused.status}"
    if code != 0:
        return f"it ended with code {code}"
    if (folder / FILE).read_text() != AFTER:
        return "the file is as it was"
    if agent.runs and not (folder / SEEN).exists():
        return "the command was not run"
    if agent.runs and not any(AFTER.strip() in last_heard(each) for each in asked[-2:]):
        return "the model was not told what the command printed"
    return "" if DONE in output else "it did not say that it is done"


def last_heard(asked: Exchange) -> str:
    """The end of a request's conversation, as JSON."""
    turns = asked.body.get("messages") or asked.body["input"]
    return json.dumps(turns[-3:])


def keep(outcome: Outcome, replacer: Replacer) -> None:
    """Write its requests, without their prose."""
    TRACES.mkdir(exist_ok=True)
    rows = [{"path": each.path, "body": replacer.body(each.body)} for each in outcome.exchanges]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (TRACES / f"{outcome.agent.name}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


def main() -> int:
    """Try the agents that are named, or all; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="AGENT", help=f"some of {', '.join(AGENTS)}; without any: all")
    parser.add_argument("--record", action="store_true", help="keep the requests for the tests")
    parser.add_argument("--kind", choices=["lenient", "strict"], default="lenient", help="the model's chat template")
    parser.add_argument("--verbose", action="store_true", help="show what failing agents printed and said last")
    options = parser.parse_args()
    console = Console()
    source = ensure_demo_model(default_cache_dir(), Console(stderr=True))
    replacer = Replacer(word.lstrip("Ġ") for word in Tokenizer.from_file(str(source / "tokenizer.json")).get_vocab())
    table = Table("agent", "package", "requests", "ignored fields", "outcome")
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        model = make_oracle(source, Path(temporary) / "oracle", options.kind)
        server = Server("--model-path", model, "--model-name", "oracle", "--max-concurrency", 4, env=ENVIRONMENT)
        try:
            server.wait_ready()
            for name in options.names or AGENTS:
                agent = AGENTS[name]
                try:
                    outcome = try_agent(agent, server)
                except NotInstalled as error:
                    table.add_row(name, agent.package, "", "", f"[yellow]{error}[/]")
                    continue
                ignored = ", ".join(sorted({each.ignored for each in outcome.exchanges if each.ignored}))
                told = f"[red]{outcome.wrong}[/]" if outcome.wrong else "[green]ok[/]"
                table.add_row(name, agent.package, str(len(outcome.exchanges)), ignored, told)
                console.print(f"{name}: {outcome.wrong or 'ok'}")
                if outcome.wrong and options.verbose:
                    console.print(outcome.output, markup=False)
                    console.print(*map(last_heard, outcome.exchanges[-1:]), markup=False)
                failed |= bool(outcome.wrong)
                if options.record and not outcome.wrong:
                    keep(outcome, replacer)
        finally:
            server.close()
    console.print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
