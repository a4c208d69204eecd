"""Records are packed quickly when filed, and small later: the same records, in pages that are full."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.texts import spaced, varied_records
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.connection import connect
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.quickly_packed import (
    ROWS_IN_STEP,
    next_quickly_packed,
    packed_smaller,
    replace_packed,
)
from tests.fixtures.examples import search_seed
from tests.fixtures.ledger_calls import arrival, filed_all, judge_all, uuid
from tests.fixtures.ledger_rows import rows

COUNT = 2 * ROWS_IN_STEP + 50
TEXTS = [spaced(record) for record in varied_records(COUNT, seed=21)]


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[SqliteLedger]:
    """A ledger with three steps' worth of records, packed quickly."""
    with closing(SqliteLedger(ledger_path, create=True)) as made:
        filed_all(made, [arrival(uuid(number), payload=text) for number, text in enumerate(TEXTS)])
        yield made


def texts(path: Path) -> dict[int, bytes]:
    """Every record by its receipt, as a reader that has just opened the file unpacks it."""
    payloads = Payloads()
    with closing(connect(path, read_only=True)) as connection:
        payloads.load(connection)
        found = connection.execute("SELECT receipt_id, codec, body FROM payloads").fetchall()
    return {receipt: payloads.unpack(codec, body) for receipt, codec, body in found}


def sizes(path: Path) -> dict[int, int]:
    return dict(rows(path, "SELECT receipt_id, length(body) FROM payloads"))


def pages(path: Path) -> int:
    return int(rows(path, "SELECT count(*) FROM dbstat WHERE name = 'payloads'")[0][0])


def test_every_record_is_the_same_and_smaller_in_full_pages(ledger: SqliteLedger, ledger_path: Path) -> None:
    before = sizes(ledger_path)
    assert ledger.pack_smaller(lambda _: True) == COUNT
    assert list(texts(ledger_path).values()) == TEXTS
    after = sizes(ledger_path)
    assert sum(after.values()) < 0.9 * sum(before.values())
    assert all(after[receipt] < size for receipt, size in before.items())
    # An eighth of a page of 16 KiB is lost where the next record does not fit.
    assert pages(ledger_path) * 16_384 < 1.15 * sum(after.values())
    assert ledger.pack_smaller(lambda _: True) == 0


def test_it_goes_on_where_it_stopped_also_after_a_crash(ledger: SqliteLedger, ledger_path: Path) -> None:
    before = sizes(ledger_path)
    assert ledger.pack_smaller(lambda _: False) == ROWS_IN_STEP, "one step, then no more for now"
    with closing(SqliteLedger(ledger_path)) as other:
        assert other.pack_smaller(lambda _: False) == ROWS_IN_STEP
        after = sizes(ledger_path)
        done = [after[receipt] < before[receipt] for receipt in sorted(before)]
        assert done == [True] * 2 * ROWS_IN_STEP + [False] * 50
        assert other.pack_smaller(lambda _: True) == 50
    assert list(texts(ledger_path).values()) == TEXTS


def test_what_was_removed_or_changed_meanwhile_stays_so(ledger: SqliteLedger, ledger_path: Path) -> None:
    with closing(connect(ledger_path)) as connection:
        read = next_quickly_packed(connection)
        smaller = packed_smaller(ledger._payloads.for_another_thread(), read)
        connection.execute("DELETE FROM payloads WHERE receipt_id IN (7, 200)")
        connection.execute("UPDATE payloads SET codec = 0, body = x'7b7d' WHERE receipt_id = 9")
        assert replace_packed(connection, read, smaller) == ROWS_IN_STEP - 3
    expected = {number + 1: text for number, text in enumerate(TEXTS) if number + 1 not in (7, 200)}
    assert texts(ledger_path) == expected | {9: b"{}"}


def test_damaged_record_stays_as_it_is_and_stops_nothing(ledger: SqliteLedger, ledger_path: Path) -> None:
    with closing(connect(ledger_path)) as connection:
        connection.execute("UPDATE payloads SET body = x'00' WHERE receipt_id = 3")
    assert ledger.pack_smaller(lambda _: True) == COUNT - 1
    assert rows(ledger_path, "SELECT body FROM payloads WHERE receipt_id = 3") == [(b"\0",)]


def test_only_what_came_since_is_packed_again(ledger: SqliteLedger, ledger_path: Path) -> None:
    ledger.pack_smaller(lambda _: True)
    before = sizes(ledger_path)
    filed_all(ledger, [arrival(uuid(COUNT), payload=TEXTS[0])])
    assert ledger.pack_smaller(lambda _: True) == 1
    assert {receipt: size for receipt, size in sizes(ledger_path).items() if receipt in before} == before


def test_record_that_comes_again_is_known_after_it_was_packed_smaller(ledger_path: Path) -> None:
    with closing(SqliteLedger(ledger_path, create=True)) as ledger:
        filed_all(ledger, [arrival(uuid(number), payload=TEXTS[number]) for number in (0, 1)])
        judge_all(ledger)
        assert ledger.pack_smaller(lambda _: True) == 2
        filed_all(ledger, [arrival(uuid(number), payload=TEXTS[0]) for number in (0, 1)])
        assert [one.repeats for one in ledger.waiting(10)] == [True, False]


# -- killed ----------------------------------------------------------------------------
PACKING = """
import sys
from pathlib import Path
from bridge.ledger.sqlite import SqliteLedger

ledger = SqliteLedger(Path(sys.argv[1]))
print("begins", flush=True)
ledger.pack_smaller(lambda _: True)
"""


@pytest.mark.long
def test_killed_at_any_moment_it_loses_no_record_and_goes_on(ledger: SqliteLedger, ledger_path: Path) -> None:
    before, rng, pause = sizes(ledger_path), random.Random(search_seed()), threading.Event()  # noqa: S311
    ledger.close()
    for _ in range(12):
        with closing(connect(ledger_path)) as connection:
            connection.execute("UPDATE counters SET count = 0 WHERE kind = 'packed'")
        with subprocess.Popen(
            [sys.executable, "-c", PACKING, str(ledger_path)], stdout=subprocess.PIPE, text=True
        ) as packing:
            assert packing.stdout is not None
            assert packing.stdout.readline() == "begins\n"
            pause.wait(rng.random() * 0.06)
            packing.kill()
        assert list(texts(ledger_path).values()) == TEXTS
    with closing(SqliteLedger(ledger_path)) as reopened:
        reopened.pack_smaller(lambda _: True)
    after = sizes(ledger_path)
    assert list(texts(ledger_path).values()) == TEXTS
    assert all(after[receipt] < size for receipt, size in before.items())
