"""Looking at a large ledger: its counts are kept and exact, and no look reads what it need not."""

import random
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from operator import methodcaller
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.ledger import Window
from bridge.ledger.sqlite import (
    SqliteLedger,
    backup,
    balances,
    call_history,
    leasing,
    quarantine,
    retention,
    status_counts,
)
from bridge.ledger.sqlite.filing import file_arrivals
from bridge.ledger.sqlite.payloads import Payloads
from bridge.lib.errors import LedgerBusy, LedgerUnusable
from bridge.lib.iso_times import stamp
from bridge.model.calls import Arrival, Columns, Quarantined, Verdict, Via
from bridge.model.deliveries import DeliveryState, Settlement
from bridge.model.jobs import JobState
from tests.fixtures.ledger_calls import (
    CLOSED,
    MINUTE,
    NOW,
    SOURCES,
    TO_CRM,
    arrival,
    filed_all,
    judgment,
    leased,
    news,
    settle,
    stray,
    uuid,
)
from tests.fixtures.ledger_counters import assert_counters_match_rows


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(ledger_path, create=True)
    yield ledger
    ledger.close()


BOTH = {"main": ("crm", "other"), "branch": ("crm",)}


# -- exact ----------------------------------------------------------------------------


class Steps:
    """What happens to a ledger, in whatever order."""

    def __init__(self, ledger: SqliteLedger, path: Path, rng: random.Random) -> None:
        self.ledger, self.path, self.rng = ledger, path, rng
        self.at = NOW

    def record(self) -> None:
        numbers = [self.rng.randrange(30) for _ in range(self.rng.randrange(1, 9))]
        source = self.rng.choice(("main", "branch"))
        arrivals = [arrival(uuid(number), source=source, at=self.at) for number in numbers]
        # Some tell their sn at once, some later.
        sn = [self.rng.choice((None, "1", "2", "3", str(number))) for number in numbers]
        filed_all(
            self.ledger,
            [msgspec.structs.replace(one, sn=told) for one, told in zip(arrivals, sn, strict=True)],
        )

    def stray(self) -> None:
        filed_all(self.ledger, [stray(Quarantined.AMBIGUOUS, self.rng.randbytes(4), at=self.at)])

    def judge(self) -> None:
        verdicts = (Verdict.REVISION, Verdict.DUPLICATE, Verdict.STALE)
        for pending in self.ledger.waiting(1):
            verdict = self.rng.choice(verdicts) if pending.known else Verdict.NEW
            skip = {"crm": "a rule"} if self.rng.random() < 0.2 else {}
            columns = Columns(created_at=stamp(self.at), sn=self.rng.choice((None, "1", "2", "4")))
            self.ledger.judge([judgment(pending, verdict, skip=skip, columns=columns)], BOTH, self.at)

    def judge_many(self) -> None:
        fresh = [one for one in self.ledger.waiting(9) if one.known is None]
        once = {one.call_id: judgment(one, Verdict.NEW) for one in reversed(fresh)}
        self.ledger.judge(sorted(once.values(), key=lambda one: one.receipt_id), BOTH, self.at)

    def set_aside(self) -> None:
        for pending in self.ledger.waiting(1):
            self.ledger.set_aside(pending, "why", BOTH, self.at)

    def deliver(self) -> None:
        if lease := self.ledger.lease(("crm", "other"), SOURCES, self.at):
            state = self.rng.choice([one for one in DeliveryState if one is not DeliveryState.LEASED])
            due_at = self.at if state is DeliveryState.DUE else None
            cause = self.rng.choice(("", "HTTP 400", "HTTP 503"))
            settle(self.ledger, lease, Settlement(state, "why", cause, due_at), self.at, self.at)

    def take(self) -> None:
        self.ledger.lease(("crm",), SOURCES, self.at)

    def retry(self) -> None:
        self.ledger.retry([], self.at)

    def release(self) -> None:
        self.ledger.release_leases()

    def hold(self) -> None:
        ids = [self.rng.randrange(1, 40) for _ in range(3)]
        self.ledger.hold(ids, "why", self.at, skip=self.rng.random() < 0.5)

    def retry_some(self) -> None:
        self.ledger.retry([self.rng.randrange(1, 40) for _ in range(3)], self.at)
        self.ledger.retry([], self.at, cause="http 4")

    def demote(self) -> None:
        self.ledger.demote(("crm", "other"), self.at - MINUTE)

    def replay(self) -> None:
        ids = [self.rng.randrange(1, 40) for _ in range(3)]
        self.ledger.replay(ids, "account", self.at, forget=self.rng.random() < 0.5)

    def prune(self) -> None:
        before = self.at - self.rng.randrange(1, 60) * MINUTE
        self.ledger.prune(self.rng.choice(list(retention.DATA_CLASSES)), before, lambda _: True)

    def trip(self) -> None:
        """Work that fails after it wrote is taken back, with what it counted."""

        def half(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM deliveries")
            connection.execute("UPDATE receipts SET verdict = 'stale'")
            connection.execute("DELETE FROM calls")
            raise KeyError("half")

        with pytest.raises(KeyError):
            self.ledger._write().run(half)

    def remove(self) -> None:
        """Nothing does so yet."""
        number = self.rng.randrange(1, 30)
        for table in ("deliveries", "receipts", "calls"):
            sql = f"DELETE FROM {table} WHERE id = {number}"  # noqa: S608 -- our own
            self.ledger._write().run(methodcaller("execute", sql))


STEPS = (
    *[Steps.record, Steps.judge, Steps.deliver] * 3,
    Steps.stray,
    Steps.judge_many,
    Steps.set_aside,
    Steps.take,
    Steps.retry,
    Steps.release,
    Steps.hold,
    Steps.retry_some,
    Steps.demote,
    Steps.replay,
    Steps.prune,
    Steps.trip,
)


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_exact_whatever_happens(ledger: SqliteLedger, ledger_path: Path, seed: int) -> None:
    ledger.start_destinations(BOTH, NOW)
    rng = random.Random(seed)  # noqa: S311 -- sample data
    steps = Steps(ledger, ledger_path, rng)
    for _ in range(150):
        rng.choice(STEPS)(steps)
        steps.at += timedelta(seconds=rng.randrange(60))
        assert_counters_match_rows(ledger, ledger_path)
    found = ledger.counts()
    assert min(found.shared_sn, len(found.calls), len(found.receipts) - 2) > 0, found
    for _ in range(10):
        steps.remove()
        assert_counters_match_rows(ledger, ledger_path)


def test_counters_are_built_for_a_ledger_that_has_none(ledger_path: Path) -> None:
    with closing(SqliteLedger(ledger_path, create=True)) as ledger:
        ledger.start_destinations(TO_CRM, NOW)
        news(ledger, "a")
        filed_all(ledger, [arrival("b"), arrival("b", source="branch")])
        before = ledger.counts()
    with closing(sqlite3.connect(ledger_path)) as older, older:
        named = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%counted'"
        for (name,) in older.execute(named).fetchall():
            older.execute(f"DROP TRIGGER {name}")
        older.execute("DROP TABLE counters")
        older.execute("DELETE FROM _sqlite_migrations WHERE name = '0002_counters'")
    with closing(SqliteLedger(ledger_path)) as ledger:
        assert ledger.counts() == before
        filed_all(ledger, [arrival("c")])
        assert_counters_match_rows(ledger, ledger_path)


def test_newest_calls_of_all_sources_are_listed_first(ledger: SqliteLedger) -> None:
    for minutes, (name, source) in enumerate([("a", "main"), ("b", "branch"), ("c", "main"), ("d", "north")]):
        filed_all(ledger, [arrival(name, source=source, at=NOW + minutes * MINUTE)])
    assert [row.key for row in ledger.list_calls([], 3)] == ["d", "c", "b"]
    assert [row.key for row in ledger.list_calls(["a", "b"], 9)] == ["b", "a"]
    assert ledger.first_call_at() == NOW
    assert ledger.first_call_at("north") == NOW + 3 * MINUTE
    assert ledger.first_call_at("nowhere") is None


# -- quick ----------------------------------------------------------------------------
class Noting(sqlite3.Connection):
    """Remembers what it was asked."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.asked: list[tuple[str, Any]] = []

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        self.asked.append((sql, values))
        return super().execute(sql, values)


def plans(path: Path, look: Callable[[sqlite3.Connection], object]) -> list[str]:
    """How SQLite goes about a look."""
    with closing(sqlite3.connect(path, factory=Noting)) as connection:
        connection.row_factory = sqlite3.Row
        look(connection)
        return [
            row[3]
            for sql, values in list(connection.asked)
            for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        ]


WHOLE = re.compile(
    r"SCAN (calls|call_names|receipts|payloads|deliveries|quarantine|attempts|[cdr])\b(?!.*INDEX)"
)
OPEN = [state for state in DeliveryState if state is not DeliveryState.DELIVERED]


def whole_tables(path: Path, look: Callable[[sqlite3.Connection], object]) -> list[str]:
    found = plans(path, look)
    assert found
    return [line for line in found if WHOLE.match(line)]


def of_state(state: DeliveryState) -> Callable[[sqlite3.Connection], object]:
    return lambda c: call_history.list_deliveries(c, state, None, 50)


def counted(connection: sqlite3.Connection) -> object:
    return status_counts.counts(connection, NOW)


WINDOW = Window(NOW, NOW + MINUTE)
LOOKS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "counts": counted,
    "calls list": lambda c: call_history.list_calls(c, [], 50),
    "calls list WORD": lambda c: call_history.list_calls(c, ["a", "+8613800000000"], 50),
    "quarantine list": lambda c: quarantine.list_quarantine(c, "waiting", 50),
    "the first call": lambda c: balances.first_call_at(c, None),
    "a window of a source": lambda c: balances.source_counts(c, "main", WINDOW),
    "release_leases": leasing.release_leases,
} | {f"deliveries list --state {state}": of_state(state) for state in OPEN}


@pytest.mark.parametrize("name", LOOKS)
def test_no_query_scans_a_whole_table(ledger: SqliteLedger, ledger_path: Path, name: str) -> None:
    filed_all(ledger, [arrival("a", at=NOW), stray(Quarantined.AMBIGUOUS, b"x")])
    assert whole_tables(ledger_path, LOOKS[name]) == []


def test_call_is_found_through_the_index_on_the_end_of_its_sn(
    ledger: SqliteLedger, ledger_path: Path
) -> None:
    filed_all(ledger, [arrival("a", at=NOW)])
    nameless = Arrival("main", Via.CALLBACK, NOW, b"{}", sn="account|4216aedb", started_at=stamp(NOW))

    def file(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        file_arrivals(connection, Payloads(), [nameless])
        connection.execute("ROLLBACK")

    for look in (file, LOOKS["calls list WORD"]):
        assert any("calls_sn (sn_end=?)" in line for line in plans(ledger_path, look))


def test_calls_are_listed_without_sorting_them_all(ledger: SqliteLedger, ledger_path: Path) -> None:
    filed_all(ledger, [arrival("a", at=NOW)])
    newest = plans(ledger_path, LOOKS["calls list"]) + plans(ledger_path, LOOKS["quarantine list"])
    assert [line for line in newest if "ORDER BY" in line] == []


def test_balance_of_a_short_window_scans_no_table(ledger: SqliteLedger, ledger_path: Path) -> None:
    filed_all(ledger, [arrival("a", at=NOW - MINUTE), arrival("b", at=NOW)])

    def look(window: Window) -> Callable[[sqlite3.Connection], object]:
        return lambda c: balances.balance(c, "crm", ["main"], window)

    assert whole_tables(ledger_path, look(WINDOW)) == []
    # One that concerns every call goes through them in the table's order.
    for window in (Window(), Window(NOW - MINUTE)):
        assert whole_tables(ledger_path, look(window)) == ["SCAN c"]
        with closing(sqlite3.connect(ledger_path)) as connection:
            connection.row_factory = sqlite3.Row
            assert balances.balance(connection, "crm", ["main"], window).under_way == 2


# -- copies ---------------------------------------------------------------------------
def fill(ledger: SqliteLedger, calls: Sequence[int]) -> None:
    rng = random.Random(len(calls))  # noqa: S311 -- sample data
    filed_all(ledger, [arrival(uuid(one), payload=rng.randbytes(6000)) for one in calls])


def test_commit_during_a_backup_is_in_it_wholly_or_not_at_all(ledger: SqliteLedger, tmp_path: Path) -> None:
    fill(ledger, range(600))
    written = iter(range(600, 10_000))

    def while_calls_come() -> bool:
        filed_all(ledger, [arrival(uuid(next(written)))])
        return True

    target = tmp_path / "copy.db"
    told = ledger.backup(target, while_calls_come)
    assert told.bytes == target.stat().st_size
    with closing(sqlite3.connect(target)) as copy:
        keys = [key for (key,) in copy.execute("SELECT key FROM calls ORDER BY id")]
        # One moment: all up to one, with all that belongs to it.
        assert keys == [uuid(number) for number in range(len(keys))]
        assert told.calls == len(keys) > 600
        for table in ("receipts", "payloads", "call_names"):
            assert copy.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(keys),)  # noqa: S608 -- our own
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_backup_holds_everything_but_tokens_and_open_jobs(
    ledger: SqliteLedger, ledger_path: Path, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        news(ledger, name)
    settle(ledger, leased(ledger), Settlement(DeliveryState.DELIVERED, account="hub"), NOW, NOW)
    # The row moves with each token, and leaves the one before in its page's free space.
    for number in range(40):
        ledger.save_token("hub", {"outputs": {"access_token": f"SECRET-{number}-" + "x" * (number * 700)}})
        ledger.save_token(f"other {number}", {"outputs": {"refresh_token": f"SECRET-{number}"}})
    ledger.save_budget("hub", {"breaker": CLOSED, "classes": {}}, NOW)
    for kind in ("retry", "backup", "prune"):
        ledger.request_job(kind, {}, NOW)
    done = ledger.take_job(NOW)
    assert done is not None
    ledger.end_job(done.id, JobState.DONE, {}, NOW)
    ledger.take_job(NOW)
    copy = tmp_path / "copy.db"
    ledger.backup(copy, lambda: True)

    assert b"SECRET" not in copy.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]
    with closing(sqlite3.connect(copy)) as copied, closing(sqlite3.connect(ledger_path)) as own:
        schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2"
        assert copied.execute(schema).fetchall() == own.execute(schema).fetchall()
        names = [name for kind, name, *_ in own.execute(schema).fetchall() if kind == "table"]
        for name in set(names) - {"accounts", "runs"}:
            rows = f'SELECT * FROM "{name}"'  # noqa: S608 -- our own
            assert copied.execute(rows).fetchall() == own.execute(rows).fetchall(), name
        kept = "SELECT id, name, budget FROM accounts"
        assert copied.execute(kept).fetchall() == own.execute(kept).fetchall()
        assert copied.execute("SELECT kind, state FROM runs").fetchall() == [("retry", "done")]
        for pragma in ("page_size", "auto_vacuum", "user_version"):
            told = f"PRAGMA {pragma}"
            assert copied.execute(told).fetchall() == own.execute(told).fetchall(), pragma
    with closing(SqliteLedger(copy)) as restored:
        assert restored.load_token("hub") is None
        assert restored.release_leases(NOW) == 0
        assert restored.take_job(NOW) is None
        assert_counters_match_rows(restored, copy)
        assert restored.counts().deliveries == ledger.counts().deliveries
    # Read last: whoever closes the file ends the locks of its process.
    assert b"SECRET" in ledger_path.read_bytes() + ledger_path.with_name("ledger.db-wal").read_bytes()


def test_interrupted_backup_job_fails_instead_of_running_again(ledger: SqliteLedger) -> None:
    run = ledger.request_job("backup", {"file": "/x"}, NOW)
    again = ledger.request_job("retry", {"ids": []}, NOW)
    ledger.take_job(NOW)
    ledger.take_job(NOW)
    ledger.release_leases(NOW)
    ended = ledger.job(run)
    assert (ended.state, "ask for it again" in ended.result["error"]) == ("failed", True)
    taken = ledger.take_job(NOW)
    assert taken is not None
    assert taken.id == again


def test_backup_overwrites_nothing_but_a_backup(
    ledger: SqliteLedger, ledger_path: Path, tmp_path: Path
) -> None:
    news(ledger, "a")
    folder = tmp_path / "copies"
    folder.mkdir()
    note, copy, empty = folder / "note.txt", folder / "copy.db", folder / "empty"
    note.write_text("keep me")
    empty.touch()
    for target in (copy, copy, empty):
        assert ledger.backup(target, lambda: True).calls == 1
    other = folder / "other.db.unfinished"
    other.write_text("keep me too")
    in_use = folder / "used.db"
    with closing(sqlite3.connect(in_use)) as used:
        used.execute("PRAGMA journal_mode = WAL")
        used.execute("CREATE TABLE a (b)")
        linked = folder / "linked.db"
        linked.hardlink_to(ledger_path)
        pointing = folder / "pointing.db"
        pointing.symlink_to(note)
        for target, why in (
            (note, "no SQLite file"),
            (pointing, "no SQLite file"),
            (folder / "other.db", "no SQLite file"),
            (in_use, "is in use"),
            (linked, "is the ledger itself"),
            (ledger_path, "is the ledger itself"),
            (ledger_path.with_name("ledger.db-wal"), "is the ledger itself"),
            (folder, "cannot copy"),
        ):
            with pytest.raises(LedgerUnusable, match=why):
                ledger.backup(target, lambda: True)
    assert (note.read_text(), other.read_text()) == ("keep me", "keep me too")
    # Nobody has closed the ledger's own file, which would have ended its locks.
    assert filed_all(ledger, [arrival("b")])[0].key == "b"


def test_cancelled_backup_leaves_nothing_behind(
    ledger: SqliteLedger, ledger_path: Path, tmp_path: Path
) -> None:
    fill(ledger, range(600))
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    ledger.backup(target, lambda: True)
    yesterday = target.read_bytes()
    fill(ledger, range(600, 601))
    for answers in ([False], [True, False]):
        with pytest.raises(LedgerBusy, match="ask for it again"):
            ledger.backup(target, iter(answers).__next__)
    assert [path.read_bytes() for path in target.parent.iterdir()] == [yesterday]
    assert_counters_match_rows(ledger, ledger_path)


def test_damaged_backup_is_detected(ledger: SqliteLedger, tmp_path: Path) -> None:
    fill(ledger, range(100))
    copy = tmp_path / "a copy?#%.db"
    ledger.backup(copy, lambda: True)
    assert backup.check_copy(copy, lambda: True) == 100
    with copy.open("r+b") as file:
        file.seek(5 * 16384)
        file.write(bytes(3 * 16384))
    with pytest.raises(LedgerUnusable, match="is damaged"):
        backup.check_copy(copy, lambda: True)
    copy.write_bytes(b"no ledger at all, but long enough to be looked at" * 1000)
    with pytest.raises(LedgerUnusable, match="is damaged"):
        backup.check_copy(copy, lambda: True)
