"""What kind of parked a delivery is: told by the words of an earlier release, and by none of this one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.connection import connect
from bridge.ledger.sqlite.schema import pending_migrations
from bridge.model.deliveries import DeliveryState, ParkKind, Settlement
from tests.fixtures.ledger_calls import ALWAYS, MINUTE, NOW, TO_CRM, leased, news, settle

WORDS = {
    "in doubt: object call: answered nothing": ParkKind.IN_DOUBT,
    "object contact: no longer in the CRM": ParkKind.GONE,
    "parked by a person": ParkKind.HELD,
    "object call: in doubt: no longer in the CRM, parked by a person": ParkKind.FAILED,
}


def kinds(path: Path) -> dict[str | None, str | None]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT cause, park_kind FROM deliveries").fetchall())


def parked_by_an_earlier_release(path: Path) -> None:
    """As it settles: it knows no column for the kind."""
    with closing(connect(path)) as connection:
        for delivery_id, cause in enumerate(WORDS, 1):
            connection.execute(
                "UPDATE deliveries SET state = 'parked', due_at = NULL, cause = ? WHERE id = ?",
                (cause, delivery_id),
            )


def ledger_of(path: Path) -> SqliteLedger:
    ledger = SqliteLedger(path, create=True)
    ledger.start_destinations(TO_CRM, NOW)
    return ledger


def test_park_kind_of_an_earlier_releases_row_is_derived_on_open(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    with closing(ledger_of(path)) as ledger:
        for number in range(len(WORDS)):
            news(ledger, f"call {number}")
    parked_by_an_earlier_release(path)
    assert set(kinds(path).values()) == {None}
    with closing(SqliteLedger(path)) as ledger:
        assert kinds(path) == WORDS
        assert ledger.parked_in_doubt() == 1
        assert ledger.retry([], NOW) == 2, "neither what is in doubt nor what a person parked"


def test_park_kind_of_this_release_does_not_depend_on_words(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(ledger_of(path)) as ledger:
        for number, cause in enumerate(WORDS):
            news(ledger, f"call {number}")
            settle(ledger, leased(ledger), Settlement(DeliveryState.PARKED, "why", cause), NOW, NOW)
    with closing(SqliteLedger(path)) as ledger:
        assert set(kinds(path).values()) == {ParkKind.FAILED}
        assert ledger.parked_in_doubt() == 0
        assert not any(stored.gone for stored in ledger.page_of_calls("crm", "main", ALWAYS, None, 9))
        assert ledger.retry([], NOW) == len(WORDS)


@pytest.mark.parametrize("kind", ParkKind)
def test_delivery_resumed_by_an_earlier_release_loses_its_park_kind(tmp_path: Path, kind: ParkKind) -> None:
    path = tmp_path / "ledger.db"
    with closing(ledger_of(path)) as ledger:
        news(ledger, "a")
        parked = Settlement(DeliveryState.PARKED, "why", "a cause", park_kind=kind)
        settle(ledger, leased(ledger), parked, NOW, NOW)
        assert kinds(path) == {"a cause": kind}
    with closing(connect(path)) as connection:
        connection.execute("UPDATE deliveries SET state = 'due', due_at = 0, cause = NULL")
    assert kinds(path) == {None: None}


def test_ledger_of_an_earlier_release_is_readable_then_migrated(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        database = Database(connection)
        pending_migrations(connection)[0].apply(database)
        for number, cause in enumerate(WORDS, 1):
            connection.execute(
                "INSERT INTO calls (id, source, key, revision, first_seen_at) VALUES (?, 'main', ?, 1, 0)",
                (number, f"call {number}"),
            )
            connection.execute(
                "INSERT INTO deliveries (call_id, destination, state, wanted, cause, changed_at)"
                " VALUES (?, 'crm', 'parked', 1, ?, 0)",
                (number, cause),
            )
        connection.commit()
    with closing(SqliteLedger(path, read_only=True)) as looked_at:
        assert looked_at.parked_in_doubt() == 1
        assert sum(group.count for group in looked_at.retriable()) == 2
        gone = [stored.gone for stored in looked_at.page_of_calls("crm", "main", ALWAYS, None, 9)]
        assert gone == [kind is ParkKind.GONE for kind in WORDS.values()]
    with closing(SqliteLedger(path)) as ledger:
        assert kinds(path) == WORDS
        assert ledger.retry([1], NOW + MINUTE) == 1, "named by its id"
