"""Ledgers that owe calls, made once and copied for each run."""

import itertools
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.packing import pack_what_waits
from benchmarks.texts import Record, spaced, varied_records
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger.sqlite import SqliteLedger
from bridge.model.calls import Via
from bridge.record.arrival import arrival_of
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN

_BATCH = 500


def owe(folder: Path, calls: int, calls_a_contact: int = 1) -> Path:
    """A ledger that owes so many calls, spread over time and customers; its file."""
    path, started = folder / "ledger.db", time.perf_counter()
    ledger, routes = SqliteLedger(path, create=True), {"main": ("crm",)}
    ledger.start_destinations(routes, datetime.now(UTC))
    judge = Judge(ledger, {"main": SourceRules(MAIN, ("crm",), frozenset())}, destinations_since={})
    records = _owed_records(calls, max(1, calls // calls_a_contact))
    while batch := list(itertools.islice(records, _BATCH)):
        now = datetime.now(UTC)
        filed_all(ledger, [arrival_of(MAIN, Via.CALLBACK, spaced(record), now) for record in batch])
        while judge.judge_waiting(now):
            pass
    pack_what_waits(ledger)
    ledger.close()
    print(f"{calls} calls owed, made in {time.perf_counter() - started:.0f} s", flush=True)
    return path


def _owed_records(calls: int, contacts: int) -> Iterator[Record]:
    """Calls of so many customers in turn, none of which a rule skips."""
    for number, record in enumerate(varied_records(calls)):
        yield record | {"phone": f"139{number % contacts:08}", "call_from_type": 1, "is_deleted": 0}


def copied(ledger: Path, folder: Path) -> None:
    """The same ledger in another folder."""
    shutil.copyfile(ledger, folder / "ledger.db")
