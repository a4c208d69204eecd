"""Work that waits for the writer's thread shares a commit, and work that fails takes no other along."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.ledger.sqlite.writer import Writer
from bridge.lib.errors import LedgerBusy


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    made = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    made.execute("CREATE TABLE numbers (number INTEGER)")
    return made


@pytest.fixture
def writer(connection: sqlite3.Connection) -> Iterator[Writer]:
    with closing(Writer(connection)) as made:
        yield made


def held_up(writer: Writer) -> threading.Event:
    """The writer is busy until the event is set."""
    go_on = threading.Event()
    writer.submit(lambda _: go_on.wait(10))
    return go_on


def inserting(number: int) -> Callable[[sqlite3.Connection], int]:
    def insert(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        if number == 3:
            raise ValueError(number)
        return 10 * number

    return insert


def total(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("SELECT sum(number) FROM numbers").fetchone()[0]
    return found


def test_waiting_work_shares_one_commit_and_each_gets_its_result(
    connection: sqlite3.Connection, writer: Writer
) -> None:
    said: list[str] = []
    connection.set_trace_callback(said.append)
    go_on = held_up(writer)
    futures = [writer.submit(inserting(number)) for number in (0, 1, 2, 4)]
    go_on.set()
    assert [future.result(10) for future in futures] == [0, 10, 20, 40]
    assert writer.run(total) == 7
    commits = [place for place, sql in enumerate(said) if sql == "COMMIT"]
    inserts = [place for place, sql in enumerate(said) if sql.startswith("INSERT")]
    assert len([commit for commit in commits if inserts[0] < commit < inserts[-1]]) == 0


def test_failing_work_fails_alone(writer: Writer) -> None:
    go_on = held_up(writer)
    futures = [writer.submit(inserting(number)) for number in (1, 3, 5)]
    go_on.set()
    assert (futures[0].result(10), futures[2].result(10)) == (10, 50)
    with pytest.raises(ValueError, match="3"):
        futures[1].result(10)
    assert writer.run(total) == 6


def test_closed_writer_refuses_work(connection: sqlite3.Connection) -> None:
    writer = Writer(connection)
    writer.close()
    with pytest.raises(LedgerBusy):
        writer.run(total)
