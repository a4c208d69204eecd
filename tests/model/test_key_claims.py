"""One key, one source: what becomes of a call whose key a call of another source had before."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.model.key_claims import CallIdentity, Claim, Conflict, claims_applied, same_call
from bridge.model.plan import Plan, PlannedObject, Skip

AT = datetime(2026, 11, 20, 7, tzinfo=UTC)
LATER = AT + timedelta(seconds=1)


def identity(
    source: str, key: str = "k", sn: str | None = "s", started: Any = AT, created: Any = AT
) -> CallIdentity:
    return CallIdentity(source, key, sn, started, created)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("s", AT, AT), ("s", AT, LATER), True),
        (("s", AT, AT), ("s", LATER, AT), False),
        (("s", AT, AT), ("t", AT, AT), False),
        ((None, AT, AT), (None, AT, AT), False),
        (("s", None, AT), ("s", AT, AT), True),
        (("s", None, AT), ("s", None, AT), True),
        (("s", None, AT), ("s", None, LATER), False),
        (("s", None, None), ("s", None, None), False),
        (("s", AT, None), ("s", AT, None), True),
    ],
)
def test_calls_with_the_same_sn_and_time_are_one(one: Any, other: Any, same: bool) -> None:
    pair = identity("a", "k", *one), identity("b", "k", *other)
    assert same_call(*pair) is same_call(*reversed(pair)) is same


def plan(*, by_source: bool = False, shared: bool = False) -> Plan:
    contact = PlannedObject("contact", "contact", {"phone": "1"}, {})
    call = PlannedObject("call", "call", {"key": "k"}, {}, shared=shared, by_source=by_source)
    return Plan((contact, call))


def test_decision_about_a_call_whose_key_is_claimed() -> None:
    call = identity("b")
    one, other = Claim(call, identity("a")), Claim(call, identity("a", sn="t"))
    by_name, strange = Claim(call, identity("c", "j")), Claim(call, identity("c", "j", sn="t"))
    assert claims_applied([], plan()) == plan()
    assert claims_applied([one], plan()) == Skip("belongs to source a")
    assert claims_applied([other], plan()) == Conflict(other)
    assert claims_applied([other, by_name], plan()) == Conflict(other)
    assert claims_applied([strange, by_name], plan()) == Skip("belongs to source c")
    assert claims_applied([strange], plan()) == plan()
    assert claims_applied([other], Skip("no voice tests")) == Skip("no voice tests")
    # The key of its objects names the source: they are no other's, but one call is still sent once.
    assert claims_applied([other], plan(by_source=True)) == plan(by_source=True)
    assert claims_applied([one], plan(by_source=True)) == Skip("belongs to source a")
    assert claims_applied([other], plan(by_source=True, shared=True)) == Conflict(other)


@pytest.mark.parametrize(
    ("sn", "started", "created", "text"),
    [
        ("t", AT, LATER, "sn t, started_at 2026-11-20T07:00:00Z, created_at 2026-11-20T07:00:01Z"),
        ("t", None, LATER, "sn t, created_at 2026-11-20T07:00:01Z"),
        ("t", AT, None, "sn t, started_at 2026-11-20T07:00:00Z"),
        (None, None, None, "sn -"),
    ],
)
def test_reason_says_how_a_call_was_recognised(sn: Any, started: Any, created: Any, text: str) -> None:
    assert str(identity("a", "k", sn, started, created)) == f"source a ({text})"


def test_a_conflict_names_both_calls_and_is_grouped_by_the_holder() -> None:
    conflict = Conflict(Claim(identity("b"), identity("a", sn="t")))
    assert str(conflict) == (
        "call k of source b (sn s, started_at 2026-11-20T07:00:00Z, created_at 2026-11-20T07:00:00Z)"
        " has the key of another call of source a (sn t, started_at 2026-11-20T07:00:00Z,"
        " created_at 2026-11-20T07:00:00Z), and the CRM would take both for one"
    )
    assert conflict.cause == "the call's key belongs to source a"
