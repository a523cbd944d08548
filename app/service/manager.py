"""Installs, removes and asks for the service with the operating system's own programs."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_server.app.service.units import Service, launchd_plist, systemd_unit

OWN = 0o600
"""A command may have an API key in it."""

BOOTED = Path("/run/systemd/system")
"""Is there where systemd has started the machine (sd_booted(3))."""

IN_PROGRESS = 36
"""What launchctl ends with while a service is still ending (EINPROGRESS of a Mac)."""

PATIENCE_S = 30.0
"""How much longer than it may take to drain a service may take to be gone."""

LOOK_S = 0.2

NOT_BOOTED = (
    "systemd does not run here, as in most containers. Start `mlx-server launch` itself; what runs the container can"
    " start it again. `mlx-server service install --show` prints the unit for another machine"
)
NO_SESSION = (
    "you have no systemd of your own in this session. Log in as yourself instead of by su or sudo, or install it for"
    " the whole machine: sudo mlx-server service install --system"
)


class ServiceError(Exception):
    """Raised when the operating system refuses; one line says what it said and what to do."""


@dataclass(frozen=True)
class Manager:
    """What one operating system takes for a service: where its file lies, and which commands do what."""

    file: Path
    content: bytes
    install: tuple[tuple[str, ...], ...]
    stop: tuple[str, ...]
    status: tuple[str, ...]
    logs: tuple[str, ...]
    forget: tuple[tuple[str, ...], ...] = ()
    """What has to be run once the file is gone."""

    loaded: tuple[str, ...] = ()
    """Ends with 0 while there is a service that has to be gone before it can be installed again; empty where none has
    to be."""

    stops_within_s: float = PATIENCE_S
    folders: tuple[Path, ...] = ()
    """What has to be there besides, for its log."""

    missing: str = ""
    """Why there is no such manager here, and what to do."""

    def check(self) -> None:
        """Raises ServiceError where there is no such manager."""
        if self.missing:
            raise ServiceError(self.missing)

    def write(self) -> None:
        """Put the file in its place, readable by its owner only. Raises ServiceError."""
        try:
            for folder in (self.file.parent, *self.folders):
                folder.mkdir(parents=True, exist_ok=True)
            self.file.unlink(missing_ok=True)
            with open(os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN), "wb") as out:
                out.write(self.content)
        except OSError as error:
            raise ServiceError(f"{self.file} can't be written: {error.strerror or error}") from None

    def started(self) -> None:
        """Have the service start now and from now on, in the place of one that runs. Raises ServiceError."""
        if self.loaded:
            self.stopped()
        for command in self.install:
            run(command)

    def removed(self) -> bool:
        """Stop the service and delete its file; whether there was one. Raises ServiceError."""
        if not self.file.exists():
            return False
        if not self.missing:
            self.stopped()
        self.file.unlink()
        if not self.missing:
            for command in self.forget:
                run(command)
        return True

    def stopped(self) -> None:
        """Stop the service, and wait until it is gone where that can be asked. Raises ServiceError."""
        if not self.loaded:
            run(self.stop)
            return
        if not succeeds(self.loaded):
            return
        run(self.stop, fine=(0, IN_PROGRESS))
        until = time.monotonic() + self.stops_within_s
        while succeeds(self.loaded):
            if time.monotonic() > until:
                raise ServiceError(f"`{' '.join(self.stop)}` did not end it within {self.stops_within_s:g} s")
            time.sleep(LOOK_S)


def manager_of(service: Service, *, system: bool, home: Path, platform: str = sys.platform) -> Manager:
    """The operating system's. `system` is for systemd only: started with the machine, by root."""
    return launchd(service, home) if platform == "darwin" else systemd(service, home, system=system)


def systemd(service: Service, home: Path, *, system: bool) -> Manager:
    """A unit of systemd."""
    unit = f"{service.name}.service"
    folder = Path("/etc/systemd/system") if system else home / ".config" / "systemd" / "user"
    control = ("systemctl",) if system else ("systemctl", "--user")
    return Manager(
        folder / unit,
        systemd_unit(service, system=system).encode(),
        install=((*control, "daemon-reload"), (*control, "enable", unit), (*control, "restart", unit)),
        stop=(*control, "disable", "--now", unit),
        status=(*control, "status", "--no-pager", unit),
        logs=("journalctl", *(() if system else ("--user",)), "--unit", unit, "--lines", "200"),
        forget=((*control, "daemon-reload"),),
        missing=no_systemd(BOOTED, None if system else os.environ.get("XDG_RUNTIME_DIR", "")),
    )


def no_systemd(booted: Path, session: str | None) -> str:
    """Why systemd can't be asked, and what to do; empty if it can. `session`: where the user's own one keeps what runs,
    None for the machine's."""
    if not booted.is_dir():
        return NOT_BOOTED
    return "" if session is None or (session and (Path(session) / "systemd").is_dir()) else NO_SESSION


def launchd(service: Service, home: Path) -> Manager:
    """An agent of launchd."""
    domain = f"gui/{os.getuid()}"
    target = f"{domain}/{service.name}"
    file = home / "Library" / "LaunchAgents" / f"{service.name}.plist"
    return Manager(
        file,
        launchd_plist(service),
        install=(("launchctl", "enable", target), ("launchctl", "bootstrap", domain, str(file))),
        stop=("launchctl", "bootout", target),
        status=("launchctl", "print", target),
        logs=("tail", "-n", "200", str(service.log)),
        loaded=("launchctl", "print", target),
        stops_within_s=max(service.drain_s, given_to_end_s(file)) + PATIENCE_S,
        folders=(service.log.parent,),
    )


def given_to_end_s(file: Path) -> float:
    """How many seconds launchd gives the service that is installed; 0 if none is."""
    try:
        return float(plistlib.loads(file.read_bytes())["ExitTimeOut"])
    except (OSError, ValueError, KeyError):
        return 0.0


def run(command: Sequence[str], fine: Collection[int] = (0,)) -> None:
    """Run one of the operating system's programs. Raises ServiceError with what it says if it ends otherwise."""
    done = ended(command)
    if done.returncode not in fine:
        said = " ".join((done.stderr or done.stdout).split()) or f"it ended with {done.returncode}"
        raise ServiceError(f"`{' '.join(command)}` failed: {said}")


def succeeds(command: Sequence[str]) -> bool:
    """Whether one of the operating system's programs says yes. Raises ServiceError if there is none."""
    return ended(command).returncode == 0


def ended(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """One of the operating system's programs, once it has ended. Raises ServiceError if there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    except OSError as error:
        raise ServiceError(f"{command[0]} can't be run: {error.strerror or error}") from None
