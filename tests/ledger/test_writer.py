"""Work of one kind that many threads ask for is done in one go, and one that fails takes no other along."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from bridge.ledger.sqlite.writer import Combiner, Writer
from bridge.lib.errors import LedgerBusy


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE numbers (number INTEGER)")
    with closing(Writer(connection)) as made:
        yield made


def held_up(writer: Writer) -> threading.Event:
    """The writer is busy until the event is set."""
    go_on = threading.Event()
    writer.submit(lambda _: go_on.wait(10))
    return go_on


def test_waiting_work_shares_one_commit_and_each_gets_its_result(writer: Writer) -> None:
    groups: list[list[int]] = []

    def insert(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[int]:
        groups.append(list(numbers))
        connection.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in numbers])
        return [10 * number for number in numbers]

    together, go_on = Combiner(writer, insert), held_up(writer)
    futures = [together.submit(number) for number in range(5)]
    go_on.set()
    assert [future.result(10) for future in futures] == [0, 10, 20, 30, 40]
    assert groups == [[0, 1, 2, 3, 4]]
    assert together.run(7) == 70, "what comes later has a turn of its own"
    assert writer.run(lambda c: c.execute("SELECT sum(number) FROM numbers").fetchone()[0]) == 17


def test_failing_work_fails_alone(writer: Writer) -> None:
    def insert(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[int]:
        for number in numbers:
            if number == 3:
                raise ValueError(number)
            connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        return list(numbers)

    together, go_on = Combiner(writer, insert), held_up(writer)
    futures = [together.submit(number) for number in (1, 3, 5)]
    go_on.set()
    assert (futures[0].result(10), futures[2].result(10)) == (1, 5)
    with pytest.raises(ValueError, match="3"):
        futures[1].result(10)
    assert writer.run(lambda c: c.execute("SELECT count(*) FROM numbers").fetchone()[0]) == 2


def test_closed_ledger_fails_all_waiting_work(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    writer = Writer(connection)
    together = Combiner[int, int](writer, lambda _, numbers: numbers)
    writer.close()
    for _ in range(2):
        with pytest.raises(LedgerBusy):
            together.run(1)
