"""What every ledger promises to those who operate it: failures, persons' words, replays, accounts."""

from datetime import timedelta
from typing import Any

import pytest

from bridge.ledger import EndedAttempt, Ledger, PlannedDelivery, ProgressNote, Window
from bridge.ledger.operators import HeldDeliveries
from bridge.model.call_order import event_text
from bridge.model.crm_objects import FieldWrite, Fingerprint, KnownObject
from bridge.model.deliveries import DeliveryState, Lane, ParkKind, Settlement
from bridge.model.sync_progress import Forgotten, Running, SyncMethod, SyncProgress
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    SOURCES,
    balance,
    delivery,
    leased,
    news,
    settle,
)
from tests.ledger.contract.arrangements import id_of, left_by, planned

DELIVERED = Settlement(DeliveryState.DELIVERED)
LONG = "object contact: answered 422 too_long grade"


def parked(cause: str, remedy: str = "") -> Settlement:
    return Settlement(DeliveryState.PARKED, f"why {cause}", cause, remedy=remedy)


class OperatorContract:
    """Causes, retry, park, skip, demote, pages of calls, replay, budgets."""

    # -- failures by cause -----------------------------------------------------------
    def test_failures_are_grouped_by_cause_with_remedy_and_start(self, ledger: Ledger) -> None:
        for number, at in enumerate((NOW, NOW + MINUTE)):
            news(ledger, f"a{number}", NOW)
            settle(ledger, leased(ledger), parked(LONG, "shorten it"), at, at)
        news(ledger, "b", NOW)
        again = Settlement(DeliveryState.DUE, "why", "down", NOW + 9 * MINUTE, remedy="wait")
        settle(ledger, leased(ledger), again, NOW, NOW)
        (group,) = ledger.counts().parked
        assert (group.destination, group.cause, group.count) == ("crm", LONG, 2)
        assert (group.remedy, group.since_at, group.example_call) == ("shorten it", NOW, "a0")
        (again_group,) = ledger.counts().retrying
        assert (again_group.cause, again_group.remedy, again_group.next_at) == (
            "down",
            "wait",
            NOW + 9 * MINUTE,
        )
        assert [row.key for row in ledger.list_deliveries(None, None, 9, "TOO_LONG")] == ["a1", "a0"]
        assert ledger.list_deliveries(None, None, 9, "nothing") == []

    def test_start_of_a_failure_group_is_reset_once_it_was_empty(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a", NOW)
        settle(ledger, leased(ledger), parked(LONG), NOW, NOW)
        assert ledger.retry([id_of(ledger, call_id)], NOW) == 1
        assert ledger.counts().parked == []
        later = NOW + timedelta(hours=1)
        settle(ledger, leased(ledger), parked(LONG), later, later)
        assert ledger.counts().parked[0].since_at == later

    def test_retry_by_cause_selects_only_that_cause(self, ledger: Ledger) -> None:
        causes = {"a": LONG, "b": "another cause", "c": LONG}
        for key, cause in causes.items():
            news(ledger, key)
            settle(ledger, leased(ledger), parked(cause), NOW, NOW)
        news(ledger, "waits")
        waits = Settlement(DeliveryState.DUE, "why", LONG, NOW + timedelta(days=1))
        settle(ledger, leased(ledger), waits, NOW, NOW)
        assert ledger.retriable(cause="too_long", destination="elsewhere") == []
        groups = {(one.state, one.cause): one.count for one in ledger.retriable(cause="too_long")}
        assert groups == {("parked", LONG): 2, ("due", LONG): 1}
        assert ledger.retry([], NOW, cause="too_long", destination="crm") == 3
        assert ledger.retry([], NOW, cause="too_long") == 0
        assert {leased(ledger).key for _ in range(3)} == {"a", "c", "waits"}
        assert balance(ledger) == {"ledger": 4, "parked": 1, "under_way": 3}

    def test_retry_covers_more_than_one_commit_can_take(self, ledger: Ledger) -> None:
        for number in range(1100):
            news(ledger, f"call {number}")
        leases = ledger.lease(["crm"], SOURCES, NOW, 2000)
        ledger.settle([EndedAttempt(lease, parked(LONG), NOW) for lease in leases], NOW)
        assert ledger.counts().attempts == {"crm": {"parked": 1100}}
        assert ledger.retry([], NOW) == 1100
        assert ledger.counts().owed["crm"].lanes == {"live": 0, "retry": 1100, "backfill": 0}

    @pytest.mark.parametrize(
        ("kind", "taken"),
        [(ParkKind.FAILED, 1), (ParkKind.GONE, 1), (ParkKind.HELD, 0), (ParkKind.IN_DOUBT, 0)],
    )
    def test_retry_of_all_leaves_in_doubt_and_held_deliveries(
        self, ledger: Ledger, kind: ParkKind, taken: int
    ) -> None:
        call_id = news(ledger, "a")
        settlement = Settlement(DeliveryState.PARKED, "why", LONG, park_kind=kind)
        settle(ledger, leased(ledger), settlement, NOW, NOW)
        doubtful = int(kind is ParkKind.IN_DOUBT)
        assert ledger.parked_in_doubt() == ledger.parked_in_doubt("crm") == doubtful
        assert ledger.parked_in_doubt("other") == 0
        assert ledger.retry([], NOW) == taken
        assert ledger.retry([id_of(ledger, call_id)], NOW) == 1
        assert ledger.parked_in_doubt() == 0

    # -- what a person says ----------------------------------------------------------
    def test_operators_skip_outlasts_revisions_until_retry(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        found = id_of(ledger, call_id)
        assert ledger.hold([found, 99], "no customer", NOW, skip=True) == HeldDeliveries(
            now=[found], later=[]
        )
        news(ledger, "a", NOW + MINUTE, name="李")
        row = delivery(ledger, call_id)
        assert (row.state, row.wanted, row.due_at) == ("skipped", 2, None)
        assert row.reason == "skipped by a person: no customer"
        assert ledger.lease(["crm"], SOURCES, NOW + MINUTE, 1) == []
        assert ledger.hold([found], "", NOW, skip=True) == HeldDeliveries(now=[], later=[])
        assert ledger.retry([], NOW) == 0
        assert ledger.retry([found], NOW) == 1
        assert leased(ledger, NOW + MINUTE).revision == 2
        news(ledger, "a", NOW + 2 * MINUTE, name="王")
        settle(ledger, leased_again(ledger, found), DELIVERED, NOW, NOW)

    def test_delivered_call_can_be_skipped_from_then_on(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        settle(ledger, leased(ledger), DELIVERED, NOW, NOW)
        ledger.hold([id_of(ledger, call_id)], "", NOW, skip=True)
        news(ledger, "a", NOW + MINUTE, name="李")
        assert balance(ledger) == {"ledger": 1, "skipped": 1}
        assert delivery(ledger, call_id).delivered == 1

    def test_revision_makes_a_delivery_parked_by_an_operator_due(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        found = id_of(ledger, call_id)
        assert ledger.hold([found], "ask", NOW, skip=False) == HeldDeliveries(now=[found], later=[])
        row = delivery(ledger, call_id)
        assert (row.state, row.reason) == ("parked", "parked by a person: ask")
        assert ledger.counts().parked[0].cause == "parked by a person"
        assert ledger.lease(["crm"], SOURCES, NOW, 1) == []
        news(ledger, "a", NOW + MINUTE, name="李")
        assert leased(ledger, NOW + MINUTE).revision == 2

    def test_delivered_call_cannot_be_parked(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        settle(ledger, leased(ledger), DELIVERED, NOW, NOW)
        assert ledger.hold([id_of(ledger, call_id)], "", NOW, skip=False) == HeldDeliveries(now=[], later=[])

    @pytest.mark.parametrize("skip", [True, False], ids=["skip", "park"])
    @pytest.mark.parametrize("end", ["failed", "given back", "died"])
    def test_hold_during_a_lease_takes_effect_when_it_ends(
        self, ledger: Ledger, skip: bool, end: str
    ) -> None:
        call_id = news(ledger, "a")
        lease = leased(ledger)
        held = ledger.hold([lease.delivery_id], "no", NOW, skip=skip)
        assert held == HeldDeliveries(now=[], later=[lease.delivery_id])
        assert delivery(ledger, call_id).state == "leased"
        if end == "failed":
            again = Settlement(DeliveryState.DUE, "HTTP 503", "HTTP 503", NOW + MINUTE)
            settle(ledger, lease, again, NOW, NOW)
        elif end == "given back":
            ledger.give_back([(lease, NOW)])
        else:
            ledger.release_leases()
        row = delivery(ledger, call_id)
        word = "skipped" if skip else "parked"
        assert (row.state, row.due_at, row.reason) == (word, None, f"{word} by a person: no")
        assert ledger.lease(["crm"], SOURCES, NOW + timedelta(days=1), 1) == []
        news(ledger, "a", NOW + MINUTE, name="李")
        assert balance(ledger) == {"ledger": 1, "skipped" if skip else "under_way": 1}

    @pytest.mark.parametrize("skip", [True, False], ids=["skip", "park"])
    @pytest.mark.parametrize("end", ["waits", "failed", "given back", "died"])
    def test_hold_of_a_delivery_in_doubt_takes_effect_once_settled(
        self, ledger: Ledger, skip: bool, end: str
    ) -> None:
        call_id = news(ledger, "a")
        keys = (("hub", "contact", "x"),)
        doubt = {"contact": SyncProgress(Running(SyncMethod.CREATE, sent_at=NOW))}
        waits = Settlement(
            DeliveryState.DUE, "lost", "lost", NOW + MINUTE, account="hub", progress=doubt, held_keys=keys
        )
        lease = leased(ledger)
        ledger.note([ProgressNote(lease, "hub", doubt, keys)])
        if end == "waits":
            settle(ledger, lease, waits, NOW, NOW)
        held = ledger.hold([lease.delivery_id], "no", NOW, skip=skip)
        assert held == HeldDeliveries(now=[], later=[lease.delivery_id])
        if end == "failed":
            settle(ledger, lease, waits, NOW, NOW)
        elif end == "given back":
            assert ledger.give_back([(lease, NOW + MINUTE)]) == {lease.delivery_id}
        elif end == "died":
            ledger.release_leases()
        word = "skipped" if skip else "parked"
        row = delivery(ledger, call_id)
        assert (row.state, row.reason) == ("due", f"{word} by a person: no")
        assert ledger.in_doubt() == {lease.delivery_id: list(keys)}
        assert balance(ledger) == {"ledger": 1, "under_way": 1}
        again = leased(ledger, NOW + MINUTE)
        assert again.held
        settle(ledger, again, Settlement(DeliveryState.DUE, due_at=NOW), NOW, NOW)
        row = delivery(ledger, call_id)
        assert (row.state, row.due_at, row.reason) == (word, None, f"{word} by a person: no")

    def test_held_delivery_that_arrives_counts_as_delivered(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        lease = leased(ledger)
        ledger.hold([lease.delivery_id], "no", NOW, skip=False)
        settle(ledger, lease, DELIVERED, NOW, NOW)
        assert delivery(ledger, call_id).state == "delivered"
        news(ledger, "a", NOW + MINUTE, name="李")
        assert leased(ledger, NOW + MINUTE).revision == 2

    # -- walking, and delivering again --------------------------------------------------
    def test_sweep_pages_through_a_window_once(self, ledger: Ledger) -> None:
        for minutes in (4, 0, 2, 1, 3):
            news(ledger, f"call {minutes}", NOW + minutes * MINUTE, n=minutes)
        window = Window(NOW + MINUTE, NOW + 4 * MINUTE)
        first = ledger.page_of_calls("crm", "main", window, None, 2)
        rest = ledger.page_of_calls("crm", "main", window, first[-1].cursor, 2)
        assert [one.key for one in (*first, *rest)] == ["call 1", "call 2", "call 3"]
        assert (first[0].values, first[0].state, first[0].sent) == ({"uuid": "call 1", "n": 1}, "due", {})
        (one,) = ledger.page_of_calls("nowhere", "main", Window(NOW, NOW + MINUTE), None, 9)
        assert (one.key, one.delivery_id, one.state) == ("call 0", None, None)
        assert ledger.page_of_calls("crm", "branch", Window(), None, 9) == []

    def test_sweep_returns_what_was_sent(self, ledger: Ledger) -> None:
        left_by(ledger, "a", {"contact": ("+86139", True, b"1"), "call": ("a", False, b"2")})
        left_by(ledger, "b", {"contact": ("+86139", True, b"3")})
        first, second = ledger.page_of_calls("crm", "main", Window(), None, 9)
        assert {name: (told.key, told.digest) for name, told in first.sent.items()} == {
            "contact": ("+86139", b"1"),
            "call": ("a", b"2"),
        }
        assert second.sent["contact"].digest == b"3"

    def test_replay_makes_settled_deliveries_due_in_the_last_lane(self, ledger: Ledger) -> None:
        ids = {}
        for key, settlement in {
            "done": DELIVERED,
            "left": Settlement(DeliveryState.SKIPPED, "answered"),
            "bad": parked(LONG),
            "person": DELIVERED,
        }.items():
            ids[key] = id_of(ledger, news(ledger, key))
            settle(ledger, leased(ledger), settlement, NOW, NOW)
        ledger.hold([ids["person"]], "", NOW, skip=True)
        assert ledger.replay(list(ids.values()), "hub", NOW + MINUTE, forget=False) == 2
        again = [leased(ledger, NOW + MINUTE) for _ in range(2)]
        assert {lease.key for lease in again} == {"done", "left"}
        assert {lease.lane for lease in again} == {Lane.BACKFILL}
        assert ledger.replay(list(ids.values()), "hub", NOW, forget=False) == 0
        assert balance(ledger) == {"ledger": 4, "skipped": 1, "parked": 1, "under_way": 2}

    def test_forget_keeps_only_which_call_wrote_which_field(self, ledger: Ledger) -> None:
        found = left_by(ledger, "a", {"contact": ("+86139", True, b"1"), "call": ("a", False, b"2")})
        ledger.replay([found], "hub", NOW, forget=True)
        lease = leased(ledger)
        added = {"note": Fingerprint(0, 4, b"told")}
        assert dict(lease.progress) == {
            "contact": SyncProgress(Forgotten(), adding=added),
            "call": SyncProgress(Forgotten()),
        }
        assert set(lease.previous) == {("contact", "+86139"), ("call", "a")}
        plan = [planned("contact", "+86139"), planned("call", "a", shared=False)]
        (known,) = ledger.recall("hub", [PlannedDelivery(lease.delivery_id, lease.key, plan)])
        assert known["contact"] == KnownObject(
            "", last_writes={"name": FieldWrite(event_text(NOW, "a"), b"")}
        )
        assert known["call"].crm_id == ""


def leased_again(ledger: Ledger, delivery_id: int) -> Any:
    """The lease that is out, as it would be settled."""
    ledger.release_leases()
    lease = leased(ledger, NOW + 2 * MINUTE)
    assert lease.delivery_id == delivery_id
    return lease
