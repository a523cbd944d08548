"""What the operating system is told of a service: read by its own programs."""

import os
import plistlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_server.app.service.manager import NO_SESSION, NOT_BOOTED, Manager, ServiceError, manager_of, no_systemd, run
from mlx_server.app.service.units import Service, launchd_plist, quoted, systemd_unit

ODD = 'a "b" $HOME 50% \\ é'
SERVICE = Service("mlx-test", (sys.executable, "-m", "mlx_server.app", "launch", "--model-name", ODD), Path("/"))


def manager(home: Path, platform: str, *, system: bool = False) -> Manager:
    return manager_of(SERVICE, system=system, home=home, platform=platform)


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has no systemd")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, system: bool) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.fail("systemd-analyze is not here (Debian's package systemd)")
    file = tmp_path / "mlx-test.service"
    file.write_text(systemd_unit(SERVICE, system=system))
    scope = () if system else ("--user",)
    command, environment = [program, *scope, "verify", str(file)], os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (told.returncode, "mlx-test.service" in told.stderr) == (0, False), told.stderr


def test_words_of_the_command_are_read_back_as_they_are() -> None:
    assert quoted(ODD) == '"a \\"b\\" $$HOME 50%% \\\\ é"'
    assert f'--model-name" {quoted(ODD)}' in systemd_unit(SERVICE, system=False)


def test_launchd_may_take_as_long_as_the_service_that_is_installed(tmp_path: Path) -> None:
    found = manager(tmp_path, "darwin")
    found.file.parent.mkdir(parents=True)
    found.file.write_bytes(launchd_plist(replace(SERVICE, drain_s=600)))
    assert found.stops_within_s < 600 < manager(tmp_path, "darwin").stops_within_s


def test_launchd_gets_the_command_and_starts_it_again_when_it_fails() -> None:
    told = plistlib.loads(launchd_plist(SERVICE))
    assert told["ProgramArguments"] == list(SERVICE.command)
    assert (told["KeepAlive"], told["RunAtLoad"], told["ExitTimeOut"]) == ({"SuccessfulExit": False}, True, 45)


@pytest.mark.parametrize(
    ("platform", "system", "file", "first"),
    [
        ("linux", False, ".config/systemd/user/mlx-test.service", ("systemctl", "--user", "daemon-reload")),
        ("linux", True, "/etc/systemd/system/mlx-test.service", ("systemctl", "daemon-reload")),
        ("darwin", False, "Library/LaunchAgents/mlx-test.plist", ("launchctl", "enable")),
    ],
)
def test_each_system_has_its_file_and_its_commands(
    tmp_path: Path, platform: str, system: bool, file: str, first: tuple[str, ...]
) -> None:
    found = manager(tmp_path, platform, system=system)
    assert found.file == tmp_path / file
    assert found.install[0][: len(first)] == first


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    found = manager(tmp_path, "linux")
    found.write()
    found.write()
    assert found.file.read_bytes() == found.content
    assert found.file.stat().st_mode & 0o777 == 0o600


def test_missing_systemd_is_told_with_what_to_do_instead(tmp_path: Path) -> None:
    (tmp_path / "mine" / "systemd").mkdir(parents=True)
    assert no_systemd(tmp_path / "nothing", None) == NOT_BOOTED
    assert no_systemd(tmp_path, str(tmp_path / "nothing")) == NO_SESSION
    assert no_systemd(tmp_path, str(tmp_path / "mine")) == no_systemd(tmp_path, None) == ""


def test_file_is_removed_where_nothing_can_be_asked(tmp_path: Path) -> None:
    found = replace(manager(tmp_path, "linux"), missing=NOT_BOOTED)
    found.write()
    with pytest.raises(ServiceError, match="mlx-server launch"):
        found.check()
    assert found.removed()
    assert not found.file.exists()


def test_what_a_program_says_is_told() -> None:
    with pytest.raises(ServiceError, match=r"`ls --nothing` failed: .*--nothing"):
        run(("ls", "--nothing"))
    with pytest.raises(ServiceError, match="mlx-no-such can't be run"):
        run(("mlx-no-such",))


LAUNCHCTL = """\
#!/bin/sh
# launchctl as a Mac has it: a loaded agent is not loaded again, and one that is told to go is there for a while yet.
cd "$(dirname "$0")"
echo "$1" >> said
case "$1" in
bootstrap) test ! -e loaded || { echo "Bootstrap failed: 5: Input/output error" >&2; exit 5; }; touch loaded ;;
bootout)
    test -e loaded || { echo "Boot-out failed: 3: No such process" >&2; exit 3; }
    touch leaving; echo "Boot-out failed: 36: Operation now in progress" >&2; exit 36 ;;
print)
    test -e loaded || { echo "Could not find service" >&2; exit 113; }
    if test -e leaving; then mv leaving left; elif test -e left; then rm left loaded; fi ;;
esac
"""


@pytest.fixture
def launchctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a launchctl, which only a Mac has a real one of."""
    (tmp_path / "launchctl").write_text(LAUNCHCTL)
    (tmp_path / "launchctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_agent_that_is_loaded_makes_way_for_the_next_one(launchctl: Path) -> None:
    found = manager(launchctl / "home", "darwin")
    for _ in range(2):
        found.write()
        found.started()
    said = (launchctl / "said").read_text().split()
    assert said[:3] == ["print", "enable", "bootstrap"]
    assert said[3:] == ["print", "bootout", "print", "print", "print", "enable", "bootstrap"], "once the first is gone"
    assert (launchctl / "loaded").exists()


def test_agent_is_removed_whether_it_is_loaded_or_not(launchctl: Path) -> None:
    found = manager(launchctl / "home", "darwin")
    found.write()
    found.started()
    for _ in range(2):
        assert found.removed()
        assert not (launchctl / "loaded").exists()
        found.write()


def test_agent_that_does_not_go_is_told(launchctl: Path) -> None:
    found = replace(manager(launchctl / "home", "darwin"), stops_within_s=0.0, loaded=("true",))
    (launchctl / "loaded").touch()
    with pytest.raises(ServiceError, match=r"bootout gui/.* did not end it within 0 s"):
        found.stopped()
