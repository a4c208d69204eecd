"""What of a record could not be read is told in its call's history, from the first arrival on."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger.queries import CallHistory
from bridge.ledger.sqlite import SqliteLedger
from bridge.model.calls import Via
from bridge.record.arrival import arrivals_of
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
UUID = "7b1d3f60-0000-4000-8000-000000000001"


class Intake:
    """The door's ledger and the judge, without a wire."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger
        self._judge = Judge(ledger, {"main": SourceRules(MAIN)}, destinations_since={})

    def take(self, body: bytes, charset: str = "") -> CallHistory:
        """File a body; the call that its first record belongs to, as `calls show --json` has it."""
        filed = filed_all(self._ledger, arrivals_of(MAIN, Via.CALLBACK, body, NOW, charset))
        self._judge.judge_waiting(NOW)
        call_id = filed[0].call_id
        assert call_id is not None
        return self._ledger.show_call(call_id)


@pytest.fixture
def intake(ledger_path: Path) -> Iterator[Intake]:
    ledger = SqliteLedger(ledger_path, create=True)
    yield Intake(ledger)
    ledger.close()


def flags(call: CallHistory) -> list[str | None]:
    return [receipt.flags for receipt in call.receipts]


def test_an_unreadable_value_is_kept_raw_and_flagged(intake: Intake) -> None:
    call = intake.take(f'{{"uuid":"{UUID}","score":NaN,"recordfile":"D:\\x","name":"张三"}}'.encode())
    assert flags(call) == ["unreadable:score unreadable:recordfile"]
    assert call.record == {"uuid": UUID, "score": "NaN", "recordfile": "D:\\x", "name": "张三"}
    # A record that says it better is news, and the flag stays with the receipt that earned it.
    call = intake.take(f'{{"uuid":"{UUID}","score":5,"name":"张三"}}'.encode())
    assert flags(call) == ["unreadable:score unreadable:recordfile", None]
    assert (call.record["score"], call.receipts[1].verdict) == (5, "revision")
    # The same once more is no news, and flagged as before.
    call = intake.take(f'{{"uuid":"{UUID}","score":NaN,"recordfile":"D:\\x","name":"张三"}}'.encode())
    assert flags(call)[2] == "unreadable:score unreadable:recordfile"
    assert call.receipts[2].verdict == "stale"


def test_unreadable_value_in_a_dialogue_spoils_no_turn(intake: Intake) -> None:
    turn = '{"is_answer":0,"caption":"你好","score":NaN}'
    call = intake.take(f'{{"uuid":"{UUID}","talk_info":[{turn}]}}'.encode())
    assert flags(call) == ["unreadable:talk_info"]
    assert call.record["talk_info"] == [{"is_answer": 0, "caption": "你好", "score": "NaN"}]


def test_broken_characters_are_flagged_by_field(intake: Intake) -> None:
    body = f'{{"uuid":"{UUID}","last_reply":"好的，可以加微信","name":"王小'.encode() + b'\xe6\x98"}'
    call = intake.take(body)
    assert flags(call) == ["broken_text:name"]
    assert (call.record["name"], call.record["last_reply"]) == ("王小\ufffd", "好的，可以加微信")


def test_a_clean_record_has_no_flags(intake: Intake) -> None:
    assert flags(intake.take(f'{{"uuid":"{UUID}","score":5}}'.encode())) == [None]


def test_flags_are_limited_and_one_word_each(intake: Intake) -> None:
    fields = ",".join(f'"a field {number}\\n\\u001b[31m{"x" * 200}":NaN' for number in range(60))
    call = intake.take(f'{{"uuid":"{UUID}",{fields}}}'.encode())
    words = str(flags(call)[0]).split()
    assert len(words) == 20
    assert all(word.startswith("unreadable:a_field_") and len(word) <= 70 for word in words)
    assert "\x1b" not in str(flags(call))


def test_each_record_of_a_body_has_its_own_flags(intake: Intake) -> None:
    call = intake.take(f'[{{"uuid":"{UUID}","score":NaN}},{{"uuid":"u-2","score":1}}]'.encode())
    assert flags(call) == ["unreadable:score"]
    assert flags(intake.take(b'{"uuid":"u-2","score":1}')) == [None, None]


def test_dialogue_that_is_an_infinite_number_is_still_read(intake: Intake) -> None:
    call = intake.take(f'{{"uuid":"{UUID}","talk_info":1e999}}'.encode())
    assert call.receipts[0].verdict == "new"
    assert call.record["talk_info"] == "1e999"
