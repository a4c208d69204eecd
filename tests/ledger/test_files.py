"""The ledger is the file it opened: moved, replaced, or its log gone, nothing is acknowledged any more."""

import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from bridge.ledger import Window
from bridge.ledger.sqlite import OwnerLock, SqliteLedger
from bridge.ledger.sqlite.connection import check_owner, usable
from bridge.ledger.sqlite.times import micros
from bridge.lib.documents import document_of
from bridge.lib.errors import LedgerBusy, LedgerLocked, LedgerUnusable
from bridge.lib.system_users import user_name
from bridge.model.calls import Quarantined
from bridge.reconcile.balance import local_balance, whole_balance
from tests.fixtures.daemon_process import DaemonProcess, callbridge, wait_until, write_config
from tests.fixtures.ledger_calls import NOW, TO_CRM, arrival, call_keys, filed_all, news, stray, uuid

FILES = ("", "-wal", "-shm", ".lock")


@pytest.fixture
def owner(ledger_path: Path) -> Iterator[OwnerLock]:
    with OwnerLock(ledger_path) as lock:
        yield lock


@pytest.fixture
def ledger(ledger_path: Path, owner: OwnerLock) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(ledger_path, create=True, owner=owner)
    yield ledger
    ledger.close()


def beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(beside(path, ".moved"))


def replace(path: Path) -> None:
    """Another file by the same name, with the same content."""
    shutil.copy(path, beside(path, ".new"))
    beside(path, ".new").replace(path)


@pytest.mark.parametrize("end", FILES)
@pytest.mark.parametrize("act", [delete, move, replace])
def test_nothing_is_acknowledged_once_a_ledger_file_was_replaced(
    ledger: SqliteLedger, ledger_path: Path, end: str, act: Callable[[Path], None]
) -> None:
    news(ledger, "a")
    path = beside(ledger_path, end)
    act(path)
    with capture_logs() as logs:
        for name in ("b", "c"):
            with pytest.raises(LedgerBusy, match="callbridge had it open") as refused:
                filed_all(ledger, [arrival(name)])
            assert str(path) in str(refused.value)
        assert not ledger.writable()
    (said,) = [one for one in logs if one["event"] == "ledger.moved"]
    assert (said["file"], said["log_level"]) == (str(path), "error")
    assert "callbridge" in said["remedy"]
    if act is move:
        # Put back, all is well again, and nothing that was refused has been lost with it.
        beside(path, ".moved").rename(path)
        assert ledger.writable()
        assert filed_all(ledger, [arrival("d")])[0].key == "d"
        assert "a" in call_keys(ledger, "main")


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_content_of_a_lost_log_is_in_the_ledger_after_a_restart(ledger_path: Path, end: str) -> None:
    with OwnerLock(ledger_path) as owner:
        ledger = SqliteLedger(ledger_path, create=True, owner=owner)
        for name in ("a", "b"):
            news(ledger, name)
        beside(ledger_path, end).unlink()
        with pytest.raises(LedgerBusy, match="restart callbridge"):
            filed_all(ledger, [arrival("c")])
        ledger.close()
    with OwnerLock(ledger_path) as owner, closing(SqliteLedger(ledger_path, owner=owner)) as again:
        assert {"a", "b"} <= set(call_keys(again, "main"))
        assert again.losses() == []
        assert local_balance(again, ["main"], {"crm": ["main"]}, Window())["balanced"]
        assert filed_all(again, [arrival("d")])[0].key == "d"


def test_daemon_stopping_after_a_move_leaves_the_new_ledgers_log_alone(ledger_path: Path) -> None:
    with OwnerLock(ledger_path) as owner:
        ledger = SqliteLedger(ledger_path, create=True, owner=owner)
        news(ledger, "a")
        for end in ("", "-wal", "-shm"):
            beside(ledger_path, end).rename(ledger_path.with_name("moved" + end))
        with closing(sqlite3.connect(ledger_path)) as other:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("CREATE TABLE a (b)")
            log = beside(ledger_path, "-wal").read_bytes()
            assert log
            ledger.close()
            assert beside(ledger_path, "-wal").read_bytes() == log


HOLD = (
    "import pathlib, sys; from bridge.ledger.sqlite import OwnerLock, SqliteLedger\n"
    "path = pathlib.Path(sys.argv[1])\n"
    "lock = OwnerLock(path); lock.acquire(); ledger = SqliteLedger(path, create=True, owner=lock)\n"
    "print('held', flush=True); sys.stdin.read()\n"
)


@pytest.mark.parametrize(
    "how",
    [
        "lock removed",
        pytest.param("another name", marks=pytest.mark.long),
        pytest.param("hard link", marks=pytest.mark.long),
    ],
)
def test_a_second_daemon_does_not_open_the_same_file(tmp_path: Path, ledger_path: Path, how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(ledger_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        second = tmp_path / "second.db"
        match how:
            case "another name":
                ledger_path.rename(second)
            case "hard link":
                second.hardlink_to(ledger_path)
            case "lock removed":
                beside(ledger_path, ".lock").unlink()
                second = ledger_path
        with pytest.raises(LedgerLocked, match="under another name or after its"):
            OwnerLock(second).acquire()
        first.kill()
    with OwnerLock(second):
        pass


def test_new_ledger_is_not_created_beside_another_ledgers_log(ledger_path: Path) -> None:
    beside(ledger_path, "-wal").write_bytes(b"of a ledger that was moved")
    with pytest.raises(LedgerUnusable, match="put the ledger back"):
        SqliteLedger(ledger_path, create=True)
    assert not ledger_path.exists()


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("mode", [0o400, 0o200, 0o000])
def test_unwritable_file_is_named(ledger_path: Path, end: str, mode: int) -> None:
    for each in ("", "-wal", "-shm"):
        beside(ledger_path, each).touch(mode=0o600)
    file = beside(ledger_path, end)
    file.chmod(mode)
    with pytest.raises(LedgerUnusable) as refused, usable(ledger_path):
        raise sqlite3.OperationalError("attempt to write a readonly database")
    assert str(refused.value).endswith(f"{file} has the mode {mode:04o}: chmod 600 {file}")


def test_all_unwritable_files_are_named_at_once(ledger_path: Path) -> None:
    files = [beside(ledger_path, each) for each in ("", "-wal", "-shm")]
    for file in files:
        file.touch(mode=0o400)
    with pytest.raises(LedgerUnusable) as refused, usable(ledger_path):
        raise sqlite3.OperationalError("attempt to write a readonly database")
    assert str(refused.value).endswith(f"chmod 600 {' '.join(map(str, files))}")


def test_file_that_is_no_ledger_is_reported_with_a_remedy(ledger_path: Path) -> None:
    ledger_path.write_bytes(b"not a database at all " * 99)
    with pytest.raises(LedgerUnusable, match=f"not a database.*restore a backup to {ledger_path}"):
        SqliteLedger(ledger_path, create=True)


def test_missing_folder_is_reported_with_the_command_to_create_it(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    with pytest.raises(LedgerUnusable, match=f"install -d -o .* {folder}$"), usable(folder / "ledger.db"):
        raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("end", ["-wal", ".last"])
def test_lost_ledger_is_told_apart_from_one_never_created(ledger_path: Path, end: str) -> None:
    with pytest.raises(LedgerUnusable, match="`callbridge run` creates it"):
        check_owner(ledger_path)
    beside(ledger_path, end).touch()
    with pytest.raises(LedgerUnusable, match="put it back if it was moved"):
        check_owner(ledger_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_log_of_another_user_is_named(ledger_path: Path) -> None:
    for each in ("", "-wal", "-shm"):
        beside(ledger_path, each).touch(mode=0o600)
    log = beside(ledger_path, "-wal")
    os.chown(log, 65534, 65534)
    with pytest.raises(LedgerUnusable, match="-wal belongs to user") as refused, usable(ledger_path):
        raise sqlite3.OperationalError("unable to open database file")
    assert str(refused.value).endswith(f"sudo chown {user_name(os.geteuid())}: {log}")


# -- what is not there any more ----------------------------------------------------------
def opened(path: Path) -> tuple[OwnerLock, SqliteLedger]:
    lock = OwnerLock(path)
    lock.acquire()
    return lock, SqliteLedger(path, owner=lock)


def without_log(ledger_path: Path, folder: Path) -> Path:
    """The ledger as a new process finds it whose log is gone."""
    folder.mkdir()
    for end in ("", ".last"):
        shutil.copy(beside(ledger_path, end), beside(folder / "ledger.db", end))
    return folder / "ledger.db"


def checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_ledger_that_lost_its_log_is_unbalanced_until_reconciled(
    ledger: SqliteLedger, ledger_path: Path, tmp_path: Path
) -> None:
    ledger.start_destinations(TO_CRM, NOW)
    news(ledger, "a")
    checkpoint(ledger_path)
    news(ledger, "b", NOW + timedelta(hours=1))
    filed_all(ledger, [arrival("c", at=NOW + timedelta(hours=2))])
    lock, lost = opened(without_log(ledger_path, tmp_path / "lost"))
    try:
        assert call_keys(lost, "main") == ["a"]
        (loss,) = lost.losses()
        assert (loss.receipts, loss.quarantine, loss.open) == (2, 0, ["main"])
        audited = local_balance(lost, ["main"], {"crm": ["main"]}, Window())
        assert audited["balanced"] is False
        assert audited["losses"] == [document_of(loss)]
        before = Window(until=NOW - timedelta(hours=7))
        assert local_balance(lost, ["main"], {"crm": ["main"]}, before)["balanced"]
        later = NOW + timedelta(days=3650)
        assert local_balance(lost, ["main"], {"crm": ["main"]}, Window(since=later))["balanced"]
        assert whole_balance({}, {}, None, [loss])["balanced"] is False
    finally:
        lost.close()
        lock.release()
    # Told once, however often it is opened; and over with a walk of the list beyond it.
    lock, lost = opened(tmp_path / "lost" / "ledger.db")
    try:
        assert lost.losses() == [loss]
        with closing(sqlite3.connect(tmp_path / "lost" / "ledger.db")) as connection:
            connection.execute("INSERT INTO coverage VALUES ('main', ?, 1)", (micros(later),))
            connection.commit()
        assert lost.losses() == [dataclasses.replace(loss, open=[])]
        assert local_balance(lost, ["main"], {"crm": ["main"]}, Window())["balanced"]
    finally:
        lost.close()
        lock.release()


def test_lost_quarantined_record_is_noticed_too(
    ledger: SqliteLedger, ledger_path: Path, tmp_path: Path
) -> None:
    ledger.start_destinations(TO_CRM, NOW)
    checkpoint(ledger_path)
    filed_all(ledger, [stray(Quarantined.UNIDENTIFIED, b"{}", at=NOW)])
    lock, lost = opened(without_log(ledger_path, tmp_path / "lost"))
    (loss,) = lost.losses()
    lost.close()
    lock.release()
    assert (loss.receipts, loss.quarantine, loss.since_at, loss.open) == (0, 1, None, ["main"])


def test_pruning_everything_reports_no_loss(ledger_path: Path) -> None:
    with (
        OwnerLock(ledger_path) as owner,
        closing(SqliteLedger(ledger_path, create=True, owner=owner)) as ledger,
    ):
        news(ledger, "a")
        filed_all(ledger, [arrival("a")])
        ledger.set_aside(ledger.waiting(1)[0], "odd", TO_CRM, NOW)
        ledger.drop([1])
        for name in ("duplicates", "quarantine"):
            ledger.prune(name, NOW + timedelta(days=999), lambda _: True)
    lock, again = opened(ledger_path)
    assert again.losses() == []
    again.close()
    lock.release()


@pytest.mark.parametrize("said", [b"", b"nonsense", b"\xff" * 63, b"-1 -1 -1", b"1 2", b"9" * 99])
def test_unreadable_witness_reports_no_loss(ledger_path: Path, said: bytes) -> None:
    SqliteLedger(ledger_path, create=True).close()
    beside(ledger_path, ".last").write_bytes(said)
    lock, ledger = opened(ledger_path)
    assert ledger.losses() == []
    filed_all(ledger, [arrival("a")])
    ledger.close()
    lock.release()
    assert beside(ledger_path, ".last").read_bytes().split()[:2] == [b"%020d" % 1, b"%020d" % 0]


@pytest.mark.long
def test_a_daemon_whose_ledger_is_moved_says_so_at_once(tmp_path: Path) -> None:
    daemon = DaemonProcess(write_config(tmp_path, "http://127.0.0.1:9"))
    path = tmp_path / "ledger.db"

    def push(name: int) -> int:
        return httpx.post(daemon.callback_url, json={"uuid": uuid(name)}).status_code

    def ready() -> int:
        return httpx.get(f"{daemon.admin_url}/readyz").status_code

    try:
        assert (push(1), ready()) == (200, 200)
        path.rename(tmp_path / "elsewhere.db")
        assert (push(2), ready()) == (503, 503)
        (tmp_path / "elsewhere.db").rename(path)
        assert (push(3), ready()) == (200, 200)
        beside(path, "-wal").unlink()
        assert (push(4), ready()) == (503, 503)
    finally:
        daemon.kill()
    second = DaemonProcess(tmp_path / "config.toml")
    try:
        keys = callbridge("calls", "list", "--json", cwd=tmp_path).stdout
        assert uuid(1) in keys
        assert uuid(3) in keys
        assert callbridge("audit", "--local", cwd=tmp_path).returncode == 0
    finally:
        second.stop()
    wait_until(lambda: not beside(path, "-wal").exists(), "closed")
