"""Two processes of one daemon write to one ledger: here as two ledgers on the same file."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.dictionaries import add_shipped
from bridge.model.calls import Quarantined
from tests.fixtures.ledger_calls import NOW, arrival, filed_all, stray, uuid
from tests.fixtures.ledger_rows import rows

RECORD = b'{"uuid": "db57f262-18d6-11f0-88c8-000000000001", "mark": "released"}'


@pytest.fixture
def receiving(ledger_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(ledger_path, create=True)) as ledger:
        yield ledger


@pytest.fixture
def delivering(receiving: SqliteLedger, ledger_path: Path) -> Iterator[SqliteLedger]:
    del receiving
    with closing(SqliteLedger(ledger_path)) as ledger:
        yield ledger


def test_record_is_filed_again_with_the_dictionary_that_the_other_process_has_made(
    receiving: SqliteLedger, delivering: SqliteLedger, ledger_path: Path
) -> None:
    filed_all(receiving, [stray(Quarantined.UNIDENTIFIED, b'{"mark": "waits"}')])
    (entry,) = delivering.list_quarantine("waiting", 10)
    # The first one may be removed from now on: nothing new may be packed with it.
    receiving._write().run(lambda connection: add_shipped(connection, NOW))
    assert delivering.refile(entry.id, [arrival(uuid(1), payload=RECORD)])
    assert rows(ledger_path, "SELECT codec FROM payloads") == [(2,)]
    assert [pending.payload for pending in receiving.waiting(10)] == [RECORD]


def test_ids_are_given_one_after_the_other_whichever_process_files(
    receiving: SqliteLedger, delivering: SqliteLedger, ledger_path: Path
) -> None:
    filed_all(receiving, [stray(Quarantined.UNIDENTIFIED, b'{"mark": "waits"}'), arrival(uuid(1))])
    (entry,) = delivering.list_quarantine("waiting", 10)
    assert delivering.refile(entry.id, [arrival(uuid(2))])
    filed_all(receiving, [arrival(uuid(3))])
    assert rows(ledger_path, "SELECT id, key FROM calls ORDER BY id") == [
        (number, uuid(number)) for number in (1, 2, 3)
    ]
