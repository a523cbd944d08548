"""`mlx-server doctor`: what was found on this machine, and what to do about it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlx_server.app.config.settings import default_cache_dir, default_data_dir

if TYPE_CHECKING:
    from mlx_server.app.doctor.facts import Facts
    from mlx_server.app.doctor.findings import Finding

EXIT_BAD = 1
MARKS = {"good": "[green]ok[/]", "notice": "[yellow]look[/]", "bad": "[red]bad[/]"}


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(help="Look at a model too: its folder or .gguf file, or its name.", show_default=False),
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where converted models are kept.", envvar="MLX_SERVER_CACHE_DIR")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the server's data is kept.", envvar="MLX_SERVER_DATA_DIR")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    fix: Annotated[
        bool, typer.Option(help="Offer to raise the Mac's limit of wired memory; asks before anything is done.")
    ] = True,
) -> None:
    """Look at this machine: is MLX there, is it fast, is there room for models? And at a model: can it be served, and
    will its answers be what its config asks for?

    Ends with code 1 if something is bad.
    """
    from mlx_server.app.doctor.facts import gather
    from mlx_server.app.doctor.findings import Verdict, examine
    from mlx_server.app.machine.memory import memory

    facts = gather(cache_dir or default_cache_dir(), data_dir or default_data_dir(), memory())
    findings = examine(facts)
    if model is not None:
        from mlx_server.app.cli.models_cli import model_named
        from mlx_server.app.doctor.model_findings import examine_model

        findings += examine_model(model_named(model, data_dir), cache_dir or default_cache_dir())
    if as_json:
        Console(soft_wrap=True).print_json(data=[asdict(finding) for finding in findings])
    else:
        Console(soft_wrap=True).print(table_of(findings))
        if fix and sys.stdin.isatty():
            offer_wired_limit(facts, findings)
    if any(finding.verdict is Verdict.BAD for finding in findings):
        raise typer.Exit(EXIT_BAD)


def table_of(findings: list[Finding]) -> Table:
    """A line for each, and what to do below it."""
    table = Table(show_header=False, box=None)
    for finding in findings:
        table.add_row(MARKS[finding.verdict.value], finding.what, escape(finding.found))
        if finding.advice is not None:
            table.add_row("", "", escape(f"-> {finding.advice}"), style="bold")
    return table


def offer_wired_limit(facts: Facts, findings: list[Finding]) -> None:
    """Raise the limit of wired memory with sudo, if the person at the terminal wants it."""
    from mlx_server.app.doctor.findings import wired_settings

    if not any(finding.what == "wired memory" and finding.advice for finding in findings):
        return
    settings = wired_settings(facts.memory_bytes)
    if typer.confirm(f"Run `sudo sysctl {' '.join(settings)}` now?"):
        subprocess.run(["/usr/bin/sudo", "/usr/sbin/sysctl", *settings], check=False)  # noqa: S603 - a list of our own
