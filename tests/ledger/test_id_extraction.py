"""Ids are taken out of records before packing and put back exactly."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.connection import connect
from bridge.ledger.sqlite.id_extraction import can_take_ids_out, put_ids_back, take_ids_out
from bridge.ledger.sqlite.payloads import PLAIN, Payloads, ship_first

NUMBERS = ("4216aedbab119baf899c6533e444605b", "0" * 32, "f" * 32, "f" * 33, "F" * 32, "a" * 31, "", "客户")
PIECES = st.lists(st.sampled_from((*NUMBERS, "|", "||", "account|", '", "sn": "')) | st.text(max_size=5))


@pytest.fixture
def payloads(tmp_path: Path) -> Payloads:
    """Packs with the shipped dictionary."""
    path = tmp_path / "ledger.db"
    SqliteLedger(path, create=True).close()
    connection, loaded = connect(path), Payloads()
    ship_first(connection, datetime.now(UTC))
    loaded.load(connection)
    connection.close()
    return loaded


@given(PIECES, st.binary(max_size=40))
def test_extracted_ids_are_put_back(pieces: list[str], frame: bytes) -> None:
    text = "".join(pieces).encode("utf-8", "replace")
    assert can_take_ids_out(text)
    folded, numbers = take_ids_out(text)
    assert put_ids_back(folded, frame + numbers) == text
    assert len(folded) + len(numbers) <= len(text)


def test_extracted_id_takes_16_bytes_and_a_repeated_one_stays() -> None:
    once, again = NUMBERS[0].encode(), b"1" * 32
    text = b"account|%b, projects|%b, task|%b" % (once, again, again)
    folded, numbers = take_ids_out(text)
    assert numbers == bytes.fromhex(NUMBERS[0])
    assert len(folded) == len(text) - 31
    assert folded.count(again) == 2


def test_every_text_is_unpacked_unchanged(payloads: Payloads, example: dict[str, Any]) -> None:
    whole = json.dumps(example, ensure_ascii=False).encode()
    texts = [whole, b"", b"{}", b"\xff", whole + b"\xff", whole[:-1] + b"\0}", os.urandom(3000), whole * 2]
    for batch in (texts, [text for text in texts if can_take_ids_out(text)], [b""], [whole]):
        packed = payloads.pack_all(batch)
        assert [payloads.unpack(codec, body) for codec, body in packed] == batch
        assert [payloads.unpack(*payloads.pack(text)) for text in batch] == batch
    assert payloads.pack(b"\xff")[0] == PLAIN
    assert Payloads().pack_all(texts) == [(PLAIN, text) for text in texts], "without a dictionary"
