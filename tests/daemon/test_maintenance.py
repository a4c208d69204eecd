"""The ledger in shape: retention, copies, dictionaries, low disk, and a log that ends."""

import json
import os
import platform
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import httpx
import pytest

from bridge.daemon.maintenance import Maintenance
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.connection import JOURNAL_SIZE_LIMIT
from bridge.ledger.sqlite.disk_space import space
from bridge.ledger.sqlite.retention import DATA_CLASSES, PRUNED_AT_ONCE
from bridge.ledger.sqlite.times import micros
from bridge.model.calls import Quarantined, Verdict, Via
from bridge.model.deliveries import DeliveryState, Settlement
from bridge.model.jobs import JobState
from bridge.record.arrival import arrival_of
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import (
    EXAMPLE,
    DaemonProcess,
    callbridge,
    callbridge_json,
    wait_until,
    write_config,
)
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    TO_CRM,
    arrival,
    call_keys,
    filed_all,
    judge_all,
    judgment,
    leased,
    news,
    settle,
    stray,
    uuid,
)
from tests.fixtures.ledger_rows import rows
from tests.fixtures.origins import MAIN

pytestmark = pytest.mark.long

OLD = NOW - timedelta(days=100)
BEFORE = NOW - timedelta(days=30)
ZONE = ZoneInfo("Asia/Shanghai")
TABLES = ("calls", "call_names", "receipts", "payloads", "quarantine", "deliveries", "attempts", "runs")


def everything(path: Path) -> dict[str, set[tuple[Any, ...]]]:
    return {table: set(rows(path, f"SELECT * FROM {table}")) for table in TABLES}  # noqa: S608 -- ours


def again(ledger: SqliteLedger, verdict: Verdict, at: datetime, **fields: Any) -> None:
    """One more record of call `a`, with a verdict of our own."""
    body = json.dumps({"uuid": "a", **fields}).encode()
    filed_all(ledger, [arrival("a", payload=body, at=at)])
    ledger.judge([judgment(ledger.waiting(1)[0], verdict)], TO_CRM, at)


def aged(ledger: SqliteLedger) -> None:
    """Old and young rows of every class; a comment names the class of those that may go."""
    for at in (OLD, NOW):
        news(ledger, "a", at, name=f"at {at}")  # history, once a newer one is the state
        again(ledger, Verdict.REVISION, at + MINUTE, name=f"after {at}")  # history
        again(ledger, Verdict.DUPLICATE, at + MINUTE)  # duplicates
        again(ledger, Verdict.STALE, at + MINUTE, name="x")  # history, duplicates
        settle(ledger, leased(ledger, at + MINUTE), Settlement(DeliveryState.DELIVERED), at, at)  # attempts
        filed_all(ledger, [stray(Quarantined.NOT_AN_OBJECT, f"garbage {at}".encode(), at=at)])
        filed_all(ledger, [stray(Quarantined.UNIDENTIFIED, f"waits {at}".encode(), at=at)])
        filed_all(ledger, [stray(Quarantined.UNIDENTIFIED, f"dropped {at}".encode(), at=at)])
        ledger.drop([max(row.id for row in ledger.list_quarantine("waiting", 100))])
        ledger.request_job("retry", {"ids": []}, at)
        taken = ledger.take_job(at)
        assert taken is not None
        ledger.end_job(taken.id, JobState.DONE, {}, at)  # runs
    news(ledger, "old and known", OLD)
    ledger.request_job("retry", {"ids": []}, OLD)


# -- retention ---------------------------------------------------------------------
def noted(pauses: list[float]) -> Callable[[float], bool]:
    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return True

    return pause


@pytest.mark.parametrize(
    ("name", "removed", "gone"),
    [
        ("duplicates", 2, {"receipts": 2, "payloads": 1}),
        ("history", 3, {"payloads": 3}),
        ("attempts", 1, {"attempts": 1}),
        ("quarantine", 2, {"quarantine": 2}),
        ("runs", 1, {"runs": 1}),
    ],
)
def test_prune_removes_only_the_old_rows_of_a_class(
    ledger: SqliteLedger, ledger_path: Path, name: str, removed: int, gone: dict[str, int]
) -> None:
    aged(ledger)
    before, pauses = everything(ledger_path), list[float]()
    assert ledger.prune(name, BEFORE, noted(pauses)) == removed
    after = everything(ledger_path)
    assert {table: len(lost) for table in TABLES if (lost := before[table] - after[table])} == gone
    assert all(after[table] <= before[table] for table in TABLES), "prune changed a row"
    assert pauses
    assert ledger.prune(name, BEFORE, noted(pauses)) == 0
    lost = before[DATA_CLASSES[name].table] - after[DATA_CLASSES[name].table]
    times = [[value for value in row if isinstance(value, int) and value > 10**15] for row in lost]
    assert all(max(of_row) < micros(BEFORE) for of_row in times)


def test_pruned_history_still_decides_what_is_news(ledger: SqliteLedger) -> None:
    judge = Judge(ledger, {"main": SourceRules(MAIN, ("crm",))}, destinations_since={})

    def verdict(name: str, hour: int, at: datetime = OLD) -> str:
        record = {"uuid": uuid(1), "name": name, "updated_at": f"2026-08-01 {hour}:00:00"}
        filed_all(ledger, [arrival_of(MAIN, Via.CALLBACK, json.dumps(record).encode(), at)])
        assert judge.judge_waiting(at) == 1
        return str(ledger.show_call(1).receipts[-1].verdict)

    assert [verdict("张", 10), verdict("李", 11), verdict("王", 11)] == ["new", "revision", "revision"]
    assert [verdict("王", 11), verdict("张", 10)] == ["duplicate", "stale"]
    removed = {name: ledger.prune(name, NOW, lambda _: True) for name in DATA_CLASSES}
    # The newest receipt stays: by its number a ledger that has lost some is found out.
    assert removed == dict.fromkeys(DATA_CLASSES, 0) | {"duplicates": 1, "history": 2}
    assert ledger.show_call(1).record["name"] == "王"
    later = [verdict("王", 11, NOW), verdict("李", 11, NOW), verdict("张", 10, NOW)]
    assert later == ["duplicate", "stale", "stale"]
    assert verdict("赵", 12, NOW) == "revision"
    assert call_keys(ledger, "main") == [uuid(1)]


def test_free_pages_are_returned_to_the_disk(ledger: SqliteLedger, ledger_path: Path) -> None:
    filed_all(ledger, [arrival("a", at=OLD)])
    judge_all(ledger, OLD)
    count = 2 * PRUNED_AT_ONCE + 100
    for _ in range(count // 100):
        bodies = [json.dumps({"x": os.urandom(2000).hex()}).encode() for _ in range(100)]
        filed_all(ledger, [arrival("a", payload=body, at=OLD) for body in bodies])
        stale = [judgment(pending, Verdict.STALE) for pending in ledger.waiting(100)]
        ledger.judge(stale, TO_CRM, OLD)
    before = rows(ledger_path, "PRAGMA page_count")[0][0]
    pauses: list[float] = []

    assert ledger.prune("duplicates", BEFORE, noted(pauses)) == count - 1
    assert len(pauses) > 3, "other work had no turn"
    assert rows(ledger_path, "PRAGMA freelist_count") == [(0,)]
    assert rows(ledger_path, "PRAGMA page_count")[0][0] < before / 4
    assert rows(ledger_path, "PRAGMA integrity_check") == [("ok",)]


def test_repeated_body_does_not_keep_old_ones_from_pruning(ledger: SqliteLedger, ledger_path: Path) -> None:
    """An entry's last arrival moves: the first young one does not mean that all behind it are young."""
    count = PRUNED_AT_ONCE + 50
    filed_all(
        ledger, [stray(Quarantined.NOT_AN_OBJECT, b"garbage %d" % number, at=OLD) for number in range(count)]
    )
    filed_all(ledger, [stray(Quarantined.NOT_AN_OBJECT, b"garbage 0", at=NOW)])
    assert ledger.prune("quarantine", BEFORE, lambda _: True) == count - 2
    assert rows(ledger_path, "SELECT id, arrivals FROM quarantine") == [(1, 2), (count, 1)]


def test_empty_retention_keeps_everything(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path / "ledger.db", create=True)) as ledger:
        aged(ledger)
    kept = '[retention]\nduplicates = ""\nattempts = ""\nquarantine = "60d"\nruns = "36500d"\n'
    write_config(tmp_path, "http://127.0.0.1:9", kept)
    done = callbridge("prune", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    removed = json.loads(done.stdout)["removed"]
    assert removed == {"quarantine": removed["quarantine"], "runs": 0}
    assert removed["quarantine"] >= 2
    verdicts = rows(tmp_path / "ledger.db", "SELECT verdict, count(*) FROM receipts GROUP BY 1 ORDER BY 1")
    assert verdicts == [("duplicate", 2), ("new", 2), ("revision", 3), ("stale", 2)]


# -- copies ------------------------------------------------------------------------
class Sender:
    """Pushes one call after the other, and remembers what was acknowledged."""

    def __init__(self, url: str) -> None:
        self.acknowledged: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._stop.is_set():
                key = uuid(len(self.acknowledged))
                record = {"uuid": key, "call_from_type": 3, "x": os.urandom(3000).hex()}
                if client.post(self._url, json=record).content == b"SUCCESS":
                    self.acknowledged.append(key)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


def test_backup_works_while_callbacks_arrive(tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "ledger copy.db"
    copy.parent.mkdir()
    daemon = DaemonProcess(write_config(tmp_path, "http://127.0.0.1:9"))
    try:
        with Sender(daemon.callback_url) as sender:
            wait_until(lambda: len(sender.acknowledged) >= 300, "there is something to copy")
            before = list(sender.acknowledged)
            done = callbridge("backup", str(copy), "--json", cwd=tmp_path)
            wait_until(lambda: len(sender.acknowledged) > len(before) + 20, "callbacks went on")
        assert daemon.stop() == 0
    finally:
        daemon.kill()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["file"], told["bytes"]) == (str(copy), copy.stat().st_size)
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600, "calls and phone numbers, for everybody to read"
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert {key for (key,) in rows(copy, "SELECT key FROM calls")} >= set(before)
    assert told["calls"] == rows(copy, "SELECT count(*) FROM calls")[0][0]

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(copy, elsewhere / "ledger.db")
    write_config(elsewhere, "http://127.0.0.1:9")
    status = callbridge("status", "-c", str(elsewhere / "config.toml"), "--json", cwd=tmp_path)
    assert json.loads(status.stdout)["calls"] == {"main": told["calls"]}
    with closing(SqliteLedger(elsewhere / "ledger.db")) as ledger:
        assert filed_all(ledger, [arrival(before[0])])[0].key == before[0]
        assert ledger.counts().calls == {"main": told["calls"]}


@pytest.mark.parametrize("target", ["missing/copy.db", "config.toml/copy.db", "ledger.db"])
def test_failed_backup_is_reported(tmp_path: Path, target: str) -> None:
    write_config(tmp_path, "http://127.0.0.1:9")
    with closing(SqliteLedger(tmp_path / "ledger.db", create=True)) as ledger:
        news(ledger, "a")
    ledger_file = (tmp_path / "ledger.db").stat().st_ino
    names = {path.name for path in tmp_path.iterdir()}
    done = callbridge("backup", str(tmp_path / target), "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, ""), done.stdout
    assert (tmp_path / "ledger.db").stat().st_ino == ledger_file, "the ledger itself was replaced"
    assert target in done.stderr
    assert "fault" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} - names <= {"ledger.db.lock"}


NO_NICE = """
#include <errno.h>
int nice(int by) { errno = EPERM; return -1; }
"""


@pytest.mark.long
def test_backup_and_dictionary_are_made_where_no_priority_may_be_lowered(tmp_path: Path) -> None:
    source, library = tmp_path / "nice.c", tmp_path / "nice.so"
    source.write_text(NO_NICE, "ascii")
    command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    SqliteLedger(tmp_path / "ledger.db", create=True).close()
    (tmp_path / "copy.db").touch()
    for module, *args in (
        ("backup_copy", str(tmp_path / "ledger.db"), str(tmp_path / "copy.db")),
        ("backup_check", str(tmp_path / "copy.db")),
        ("dictionary_process",),
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"bridge.ledger.sqlite.{module}", *args],
            env={**os.environ, "LD_PRELOAD": str(library)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


# -- dictionaries -------------------------------------------------------------------
WORDS = [os.urandom(5).hex() for _ in range(60)]


def talk(number: int) -> bytes:
    """A record in words that the shipped dictionary never saw."""
    made = random.Random(number)  # noqa: S311 -- sample data
    text = " ".join(made.choice(WORDS) for _ in range(60))
    phone = f"1391{number:07}"
    return json.dumps({"uuid": uuid(number), "phone": phone, "caption": text, "remark": str(number)}).encode()


def test_trained_dictionary_makes_records_smaller(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, count = tmp_path / "ledger.db", 1000

    def file(ledger: SqliteLedger, numbers: range) -> None:
        filed_all(ledger, [arrival(uuid(number), payload=talk(number)) for number in numbers])
        ledger.judge([judgment(pending) for pending in ledger.waiting(count)], TO_CRM, NOW)

    with closing(SqliteLedger(path, create=True)) as ledger:
        file(ledger, range(count - 1))
        assert not ledger.retrain(NOW), "too few calls to learn from"
        file(ledger, range(count - 1, count))
        assert ledger.retrain(NOW)
        assert capfd.readouterr().err == "", "the process that learns has nothing to say"
        assert not ledger.retrain(NOW), "nothing has grown since"
        file(ledger, range(count, count + 20))
        sizes = dict(rows(path, "SELECT codec, avg(length(body)) FROM payloads GROUP BY 1"))
        assert len(sizes) == 2
        first, second = (sizes[codec] for codec in sorted(sizes))
        assert second < first * 0.75
        for number in (0, count):
            assert ledger.show_call(number + 1).record == json.loads(talk(number))

        # Another process, beside this one, and after it.
        write_config(tmp_path, "http://127.0.0.1:9")
        for number in (0, count):
            shown = callbridge_json("calls", "show", uuid(number), cwd=tmp_path)
            assert shown["record"] == json.loads(talk(number))
    with closing(SqliteLedger(path)) as reopened:
        for number in (0, count, count + 1):
            assert reopened.show_call(number + 1).record == json.loads(talk(number))
        file(reopened, range(count + 20, count + 21))
        assert len(rows(path, "SELECT DISTINCT codec FROM payloads")) == 2


@pytest.mark.long
def test_process_that_learns_ends_quietly_when_its_daemon_has_ended() -> None:
    command = [sys.executable, "-m", "bridge.ledger.sqlite.dictionary_process"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stderr is not None
        other.stdout.close()
        for sample in map(talk, range(600)):
            other.stdin.write(len(sample).to_bytes(4, "big") + sample)
        other.stdin.close()
        assert other.stderr.read() == b""
        assert other.wait(60) == 0


# -- memory -------------------------------------------------------------------------
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator gives back what it can")
def test_free_memory_is_returned(ledger: SqliteLedger) -> None:
    pieces = [bytes(2000) for _ in range(50_000)]
    # What lies at the heap's end keeps all that is freed below it.
    kept = [bytes(2000) for _ in range(10)]
    del pieces
    before = resident()
    Maintenance(ledger).maintain(NOW)
    assert resident() < before - 50e6
    assert len(kept) == 10


def resident() -> int:
    """Bytes of memory that this process takes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# -- space --------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=16m", "callbridge-test", str(folder)]
    if not (mount and unmount) or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run([unmount or "", "--lazy", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """A file that leaves so many bytes."""
    filler = folder / "filler"
    free = space(folder / "ledger.db", 0).free_bytes
    filler.write_bytes(bytes(free - left))
    return filler


def test_free_space_floor_is_a_share_of_a_small_disk(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    assert space(tmp_path / "ledger.db", 1).floor_bytes == 1
    assert space(tmp_path / "ledger.db", 2**62).floor_bytes == total // 20


def test_low_disk_space_refuses_callbacks_and_says_so(small_disk: Path) -> None:
    body, crm = EXAMPLE.read_bytes(), SandboxCrm()
    with LocalServer(crm.app) as server:
        daemon = DaemonProcess(write_config(small_disk, server.url))
        try:
            assert httpx.post(daemon.callback_url, content=body).content == b"SUCCESS"
            wait_until(lambda: crm.contents()["calls"] != [], "delivered")
            filler = fill(small_disk, 800_000)
            ready = f"{daemon.admin_url}/readyz"
            wait_until(lambda: httpx.get(ready).status_code == 503, "it is not ready")
            refused = httpx.post(daemon.callback_url, content=body)
            assert refused.status_code == 503
            assert "MiB are left" in refused.text
            assert httpx.get(f"{daemon.admin_url}/healthz").status_code == 200
            told = callbridge_json("status", cwd=small_disk)["space"]
            assert told["free_bytes"] < told["floor_bytes"] == 2**24 // 20
            assert daemon.count("SELECT count(*) FROM receipts") == 1
            assert callbridge("deliveries", "retry", "--all", cwd=small_disk).returncode == 0
            filler.unlink()
            wait_until(lambda: httpx.get(ready).status_code == 200, "ready again, by itself")
            assert httpx.post(daemon.callback_url, content=body).content == b"SUCCESS"
            assert daemon.count("SELECT count(*) FROM receipts") == 2
            assert daemon.stop() == 0
        finally:
            daemon.kill()


def test_low_disk_space_is_warned_about_early(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(SqliteLedger(small_disk / "ledger.db", create=True, min_free=2**40)) as ledger:
        upkeep = Maintenance(ledger)
        upkeep.maintain(NOW)
        assert "disk_low" not in "".join(capsys.readouterr())
        filler = fill(small_disk, 2**22)
        upkeep.maintain(NOW)
        upkeep.maintain(NOW)
        assert "".join(capsys.readouterr()).count("ledger.disk_low") == 1
        assert filed_all(ledger, [arrival("a")])[0].key == "a"
        filler.unlink()
        upkeep.maintain(NOW + timedelta(hours=23))
        assert "ledger.space_again" in "".join(capsys.readouterr())
        pruned = "SELECT count(*) FROM runs WHERE kind = 'prune'"
        assert rows(small_disk / "ledger.db", pruned) == [(1,)]
        upkeep.maintain(NOW + timedelta(hours=24))
        assert rows(small_disk / "ledger.db", pruned) == [(2,)]


# -- the write-ahead log -----------------------------------------------------------------
def test_write_ahead_log_is_truncated_after_a_long_reader(ledger: SqliteLedger, ledger_path: Path) -> None:
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM calls").fetchone()
        while ledger.space().log_bytes <= JOURNAL_SIZE_LIMIT + 2**20:
            filed_all(ledger, [stray(Quarantined.UNIDENTIFIED, os.urandom(4 * 2**20)) for _ in range(4)])
        assert ledger.writable()
        assert ledger.space().log_bytes > JOURNAL_SIZE_LIMIT
        reader.execute("ROLLBACK")
    # The next commits copy the log into the file, begin it anew and cut it.
    for _ in range(3):
        assert ledger.writable()
    assert ledger.space().log_bytes <= JOURNAL_SIZE_LIMIT
    assert rows(ledger_path, "PRAGMA integrity_check") == [("ok",)]
