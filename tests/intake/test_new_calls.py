"""A call's first record is judged while it is filed, and leaves the rows that the judge would leave later."""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.intake.judge import Judge
from bridge.intake.new_calls import NewCallReader, SourceRules
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.payloads import Payloads, without_prefix
from bridge.model.calls import Arrival, Filed, Verdict, Via
from bridge.model.deliveries import Lane
from bridge.record.arrival import arrivals_of, garbage
from bridge.record.json_body import NotAnObject, parse_object
from bridge.record.unwrap_body import TooMany
from tests.fixtures.examples import examples
from tests.fixtures.ledger_calls import NOW, filed_all, uuid
from tests.fixtures.origins import MAIN

START = NOW - timedelta(days=30)
RULES = SourceRules(MAIN, ("crm", "helpdesk"), frozenset({"mark"}), START)
SINCE = {"helpdesk": NOW - timedelta(days=2)}
TABLES = ("receipts", "call_names", "counters", "quarantine", "listed", "gaps")


def local(moment: datetime) -> str:
    return f"{moment.astimezone(MAIN.zone):%Y-%m-%d %H:%M:%S}"


# -- what may arrive -----------------------------------------------------------------
names = st.sampled_from([uuid(number) for number in range(4)])
times = st.sampled_from(
    [None, "", "0000-00-00 00:00:00", "some day", 1763798400, {"date": "x"}]
    + [local(NOW - timedelta(hours=hours)) for hours in (1, 2, 60, 24 * 40)]
    + [local(NOW + timedelta(hours=hours)) for hours in (12, 60)]
)
records = st.fixed_dictionaries(
    {"phone": st.sampled_from(["15899770637", "158****0637", "", None, 15899770637, [], "x"])},
    optional={
        "uuid": st.one_of(names, st.sampled_from(["", None, "not-a-uuid", 7, ["x"]])),
        "base_info": st.one_of(names.map(lambda name: f"{name}out"), st.sampled_from(["", "shop-1"])),
        "sn": st.sampled_from(["account|1", "account|2", "", None, 12.0]),
        "created_at": times,
        "started_at": times,
        "updated_at": times,
        "connected_at": times,
        "name": st.sampled_from(["王", "", None, "x" * 300, "\x00a", "\ufffd", "\ud800"]),
        "status": st.sampled_from(["A", "B", "", None]),
        "status_manual": st.sampled_from(["C", None]),
        "talktimes": st.sampled_from([0, 7, "12", "many", 10**30, 1.5, float("nan")]),
        "call_from_type": st.sampled_from([0, 3, "1", 10**25]),
        "source": st.sampled_from(["20250601", "", 3]),
        "talk_info": st.sampled_from(
            [[], "", "[]", [{"answer": "好", "is_answer": 1}], ["odd"], "##", {"a": [[[]]]}, "/a#!b"]
        ),
        "mark": st.sampled_from(["a", "b"]),
        "extra": st.sampled_from([{"deep": [1, {"x": None}]}, "é"]),
    },
)
WRAPPINGS = (b"%b", b"[%b]", b'{"data": %b}', b" %b ", b"\xef\xbb\xbf%b", b"%b%b", b"%b,", b"{%b", b"%b\xff")


@dataclass(frozen=True)
class Body:
    """What is pushed at once, or one row of the list."""

    text: bytes
    via: Via


def written(record: dict[str, Any], wrapping: bytes, via: Via, ascii_only: bool) -> Body:
    text = json.dumps(record, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    return Body(wrapping.replace(b"%b", text), via)


bodies = st.builds(
    written,
    records,
    st.sampled_from((b"%b",) * 8 + WRAPPINGS),
    st.sampled_from((Via.CALLBACK, Via.CALLBACK, Via.LIST)),
    st.booleans(),
)
days = st.lists(st.lists(bodies, min_size=1, max_size=6), min_size=1, max_size=6).flatmap(
    # Bodies that come again, byte for byte.
    lambda batches: st.tuples(
        st.just(batches), st.lists(st.sampled_from([body for batch in batches for body in batch]), max_size=4)
    ).map(lambda drawn: [*drawn[0], *([drawn[1]] if drawn[1] else [])])
)


# -- two ledgers ---------------------------------------------------------------------
class Intake:
    """A ledger with its judge; `reads_first`: the door reads each record as if it were a call's first."""

    def __init__(self, path: Path, *, reads_first: bool) -> None:
        self.path = path
        self.ledger = SqliteLedger(path, create=True)
        self._new_calls = NewCallReader(RULES, SINCE) if reads_first else None
        self._judge = Judge(self.ledger, {"main": RULES}, destinations_since=SINCE)

    def arrivals(self, body: Body, at: datetime) -> list[Arrival]:
        try:
            return arrivals_of(MAIN, body.via, body.text, at, "", self._new_calls)
        except (NotAnObject, TooMany) as error:
            return [garbage("main", body.via, body.text, str(error), at)]

    def take(self, arrivals: Sequence[Arrival], at: datetime) -> list[Filed]:
        filed = filed_all(self.ledger, arrivals) if arrivals else []
        while self._judge.judge_waiting(at):
            pass
        return filed

    def rows(self) -> dict[str, list[Any]]:
        """All that both ledgers must agree on, with what is packed unpacked."""
        with closing(sqlite3.connect(self.path)) as file:
            payloads = Payloads()
            payloads.load(file)
            found: dict[str, list[Any]] = {
                table: file.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608
                for table in TABLES
            }
            found["counters"] = [row for row in found["counters"] if row[4]]
            found["payloads"] = [
                (number, payloads.unpack(codec, body))
                for number, codec, body in file.execute("SELECT * FROM payloads ORDER BY 1")
            ]
            file.row_factory = sqlite3.Row
            owed = file.execute("SELECT * FROM deliveries ORDER BY call_id, destination")
            found["deliveries"] = [dict(row) | {"id": None} for row in owed]
            found["calls"] = [
                dict(row)
                | {
                    "state": row["state"] and parse_object(payloads.unpack(*without_prefix(row["state"]))),
                    "stamps": row["stamps"] and json.loads(row["stamps"]),
                }
                for row in file.execute("SELECT * FROM calls ORDER BY id")
            ]
        return found


@cache
def empty_ledger() -> bytes:
    """The file of a ledger that nothing was filed in: copying it takes a tenth of the time of making it."""
    folder = Path(tempfile.mkdtemp())
    SqliteLedger(folder / "ledger.db", create=True).close()
    made = (folder / "ledger.db").read_bytes()
    shutil.rmtree(folder)
    return made


def filed_as_days_came(batches: Sequence[Sequence[Body]], *, reads_first: bool, at_once: bool) -> Any:
    """The rows after all batches; `at_once`: the records of a batch share a commit, else each has its own."""
    folder = Path(tempfile.mkdtemp())
    (folder / "ledger.db").write_bytes(empty_ledger())
    intake = Intake(folder / "ledger.db", reads_first=reads_first)
    try:
        for number, batch in enumerate(batches):
            at = NOW + timedelta(minutes=number)
            arrivals = [one for body in batch for one in intake.arrivals(body, at)]
            for part in [arrivals] if at_once else [[one] for one in arrivals]:
                intake.take(part, at)
        return intake.rows()
    finally:
        intake.ledger.close()
        shutil.rmtree(folder)


def first_records(rows: dict[str, list[Any]]) -> list[Any]:
    """What first records alone leave.

    Records of one call that the judge reads together it compares with one another, not with what was kept of
    the first: with odd dialogues that makes another verdict, so nothing is said here of second records.
    """
    receipts = [(*row[:4], row[4] == Verdict.NEW) for row in rows["receipts"]]
    owed = [(row["call_id"], row["destination"]) for row in rows["deliveries"]]
    return [receipts, owed, rows["call_names"], rows["quarantine"], rows["gaps"]]


@examples(8, 150)
@given(days)
def test_first_records_that_are_judged_when_filed_leave_the_rows_that_the_judge_would(
    batches: list[list[Body]],
) -> None:
    expected = filed_as_days_came(batches, reads_first=False, at_once=False)
    assert filed_as_days_came(batches, reads_first=True, at_once=False) == expected
    at_once = filed_as_days_came(batches, reads_first=True, at_once=True)
    assert first_records(at_once) == first_records(expected)


# -- one by one ----------------------------------------------------------------------
@pytest.fixture
def intake(ledger_path: Path) -> Iterator[Intake]:
    made = Intake(ledger_path, reads_first=True)
    yield made
    made.ledger.close()


def body_of(**fields: Any) -> Body:
    return Body(json.dumps({"phone": "15899770637", **fields}).encode(), Via.CALLBACK)


def verdicts(intake: Intake) -> list[str | None]:
    with closing(sqlite3.connect(intake.path)) as file:
        return [verdict for (verdict,) in file.execute("SELECT verdict FROM receipts ORDER BY id")]


def test_new_call_is_judged_and_owed_in_the_commit_that_files_it(intake: Intake) -> None:
    made = local(NOW - timedelta(days=3))
    (filed,) = filed_all(intake.ledger, intake.arrivals(body_of(uuid=uuid(1), created_at=made), NOW))
    assert (filed.is_new, filed.owes, filed.waits) == (True, True, False)
    assert verdicts(intake) == [Verdict.NEW]
    with closing(sqlite3.connect(intake.path)) as file:
        owed = file.execute("SELECT destination, state, wanted, reason FROM deliveries ORDER BY 1").fetchall()
    assert owed == [("crm", "due", 1, None), ("helpdesk", "skipped", 1, "before this destination")]


def test_new_call_that_the_list_shows_is_owed_as_backfill(intake: Intake) -> None:
    row = Body(body_of(uuid=uuid(1), created_at=local(NOW)).text, Via.LIST)
    assert filed_all(intake.ledger, intake.arrivals(row, NOW))[0].owes
    with closing(sqlite3.connect(intake.path)) as file:
        owed = file.execute("SELECT DISTINCT lane, state FROM deliveries").fetchall()
    assert owed == [(Lane.BACKFILL, "due")]


def test_new_call_that_all_destinations_leave_out_owes_nothing(intake: Intake) -> None:
    made = local(START - timedelta(days=1))
    (filed,) = filed_all(intake.ledger, intake.arrivals(body_of(uuid=uuid(1), created_at=made), NOW))
    assert (filed.is_new, filed.owes) == (True, False)
    with closing(sqlite3.connect(intake.path)) as file:
        owed = file.execute("SELECT state, reason FROM deliveries ORDER BY destination").fetchall()
    assert owed == [("skipped", "before start_at")] * 2


@pytest.mark.parametrize("at_once", [True, False])
def test_second_record_of_a_call_waits_for_the_judge(intake: Intake, at_once: bool) -> None:
    first, second = body_of(uuid=uuid(1), name="王"), body_of(uuid=uuid(1), name="李")
    arrivals = [one for body in (first, second, first) for one in intake.arrivals(body, NOW)]
    filed = [
        one
        for part in ([arrivals] if at_once else [[each] for each in arrivals])
        for one in filed_all(intake.ledger, part)
    ]
    assert [one.is_new for one in filed] == [True, False, False]
    assert [one.waits for one in filed] == [False, True, True]
    assert verdicts(intake) == [Verdict.NEW, None, None]
    intake.take([], NOW)
    assert verdicts(intake) == [Verdict.NEW, Verdict.REVISION, Verdict.STALE]


@pytest.mark.parametrize(
    "body",
    [
        Body(b'[{"phone": "1", "uuid": "a"}]', Via.CALLBACK),
        body_of(sn="account|1", created_at=local(NOW)),
        Body('{"phone": "1", "uuid": "a", "name": "\ufffd"}'.encode(), Via.CALLBACK),
        Body(b'{"phone": "1", "uuid": "a", "score": NaN}', Via.CALLBACK),
    ],
    ids=["wrapped", "nameless", "a broken character", "a value that is no JSON"],
)
def test_unusual_records_wait_for_the_judge(intake: Intake, body: Body) -> None:
    (filed,) = filed_all(intake.ledger, intake.arrivals(body, NOW))
    assert filed.waits
    assert verdicts(intake) == [None]


def test_quarantined_record_waits_for_nothing(intake: Intake) -> None:
    (filed,) = filed_all(intake.ledger, intake.arrivals(body_of(sn="account|1"), NOW))
    assert (filed.is_new, filed.waits, filed.call_id) == (False, False, None)
