"""Starting and stopping: what systemd sees, what a hurried end leaves, who may run at all."""

import json
import os
import pwd
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from bridge.ledger import open_ledger
from bridge.sandbox.crm import SandboxCrm
from tests.fixtures.daemon_process import (
    EXAMPLE,
    ROOT,
    TOKEN,
    DaemonProcess,
    callbridge,
    callbridge_json,
    environment,
    wait_until,
    write_config,
)

pytestmark = pytest.mark.long

LEASED = "SELECT count(*) FROM deliveries WHERE state = 'leased'"
DELIVERED = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"
BRANCH = '[sources.branch]\ncallback_token = { env = "TOKEN" }\n'

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def terminate(daemon: DaemonProcess) -> None:
    daemon._process.send_signal(signal.SIGTERM)


def told(daemon: DaemonProcess, event: str) -> bool:
    return any(event in line for line in daemon.log)


# -- ending ------------------------------------------------------------------------
def test_second_sigterm_stops_at_once(
    tmp_path: Path, crm: tuple[SandboxCrm, str], started: list[DaemonProcess]
) -> None:
    config = write_config(tmp_path, crm[1])
    crm[0].add_fault(delay=25.0, path="/contacts")
    started.append(daemon := DaemonProcess(config))
    assert httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes()).content == b"SUCCESS"
    wait_until(lambda: crm[0].requests()["total"] == 1, "the CRM hangs")
    begun = time.monotonic()
    terminate(daemon)
    wait_until(lambda: told(daemon, "daemon.stopping"), "the first one was heard")
    terminate(daemon)
    assert daemon._process.wait(10) == 0
    assert time.monotonic() - begun < 4
    daemon.kill()
    assert told(daemon, "daemon.stopped_late")
    assert daemon.count(LEASED) == 1

    started.append(again := DaemonProcess(config))
    assert told(again, "leases_released=1")
    wait_until(lambda: again.count(DELIVERED) == 1, "it is due again, and delivered")
    assert again.stop() == 0
    assert {name: len(found) for name, found in crm[0].contents().items()} == {"contacts": 1, "calls": 1}
    assert again.count("SELECT count(*) FROM attempts") == 1


def test_repeated_sigterm_never_kills_the_process(tmp_path: Path, started: list[DaemonProcess]) -> None:
    """One signal after the other, through the last moments of the interpreter."""
    started.append(daemon := DaemonProcess(write_config(tmp_path, "http://127.0.0.1:9")))
    while daemon._process.poll() is None:
        terminate(daemon)
    assert daemon._process.returncode == 0
    daemon.kill()
    assert told(daemon, "daemon.stopped")


def test_settlement_waits_out_a_busy_ledger(
    tmp_path: Path, crm: tuple[SandboxCrm, str], started: list[DaemonProcess]
) -> None:
    crm[0].add_fault(delay=0.5, path="/contacts")
    started.append(daemon := DaemonProcess(write_config(tmp_path, crm[1])))
    assert httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes()).content == b"SUCCESS"
    wait_until(lambda: daemon.count(LEASED) == 1, "the delivery is under way")
    with closing(sqlite3.connect(daemon.ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_until(lambda: crm[0].contents()["calls"] != [], "the CRM has the call")
        wait_until(lambda: told(daemon, "delivery.ledger_busy"), "it could not be written down")
        assert daemon.count(LEASED) == 1
        other.execute("ROLLBACK")
    wait_until(lambda: daemon.count(DELIVERED) == 1, "it was written down after all")
    assert daemon.count("SELECT count(*) FROM attempts") == 1
    assert crm[0].requests()["total"] == 3, "contact, call and link were sent once"
    assert daemon.stop() == 0


# -- runs --------------------------------------------------------------------------
def test_job_that_cannot_be_done_fails_alone(
    tmp_path: Path, crm: tuple[SandboxCrm, str], started: list[DaemonProcess]
) -> None:
    started.append(daemon := DaemonProcess(write_config(tmp_path, crm[1])))
    rows = [("of_tomorrow", "{}"), ("retry", "{}"), ("retry", "[]"), ("prune", "not JSON"), ("prune", "")]
    with closing(sqlite3.connect(daemon.ledger)) as other, other:
        for kind, args in rows:
            other.execute(
                "INSERT INTO runs (kind, args, state, requested_at) VALUES (?, ?, 'requested', ?)",
                (kind, args, 1_795_334_400_000_000),
            )
    wait_until(lambda: daemon.count("SELECT count(*) FROM runs WHERE state = 'failed'") == 5, "all failed")
    assert callbridge_json("deliveries", "retry", "--all", cwd=tmp_path) == {"retried": 0, "in_doubt": 0}
    with closing(sqlite3.connect(daemon.ledger)) as other:
        found = other.execute("SELECT result FROM runs WHERE state = 'failed' ORDER BY id").fetchall()
    told_of = [json.loads(result)["error"] for (result,) in found]
    assert told_of[0] == 'there is no such kind of run: "of_tomorrow"'
    assert told_of[2:] == ["its args are no JSON object"] * 3
    assert httpx.get(f"{daemon.admin_url}/readyz").status_code == 200
    assert daemon.stop() == 0


# -- systemd -----------------------------------------------------------------------
def test_systemd_credentials_are_secrets(
    tmp_path: Path,
    crm: tuple[SandboxCrm, str],
    started: list[DaemonProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = write_config(tmp_path, crm[1])
    text = config.read_text("utf-8").replace('{ env = "TOKEN" }', '{ credential = "callback-token" }')
    config.write_text(text.replace('{ env = "CRM_TOKEN" }', '{ credential = "crm" }'), "utf-8")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    refused = callbridge("run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "LoadCredential=callback-token:" in refused.stderr
    assert "config.toml" in refused.stderr

    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "callback-token").write_text(f"{TOKEN}\n")
    (folder / "crm").write_text("crm-token-of-the-tests")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    started.append(daemon := DaemonProcess(config))
    assert httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes()).content == b"SUCCESS"
    wait_until(lambda: crm[0].contents()["calls"] != [], "delivered with the CRM's credential")
    assert daemon.stop() == 0
    assert TOKEN not in "\n".join(daemon.log)


@pytest.mark.parametrize("abstract", [False, True], ids=["a path", "an abstract name"])
def test_systemd_is_notified(
    tmp_path: Path,
    crm: tuple[SandboxCrm, str],
    started: list[DaemonProcess],
    monkeypatch: pytest.MonkeyPatch,
    abstract: bool,
) -> None:
    # A socket's path must be short, and pytest's is not.
    with (
        tempfile.TemporaryDirectory(prefix="cb-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        name = f"{folder}/notify"
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        started.append(daemon := DaemonProcess(write_config(tmp_path, crm[1])))
        assert systemd.recv(100) == b"READY=1"
        # What READY=1 promises.
        assert httpx.get(f"{daemon.admin_url}/readyz").status_code == 200
        assert [systemd.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        assert daemon.stop() == 0
        heard = [systemd.recv(100)]
        while heard[-1] == b"WATCHDOG=1":
            heard.append(systemd.recv(100))
        assert heard[-1] == b"STOPPING=1"
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


# -- a source that leaves ------------------------------------------------------------
def test_deliveries_of_a_removed_source_wait(
    tmp_path: Path, crm: tuple[SandboxCrm, str], started: list[DaemonProcess]
) -> None:
    body = EXAMPLE.read_bytes()
    other = json.dumps(json.loads(body) | {"uuid": "another call", "base_info": ""}).encode()
    crm[0].add_fault(status=503, times=-1)
    both = write_config(tmp_path, crm[1], BRANCH)
    started.append(daemon := DaemonProcess(both))
    for source, sent in (("main", body), ("branch", other)):
        assert httpx.post(f"{daemon.url}/callback/{source}/{TOKEN}", content=sent).content == b"SUCCESS"
    wait_until(lambda: daemon.count("SELECT count(*) FROM attempts") >= 2, "both were tried")
    assert daemon.stop() == 0
    crm[0].clear_faults()

    started.append(daemon := DaemonProcess(write_config(tmp_path, crm[1])))
    wait_until(lambda: daemon.count(DELIVERED) == 1, "the source that is left is delivered")
    past_due = "SELECT count(*) FROM deliveries WHERE state = 'due' AND due_at < unixepoch() * 1000000"
    wait_until(lambda: daemon.count(past_due) == 1, "the other one waits, though it is due")
    assert daemon.stop() == 0
    balance = callbridge_json("audit", "--local", cwd=tmp_path)
    assert balance["balanced"] is True
    assert balance["sources"]["branch"]["ledger"] == 1

    started.append(daemon := DaemonProcess(write_config(tmp_path, crm[1], BRANCH)))
    wait_until(lambda: daemon.count(DELIVERED) == 2, "it came back")
    assert daemon.stop() == 0


# -- whose ledger ---------------------------------------------------------------------
STRANGER = """
import importlib, os, pathlib, pkgutil, pwd, sys, bridge, bridge.cli
# Loaded first: this interpreter may stand where a stranger cannot read.
for module in pkgutil.walk_packages(bridge.__path__, "bridge."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
bridge.config.load.load_config(pathlib.Path(sys.argv[-1]), os.environ)
user = pwd.getpwnam("nobody")
os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
bridge.cli.main()
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter and write; pytest's own is for one."""
    with tempfile.TemporaryDirectory(prefix="cb-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


COMMANDS = (["status"], ["run"], ["prune"])


@as_root
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_wrong_user_is_told_the_right_one(open_folder: Path, command: list[str]) -> None:
    config = write_config(open_folder, "http://127.0.0.1:9")
    config.chmod(0o644)
    open_ledger(open_folder / "ledger.db", create=True).close()
    before = sorted(path.name for path in open_folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, *command, "--config", str(config)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert f"belongs to user {me}" in done.stderr
    # Nobody should run it as root: a ledger that root made by mistake is handed over.
    assert f"sudo chown nobody: {open_folder / 'ledger.db'}*" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in open_folder.iterdir()) == before, "left a file behind"


@as_root
def test_root_is_a_wrong_user_too(open_folder: Path) -> None:
    write_config(open_folder, "http://127.0.0.1:9")
    open_ledger(open_folder / "ledger.db", create=True).close()
    nobody = pwd.getpwnam("nobody")
    os.chown(open_folder / "ledger.db", nobody.pw_uid, nobody.pw_gid)
    done = callbridge("run", cwd=open_folder)
    assert done.returncode == 3
    assert "sudo -u nobody" in done.stderr
    assert sorted(path.name for path in open_folder.iterdir()) == ["config.toml", "ledger.db"]
