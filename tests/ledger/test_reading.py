"""Connections that read: few for many threads, and none that still sees an old moment."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.access import looks
from bridge.lib.errors import LedgerBusy


class Counting(SqliteLedger):
    """A ledger that is read by queries of the test."""

    @looks
    def jobs(self, meanwhile: threading.Barrier | None = None) -> int:
        found: int = self._reader.execute("SELECT count(*) FROM runs").fetchone()[0]
        if meanwhile is not None:
            meanwhile.wait(60)
        return found

    @looks
    def break_off(self, held: list[sqlite3.Cursor]) -> None:
        """A query that fails halfway, while somebody still holds its rows."""
        rows = self._reader.execute(
            "SELECT id FROM runs UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4"
        )
        held.append(rows)
        next(rows)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def counting(ledger_path: Path) -> Iterator[Counting]:
    ledger = Counting(ledger_path, create=True)
    yield ledger
    ledger.close()


def open_files(path: Path) -> int:
    links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return sum(link == path for link in links)


def test_threads_that_read_one_after_the_other_share_a_connection(
    counting: Counting, ledger_path: Path
) -> None:
    assert counting.jobs() == 0
    before = open_files(ledger_path)
    for _ in range(5):
        thread = threading.Thread(target=counting.jobs)
        thread.start()
        thread.join()
    assert open_files(ledger_path) == before


def test_threads_that_read_at_once_have_a_connection_each(counting: Counting, ledger_path: Path) -> None:
    assert counting.jobs() == 0
    before, all_read = open_files(ledger_path), threading.Barrier(4)
    threads = [threading.Thread(target=counting.jobs, args=(all_read,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    all_read.wait(60)
    for thread in threads:
        thread.join()
    assert open_files(ledger_path) == before + 2


def test_query_that_was_broken_off_shows_nobody_an_old_moment(counting: Counting) -> None:
    held: list[sqlite3.Cursor] = []
    with pytest.raises(LedgerBusy):
        counting.break_off(held)
    with sqlite3.connect(counting._path) as other:
        other.execute("INSERT INTO runs (kind, args, state, requested_at) VALUES ('prune', '{}', 'done', 1)")
    other.close()
    assert counting.jobs() == 1
    held.clear()


def test_closed_ledger_opens_no_connection_to_read(counting: Counting) -> None:
    counting.close()
    with pytest.raises(LedgerBusy, match="shutting down"):
        counting.jobs()
