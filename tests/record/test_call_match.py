"""Which call does an arrival belong to? The rule alone, with calls as a ledger would find them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from bridge.model.calls import Arrival, Quarantined, Via
from bridge.record.call_match import (
    CallMatch,
    Joins,
    KnownCall,
    Opens,
    Refused,
    key_of_nameless,
    match_call,
)
from tests.fixtures.ledger_calls import NOW, uuid

ONE, TWO, THREE = KnownCall(1, uuid(1)), KnownCall(2, "b-2"), KnownCall(3, "s3@10:00")
AT, LOCAL = "2026-11-22T02:00:00.000Z", "10:00"


@dataclass
class Calls:
    """What a ledger knows, and what it was asked for."""

    names: Mapping[str, KnownCall] = field(default_factory=dict)
    same_time: Sequence[KnownCall] = ()
    nameless: Sequence[KnownCall] = ()
    uuids: Mapping[int, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def by_name(self, source: str, name: str) -> KnownCall | None:
        assert source == "main"
        return self.names.get(name)

    def by_sn_and_time(self, arrival: Arrival, *, nameless: bool) -> Sequence[KnownCall]:
        self.asked.append("nameless" if nameless else f"sn {arrival.sn}")
        return self.nameless if nameless else self.same_time

    def uuid_of(self, call_id: int) -> str | None:
        self.asked.append(f"uuid of {call_id}")
        return self.uuids.get(call_id)


def named(*names: str) -> Arrival:
    return Arrival("main", Via.CALLBACK, NOW, b"{}", names)


def unnamed(sn: str | None = "s3", started_at: str | None = AT, created_at: str | None = None) -> Arrival:
    times = {"started_at": started_at, "created_at": created_at, "local_time": LOCAL}
    return Arrival("main", Via.CALLBACK, NOW, b"{}", sn=sn, **times)  # type: ignore[arg-type]


def test_arrival_with_trouble_is_refused_with_its_detail() -> None:
    arrival = Arrival(
        "main", Via.LIST, NOW, b"{}", ("a",), Quarantined.IDENTITY_CONFLICT, "uuid is one, base_info another"
    )
    calls = Calls({"a": ONE})
    assert match_call(arrival, calls) == Refused(arrival.trouble, arrival.detail)  # type: ignore[arg-type]
    assert calls.asked == []


# -- by its names ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("names", "calls", "match", "asked"),
    [
        (("new", "b-9"), Calls(), Opens("new"), ["nameless"]),
        ((uuid(1),), Calls({uuid(1): ONE}), Joins(ONE), []),
        ((uuid(1), "b-1"), Calls({uuid(1): ONE}), Joins(ONE, ("b-1",)), []),
        (("b-1", uuid(1)), Calls({uuid(1): ONE, "b-1": ONE}), Joins(ONE), []),
        (("b-2", uuid(2)), Calls({"b-2": TWO}), Joins(TWO, (uuid(2),)), ["uuid of 2"]),
        (("new",), Calls(nameless=[THREE]), Joins(THREE, ("new",), names_it=True), ["nameless"]),
        (("new",), Calls(nameless=[THREE, TWO]), Opens("new"), ["nameless"]),
        ((uuid(1),), Calls({uuid(1): ONE}, nameless=[THREE]), Joins(ONE), []),
    ],
    ids=[
        "no call has any of them",
        "one call has it",
        "one call has one of them and learns the other",
        "one call has both",
        "a call without a UUID learns one",
        "the one nameless call takes them",
        "among nameless calls nobody may guess",
        "its own call goes before a nameless one",
    ],
)
def test_names_seen_together_are_one_call(
    names: tuple[str, ...], calls: Calls, match: CallMatch, asked: list[str]
) -> None:
    assert match_call(named(*names), calls) == match
    assert calls.asked == asked, "what costs a look into the ledger is asked only where it decides"


def test_names_of_two_calls_are_a_conflict_that_names_them() -> None:
    calls = Calls({"b-2": TWO, uuid(1): ONE})
    refused = match_call(named("b-2", "new", uuid(1)), calls)
    detail = f"its names belong to two calls: {uuid(1)}, b-2"
    assert refused == Refused(Quarantined.IDENTITY_CONFLICT, detail)


def test_a_second_uuid_for_a_call_is_a_conflict_that_names_the_first() -> None:
    refused = match_call(named("b-2", uuid(2)), Calls({"b-2": TWO}, uuids={2: uuid(9)}))
    detail = f"its names belong to call {uuid(9)}, which has another UUID"
    assert refused == Refused(Quarantined.IDENTITY_CONFLICT, detail)


def test_a_new_name_that_is_no_uuid_conflicts_with_none() -> None:
    calls = Calls({uuid(1): ONE}, uuids={1: uuid(1)})
    assert match_call(named(uuid(1), "b-1"), calls) == Joins(ONE, ("b-1",))


# -- by sn and time ----------------------------------------------------------------
@pytest.mark.parametrize(
    "arrival",
    [unnamed(sn=None), unnamed(started_at=None), unnamed(sn=None, started_at=None)],
    ids=["no sn", "no time", "neither"],
)
def test_record_without_name_or_sn_and_time_is_unidentified(arrival: Arrival) -> None:
    calls = Calls(same_time=[ONE])
    told = "no uuid, no base_info, and no sn or time"
    assert match_call(arrival, calls) == Refused(Quarantined.UNIDENTIFIED, told)
    assert calls.asked == []


@pytest.mark.parametrize("times", [(AT, None), (None, AT), (AT, AT)])
def test_either_time_is_enough_with_the_sn(times: tuple[str | None, str | None]) -> None:
    calls = Calls(same_time=[ONE])
    assert match_call(unnamed("s3", *times), calls) == Joins(ONE)
    assert calls.asked == ["sn s3"]


def test_several_calls_of_the_same_sn_and_time_are_ambiguous() -> None:
    detail = f"2 calls have its sn and time: {uuid(1)}, b-2"
    refused = match_call(unnamed(), Calls(same_time=[ONE, TWO]))
    assert refused == Refused(Quarantined.AMBIGUOUS, detail)


def test_unmatched_nameless_record_is_a_new_call_under_sn_and_time() -> None:
    assert match_call(unnamed(), Calls()) == Opens("s3@10:00", nameless=True)
    assert key_of_nameless(unnamed()) == "s3@10:00"


def test_call_opened_under_the_same_key_is_joined_whatever_its_times() -> None:
    assert match_call(unnamed(), Calls({"s3@10:00": THREE})) == Joins(THREE)
    assert match_call(unnamed(), Calls({"s3@10:00": THREE}, same_time=[ONE])) == Joins(ONE)


def test_match_takes_no_name_from_a_call_by_default() -> None:
    assert {Joins(ONE), Joins(ONE, (), names_it=False)} == {Joins(ONE)}
    assert {Opens("a"), Opens("a", nameless=False)} == {Opens("a")}
    assert len({Refused(Quarantined.AMBIGUOUS, "a"), Refused(Quarantined.AMBIGUOUS, "a")}) == 1
