"""The systemd unit: systemd accepts it, it is hardened, and it agrees with the program."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.cli.output import ExitCode
from bridge.daemon.delivery_process import STOP_WITHIN

UNIT = Path(__file__).parents[2] / "deploy/callbridge.service"
HIGHEST_EXPOSURE = 3.0
ANSWERS_WITHIN = 10

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def values(directive: str) -> list[str]:
    """What the unit says for a directive."""
    return re.findall(rf"^{directive}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = shutil.which("systemd-analyze")
    assert command is not None
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as it is, but for its program, which a machine that only tests does not have."""
    text, count = re.subn(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text("utf-8"))
    assert count == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text, "utf-8")
    return unit


@needs_systemd
def test_systemd_accepts_the_unit(installed: Path) -> None:
    verified = analyze("verify", "--man=no", installed)
    # Unknown keys are only told, so a clean exit is not enough.
    told = [line for line in verified.stderr.splitlines() if UNIT.name in line]
    assert (verified.returncode, told) == (0, [])


@needs_systemd
def test_systemd_reports_a_planted_mistake(installed: Path) -> None:
    text = installed.read_text("utf-8")
    installed.write_text(text.replace("ProtectClock=", "ProtectClocks="), "utf-8")
    assert "ProtectClocks" in analyze("verify", "--man=no", installed).stderr


@needs_systemd
def test_unit_is_hardened(installed: Path) -> None:
    analyzed = analyze("security", "--offline=true", "--no-pager", installed)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", analyzed.stdout)
    assert exposure is not None, analyzed.stderr
    assert float(exposure[1]) < HIGHEST_EXPOSURE


def test_memory_tasks_and_core_dumps_are_bounded() -> None:
    assert (values("MemoryMax"), values("TasksMax"), values("LimitCORE")) == (["2G"], ["256"], ["0"])


def test_systemd_stop_timeout_covers_the_daemons() -> None:
    [seconds] = values("TimeoutStopSec")
    assert int(seconds) > STOP_WITHIN + ANSWERS_WITHIN


def test_wrong_configuration_is_not_restarted() -> None:
    assert values("RestartPreventExitStatus") == [str(int(ExitCode.USAGE))]
    assert values("Restart") == ["on-failure"]


def test_unit_runs_the_daemon_as_its_own_user() -> None:
    [command] = values("ExecStart")
    assert command.split()[1:] == ["run", "--config", "/etc/callbridge/config.toml"]
    assert (values("User"), values("Type")) == (["callbridge"], ["notify"])
