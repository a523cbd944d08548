"""The agents that `make agents` drives: how each is started, and what its model says to have a task done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.running.oracles import call, say

Step = dict[str, Any]

DONE = "Everything is as you wanted it."
BEFORE, AFTER = "hello\n", "goodbye\n"
FILE, SEEN = "greeting.txt", "seen.txt"
SHOW = f"cp {FILE} {SEEN} && cat {SEEN}"
LOOKS = (f"wc -c {FILE}", "ls", SHOW)
"""The commands that are run after the file was changed."""
SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Agent:
    """One agent. `client` is what `mlx-server connect` calls it; `package` is an npm package of package.json, or with
    `python` what pip installs into an environment of its own.

    `command(prompt, folder)` starts it in the folder where it is to work, and `steps(folder)` are what the model says
    there: it changes FILE, runs SHOW, and says DONE. `runs`: it can run commands.
    """

    name: str
    client: str
    package: str
    command: Callable[[str], list[str]]
    steps: Callable[[Path], list[Step]]
    environment: Mapping[str, str] = field(default_factory=dict)
    python: bool = False
    runs: bool = True


def wrote(function: str, path: str, content: str, *, absolute: bool = True) -> Callable[[Path], Step]:
    """A step that writes the file, by what the agent calls its function and its arguments."""

    def step(folder: Path) -> Step:
        return call(function, **{path: str(folder / FILE) if absolute else FILE, content: AFTER})

    return step


def steps(
    write: Callable[[Path], Step], run: Callable[[str], Step], read: Callable[[Path], Step] | None = None
) -> Callable[[Path], list[Step]]:
    """The whole script; some agents write no file that they have not `read`."""
    return lambda folder: [*([read(folder)] if read else []), write(folder), *map(run, LOOKS), say(DONE)]


def running(function: str, argument: str, **more: Any) -> Callable[[str], Step]:
    """A step that runs a command, by what the agent calls its function and its argument."""
    return lambda command: call(function, **{argument: command}, **more)


def shell_only(run: Callable[[str], Step], last: Step | None = None) -> Callable[[Path], list[Step]]:
    """The script of an agent whose only way is a shell."""
    commands = (f"printf 'goodbye\\n' > {FILE}", *LOOKS)
    return lambda folder: [*map(run, commands), last or say(DONE)]


def whole_file(folder: Path) -> list[Step]:
    """What Aider reads as a whole file."""
    return [say(f"{FILE}\n```\n{AFTER}```\n\n{DONE}")]


CODEX = ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
AIDER = ["aider", "--yes-always", "--no-show-model-warnings", "--no-check-update", "--analytics-disable", "--no-git"]

AGENTS = {
    agent.name: agent
    for agent in (
        Agent(
            "codex",
            "codex",
            "@openai/codex",
            lambda prompt: [*CODEX, prompt],
            shell_only(running("exec_command", "cmd")),
        ),
        Agent(
            "claude-code",
            "claude-code",
            "@anthropic-ai/claude-code",
            lambda prompt: ["claude", "--dangerously-skip-permissions", "-p", prompt],
            steps(
                wrote("Write", "file_path", "content"),
                running("Bash", "command", description="Looks at the work"),
                lambda folder: call("Read", file_path=str(folder / FILE)),
            ),
            # It takes no permissions to be skipped from root, unless it is told that this is a sandbox.
            {"IS_SANDBOX": "1"},
        ),
        Agent(
            "opencode",
            "opencode",
            "opencode-ai",
            lambda prompt: ["opencode", "run", prompt],
            steps(wrote("write", "filePath", "content"), running("bash", "command", description="Looks at the work")),
        ),
        Agent(
            "qwen-code",
            "qwen-code",
            "@qwen-code/qwen-code",
            lambda prompt: ["qwen", "-y", "-p", prompt],
            steps(
                wrote("write_file", "file_path", "content"),
                running("run_shell_command", "command", is_background=False),
                lambda folder: call("read_file", file_path=str(folder / FILE)),
            ),
        ),
        Agent(
            "cline",
            "cline",
            "cline",
            lambda prompt: ["cline", "--json", prompt],
            shell_only(lambda command: call("run_commands", commands=[command])),
        ),
        Agent(
            "continue",
            "continue",
            "@continuedev/cli",
            lambda prompt: ["cn", "--config", ".continue/config.yaml", "--auto", "-p", prompt],
            steps(wrote("Write", "filepath", "content", absolute=False), running("Bash", "command")),
        ),
        Agent(
            "pi",
            "pi",
            "@mariozechner/pi-coding-agent",
            lambda prompt: ["pi", "--provider", "mlx-server", "--model", "oracle", "-p", prompt],
            steps(wrote("write", "path", "content"), running("bash", "command")),
        ),
        Agent(
            "crush",
            "crush",
            "@charmland/crush",
            lambda prompt: ["crush", "run", prompt],
            steps(wrote("write", "file_path", "content"), running("bash", "command", description="Looks at the work")),
        ),
        Agent(
            "aider",
            "aider",
            "aider-chat==0.86.2",
            lambda prompt: [*AIDER, "--edit-format", "whole", "--message", prompt, FILE],
            whole_file,
            python=True,
            runs=False,
        ),
        Agent(
            "mini-swe-agent",
            "mini-swe-agent",
            "mini-swe-agent==2.4.6",
            lambda prompt: ["mini", "-y", "--exit-immediately", "-t", prompt],
            shell_only(
                running("bash", "command"),
                last=call("bash", command=f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && echo '{DONE}'"),
            ),
            python=True,
        ),
        Agent(
            "openai-agents",
            "openai",
            "openai-agents==0.24.0",
            lambda prompt: ["python", str(SCRIPTS / "openai_agents.py"), prompt],
            shell_only(running("run_command", "command")),
            python=True,
        ),
        Agent(
            "smolagents",
            "openai",
            "smolagents[openai]==1.26.0",
            lambda prompt: ["python", str(SCRIPTS / "smolagents_agent.py"), prompt],
            shell_only(running("run_command", "command"), last=call("final_answer", answer=DONE)),
            python=True,
        ),
    )
}
"""By their names."""
