"""Scripts that drive other people's clients, and what docs/clients.md says that they try."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from support.running import sdks
from support.running.servers import ROOT, Server

HERE = ROOT / "tests" / "clients"
ALL = sorted([*HERE.glob("python/*_client.py"), *HERE.glob("node/*_client.mjs")])
LINK = re.compile(r"\[`([^`]+)`\]\(\.\./([^)]+)\)")
BOUND = re.compile(r"([\w@/-]+)[\w\[\]]*\"?:? ?\"?>=([\d.]+)")


class Row(NamedTuple):
    package: str
    version: str
    checks: list[str]


def documented() -> dict[Path, Row]:
    """The table's rows, by script."""
    rows = {}
    for line in (ROOT / "docs" / "clients.md").read_text().splitlines():
        if line.startswith("| [`") and "](../tests/clients/" in line:
            client, version, tried = (cell.strip() for cell in line.strip("|").split("|"))
            [(package, script)] = LINK.findall(client)
            rows[ROOT / script] = Row(package, version, tried.split(", "))
    return rows


def bounds(script: Path) -> dict[str, str]:
    """The oldest versions that may be installed beside a script, by package."""
    name = "requirements.txt" if script.suffix == ".py" else "package.json"
    return dict(BOUND.findall(script.with_name(name).read_text()))


def run(script: Path, server: Server) -> str:
    """What a script prints."""
    return sdks.outcome([sdks.python() if script.suffix == ".py" else sdks.node(), script, server.url])


def passed(printed: str) -> list[str]:
    """What a script has tried: its last line."""
    *_, last = printed.splitlines()
    tried: list[str] = json.loads(last)
    return tried
