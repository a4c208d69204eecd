"""Dictionaries that have to go are replaced, and a call can be removed alone."""

import json
import random
from contextlib import closing
from pathlib import Path
from typing import Any

from bridge.ledger.sqlite import SqliteLedger, dictionaries
from bridge.ledger.sqlite.connection import connect
from bridge.ledger.sqlite.dictionaries import MadeOf
from bridge.ledger.sqlite.payloads import shipped_dictionary
from tests.fixtures.earlier_ledgers import earlier_ledger
from tests.fixtures.ledger_calls import NOW, arrival, filed, judge_all, news, uuid
from tests.fixtures.ledger_rows import rows


def everything(ledger: SqliteLedger) -> list[Any]:
    """All that is packed, unpacked: known states, receipts' records, quarantine."""
    calls = [ledger.show_call(call.id) for call in ledger.list_calls([], 1000)]
    return [calls, [ledger.show_quarantine(row.id) for row in ledger.list_quarantine(None, 100)]]


def codecs(path: Path) -> set[int]:
    """The dictionaries that records stand on."""
    found = rows(
        path,
        "SELECT codec FROM payloads UNION SELECT codec FROM quarantine"
        " UNION SELECT 256 * unicode(substr(state, 3, 1)) + unicode(substr(state, 4, 1)) FROM calls"
        " WHERE state IS NOT NULL",
    )
    return {row[0] for row in found}


def replace_newest(ledger: SqliteLedger) -> None:
    """What `retrain` ends with where nothing can be learnt, without the process that tries."""
    ledger._write().run(lambda c: dictionaries.add_shipped(c, NOW))
    ledger._write().run(ledger._payloads.load)


# -- dictionaries made of whole records -------------------------------------------------
def test_replacing_a_dictionary_of_whole_records_loses_no_record(tmp_path: Path) -> None:
    path = earlier_ledger(tmp_path)
    ((learnt,),) = rows(path, "SELECT body FROM dictionaries WHERE id = 2")
    with closing(SqliteLedger(path)) as ledger:
        before = everything(ledger)
        assert ledger.repack(lambda _: True) == 0, "new records are still packed with it"
        assert ledger.retrain(NOW)
        assert not ledger.retrain(NOW)
        assert ledger.repack(lambda _: True) > 20
        assert ledger.repack(lambda _: True) == 0
        assert everything(ledger) == before
        # Too few calls to learn from: the package's own took its place.
        assert rows(path, "SELECT id, trained FROM dictionaries ORDER BY id") == [
            (1, 0),
            (3, MadeOf.THE_EXAMPLE),
        ]
        news(ledger, "later", NOW, name="新")
        assert rows(path, "SELECT codec FROM payloads ORDER BY receipt_id DESC LIMIT 1") == [(3,)]
    held = path.read_bytes()
    pieces = [learnt[at : at + 64] for at in range(1024, len(learnt) - 64, 64)]
    pieces = [piece for piece in pieces if piece not in shipped_dictionary()]
    assert len(pieces) > 1000
    assert not [piece for piece in pieces if piece in held], "deleted, and yet in the file"
    with closing(SqliteLedger(path)) as reopened:
        assert everything(reopened)[1] == before[1]
        assert len(everything(reopened)[0]) == len(before[0]) + 1


def test_repacking_resumes_after_a_stop_and_after_a_crash(tmp_path: Path) -> None:
    path = earlier_ledger(tmp_path)
    with closing(SqliteLedger(path)) as ledger:
        before = everything(ledger)
        replace_newest(ledger)
        assert ledger.repack(lambda _: False) > 0, "one step, then no more for now"
        assert 2 in {row[0] for row in rows(path, "SELECT id FROM dictionaries")}
    # The process is gone, and with it how far it had come.
    with closing(SqliteLedger(path)) as ledger:
        turns = 0
        while rows(path, "SELECT 1 FROM dictionaries WHERE id = 2"):
            ledger.repack(lambda _: False)
            turns += 1
        assert turns > 3, "every turn is bounded by its pause"
        assert everything(ledger) == before


def test_damaged_record_does_not_keep_a_dictionary(tmp_path: Path) -> None:
    path = earlier_ledger(tmp_path)
    with closing(connect(path)) as connection:
        damaged = connection.execute("SELECT min(receipt_id) FROM payloads WHERE codec = 2").fetchone()[0]
        connection.execute("UPDATE payloads SET body = x'00' WHERE receipt_id = ?", (damaged,))
    with closing(SqliteLedger(path)) as ledger:
        replace_newest(ledger)
        assert ledger.repack(lambda _: True) > 20
        assert not rows(path, "SELECT 1 FROM dictionaries WHERE id = 2")


def test_reader_can_read_records_packed_with_a_newer_dictionary(ledger_path: Path) -> None:
    with closing(SqliteLedger(ledger_path, create=True)) as ledger:
        news(ledger, "a")
        with closing(SqliteLedger(ledger_path, read_only=True)) as looking:
            replace_newest(ledger)
            news(ledger, "b")
            assert [looking.show_call(number).record["uuid"] for number in (1, 2)] == ["a", "b"]


# -- one call alone ------------------------------------------------------------------------
def test_one_call_can_be_removed_without_trace(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    made = random.Random(4)  # noqa: S311 -- sample data
    secret = bytes(made.randrange(256) for _ in range(3000)).hex()
    with closing(SqliteLedger(path, create=True)) as ledger:
        texts = {}
        for number in range(60):
            noise = secret if number == 30 else made.randbytes(400).hex()
            texts[number] = {"uuid": uuid(number), "caption": noise}
            filed(ledger, arrival(uuid(number), payload=json.dumps(texts[number]).encode()))
        judge_all(ledger)
        packed = rows(path, "SELECT body FROM payloads WHERE receipt_id = 31")[0][0]
        pieces = [packed[at : at + 16] for at in range(64, len(packed) - 16, 16)]
        ledger._write().run(lambda c: c.execute("DELETE FROM payloads WHERE receipt_id = 31"))
        assert ledger._write().run(lambda c: c.execute("PRAGMA secure_delete").fetchone()[0]) == 1
        for number in set(texts) - {30}:
            assert ledger.show_call(number + 1).record == texts[number]
    # Closing put the log back into the file and removed it.
    held = path.read_bytes()
    assert not [piece for piece in pieces if piece in held]
    assert not path.with_name("ledger.db-wal").exists()
