"""What is SQLite's own of a ledger in one file."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from bridge.ledger import PlannedDelivery, open_ledger
from bridge.ledger.sqlite import OwnerLock, SqliteLedger
from bridge.ledger.sqlite.id_extraction import take_ids_out
from bridge.ledger.sqlite.schema import ADDED, NEEDED, OLDEST_NEEDED, migration_scripts
from bridge.ledger.sqlite.times import micros, moment_of, stamp_of
from bridge.lib.documents import document_of
from bridge.lib.errors import LedgerBusy, LedgerLocked, LedgerUnusable
from bridge.lib.iso_times import moment, stamp
from bridge.model.call_order import event_text
from bridge.model.calls import Quarantined, Verdict
from bridge.model.crm_objects import FieldWrite, KnownObject, SyncedObject
from bridge.model.deliveries import DeliveryState, Settlement
from bridge.model.plan import PlannedObject
from tests.fixtures.daemon_process import wait_until
from tests.fixtures.ledger_calls import (
    NOW,
    SOURCES,
    TO_CRM,
    arrival,
    balance,
    call_keys,
    call_of,
    filed,
    filed_all,
    judgment,
    leased,
    news,
    settle,
    stray,
    uuid,
)
from tests.fixtures.ledger_rows import rows


def impatient(ledger: SqliteLedger) -> None:
    """The writer gives up on a lock at once: its own five seconds are too long for a test."""
    ledger._write().run(lambda c: c.execute("PRAGMA busy_timeout = 20"))


def durability(ledger: SqliteLedger) -> dict[str, Any]:
    """How the connection that writes was opened."""
    names = ("synchronous", "journal_mode", "foreign_keys", "auto_vacuum", "page_size")

    def look(connection: sqlite3.Connection) -> dict[str, Any]:
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    return ledger._write().run(look)


# -- the file ----------------------------------------------------------------------
def test_the_writing_connection_is_durable(ledger: SqliteLedger, ledger_path: Path) -> None:
    found = durability(ledger)
    assert (found["synchronous"], found["journal_mode"], found["foreign_keys"]) == (2, "wal", 1)
    assert (found["auto_vacuum"], found["page_size"]) == (2, 16384)
    assert ledger_path.stat().st_mode & 0o777 == 0o600


def test_record_is_on_disk_when_submit_returns(ledger: SqliteLedger, ledger_path: Path) -> None:
    filed_all(ledger, [arrival(uuid(1), "base-1", payload=b'{"uuid":"x"}')])
    assert rows(ledger_path, "SELECT source, key, revision FROM calls") == [("main", uuid(1), 0)]
    assert rows(ledger_path, "SELECT name FROM call_names ORDER BY 1") == [(uuid(1),), ("base-1",)]
    assert rows(ledger_path, "SELECT codec, length(body) > 0 FROM payloads") == [(1, 1)]
    assert ledger.waiting(1)[0].payload == b'{"uuid":"x"}'


def test_missing_ledger_is_created_only_on_request(ledger_path: Path) -> None:
    for read_only in (True, False):
        with pytest.raises(LedgerUnusable, match="there is no ledger at"):
            open_ledger(ledger_path, read_only=read_only)
    assert not ledger_path.exists()


def migrated_by_a_later_program(path: Path, noted_in: str) -> None:
    """What a program with one more migration leaves, which it notes in this set."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE calls ADD COLUMN of_the_future TEXT")
        connection.execute("UPDATE _sqlite_migrations SET migration_set = ?", (NEEDED,))
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)",
            (noted_in, "9999_of_the_future", "2030-01-01"),
        )


def noted(path: Path) -> dict[str, str]:
    """The set in which the file notes each migration."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, migration_set FROM _sqlite_migrations").fetchall())


@pytest.mark.parametrize("read_only", [True, False])
def test_ledger_that_needs_an_unknown_migration_is_refused(ledger_path: Path, *, read_only: bool) -> None:
    open_ledger(ledger_path, create=True).close()
    migrated_by_a_later_program(ledger_path, NEEDED)
    before = ledger_path.read_bytes()
    with pytest.raises(LedgerUnusable, match="9999_of_the_future"):
        open_ledger(ledger_path, read_only=read_only)
    assert opened(ledger_path) == []
    assert ledger_path.read_bytes() == before


def test_previous_release_can_use_a_ledger_the_next_one_migrated(ledger_path: Path) -> None:
    open_ledger(ledger_path, create=True).close()
    migrated_by_a_later_program(ledger_path, ADDED)
    before = noted(ledger_path)
    with closing(open_ledger(ledger_path)) as ledger:
        filed = ledger.submit([arrival("a")]).result()
    with closing(open_ledger(ledger_path, read_only=True)) as reader:
        assert [call.key for call in reader.list_calls([], 10)] == [filed[0].key]
    assert noted(ledger_path) == before, "what the newer program has noted stands"


def test_release_before_this_one_knows_every_migration_in_the_set_it_looks_at(ledger_path: Path) -> None:
    open_ledger(ledger_path, create=True).close()
    known = [name for name in migration_scripts() if name <= "0006_unfiled"]
    assert [name for name, noted_in in noted(ledger_path).items() if noted_in == "callbridge"] == known


def test_migrations_are_noted_in_the_set_of_this_release_whoever_applied_them(ledger_path: Path) -> None:
    open_ledger(ledger_path, create=True).close()
    before = noted(ledger_path)
    for all_in in (NEEDED, ADDED):
        with closing(sqlite3.connect(ledger_path)) as connection, connection:
            connection.execute("UPDATE _sqlite_migrations SET migration_set = ?", (all_in,))
        open_ledger(ledger_path).close()
        assert noted(ledger_path) == before


def test_migrations_after_the_oldest_required_one_only_add() -> None:
    scripts = migration_scripts()
    assert OLDEST_NEEDED in scripts
    for name, sql in scripts.items():
        if name > OLDEST_NEEDED:
            assert not re.search(r"\b(DROP|RENAME)\b", sql), name


@pytest.mark.parametrize("read_only", [True, False])
def test_a_damaged_file_is_refused_in_words(ledger_path: Path, *, read_only: bool) -> None:
    ledger_path.write_bytes(b"no database, but long enough to look at" * 40)
    # While the error is kept, so is what it was raised from: a connection is closed by itself then only.
    with pytest.raises(LedgerUnusable) as kept:
        open_ledger(ledger_path, read_only=read_only)
    assert kept.value.__cause__ is not None
    assert opened(ledger_path) == []


def test_no_statement_uses_numbered_placeholders() -> None:
    """Python 3.12.0 to 3.12.3 warn of them; see `bridge.ledger.sqlite.binding`."""
    package = Path(__file__).parents[2] / "bridge" / "ledger"
    assert [path for path in package.rglob("*.py") if re.search(r"\?[1-9]", path.read_text("utf-8"))] == []


def opened(path: Path) -> list[str]:
    """The files of a ledger that this process holds open."""
    links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [str(link) for link in links if str(link).startswith(str(path))]


def test_read_only_ledger_writes_nothing(ledger: SqliteLedger, ledger_path: Path) -> None:
    news(ledger, "a")
    reader = open_ledger(ledger_path, read_only=True)
    assert call_keys(reader, "main") == ["a"]
    with pytest.raises(LedgerUnusable):
        filed_all(reader, [arrival("b")])
    reader.close()
    assert call_keys(ledger, "main") == ["a"]


def test_sqlite_utils_reads_the_tables(ledger: SqliteLedger, ledger_path: Path) -> None:
    news(ledger, uuid(1))
    database = Database(ledger_path)
    assert {"calls", "call_names", "receipts", "payloads", "deliveries"} <= set(database.table_names())
    assert next(iter(database["calls"].rows))["key"] == uuid(1)
    assert [row["state"] for row in database["deliveries"].rows] == ["due"]
    database.close()


# -- who owns it -------------------------------------------------------------------
def test_a_second_owner_is_refused(ledger_path: Path) -> None:
    with OwnerLock(ledger_path), pytest.raises(LedgerLocked, match=str(ledger_path)):
        OwnerLock(ledger_path).acquire()
    with OwnerLock(ledger_path):
        pass


def test_owner_lock_ends_with_its_process(ledger_path: Path) -> None:
    code = (
        "import pathlib, sys; from bridge.ledger.sqlite import OwnerLock;"
        "OwnerLock(pathlib.Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(ledger_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with pytest.raises(LedgerLocked, match=f"process {owner.pid}\\)"):
            OwnerLock(ledger_path).acquire()
        owner.kill()
        owner.wait(5)
    OwnerLock(ledger_path).acquire()


LEFT_BEHIND = """
import os, pathlib, signal, sys
from bridge.ledger.sqlite import OwnerLock
OwnerLock(pathlib.Path(sys.argv[1])).acquire()
fork = os.fork()
if fork == 0:
    signal.pause()
print(fork, flush=True)
os._exit(0)
"""


def test_fork_of_a_dead_owner_still_owns_the_ledger_until_it_dies(ledger_path: Path) -> None:
    SqliteLedger(ledger_path, create=True).close()
    command = [sys.executable, "-c", LEFT_BEHIND, str(ledger_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        fork = int(owner.stdout.readline())
        assert owner.wait(60) == 0
        with pytest.raises(LedgerLocked):
            OwnerLock(ledger_path, guest=True).acquire()
        waits: list[float] = []

        def wait(seconds: float) -> None:
            if not waits:
                os.kill(fork, signal.SIGKILL)
            waits.append(seconds)
            time.sleep(seconds)

        OwnerLock(ledger_path, wait=wait).acquire()
    assert waits


def test_command_gives_way_to_a_daemon_and_to_a_waiting_one(ledger_path: Path) -> None:
    guest, owner = OwnerLock(ledger_path, guest=True), OwnerLock(ledger_path)
    with guest:
        assert not guest.is_wanted()
        with pytest.raises(LedgerLocked):
            OwnerLock(ledger_path, guest=True).acquire()
        waiting = threading.Thread(target=owner.acquire)
        waiting.start()
        wait_until(guest.is_wanted, "it is wanted")
    with pytest.raises(LedgerLocked):
        guest.acquire()
    waiting.join()
    assert not guest.is_wanted()
    with pytest.raises(LedgerLocked):
        guest.acquire()
    owner.release()
    with guest:
        pass


# -- committing --------------------------------------------------------------------
def test_copies_for_savepoints_are_kept_in_memory(ledger: SqliteLedger) -> None:
    in_memory = 2
    assert ledger._write().run(lambda c: c.execute("PRAGMA temp_store").fetchone()[0]) == in_memory


def test_a_locked_file_is_busy_and_nothing_is_written(ledger: SqliteLedger, ledger_path: Path) -> None:
    for key in ("a", "due"):
        news(ledger, key)
    assert ledger.lease(["crm"], SOURCES, NOW, 1)
    impatient(ledger)
    before = rows(ledger_path, "SELECT * FROM deliveries")
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy):
            filed_all(ledger, [arrival("b"), arrival("c")])
        with pytest.raises(LedgerBusy):
            ledger.retry([], NOW)
        with pytest.raises(LedgerBusy):
            ledger.lease(["crm"], SOURCES, NOW, 1)
        assert not ledger.writable()
        # Looking goes on.
        assert call_keys(ledger, "main") == ["a", "due"]
        other.execute("ROLLBACK")
    assert rows(ledger_path, "SELECT * FROM deliveries") == before
    assert rows(ledger_path, "SELECT count(*) FROM receipts") == [(2,)]
    assert ledger.writable()
    assert filed(ledger, arrival("b")).key == "b"


def test_a_full_disk_is_busy_and_nothing_is_written(ledger: SqliteLedger, ledger_path: Path) -> None:
    def pages(connection: sqlite3.Connection) -> int:
        used: int = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {used + 2}")
        return used

    ledger._write().run(pages)
    small, large = arrival("a"), arrival("b", payload=b'{"x":"' + os.urandom(100_000).hex().encode() + b'"}')
    with pytest.raises(LedgerBusy):
        filed_all(ledger, [small, large])
    assert rows(ledger_path, "SELECT count(*) FROM calls") == [(0,)]
    ledger._write().run(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
    assert [one.key for one in filed_all(ledger, [small, large])] == ["a", "b"]


class Held:
    """Keeps the writer busy, so that what is submitted meanwhile shares the next commit."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self._go, self._begun = threading.Event(), threading.Event()
        self._ledger = ledger
        self.committed: list[str] = []

    def __enter__(self) -> Self:
        def wait(connection: sqlite3.Connection) -> None:
            connection.set_trace_callback(self.committed.append)
            self._begun.set()
            assert self._go.wait(10)

        self._first = self._ledger._write().submit(wait)
        assert self._begun.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._first.result(5)

    @property
    def commits(self) -> int:
        return self.committed.count("COMMIT")


def test_waiting_work_shares_one_commit(ledger: SqliteLedger) -> None:
    with Held(ledger) as held:
        futures = [ledger.submit([arrival(uuid(number))]) for number in range(50)]
    assert [future.result(5)[0].key for future in futures] == [uuid(number) for number in range(50)]
    assert held.commits == 2


def test_failing_work_fails_alone(ledger: SqliteLedger, ledger_path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO call_names VALUES ('main', 'half', 1)")
        raise ValueError("on purpose")

    def misspell(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO call_names VALUES ('main', 'other half', 1)")
        connection.execute("SELECT no_such_column FROM calls")

    with Held(ledger) as held:
        before = ledger.submit([arrival("before")])
        failing: list[Future[None]] = [ledger._write().submit(work) for work in (fail, misspell)]
        after = ledger.submit([arrival("after")])
    assert [before.result(5)[0].key, after.result(5)[0].key] == ["before", "after"]
    with pytest.raises(ValueError, match="on purpose"):
        failing[0].result(5)
    with pytest.raises(LedgerBusy):
        failing[1].result(5)
    assert held.commits == 2
    assert rows(ledger_path, "SELECT name FROM call_names ORDER BY 1") == [("after",), ("before",)]


def test_cancelled_future_does_not_stop_the_writer(ledger: SqliteLedger) -> None:
    with Held(ledger):
        given_up = ledger.submit([arrival("a")])
        given_up.cancel()
        after = ledger.submit([arrival("b")])
    assert after.result(2)[0].key == "b"


def test_closing_ends_every_future(ledger: SqliteLedger) -> None:
    """Those who submit while the ledger closes hear of it: nobody waits without end."""
    start, ended = threading.Barrier(4), list[str]()

    def submit_until_closed() -> None:
        start.wait(5)
        for number in range(100_000):
            try:
                ledger.submit([arrival(uuid(number))]).result(2)
            except LedgerBusy as busy:
                ended.append(str(busy))
                return

    threads = [threading.Thread(target=submit_until_closed) for _ in range(3)]
    for thread in threads:
        thread.start()
    start.wait(5)
    ledger.close()
    for thread in threads:
        thread.join(5)
    assert ended == ["the ledger is shutting down"] * 3


# -- rows of its own ---------------------------------------------------------------
def test_quarantine_counts_arrivals_of_one_body(ledger: SqliteLedger, ledger_path: Path) -> None:
    trouble = Quarantined.UNIDENTIFIED
    for minutes in range(3):
        at = NOW.replace(minute=minutes)
        filed_all(ledger, [stray(trouble, b'{"a":1}', at=at)])
    found = rows(ledger_path, "SELECT reason, detail, arrivals, received_at, last_at FROM quarantine")
    last = micros(NOW.replace(minute=2))
    assert found == [("unidentified", f"because {trouble}", 3, micros(NOW), last)]


def test_identity_conflict_names_both_calls(ledger: SqliteLedger, ledger_path: Path) -> None:
    filed_all(ledger, [arrival(uuid(1), "base-1"), arrival("base-2"), arrival("base-1", "base-2")])
    filed_all(ledger, [arrival(uuid(2), "base-1")])
    details = [row[0] for row in rows(ledger_path, "SELECT detail FROM quarantine ORDER BY id")]
    assert all(name in details[0] for name in ("base-1", "base-2"))
    assert uuid(1) in details[1]


def test_a_duplicates_record_is_not_kept_twice(ledger: SqliteLedger, ledger_path: Path) -> None:
    news(ledger, "a")
    for verdict in (Verdict.DUPLICATE, Verdict.STALE):
        call_of(ledger, arrival("a", payload=f'{{"uuid":"a","v":"{verdict}"}}'.encode()))
        ledger.judge([judgment(ledger.waiting(1)[0], verdict)], TO_CRM, NOW)
    kept = rows(
        ledger_path, "SELECT r.verdict FROM payloads p JOIN receipts r ON r.id = p.receipt_id ORDER BY 1"
    )
    assert kept == [("new",), ("stale",)]
    assert balance(ledger) == {"ledger": 1, "under_way": 1}


def test_object_with_default_name_and_key_is_stored_without_them(
    ledger: SqliteLedger, ledger_path: Path
) -> None:
    contact, call = (
        SyncedObject("person", "contact", "+8615899770637", KnownObject("7", b"told"), shared=False),
        SyncedObject("call", "call", uuid(1), KnownObject("8", b"told"), shared=False),
    )
    call_id = news(ledger, uuid(1))
    settle(ledger, leased(ledger), Settlement(DeliveryState.DELIVERED, done=(contact, call)), NOW, NOW)
    found = rows(ledger_path, "SELECT object, type, key, crm_id FROM delivery_objects ORDER BY 1")
    assert found == [("call", None, None, "8"), ("person", "contact", "+8615899770637", "7")]
    shown = document_of(ledger.show_call(call_id).crm_objects)
    assert shown == [
        {
            "destination": "crm",
            "object": one.object,
            "type": one.type,
            "key": one.key,
            "crm_id": one.known.crm_id,
            "altered": {},
        }
        for one in (call, contact)
    ]


def test_fields_are_stored_as_numbers_and_shown_by_name(ledger: SqliteLedger, ledger_path: Path) -> None:
    first, second = event_text(NOW, "a"), event_text(NOW, "b")
    last_writes = {
        "area": FieldWrite(first, b"x"),
        "grade": FieldWrite(second, b"y"),
        "name": FieldWrite(first, b""),
    }
    left = KnownObject("7", b"d", {"contact": "9"}, last_writes)
    plan = [PlannedObject("deal", "deal", {"id": "7"}, {})]
    for name in ("a", "b"):
        news(ledger, name)
        done = (SyncedObject("deal", "deal", "7", left),)
        settle(
            ledger, leased(ledger), Settlement(DeliveryState.DELIVERED, account="hub", done=done), NOW, NOW
        )
    assert rows(ledger_path, "SELECT name FROM field_names ORDER BY name") == [
        ("area",),
        ("contact",),
        ("grade",),
        ("name",),
    ]
    ((memory,),) = rows(ledger_path, "SELECT memory FROM crm_objects")
    assert b"grade" not in memory
    news(ledger, "c")
    lease = leased(ledger)
    assert ledger.recall("hub", [PlannedDelivery(lease.delivery_id, lease.key, plan)]) == [{"deal": left}]


def without_the_person(example: dict[str, Any]) -> dict[str, Any]:
    """The documented record with zeros for the digits of its number and of its id."""
    text = json.dumps(example, ensure_ascii=False)
    for value in (example["phone"], example["uuid"], "_" + example["phone"][-4:]):
        text = text.replace(value, re.sub(r"[0-9a-f]", "0", value))
    made: dict[str, Any] = json.loads(text)
    return made


def test_shipped_dictionary_is_the_example_in_three_spellings(example: dict[str, Any]) -> None:
    phone = example["phone"]
    example = without_the_person(example)
    packed = json.dumps(example, separators=(",", ":"))
    # PHP's way, JavaScript's, and Python's, which is the platform's: what stands last is found cheapest.
    spellings = (
        packed.replace("/", r"\/"),
        json.dumps(example, separators=(",", ":"), ensure_ascii=False),
        json.dumps(example, ensure_ascii=False),
    )
    shipped = (resources.files("bridge.ledger.sqlite") / "payload.dict").read_bytes()
    assert shipped == b"".join(take_ids_out(each.encode())[0] for each in spellings)
    assert phone.encode() not in shipped


# -- times -------------------------------------------------------------------------
@given(
    st.lists(
        st.datetimes(
            datetime(1900, 1, 1),  # noqa: DTZ001 -- as hypothesis wants its bounds
            datetime(9000, 1, 1),  # noqa: DTZ001
            timezones=st.sampled_from([UTC, ZoneInfo("Asia/Shanghai")]),
        ),
        min_size=2,
    )
)
def test_stored_times_keep_their_value_and_order(moments: list[datetime]) -> None:
    kept = [micros(at) for at in moments]
    assert [stamp_of(number) for number in kept] == [stamp(at) for at in moments]
    assert [moment_of(number) for number in kept] == [moment(stamp(at)) for at in moments]
    assert [micros(stamp(at)) for at in moments] == kept
    assert sorted(kept) == [micros(at) for at in sorted(moments, key=lambda at: at.astimezone(UTC))]


def test_no_time_is_null() -> None:
    assert (micros(None), stamp_of(None)) == (None, None)


def test_an_operator_reads_times_with_sqlites_own_functions(ledger: SqliteLedger, ledger_path: Path) -> None:
    news(ledger, "a")
    sql = "SELECT datetime(received_at / 1e6, 'unixepoch') FROM receipts"
    assert rows(ledger_path, sql) == [("2026-11-22 08:00:00",)]
    assert rows(ledger_path, "SELECT due_at, changed_at FROM deliveries") == [(micros(NOW), micros(NOW))]


@pytest.mark.usefixtures("ledger")
def test_every_column_for_a_time_is_an_integer(ledger_path: Path) -> None:
    """What ends in `_at` is handed out as a time."""
    columns = rows(
        ledger_path,
        "SELECT c.type FROM sqlite_schema t, pragma_table_info(t.name) c"
        " WHERE t.name NOT LIKE '\\_%' ESCAPE '\\' AND c.name LIKE '%\\_at' ESCAPE '\\'",
    )
    assert len(columns) > 15
    assert set(columns) == {("INTEGER",)}
