"""The counts that the ledger keeps equal those of its rows, whatever happens."""

import random
import sqlite3
from contextlib import closing
from datetime import timedelta
from operator import methodcaller
from pathlib import Path

import msgspec
import pytest

from bridge.ledger.sqlite import (
    SqliteLedger,
    retention,
)
from bridge.lib.iso_times import stamp
from bridge.model.calls import Columns, Quarantined, Verdict
from bridge.model.deliveries import DeliveryState, Settlement
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    SOURCES,
    TO_CRM,
    arrival,
    filed_all,
    judgment,
    news,
    settle,
    stray,
    uuid,
)
from tests.fixtures.ledger_counters import assert_counters_match_rows

BOTH = {"main": ("crm", "other"), "branch": ("crm",)}


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
        for lease in self.ledger.lease(("crm", "other"), SOURCES, self.at, 1):
            state = self.rng.choice([one for one in DeliveryState if one is not DeliveryState.LEASED])
            due_at = self.at if state is DeliveryState.DUE else None
            cause = self.rng.choice(("", "HTTP 400", "HTTP 503"))
            settle(self.ledger, lease, Settlement(state, "why", cause, due_at), self.at, self.at)

    def take(self) -> None:
        self.ledger.lease(("crm",), SOURCES, self.at, 1)

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
