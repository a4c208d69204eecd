"""What becomes of a delivery, in every state: pure rules, each asserted on all that it leaves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.model.calls import Verdict, Via
from bridge.model.crm_objects import Fingerprint
from bridge.model.deliveries import Delivery, DeliveryState, Heading, Lane, ParkKind, Settlement
from bridge.model.delivery_rules import (
    News,
    RetryScope,
    before_destination,
    forgotten_progress,
    given_back,
    heading,
    held,
    is_busy,
    is_overdue,
    lane_of,
    leased,
    makes_due,
    may_hold,
    may_replay,
    may_retry,
    never_read,
    owed,
    released,
    replayed,
    retried,
    retry_says_absent,
    settled,
    unreadable,
)
from bridge.model.sync_progress import Forgotten, Located, Running, SyncMethod, SyncProgress

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
CHANGED, OWED, DUE_AT, CALLED = NOW - 9 * HOUR, NOW - 8 * HOUR, NOW - 7 * HOUR, NOW - 6 * HOUR
LATER = NOW + HOUR

DUE, LEASED, DELIVERED, SKIPPED, PARKED = (
    DeliveryState.DUE,
    DeliveryState.LEASED,
    DeliveryState.DELIVERED,
    DeliveryState.SKIPPED,
    DeliveryState.PARKED,
)
KEYS = (("hub", "contact", "+86139"),)


def one(state: DeliveryState, **known: Any) -> Delivery:
    """A delivery with something in every field, so that nothing can be lost unseen."""
    whole = Delivery(
        state,
        wanted=2,
        changed_at=CHANGED,
        delivered=1,
        owed_at=OWED,
        due_at=DUE_AT if state in (DUE, LEASED) else None,
        tries=3,
        reason="a reason",
        cause="a cause",
        park_kind=ParkKind.FAILED if state is PARKED else None,
        lane=Lane.RETRY,
        called_at=CALLED,
    )
    return replace(whole, **known)


# -- what a verdict makes due ------------------------------------------------------
def test_news_makes_deliveries_due() -> None:
    assert {verdict for verdict in Verdict if makes_due(verdict)} == {Verdict.NEW, Verdict.REVISION}


def test_a_callback_is_live_and_the_list_fills_gaps() -> None:
    assert {via: lane_of(via) for via in Via} == {Via.CALLBACK: Lane.LIVE, Via.LIST: Lane.BACKFILL}


@pytest.mark.parametrize("called_at", [CALLED, None])
def test_a_new_call_is_due_at_once_or_skipped_by_its_rule(called_at: datetime | None) -> None:
    told = Delivery(DUE, 1, NOW, owed_at=NOW, due_at=NOW, lane=Lane.BACKFILL, called_at=called_at)
    assert owed(None, News(1, Lane.BACKFILL, called_at), NOW) == told
    left_out = replace(told, state=SKIPPED, due_at=None, reason="answered")
    assert owed(None, News(1, Lane.BACKFILL, called_at, "answered"), NOW) == left_out


ANEW: dict[str, Any] = {
    "wanted": 3,
    "owed_at": NOW,
    "tries": 0,
    "cause": None,
    "park_kind": None,
    "changed_at": NOW,
}


@pytest.mark.parametrize("rule", [None, "answered"])
@pytest.mark.parametrize("state", [DUE, DELIVERED, PARKED])
def test_revision_of_an_accepted_call_is_due_whatever_rules_say_now(
    state: DeliveryState, rule: str | None
) -> None:
    was = one(state)
    told = replace(was, **ANEW, state=DUE, due_at=NOW, reason=None, lane=Lane.LIVE, called_at=LATER)
    assert owed(was, News(3, Lane.LIVE, LATER, rule), NOW) == told


@pytest.mark.parametrize("was", [one(SKIPPED), one(PARKED, wanted=0)], ids=["skipped", "never read"])
def test_call_never_accepted_stays_skipped_while_a_rule_says_so(was: Delivery) -> None:
    told = replace(was, **ANEW, state=SKIPPED, reason="answered", lane=Lane.LIVE)
    assert owed(was, News(3, Lane.LIVE, None, "answered"), NOW) == told
    let_in = replace(told, state=DUE, due_at=NOW, reason=None)
    assert owed(was, News(3, Lane.LIVE), NOW) == let_in


def test_revision_during_a_lease_counts_when_the_lease_settles() -> None:
    was = one(LEASED, held_as=PARKED)
    told = replace(was, **ANEW, held_as=None, lane=Lane.BACKFILL)
    assert owed(was, News(3, Lane.BACKFILL, None, "answered"), NOW) == told


@pytest.mark.parametrize("state", [SKIPPED, LEASED, DUE])
def test_operators_skip_outlasts_revisions(state: DeliveryState) -> None:
    was = one(state, held_as=SKIPPED, in_doubt=True)
    assert owed(was, News(3, Lane.LIVE), NOW) == replace(was, **ANEW, lane=Lane.LIVE)


def test_operators_park_does_not_outlast_revisions() -> None:
    was = one(DUE, held_as=PARKED, in_doubt=True)
    told = replace(was, **ANEW, held_as=None, due_at=NOW, reason=None, lane=Lane.LIVE)
    assert owed(was, News(3, Lane.LIVE), NOW) == told


def test_calls_from_before_a_destination_are_skipped_by_name() -> None:
    made = Delivery(SKIPPED, 4, NOW, reason="before this destination", called_at=CALLED)
    assert before_destination(4, CALLED, NOW) == made


def test_call_whose_only_record_is_unreadable_is_parked() -> None:
    made = Delivery(PARKED, 0, NOW, reason="why", cause="unreadable record", park_kind=ParkKind.FAILED)
    assert never_read("why", NOW) == made


# -- leases and their ends ---------------------------------------------------------
def test_lease_counts_one_try() -> None:
    assert leased(one(DUE), NOW) == one(LEASED, tries=4, changed_at=NOW)


@pytest.mark.parametrize("in_doubt", [False, True])
def test_returned_lease_counts_no_try(in_doubt: bool) -> None:
    was = one(LEASED, in_doubt=in_doubt)
    assert given_back(was, LATER) == replace(was, state=DUE, due_at=LATER, tries=2)
    assert given_back(replace(was, tries=0), LATER).tries == 0, "a revision began to count anew meanwhile"


@pytest.mark.parametrize("in_doubt", [False, True])
def test_lease_of_a_dead_daemon_is_due_as_of_its_start(in_doubt: bool) -> None:
    was = one(LEASED, in_doubt=in_doubt)
    assert released(was) == replace(was, state=DUE, due_at=CHANGED)


HELD: dict[DeliveryState, dict[str, Any]] = {
    SKIPPED: {"state": SKIPPED, "due_at": None},
    PARKED: {
        "state": PARKED,
        "due_at": None,
        "cause": "parked by a person",
        "park_kind": ParkKind.HELD,
        "held_as": None,
    },
}


@pytest.mark.parametrize("held_as", [SKIPPED, PARKED])
def test_operators_request_takes_effect_when_the_lease_ends(held_as: DeliveryState) -> None:
    was = one(LEASED, held_as=held_as)
    assert given_back(was, LATER) == replace(was, **HELD[held_as], tries=2)
    assert released(was) == replace(was, **HELD[held_as])


@pytest.mark.parametrize("held_as", [SKIPPED, PARKED])
def test_operators_request_waits_while_in_doubt_and_locks_are_kept(held_as: DeliveryState) -> None:
    was = one(LEASED, held_as=held_as, in_doubt=True)
    assert given_back(was, LATER) == replace(was, state=DUE, due_at=LATER, tries=2)
    assert released(was) == replace(was, state=DUE, due_at=CHANGED)


@pytest.mark.parametrize("held_as", [None, PARKED])
def test_lease_with_an_unreadable_record_is_parked(held_as: DeliveryState | None) -> None:
    was = one(LEASED, held_as=held_as)
    told: dict[str, Any] = {"reason": "why", "cause": "unreadable record", "due_at": None, "changed_at": NOW}
    parked = replace(was, **told, state=PARKED, park_kind=ParkKind.FAILED, held_as=None)
    assert unreadable(was, "why", NOW) == parked


def test_lease_with_an_unreadable_record_stays_skipped() -> None:
    was = one(LEASED, held_as=SKIPPED)
    told: dict[str, Any] = {"reason": "why", "cause": "unreadable record", "due_at": None, "changed_at": NOW}
    assert unreadable(was, "why", NOW) == replace(was, **told, state=SKIPPED)


# -- how attempts end --------------------------------------------------------------
def said(state: DeliveryState, **known: Any) -> Settlement:
    due_at = LATER if state is DUE else None
    whole: dict[str, Any] = {"reason": "it says", "cause": "it groups", "due_at": due_at}
    return Settlement(state, **{**whole, "park_kind": ParkKind.GONE, **known})


TOLD: dict[str, Any] = {"reason": "it says", "cause": "it groups", "changed_at": NOW}


@pytest.mark.parametrize(
    ("state", "left"),
    [
        (DELIVERED, {"due_at": None, "delivered": 2}),
        (SKIPPED, {"due_at": None}),
        (PARKED, {"due_at": None, "park_kind": ParkKind.GONE}),
        (DUE, {"due_at": LATER}),
    ],
)
def test_attempt_ends_as_its_settlement_says(state: DeliveryState, left: dict[str, Any]) -> None:
    was = one(LEASED, in_doubt=True)
    assert settled(was, 2, said(state), NOW) == replace(was, **TOLD, **left, state=state, in_doubt=False)


def test_settlement_without_words_has_neither_reason_nor_cause() -> None:
    left = settled(one(LEASED), 2, said(DELIVERED, reason="", cause=""), NOW)
    assert (left.reason, left.cause) == (None, None)


@pytest.mark.parametrize(
    ("was", "settlement", "lane"),
    [
        (Lane.LIVE, said(DUE), Lane.RETRY),
        (Lane.BACKFILL, said(DUE), Lane.BACKFILL),
        (Lane.LIVE, said(DUE, unsent=True), Lane.LIVE),
        (Lane.LIVE, said(DUE, held_keys=KEYS), Lane.LIVE),
        (Lane.LIVE, said(PARKED), Lane.LIVE),
        (Lane.LIVE, said(DELIVERED), Lane.LIVE),
    ],
    ids=["failed", "failed in backfill", "unsent", "in doubt", "parked", "delivered"],
)
def test_failed_delivery_gives_way_to_live_calls(was: Lane, settlement: Settlement, lane: Lane) -> None:
    assert settled(one(LEASED, lane=was), 2, settlement, NOW).lane is lane


def test_delivery_delayed_by_limits_counts_no_try() -> None:
    assert settled(one(LEASED), 2, said(DUE, unsent=True), NOW).tries == 2
    assert settled(one(LEASED), 2, said(DUE), NOW).tries == 3


def test_delivery_in_doubt_waits_with_its_locks() -> None:
    was = one(LEASED, lane=Lane.LIVE)
    told = replace(was, **TOLD, state=DUE, due_at=LATER, in_doubt=True)
    assert settled(was, 2, said(DUE, held_keys=KEYS), NOW) == told


@pytest.mark.parametrize("state", [DELIVERED, SKIPPED, PARKED, DUE])
def test_revision_during_a_lease_is_due_at_once(state: DeliveryState) -> None:
    was = one(LEASED, lane=Lane.LIVE, tries=1)
    told: dict[str, Any] = {"reason": None, "cause": None, "changed_at": NOW, "tries": 0}
    delivered = 1 if state is DELIVERED else was.delivered
    left = replace(was, **told, state=DUE, due_at=NOW, delivered=delivered)
    assert settled(replace(was, delivered=None), 1, said(state), NOW) == replace(
        left, delivered=1 if state is DELIVERED else None
    )
    assert settled(was, 1, said(state), NOW) == left


@pytest.mark.parametrize("revision", [2, 1], ids=["this revision", "a newer one came"])
@pytest.mark.parametrize("state", [DELIVERED, SKIPPED, PARKED, DUE])
def test_skip_holds_however_the_attempt_ended(state: DeliveryState, revision: int) -> None:
    was = one(LEASED, held_as=SKIPPED, lane=Lane.LIVE)
    left = settled(was, revision, said(state), NOW)
    assert left == replace(
        was,
        **HELD[SKIPPED],
        cause=None,
        changed_at=NOW,
        delivered=revision if state is DELIVERED else 1,
        tries=3 if revision == 2 else 0,
    )


@pytest.mark.parametrize(
    ("state", "revision"), [(SKIPPED, 2), (PARKED, 2), (DUE, 2), (DUE, 1), (DELIVERED, 1), (PARKED, 1)]
)
def test_park_holds_unless_the_attempt_delivered(state: DeliveryState, revision: int) -> None:
    was = one(LEASED, held_as=PARKED, lane=Lane.LIVE)
    left = settled(was, revision, said(state), NOW)
    tries = 3 if revision == 2 else 0
    assert left == replace(was, **HELD[PARKED], changed_at=NOW, tries=tries)


def test_delivery_that_arrived_is_no_longer_held() -> None:
    was = one(LEASED, held_as=PARKED)
    left = settled(was, 2, said(DELIVERED), NOW)
    told: dict[str, Any] = {"cause": "it groups", "changed_at": NOW, "delivered": 2}
    assert left == replace(was, **told, state=DELIVERED, due_at=None, held_as=None)


@pytest.mark.parametrize("held_as", [SKIPPED, PARKED])
@pytest.mark.parametrize("due_at", [LATER, None])
def test_operators_request_waits_until_nothing_is_in_doubt(
    held_as: DeliveryState, due_at: datetime | None
) -> None:
    was = one(LEASED, held_as=held_as, lane=Lane.LIVE)
    told: dict[str, Any] = {"cause": "it groups", "changed_at": NOW, "state": DUE, "in_doubt": True}
    left = settled(was, 2, said(DUE, held_keys=KEYS, due_at=due_at), NOW)
    assert left == replace(was, **told, due_at=due_at or NOW)


# -- what persons say --------------------------------------------------------------
def rows() -> list[Delivery]:
    """Each kind of delivery that a ledger can hold, as far as a retry looks at it."""
    plain = [one(state, wanted=wanted) for state in (DUE, LEASED, DELIVERED, SKIPPED) for wanted in (0, 2)]
    parked = [one(PARKED, park_kind=kind, wanted=wanted) for kind in ParkKind for wanted in (0, 2)]
    persons = [
        one(state, held_as=held_as)
        for state in (DUE, LEASED, SKIPPED, PARKED)
        for held_as in (SKIPPED, PARKED)
    ]
    return plain + parked + persons


def named(found: list[Delivery]) -> list[str]:
    return [
        " ".join(word for word in (each.state, each.park_kind, each.held_as and f"as {each.held_as}") if word)
        for each in found
    ]


HELD_ONES = [f"{state} as {held_as}" for state in (DUE, LEASED, SKIPPED) for held_as in (SKIPPED, PARKED)]
FAILED_HELD = ["parked failed as skipped", "parked failed as parked"]
ALL_PARKED = ["parked failed", "parked in_doubt", "parked gone", "parked held"]


@pytest.mark.parametrize(
    ("scope", "taken"),
    [
        (RetryScope.ID, ["due", *ALL_PARKED, *HELD_ONES, *FAILED_HELD]),
        (RetryScope.CAUSE, ["due", *ALL_PARKED]),
        (RetryScope.WORDS, ["due", "parked failed", "parked gone"]),
        (RetryScope.ALL, ["parked failed", "parked gone", *FAILED_HELD]),
    ],
)
def test_retry_selects_deliveries_by_how_they_were_named(scope: RetryScope, taken: list[str]) -> None:
    found = [each for each in rows() if may_retry(each, scope)]
    assert named(found) == taken
    assert all(each.wanted for each in found), "of what was never read there is nothing to send"


def test_retry_of_a_delivery_parked_in_doubt_clears_the_doubt() -> None:
    assert [kind for kind in ParkKind if retry_says_absent(one(PARKED, park_kind=kind))] == [
        ParkKind.IN_DOUBT
    ]
    assert not retry_says_absent(one(DUE, in_doubt=True))


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("state", [DUE, PARKED, SKIPPED])
def test_retried_delivery_is_due_now_behind_live_calls(state: DeliveryState, lane: Lane) -> None:
    was = one(state, lane=lane, in_doubt=True)
    told: dict[str, Any] = {
        "due_at": NOW,
        "owed_at": NOW,
        "changed_at": NOW,
        "tries": 0,
        "cause": None,
        "park_kind": None,
    }
    behind = Lane.RETRY if lane is Lane.LIVE else lane
    assert retried(was, NOW) == replace(was, **told, state=DUE, lane=behind)


@pytest.mark.parametrize(
    "was",
    [one(PARKED, park_kind=ParkKind.HELD), one(SKIPPED, held_as=SKIPPED), one(DUE, held_as=PARKED)],
    ids=["parked", "skipped", "in doubt"],
)
def test_retry_clears_the_reason_of_a_held_delivery(was: Delivery) -> None:
    left = retried(was, NOW)
    assert (left.state, left.reason, left.cause, left.held_as, left.park_kind) == (
        DUE,
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("owed_at", [OWED, None])
def test_retry_does_not_disturb_a_leased_delivery(owed_at: datetime | None) -> None:
    was = one(LEASED, held_as=SKIPPED, owed_at=owed_at)
    told: dict[str, Any] = {"changed_at": NOW, "cause": None, "reason": None, "held_as": None}
    assert retried(was, NOW) == replace(was, **told, owed_at=owed_at or NOW)


def test_due_and_leased_deliveries_can_be_parked() -> None:
    found = [each for each in rows() if each.held_as is None and may_hold(each, PARKED)]
    assert named(found) == ["due", "leased"]
    assert all(each.wanted for each in found)
    assert [may_hold(one(DUE, wanted=wanted), PARKED) for wanted in (0, 1, 2)] == [False, True, True]


def test_everything_not_yet_skipped_by_an_operator_can_be_skipped() -> None:
    assert [each for each in rows() if not may_hold(each, SKIPPED)] == [
        each for each in rows() if each.held_as is SKIPPED
    ]


@pytest.mark.parametrize(("why", "reason"), [("", "parked by a person"), ("no", "parked by a person: no")])
def test_waiting_delivery_is_parked_at_once(why: str, reason: str) -> None:
    was = one(DUE)
    assert held(was, PARKED, why, NOW) == replace(was, **HELD[PARKED], reason=reason, changed_at=NOW)


@pytest.mark.parametrize("state", [DUE, DELIVERED, PARKED, SKIPPED])
def test_settled_or_waiting_delivery_is_skipped_at_once(state: DeliveryState) -> None:
    was = one(state)
    told: dict[str, Any] = {"held_as": SKIPPED, "reason": "skipped by a person: no", "changed_at": NOW}
    left = replace(was, **told, **HELD[SKIPPED], cause=None, park_kind=None)
    assert held(was, SKIPPED, "no", NOW) == left


@pytest.mark.parametrize("held_as", [SKIPPED, PARKED])
@pytest.mark.parametrize("was", [one(LEASED), one(DUE, in_doubt=True)], ids=["on its way", "in doubt"])
def test_delivery_with_locks_is_held_once_it_has_ended(was: Delivery, held_as: DeliveryState) -> None:
    told: dict[str, Any] = {"held_as": held_as, "reason": f"{held_as} by a person: no", "changed_at": NOW}
    assert held(was, held_as, "no", NOW) == replace(was, **told)


@pytest.mark.parametrize("state", DeliveryState)
@pytest.mark.parametrize("in_doubt", [False, True])
def test_leased_and_in_doubt_deliveries_keep_their_locks(state: DeliveryState, in_doubt: bool) -> None:
    assert is_busy(one(state, in_doubt=in_doubt)) == (state is LEASED or (state is DUE and in_doubt))


@pytest.mark.parametrize("forget", [False, True])
def test_replay_selects_settled_and_forced_replay_lost_deliveries(forget: bool) -> None:
    found = named([each for each in rows() if each.wanted and may_replay(each, forget=forget)])
    assert found == ["delivered", "skipped", *(["parked gone"] if forget else [])]


@pytest.mark.parametrize("state", [DELIVERED, SKIPPED, PARKED])
def test_replayed_delivery_goes_last_with_no_tries(state: DeliveryState) -> None:
    was = one(state, lane=Lane.LIVE)
    told: dict[str, Any] = {
        "owed_at": NOW,
        "due_at": NOW,
        "changed_at": NOW,
        "tries": 0,
        "reason": None,
        "cause": None,
    }
    assert replayed(was, NOW) == replace(was, **told, state=DUE, park_kind=None, lane=Lane.BACKFILL)


SENT = Running(SyncMethod.CREATE, sent_at=NOW)
ADDED, MAYBE, OTHER = Fingerprint(0, 3, b"a"), Fingerprint(1, 4, b"b"), Fingerprint(0, 5, b"c")


@pytest.mark.parametrize(
    ("before", "objects", "left"),
    [
        ({}, [], {}),
        ({}, ["contact"], {"contact": SyncProgress(Forgotten())}),
        ({"contact": SyncProgress(Located("7"))}, [], {}),
        ({"contact": SyncProgress(SENT, key="x")}, ["contact"], {"contact": SyncProgress(SENT, key="x")}),
        ({"contact": SyncProgress(SENT)}, [], {"contact": SyncProgress(SENT)}),
        (
            {
                "contact": SyncProgress(
                    Located("7"),
                    appended={"note": ADDED, "tags": ADDED},
                    adding={"tags": MAYBE},
                    key="x",
                    elsewhere={"y": {"note": OTHER}},
                )
            },
            ["contact", "call"],
            {
                "contact": SyncProgress(
                    Forgotten(),
                    adding={"note": ADDED, "tags": MAYBE},
                    key="x",
                    elsewhere={"y": {"note": OTHER}},
                ),
                "call": SyncProgress(Forgotten()),
            },
        ),
    ],
    ids=["nothing", "sent before", "not sent before", "in doubt", "in doubt and never sent", "added to"],
)
def test_forced_replay_keeps_only_doubts_and_appended_texts(
    before: dict[str, SyncProgress], objects: list[str], left: dict[str, SyncProgress]
) -> None:
    assert forgotten_progress(before, objects) == left


# -- lanes and counts --------------------------------------------------------------
@pytest.mark.parametrize("state", DeliveryState)
@pytest.mark.parametrize("lane", Lane)
def test_overdue_delivery_leaves_the_live_lane(state: DeliveryState, lane: Lane) -> None:
    was = one(state, lane=lane)
    assert is_overdue(was, OWED + HOUR) == (state is DUE and lane is Lane.LIVE)
    assert not is_overdue(was, OWED)
    assert not is_overdue(replace(was, owed_at=None), NOW)


@pytest.mark.parametrize(
    ("state", "under"),
    [
        (None, Heading.UNDER_WAY),
        (DUE, Heading.UNDER_WAY),
        (LEASED, Heading.UNDER_WAY),
        (DELIVERED, Heading.DELIVERED),
        (SKIPPED, Heading.SKIPPED),
        (PARKED, Heading.PARKED),
    ],
)
def test_a_call_counts_under_one_heading(state: DeliveryState | None, under: Heading) -> None:
    assert heading(state, unjudged=False) is under
    assert heading(state, unjudged=True) is Heading.UNDER_WAY
