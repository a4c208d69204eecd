"""What every ledger promises about which call a record belongs to; see `suite`."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.ledger import Ledger
from bridge.ledger.queries import SourceCounts
from bridge.lib.iso_times import stamp
from bridge.model.calls import Arrival, Columns, Filed, Quarantined, Via
from bridge.model.deliveries import DeliveryState, Settlement
from bridge.record.arrival import arrival_of
from bridge.record.identity import is_uuid
from tests.fixtures.examples import examples
from tests.fixtures.ledger_calls import (
    ALWAYS,
    MINUTE,
    NOW,
    TO_CRM,
    balance,
    call_of,
    delivery,
    filed,
    filed_all,
    judgment,
    leased,
    settle,
    uuid,
)
from tests.fixtures.origins import named
from tests.ledger.contract.place import LedgerPlace

ZONE = ZoneInfo("Asia/Shanghai")
ONE, TWO = "2026-11-22 09:00:00", "2026-11-22 10:30:00"
NAMELESS = {"sn": "s1", "started_at": ONE}
NAMED = NAMELESS | {"uuid": uuid(1)}

Record = Mapping[str, Any]

WHERE_A_SIDE_LACKS_THE_START = pytest.mark.parametrize(
    ("known", "joins"),
    [
        ({"created_at": TWO}, {"started_at": ONE, "created_at": TWO}),
        ({"started_at": ONE, "created_at": TWO}, {"created_at": TWO}),
        ({"created_at": TWO}, {"created_at": TWO}),
    ],
    ids=["the call lacks it", "the record lacks it", "both lack it"],
)


def said(record: Record, *, source: str = "main", at: datetime = NOW) -> Arrival:
    """A record as the door reads it."""
    return arrival_of(named(source), Via.CALLBACK, json.dumps(record).encode(), at)


def file(ledger: Ledger, **record: Any) -> Filed:
    return filed(ledger, said(record))


def judge_waiting(ledger: Ledger) -> None:
    """Every receipt that waits is news, and says of its call what it is known by already."""
    while waiting := ledger.waiting(1):
        row = next(row for row in ledger.list_calls([], 100) if row.id == waiting[0].call_id)
        columns = Columns(row.sn, started_at=text_of(row.started_at), created_at=text_of(row.created_at))
        ledger.judge([judgment(waiting[0], columns=columns)], TO_CRM, NOW)


# -- the rules, in memory ---------------------------------------------------------------
@dataclass
class Known:
    """One call of the model."""

    key: str
    names: set[str]
    nameless: bool
    sn: str | None = None
    started_at: str | None = None
    created_at: str | None = None
    receipts: int = 0

    def matches(self, one: Arrival) -> bool:
        if one.sn is None or self.sn != one.sn:
            return False
        if self.started_at and one.started_at:
            return self.started_at == one.started_at
        return self.created_at is not None and self.created_at == one.created_at

    def take(self, one: Arrival) -> Filed:
        self.names |= set(one.names)
        self.sn = self.sn or one.sn
        self.started_at = self.started_at or one.started_at
        self.created_at = self.created_at or one.created_at
        self.receipts += 1
        return Filed(None, self.key)


@dataclass
class Rules:
    """ "Which call is it?", one record after the other."""

    calls: list[Known] = field(default_factory=list)
    quarantine: dict[bytes, tuple[Quarantined, int]] = field(default_factory=dict)

    def file(self, one: Arrival) -> Filed:
        found = one.trouble or (self._named(one) if one.names else self._unnamed(one))
        if isinstance(found, Known):
            return found.take(one)
        reason, arrivals = self.quarantine.get(one.payload, (found, 0))
        self.quarantine[one.payload] = (reason, arrivals + 1)
        return Filed(None, trouble=found)

    def _new(self, key: str, *, nameless: bool) -> Known:
        self.calls.append(Known(key, {key}, nameless))
        return self.calls[-1]

    def _named(self, one: Arrival) -> Known | Quarantined:
        named = [call for call in self.calls if call.names & set(one.names)]
        if len(named) > 1:
            return Quarantined.IDENTITY_CONFLICT
        if named:
            uuids = {name for name in {*one.names, *named[0].names} if is_uuid(name)}
            return Quarantined.IDENTITY_CONFLICT if len(uuids) > 1 else named[0]
        waiting = [call for call in self.calls if call.nameless and call.matches(one)]
        if len(waiting) != 1:
            return self._new(one.names[0], nameless=False)
        waiting[0].nameless = False
        return waiting[0]

    def _unnamed(self, one: Arrival) -> Known | Quarantined:
        if one.sn is None or not (one.started_at or one.created_at):
            return Quarantined.UNIDENTIFIED
        key = f"{one.sn}@{one.local_time}"
        matching = [call for call in self.calls if call.matches(one)]
        if len(matching) > 1:
            return Quarantined.AMBIGUOUS
        called = [*matching, *(call for call in self.calls if key in call.names)]
        return called[0] if called else self._new(key, nameless=True)


def told(ledger: Ledger) -> list[Known]:
    """The ledger's calls in the model's words, but for whether they are nameless."""
    calls = []
    for row in ledger.list_calls([], 1000):
        shown = ledger.show_call(row.id)
        known_by = {
            "sn": row.sn,
            "started_at": text_of(row.started_at),
            "created_at": text_of(row.created_at),
        }
        receipts = len(shown.receipts)
        calls.append(Known(row.key, set(shown.names), nameless=False, **known_by, receipts=receipts))
    return sorted(calls, key=lambda call: call.key)


TIMES = st.sampled_from([None, ONE, TWO])
RECORDS = st.fixed_dictionaries(
    {
        "uuid": st.sampled_from([None, None, uuid(1), uuid(2)]),
        "base_info": st.sampled_from([None, None, None, "b-1", "b-2", f"{uuid(1)}|x"]),
        "sn": st.sampled_from([None, "s1", "s1", "s2"]),
        "started_at": TIMES,
        "created_at": TIMES,
    }
)


def text_of(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


class IdentityContract:
    """Names, and what is filed without one."""

    def new_place(self, folder: Path) -> LedgerPlace:
        raise NotImplementedError

    # -- records without a name ------------------------------------------------------
    def test_nameless_record_is_identified_by_sn_and_time(self, ledger: Ledger) -> None:
        first = file(ledger, **NAMELESS)
        assert first.key == f"s1@{ONE}"
        assert file(ledger, **NAMELESS, name="张").call_id == first.call_id
        others = [file(ledger, sn="s1", started_at=TWO), file(ledger, sn="s2", started_at=ONE)]
        assert [one.key for one in others] == [f"s1@{TWO}", f"s2@{ONE}"]
        assert balance(ledger) == {"ledger": 3, "under_way": 3}

    def test_nameless_record_joins_the_call_with_its_sn_and_start(self, ledger: Ledger) -> None:
        named = file(ledger, **NAMED, created_at=TWO)
        file(ledger, uuid=uuid(2), sn="s1", started_at=TWO, created_at=TWO)
        # Its own creation says otherwise, and does not count: both sides know the start.
        assert file(ledger, **NAMELESS, created_at="2026-01-01 00:00:00") == named
        assert ledger.counts().calls == {"main": 2}

    @WHERE_A_SIDE_LACKS_THE_START
    def test_creation_is_compared_where_a_side_lacks_the_start(
        self, ledger: Ledger, known: Record, joins: Record
    ) -> None:
        call_id = call_of(ledger, said({"uuid": uuid(1), "sn": "s1", **known}))
        assert file(ledger, sn="s1", **joins).call_id == call_id

    @WHERE_A_SIDE_LACKS_THE_START
    def test_different_creation_means_another_call(
        self, ledger: Ledger, known: Record, joins: Record
    ) -> None:
        call_id = call_of(ledger, said({"uuid": uuid(1), "sn": "s1", **known}))
        other = file(ledger, sn="s1", **{**joins, "created_at": "2026-01-01 00:00:00"})
        assert (other.trouble, other.call_id == call_id) == (None, False)

    @pytest.mark.parametrize(("ours", "theirs"), [("started_at", "created_at"), ("created_at", "started_at")])
    def test_start_is_never_compared_with_a_creation(self, ledger: Ledger, ours: str, theirs: str) -> None:
        named = file(ledger, uuid=uuid(1), sn="s1", **{ours: ONE})
        assert file(ledger, sn="s1", **{theirs: ONE}).call_id != named.call_id

    def test_several_matching_calls_are_ambiguous(self, ledger: Ledger) -> None:
        for number in (1, 2):
            file(ledger, uuid=uuid(number), **NAMELESS)
        assert file(ledger, **NAMELESS) == Filed(None, trouble=Quarantined.AMBIGUOUS)
        (entry,) = ledger.list_quarantine("waiting", 10)
        assert (entry.reason, entry.state, entry.arrivals) == ("ambiguous", "waiting", 1)
        assert all(uuid(number) in entry.detail for number in (1, 2))
        assert ledger.source_counts("main", ALWAYS) == SourceCounts(ledger=2, quarantined=1, erased=0)

    @pytest.mark.parametrize(
        "record",
        [
            {"sn": "s1"},
            {"started_at": ONE},
            {"sn": " ", "started_at": ONE},
            {"sn": "s1", "started_at": "0000-00-00 00:00:00"},
            {"id": 7},
        ],
    )
    def test_record_without_sn_or_time_is_unidentified(self, ledger: Ledger, record: Record) -> None:
        file(ledger, **NAMED)
        assert file(ledger, **record) == Filed(None, trouble=Quarantined.UNIDENTIFIED)
        assert ledger.counts().quarantined == {"unidentified": 1}

    def test_record_never_joins_a_call_of_another_source(self, ledger: Ledger) -> None:
        ours = file(ledger, **NAMED)
        theirs = filed(ledger, said(NAMELESS, source="branch"))
        assert theirs.key == f"s1@{ONE}"
        assert theirs.call_id != ours.call_id
        named = filed(ledger, said(NAMED | {"uuid": uuid(2)}))
        assert named.call_id not in (ours.call_id, theirs.call_id), "took the name for another source's call"

    # -- a name that comes later ---------------------------------------------------------
    def test_nameless_call_gets_its_name_later(self, ledger: Ledger) -> None:
        nameless = file(ledger, **NAMELESS)
        assert file(ledger, **NAMED, base_info="b-1") == nameless
        for record in ({"uuid": uuid(1)}, {"base_info": "B-1"}, NAMELESS):
            assert file(ledger, **record) == nameless
        assert [row.key for row in ledger.list_calls([uuid(1)], 10)] == [f"s1@{ONE}"]
        second = file(ledger, uuid=uuid(2), base_info="b-1")
        assert second.trouble is Quarantined.IDENTITY_CONFLICT
        # Another call of the same dialling list and second has its own name.
        assert file(ledger, **NAMED | {"uuid": uuid(2)}).key == uuid(2)
        assert ledger.counts().calls == {"main": 2}

    def test_name_matching_two_nameless_calls_joins_neither(self, ledger: Ledger) -> None:
        by_start = file(ledger, sn="s1", started_at=ONE)
        by_creation = file(ledger, sn="s1", created_at=TWO)
        named = file(ledger, uuid=uuid(1), sn="s1", started_at=ONE, created_at=TWO)
        assert named.key == uuid(1)
        assert len({by_start.call_id, by_creation.call_id, named.call_id}) == 3

    def test_deliveries_of_a_nameless_call_keep_its_key(self, ledger: Ledger) -> None:
        call_id = call_of(ledger, said(NAMELESS))
        judge_waiting(ledger)
        lease = leased(ledger)
        assert lease.key == f"s1@{ONE}"
        settle(ledger, lease, Settlement(DeliveryState.DELIVERED), NOW, NOW)
        assert call_of(ledger, said(NAMED, at=NOW + MINUTE)) == call_id
        judge_waiting(ledger)
        again = leased(ledger)
        assert (again.call_id, again.key, again.revision) == (call_id, f"s1@{ONE}", 2)
        assert delivery(ledger, call_id).delivered == 1
        assert balance(ledger) == {"ledger": 1, "under_way": 1}

    # -- what a second record teaches --------------------------------------------------
    def test_identity_from_a_second_record_is_used_before_its_verdict(self, ledger: Ledger) -> None:
        call_id = call_of(ledger, said({"uuid": uuid(1)}))
        file(ledger, uuid=uuid(1), base_info="b-1", sn="s1")
        file(ledger, base_info="b-1", started_at=ONE)
        assert len(ledger.waiting(10)) == 3
        assert file(ledger, **NAMELESS).call_id == call_id

    def test_identity_from_a_second_record_is_used_within_one_batch(self, ledger: Ledger) -> None:
        batch = [{"uuid": uuid(1)}, {"uuid": uuid(1), "sn": "s1", "started_at": ONE}, NAMELESS]
        found = filed_all(ledger, [said(record) for record in batch])
        assert [one.key for one in found] == [uuid(1)] * 3

    def test_filing_does_not_change_a_calls_known_identity(self, ledger: Ledger) -> None:
        call_id = call_of(ledger, said(NAMED))
        file(ledger, uuid=uuid(1), sn="s2", started_at=TWO)
        (row,) = ledger.list_calls([], 10)
        assert (row.id, row.sn) == (call_id, "s1")
        assert row.started_at == datetime.fromisoformat(ONE).replace(tzinfo=ZONE)

    # -- what never joins -------------------------------------------------------------
    def test_platform_id_never_joins_records(self, ledger: Ledger) -> None:
        one, two = (file(ledger, id=7, uuid=uuid(number)) for number in (1, 2))
        assert one.call_id != two.call_id
        assert file(ledger, id=7).trouble is Quarantined.UNIDENTIFIED
        nameless = [file(ledger, id=8, sn="s1", started_at=time) for time in (ONE, TWO)]
        assert nameless[0].call_id != nameless[1].call_id

    def test_two_uuids_of_one_sn_are_two_calls_and_counted(self, ledger: Ledger) -> None:
        one = file(ledger, **NAMED)
        assert ledger.counts().shared_sn == 0
        two = file(ledger, **NAMED | {"uuid": uuid(2)})
        assert one.call_id != two.call_id
        assert ledger.counts().shared_sn == 1
        filed(ledger, said(NAMED | {"sn": "s2"}, source="branch"))
        file(ledger, uuid=uuid(3), sn="s2")
        assert ledger.counts().shared_sn == 1

    def test_sns_with_the_same_ending_are_different(self, ledger: Ledger) -> None:
        ends = [f"{start}{'x' * 20}" for start in ("a", "b")]
        calls = {
            sn: file(ledger, sn=sn, started_at=ONE).call_id
            for sn in (*ends, "x", "xx", "客户客户客户客户客户")
        }
        assert len(set(calls.values())) == len(calls)
        assert ledger.counts().shared_sn == 0
        for sn, call_id in calls.items():
            assert file(ledger, sn=sn, started_at=ONE).call_id == call_id
            assert [row.id for row in ledger.list_calls([sn], 9)] == [call_id]

    # -- batches ----------------------------------------------------------------------
    def test_batch_is_filed_like_single_records(self, ledger: Ledger) -> None:
        known = {"uuid": uuid(9), "sn": "s9", "started_at": TWO}
        file(ledger, **known)
        batch: list[Record] = [
            known,
            NAMED,
            NAMED,
            NAMELESS,
            {"sn": "s3", "created_at": ONE},
            {"sn": "s3", "created_at": ONE, "base_info": "b-3"},
            {"uuid": uuid(1), "base_info": f"{uuid(2)}|x"},
            {"uuid": uuid(2), "base_info": "b-3"},
            {"uuid": uuid(4), "base_info": "b-3"},
            {"base_info": "b-3", "uuid": uuid(1)},
            {"sn": "s9", "started_at": TWO},
        ]
        found = filed_all(ledger, [said(record) for record in batch])
        conflict = Quarantined.IDENTITY_CONFLICT
        keys = [
            uuid(9),
            uuid(1),
            uuid(1),
            uuid(1),
            f"s3@{ONE}",
            f"s3@{ONE}",
            "",
            f"s3@{ONE}",
            "",
            "",
            uuid(9),
        ]
        assert [one.key for one in found] == keys
        assert [index for index, one in enumerate(found) if one.trouble] == [6, 8, 9]
        assert {one.trouble for one in found if one.trouble} == {conflict}
        assert ledger.counts().receipts == {"waiting": 9}

    @examples(20, 500)
    @given(records=st.lists(RECORDS, min_size=1, max_size=9), sizes=st.lists(st.integers(1, 5), max_size=5))
    @example(records=[NAMELESS, NAMED, NAMELESS], sizes=[1])
    @example(records=[NAMELESS, NAMED, {"uuid": uuid(1), "created_at": TWO}], sizes=[1])
    def test_any_split_into_batches_files_the_same(self, records: Sequence[Record], sizes: list[int]) -> None:
        arrivals, rules = [said(record) for record in records], Rules()
        expected = [rules.file(one) for one in arrivals]
        with tempfile.TemporaryDirectory() as folder:
            ledger = self.new_place(Path(folder)).open()
            found: list[Filed] = []
            for size in (*sizes, len(arrivals)):
                found += filed_all(ledger, arrivals[len(found) :][:size])
            calls, counts = told(ledger), ledger.counts()
            kept = [(row.reason, row.arrivals) for row in ledger.list_quarantine(None, 100)]
            ledger.close()
        assert [(one.key, one.trouble) for one in found] == [(one.key, one.trouble) for one in expected]
        for call in rules.calls:
            call.nameless = False
        assert calls == sorted(rules.calls, key=lambda call: call.key)
        assert sorted(kept) == sorted((str(reason), count) for reason, count in rules.quarantine.values())
        assert sum(counts.receipts.values()) == sum(call.receipts for call in rules.calls)
