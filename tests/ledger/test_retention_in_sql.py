"""What a prune removes, and what another arrival makes of a body, is what the pure rules say."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.connection import connect
from bridge.ledger.sqlite.times import micros
from bridge.model.calls import Quarantined, Verdict
from bridge.model.jobs import JobState
from bridge.model.quarantine import QuarantineState, after_another_arrival
from bridge.model.retention_rules import (
    may_remove_job,
    may_remove_payload,
    may_remove_quarantined,
    may_remove_receipt,
)
from tests.fixtures.ledger_calls import NOW, filed_all, stray

DAY = timedelta(days=1)
AGES = (NOW - DAY, NOW)
"""Old, and as old as may stay."""
RECEIPTS = list(itertools.product([*Verdict, None], (False, True), AGES))
QUARANTINE = list(itertools.product(QuarantineState, Quarantined, AGES))
JOBS = list(itertools.product(JobState, AGES))


class Kept:
    """A ledger with a row of every kind, and one more that is the newest of its table."""

    def __init__(self, folder: Path) -> None:
        path = folder / "ledger.db"
        self.ledger = SqliteLedger(path, create=True)
        self.connection = connect(path)
        self.connection.execute("BEGIN")
        for number, (verdict, is_known_state, at) in enumerate(RECEIPTS, 1):
            self._receipt(number, verdict, at, state_receipt=number if is_known_state else None)
        self._receipt(len(RECEIPTS) + 1, Verdict.DUPLICATE, NOW - DAY, state_receipt=None)
        newest = (QuarantineState.DROPPED, Quarantined.AMBIGUOUS, NOW - DAY)
        for number, (state, reason, at) in enumerate([*QUARANTINE, newest], 1):
            self.connection.execute(
                "INSERT INTO quarantine VALUES (?, 'main', 'list', ?, '', ?, ?, 1, 0, ?, 0, x'')",
                (number, reason, state, number.to_bytes(2, "big"), micros(at)),
            )
        for number, (job, at) in enumerate(JOBS, 1):
            self.connection.execute(
                "INSERT INTO runs (id, kind, args, state, requested_at, ended_at)"
                " VALUES (?, 'retry', '{}', ?, 0, ?)",
                (number, job, micros(at)),
            )
        self.connection.execute("COMMIT")

    def _receipt(self, number: int, verdict: Verdict | None, at: datetime, state_receipt: int | None) -> None:
        self.connection.execute(
            "INSERT INTO calls (id, source, key, revision, first_seen_at, state_receipt)"
            " VALUES (?, 'main', ?, 1, 0, ?)",
            (number, f"call {number}", state_receipt),
        )
        self.connection.execute(
            "INSERT INTO receipts (id, call_id, via, received_at, verdict) VALUES (?, ?, 'list', ?, ?)",
            (number, number, micros(at), verdict),
        )
        self.connection.execute("INSERT INTO payloads VALUES (?, 0, x'')", (number,))

    def prune(self, name: str) -> int:
        return self.ledger.prune(name, NOW, lambda _: True)

    def ids(self, table: str, column: str = "id") -> list[int]:
        rows = self.connection.execute(f"SELECT {column} FROM {table} ORDER BY 1")  # noqa: S608 -- our own
        return [row[0] for row in rows]

    def close(self) -> None:
        self.connection.close()
        self.ledger.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with closing(Kept(tmp_path)) as made:
        yield made


def test_duplicate_receipts_are_pruned_with_their_payloads(kept: Kept) -> None:
    left = [
        number
        for number, (verdict, _, at) in enumerate(RECEIPTS, 1)
        if at == NOW or not may_remove_receipt(verdict)
    ]
    assert kept.prune("duplicates") == len(RECEIPTS) - len(left)
    newest = len(RECEIPTS) + 1
    assert kept.ids("receipts") == kept.ids("payloads", "receipt_id") == [*left, newest]


def test_history_payloads_are_pruned_and_receipts_kept(kept: Kept) -> None:
    left = [
        number
        for number, (verdict, is_known_state, at) in enumerate(RECEIPTS, 1)
        if at == NOW or not may_remove_payload(verdict, is_known_state=is_known_state)
    ]
    assert kept.prune("history") == len(RECEIPTS) - len(left)
    newest = len(RECEIPTS) + 1
    assert kept.ids("payloads", "receipt_id") == [*left, newest]
    assert kept.ids("receipts") == list(range(1, newest + 1))


def test_quarantined_bodies_are_pruned_by_the_rule(kept: Kept) -> None:
    left = [
        number
        for number, (state, reason, at) in enumerate(QUARANTINE, 1)
        if at == NOW or not may_remove_quarantined(state, reason)
    ]
    assert kept.prune("quarantine") == len(QUARANTINE) - len(left)
    assert kept.ids("quarantine") == [*left, len(QUARANTINE) + 1]


def test_jobs_are_pruned_by_the_rule(kept: Kept) -> None:
    left = [number for number, (state, at) in enumerate(JOBS, 1) if at == NOW or not may_remove_job(state)]
    assert kept.prune("runs") == len(JOBS) - len(left)
    assert kept.ids("runs") == left


@pytest.mark.parametrize("state", QuarantineState)
def test_repeated_quarantined_body_gets_the_state_of_the_rule(tmp_path: Path, state: QuarantineState) -> None:
    body = stray(Quarantined.AMBIGUOUS, b"{}")
    with closing(Kept(tmp_path)) as kept:
        filed_all(kept.ledger, [body])
        kept.connection.execute("UPDATE quarantine SET state = ? WHERE length(body) > 0", (state,))
        filed_all(kept.ledger, [body])
        found = kept.connection.execute("SELECT state, arrivals FROM quarantine WHERE length(body) > 0")
        assert tuple(found.fetchone()) == (after_another_arrival(state), 2)
