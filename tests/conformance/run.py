"""Runs other people's suites against this server; `make conformance` starts it.

They speak to a real server whose model calls tools and keeps to grammars, but can't see. What fails is named, with its
reason, in docs/conformance.md: any other failure, and any test that is named there and passes, ends the run with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent)]

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from support.running.oracles import ENVIRONMENT, answer_with, make_oracle  # noqa: E402
from support.running.servers import Server  # noqa: E402

from mlx_server.app.config.settings import default_cache_dir  # noqa: E402
from mlx_server.app.demo.demo import ensure_demo_model  # noqa: E402

INSTALLED = ROOT / ".conformance"
BIN = INSTALLED / "python" / "bin"
DOCUMENT = ROOT / "docs" / "conformance.md"
EXPECTED = re.compile(r"^\| `(?P<suite>[^`]+)` \| `(?P<test>[^`]+)` \|", re.MULTILINE)
TIMEOUT_S = 1200

OPEN_RESPONSES = "https://github.com/openresponses/openresponses"
OPEN_RESPONSES_COMMIT = "92c12d96d7b61d6d15e2214daa5e9c6000ab6e1c"
OPEN_RESPONSES_NEEDS = ("bun@1.3.9", "zod@3.25.76")
"""The only packages of its many that the test itself imports, and what runs it: Node's WebSocket sends no headers."""

REPLIES = (
    {"when": r"(?i)weather|use the tool|using the tool|magic_function|what is \d+ \+ \d+", "call": "*"},
    {
        "when": r"(?i)joke",
        "say": "Why did the cat sit on the keyboard? To keep an eye on the mouse.",
        "json": {"setup": "Why did the cat sit on the keyboard?", "punchline": "To keep an eye on the mouse."},
    },
    {"when": "(?i)reasoning", "say": "15 times 37 is 555.", "think": "15 * 37 = 555"},
    {"when": "", "say": "Hello there, my friend."},
)
"""What the model says to the suites' questions."""


@dataclass(frozen=True)
class Result:
    """One test: what is `wrong`, if anything; `skipped` is why it was not tried."""

    test: str
    wrong: str = ""
    skipped: str = ""


class LeftOut(Exception):  # noqa: N818 - named for the fact
    """Raised when a suite can't be had on this machine."""


def run(command: list[str], **env: str) -> str:
    """A suite's output, whatever its exit code."""
    done = subprocess.run(
        command, cwd=INSTALLED, env={**os.environ, **env}, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    return done.stdout or done.stderr


def install_python() -> None:
    """The Python packages, as pinned."""
    wanted, mark = (HERE / "requirements.txt").read_text(), INSTALLED / "python" / ".installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(BIN.parent)], check=True)
    into = ["--python", str(BIN / "python"), "-r", str(HERE / "requirements.txt")]
    subprocess.run([*uv, "pip", "install", "--quiet", *into], check=True)
    mark.write_text(wanted)


def langchain(name: str) -> Callable[[str], list[Result]]:
    """One of the classes in langchain_suites.py."""

    def tried(root: str) -> list[Result]:
        report = INSTALLED / f"{name}.xml"
        report.unlink(missing_ok=True)
        options = ["-c", str(HERE / "langchain.ini"), f"--confcutdir={HERE}", f"--junitxml={report}"]
        test = f"{HERE / 'langchain_suites.py'}::{name}"
        output = run([str(BIN / "python"), "-m", "pytest", *options, test], CONFORMANCE_ROOT=root)
        if not report.exists():
            raise RuntimeError(output)
        return [case_of(case) for case in ElementTree.parse(report).iter("testcase")]

    return tried


def case_of(case: ElementTree.Element) -> Result:
    """A test in pytest's report."""
    wrong = next((one for kind in ("failure", "error") if (one := case.find(kind)) is not None), None)
    skipped = case.find("skipped")
    told = "" if wrong is None else wrong.get("message") or "it failed"
    return Result(case.get("name", ""), told, "" if skipped is None else skipped.get("message") or "skipped")


def llm_comply(api: str) -> Callable[[str], list[Result]]:
    """The tests of one API in llm-comply."""

    def tried(root: str) -> list[Result]:
        header = ["--header", "anthropic-version:2023-06-01"] if api == "anthropic" else []
        where = ["--base-url", f"{root}/v1", "--api-key", "none", "--model", "oracle", "--format", api, *header]
        return results_of(run([str(BIN / "llm-comply"), *where, "--json"]))

    return tried


def open_responses(root: str) -> list[Result]:
    """Open Responses' own test, as GitHub has it or a checkout that OPENRESPONSES names. Raises LeftOut."""
    if shutil.which("npm") is None:
        raise LeftOut("there is no npm")
    own = os.environ.get("OPENRESPONSES")
    source, commit = (str(Path(own).resolve()), "HEAD") if own else (OPEN_RESPONSES, OPEN_RESPONSES_COMMIT)
    node, folder = INSTALLED / "node", INSTALLED / "node" / "openresponses"
    node.mkdir(exist_ok=True)
    (node / "package.json").write_text("{}")  # without one, npm looks for a project further up
    steps = (
        ["git", "init", "--quiet", str(folder)],
        ["git", "-C", str(folder), "fetch", "--quiet", "--depth=1", source, commit],
        ["git", "-C", str(folder), "checkout", "--quiet", "--force", "FETCH_HEAD"],
        ["npm", "install", "--prefix", str(node), "--no-audit", "--no-fund", "--no-save", *OPEN_RESPONSES_NEEDS],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            raise LeftOut(
                f"`{' '.join(step[:4])} …` failed: {(done.stderr.strip() or 'it says nothing').splitlines()[-1]}"
            )
    test = [str(node / "node_modules" / ".bin" / "bun"), str(folder / "bin" / "compliance-test.ts")]
    return results_of(run([*test, "--base-url", f"{root}/v1", "--api-key", "none", "--model", "oracle", "--json"]))


def results_of(output: str) -> list[Result]:
    """What llm-comply and Open Responses' test print."""
    start = output.find("{")
    if start < 0:
        raise RuntimeError(output)
    results = json.loads(output[start:])["results"]
    return [
        Result(
            one["id"],
            "; ".join(one.get("errors") or ["it failed"]) if one["status"] == "failed" else "",
            "; ".join(one.get("errors") or ["skipped"]) if one["status"] == "skipped" else "",
        )
        for one in results
    ]


SUITES: dict[str, Callable[[str], list[Result]]] = {
    "langchain-chat": langchain("TestChatOpenAI"),
    "langchain-responses": langchain("TestChatOpenAIResponses"),
    "langchain-anthropic": langchain("TestChatAnthropic"),
    "llm-comply-chat": llm_comply("openai-chat"),
    "llm-comply-responses": llm_comply("open-responses"),
    "llm-comply-anthropic": llm_comply("anthropic"),
    "open-responses": open_responses,
}


def expected() -> set[tuple[str, str]]:
    """The failures that the document names, as suites and tests."""
    return {(found["suite"], found["test"]) for found in EXPECTED.finditer(DOCUMENT.read_text())}


def surprises(suite: str, results: list[Result], known: set[tuple[str, str]]) -> list[str]:
    """What went otherwise than the document says."""
    named = {test for of, test in known if of == suite}
    failed = {result.test: result.wrong for result in results if result.wrong}
    new = [f"{suite}: {test} fails: {wrong}" for test, wrong in failed.items() if test not in named]
    gone = sorted(named - failed.keys())
    return [*new, *(f"{suite}: {test} does not fail any more: take it out of {DOCUMENT.name}" for test in gone)]


def main() -> int:
    """Run the suites that are named, or all; 1 if one of them went otherwise than expected."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="SUITE", help=f"some of {', '.join(SUITES)}; without any: all")
    options = parser.parse_args()
    INSTALLED.mkdir(exist_ok=True)
    install_python()
    console = Console()
    table = Table("suite", "passed", "failed", "skipped")
    told: list[str] = []
    source = ensure_demo_model(default_cache_dir(), Console(stderr=True))
    with tempfile.TemporaryDirectory() as temporary:
        model = make_oracle(source, Path(temporary) / "oracle", "lenient")
        answer_with(model, REPLIES)
        bounds = ("--max-concurrency", 4, "--default-max-tokens", 400)
        server = Server("--model-path", model, *bounds, env=ENVIRONMENT)
        try:
            server.wait_ready()
            for name in options.names or SUITES:
                try:
                    results = SUITES[name](server.root)
                except LeftOut as reason:
                    table.add_row(name, f"[yellow]left out: {reason}[/]", "", "")
                    continue
                failed, skipped = sum(bool(one.wrong) for one in results), sum(bool(one.skipped) for one in results)
                table.add_row(name, str(len(results) - failed - skipped), str(failed), str(skipped))
                told += surprises(name, results, expected())
        finally:
            server.close()
    console.print(table)
    for line in told:
        console.print(line, markup=False, highlight=False)
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main())
