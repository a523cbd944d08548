"""What tells the operating system of a service: a unit of systemd, a property list of launchd. Pure."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

OPEN_FILES = 65536
RESTART_S = 2
STARTS, STARTS_S = 5, 300
"""A service that ends more often in so many seconds is given up: something has to be mended first."""


@dataclass(frozen=True)
class Service:
    """A server that the operating system starts. `command`: its absolute program and arguments; `drain_s`: how long
    requests that run may take to end when it is stopped. `log`: the file of its log, for launchd."""

    name: str
    command: tuple[str, ...]
    folder: Path
    drain_s: float = 30.0
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path = Path("/dev/null")


def systemd_unit(service: Service, *, system: bool) -> str:
    """The unit's file. `system`: for the whole machine, started with it and not with a user's first login."""
    environment = [f"Environment={literal(f'{name}={value}')}" for name, value in sorted(service.environment.items())]
    confined = ["ProtectSystem=full", "ProtectKernelTunables=yes", "ProtectControlGroups=yes", "PrivateTmp=yes"]
    sections = {
        "Unit": [
            "Description=mlx-server, an inference server for MLX models",
            "After=network.target",
            f"StartLimitIntervalSec={STARTS_S}",
            f"StartLimitBurst={STARTS}",
        ],
        "Service": [
            # It says itself when it is ready: loading a model may take minutes.
            "Type=notify",
            "NotifyAccess=main",
            "TimeoutStartSec=infinity",
            f"ExecStart={' '.join(map(quoted, service.command))}",
            "ExecReload=/bin/kill -HUP $MAINPID",
            f"WorkingDirectory={str(service.folder).replace('%', '%%')}",
            *environment,
            "Restart=on-failure",
            f"RestartSec={RESTART_S}",
            "KillMode=mixed",
            f"TimeoutStopSec={service.drain_s + 15:g}",
            f"LimitNOFILE={OPEN_FILES}",
            "NoNewPrivileges=yes",
            *(confined if system else ()),
        ],
        "Install": [f"WantedBy={'multi-user' if system else 'default'}.target"],
    }
    return "\n".join("\n".join([f"[{name}]", *lines, ""]) for name, lines in sections.items())


def quoted(word: str) -> str:
    """A word of a command as systemd reads it back: nothing in it is a specifier or a variable."""
    return literal(word).replace("$", "$$")


def literal(text: str) -> str:
    """An assignment as systemd reads it back, which looks for no variables there."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{plain}"'


def launchd_plist(service: Service) -> bytes:
    """The property list of a service that starts with its user's login."""
    return plistlib.dumps(
        {
            "Label": service.name,
            "ProgramArguments": list(service.command),
            "WorkingDirectory": str(service.folder),
            "EnvironmentVariables": dict(service.environment),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": RESTART_S,
            "ExitTimeOut": int(service.drain_s) + 15,
            "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
            "ProcessType": "Interactive",
            "StandardOutPath": str(service.log),
            "StandardErrorPath": str(service.log),
        }
    )
