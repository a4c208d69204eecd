"""Rows of the list that are not as they should be: filed with a spoilt field, or named by audit."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.records import Record
from bridge.source.outcall.client import OutcallList
from tests.fixtures.odd_list import OddList, odd_list_bench
from tests.fixtures.reconciliation_bench import HOUR
from tests.fixtures.served_platform import NOW, made

DAMAGE = {
    "NaN": (b'"score":', b'"score":NaN,"x":'),
    "a bad escape": (b'"address":"', b'"address":"D:\\x'),
    "a text cut inside a character": (b'"address":"', b'"address":"\xe5\xbc'),
    "a raw control character": (b'"address":"', b'"address":"\x01'),
    "a value that was left out": (b'"score":', b'"score":,"x":'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_unreadable_field_never_loses_its_record(tmp_path: Path, name: str) -> None:
    records = made(8)
    old, new = DAMAGE[name]
    poor = records[3]["uuid"]

    def spoil(row: bytes) -> bytes:
        assert old in row
        return row.replace(old, new) if poor.encode() in row else row

    with odd_list_bench(tmp_path / "ledger.db", records) as (world, listed):
        listed.spoil = spoil
        result = world.reconcile(since="2026-11-22T00:00:00Z")
        assert result["complete"]
        assert (result["missing"], result["conflicting"]) == (8, 0)
        state = world.state(poor)
        assert state["sn"] == records[3]["sn"]
        assert world.audit(since="2026-11-22T00:00:00Z")["balanced"]
        # The next run over it finds nothing new.
        again = world.reconcile(since="2026-11-22T00:00:00Z")
        assert (again["missing"], again["revised"], again["conflicting"]) == (0, 0, 0)


@pytest.mark.parametrize("stamped", [True, False])
def test_two_states_with_one_stamp_in_one_answer_are_news_once(tmp_path: Path, *, stamped: bool) -> None:
    def twice(row: bytes) -> bytes:
        record = json.loads(row)
        if not stamped:
            del record["updated_at"]
        states = [json.dumps(record | {"status": status}).encode() for status in "CABD"]
        return b",".join(states)

    with odd_list_bench(tmp_path / "ledger.db", made(8)) as (world, listed):
        listed.spoil = twice
        first = world.reconcile(since="2026-11-22T00:00:00Z")
        assert (first["missing"], first["filled"]) == (8, 8)
        for _ in range(2):
            again = world.reconcile(since="2026-11-22T00:00:00Z")
            assert (again["matched"], again["revised"], again["complete"]) == (8, 0, True)
        assert sum(world.receipts().values()) == 8


@pytest.mark.parametrize(
    "row",
    [
        b'{"uuid":"' + b"x" * 20,
        b"null",
        b"7",
        b'"undefined"',
        b"[]",
        b'{"id":1,"uuid":{"a":[1,2},"x":1}',
        b'{"name":"nobody"}',
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"a":[' + b"{}," * 600_000 + b"1]}",
    ],
    ids=lambda row: str(row[:20]),
)
def test_row_that_is_no_record_is_quarantined_and_named_by_audit(tmp_path: Path, row: bytes) -> None:
    records = made(8)
    poor = records[3]["uuid"]
    with odd_list_bench(tmp_path / "ledger.db", records) as (world, listed):
        listed.spoil = lambda each: row if poor.encode() in each else each
        result = world.reconcile(since="2026-11-22T00:00:00Z")
        assert (result["missing"], result["conflicting"]) == (7, 1)
        audit = world.audit(since="2026-11-22T00:00:00Z")
        assert (audit["ledger"], audit["quarantined"], audit["platform_only"]) == (7, 1, 0)
        assert len(audit["ids"]["quarantined"]) == 1
        again = world.reconcile(since="2026-11-22T00:00:00Z")
        assert (again["filled"], again["missing"]) == (0, 0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda row: json.dumps(row.decode()).encode(),
        lambda row: b"[" + row + b"]",
        lambda row: b'{"type":"call","data":' + row + b"}",
    ],
    ids=["a JSON string", "an array of one", "an envelope"],
)
def test_wrapped_row_is_filed(tmp_path: Path, wrap: Any) -> None:
    records = made(8)
    with odd_list_bench(tmp_path / "ledger.db", records) as (world, listed):
        listed.spoil = wrap
        assert world.reconcile(since="2026-11-22T00:00:00Z")["missing"] == 8
        world.assert_agrees()
        assert world.audit(since="2026-11-22T00:00:00Z")["balanced"]


def test_record_with_a_ten_megabyte_field_is_filed(tmp_path: Path) -> None:
    records: list[Record] = made(4)
    with odd_list_bench(tmp_path / "ledger.db", records) as (world, listed):
        poor = records[1]["uuid"]
        listed.spoil = lambda row: (
            row.replace(b'"address":"', b'"address":"' + b"a" * 10_000_000) if poor.encode() in row else row
        )
        assert world.reconcile(since="2026-11-22T00:00:00Z")["missing"] == 4
        assert len(world.state(poor)["address"]) >= 10_000_000


@pytest.mark.long
def test_rows_too_large_for_one_answer_are_requested_a_few_at_a_time(tmp_path: Path) -> None:
    records: list[Record] = made(8)
    with odd_list_bench(tmp_path / "ledger.db", records) as (world, listed):
        listed.spoil = lambda row: row.replace(b'"address":"', b'"address":"' + b"a" * 7_000_000)
        result = world.reconcile(since="2026-11-22T00:00:00Z")
        assert (result["missing"], result["complete"]) == (8, True)
        assert len(listed.asked) < 60


def test_the_odd_list_serves_whole_pages(tmp_path: Path) -> None:
    with odd_list_bench(tmp_path / "ledger.db", made(8)) as (world, listed):
        (login,) = world.log_in()
        assert isinstance(login, OutcallList)
        assert isinstance(listed, OddList)
        assert len(login.page(NOW - 4 * HOUR, NOW, 0, 50).rows) == 8
