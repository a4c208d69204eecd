"""What every ledger promises to delivery workers; see `suite`."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from bridge.ledger import EndedAttempt, Ledger, PlannedDelivery
from bridge.lib.documents import document_of
from bridge.model.crm_objects import FieldWrite, KnownObject, SyncedObject
from bridge.model.deliveries import DeliveryState, Lane, Settlement
from bridge.model.field_digests import digest_of, short_of, with_altered
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    SOURCES,
    TO_CRM,
    arrival,
    balance,
    delivery,
    filed_all,
    judge_all,
    judgment,
    leased,
    news,
    settle,
    uuid,
)
from tests.ledger.contract.arrangements import BOTH, left_by, planned, reopened
from tests.ledger.contract.place import LedgerPlace

DELIVERED = Settlement(DeliveryState.DELIVERED)
DAY = timedelta(days=1)
CONTACT = SyncedObject("contact", "contacts", "+8615899770637", KnownObject("51", b"told"), shared=False)


class DeliveryContract:
    """Leasing, settling, the leases of the dead, destinations."""

    # -- leasing -------------------------------------------------------------------
    def test_a_lease_carries_the_newest_state(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a", name="张")
        news(ledger, "a", NOW + MINUTE, name="李")
        lease = leased(ledger, NOW + MINUTE)
        assert (lease.call_id, lease.key, lease.source, lease.destination) == (call_id, "a", "main", "crm")
        assert (lease.revision, lease.attempt, lease.owed_at) == (2, 1, NOW + MINUTE)
        assert lease.values == {"uuid": "a", "name": "李"}
        row = delivery(ledger, call_id)
        assert (row.id, row.state, row.tries) == (lease.delivery_id, "leased", 1)
        assert balance(ledger) == {"ledger": 1, "under_way": 1}
        assert ledger.lease(["crm"], SOURCES, NOW + timedelta(days=1), 1) == []

    def test_longest_due_delivery_is_leased_first(self, ledger: Ledger) -> None:
        for minutes in (3, 1, 2):
            news(ledger, f"call-{minutes}", NOW + minutes * MINUTE)
        assert ledger.lease(["crm"], SOURCES, NOW, 1) == []
        assert leased(ledger, NOW + MINUTE).key == "call-1"
        assert ledger.lease(["crm"], SOURCES, NOW + MINUTE, 1) == []
        later = NOW + timedelta(hours=1)
        assert [leased(ledger, later).key for _ in range(2)] == ["call-2", "call-3"]

    def test_only_the_destinations_asked_for_are_leased(self, ledger: Ledger) -> None:
        news(ledger, "a", NOW, BOTH)
        assert ledger.lease([], SOURCES, NOW, 1) == []
        assert ledger.lease(["elsewhere"], SOURCES, NOW, 1) == []
        assert leased(ledger, NOW, ["other"]).destination == "other"
        assert ledger.lease(["other"], SOURCES, NOW, 1) == []
        assert leased(ledger, NOW, ["elsewhere", "crm"]).destination == "crm"

    def test_no_two_workers_hold_one_delivery(self, ledger: Ledger) -> None:
        filed_all(ledger, [arrival(uuid(number)) for number in range(120)])
        ledger.judge([judgment(pending) for pending in ledger.waiting(200)], TO_CRM, NOW)
        start, taken = threading.Barrier(6), list[int]()

        def work() -> None:
            start.wait(5)
            while leases := ledger.lease(["crm"], SOURCES, NOW, 3):
                taken.extend(lease.delivery_id for lease in leases)
                ended = [EndedAttempt(lease, DELIVERED, NOW) for lease in leases if lease.delivery_id % 2]
                ledger.settle(ended, NOW)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(taken) == len(set(taken)) == 120
        assert balance(ledger) == {"ledger": 120, "delivered": 60, "under_way": 60}

    # -- settling ------------------------------------------------------------------
    @pytest.mark.parametrize(
        ("settlement", "row", "counted"),
        [
            (DELIVERED, {"state": "delivered", "delivered": 1, "reason": None, "cause": None}, "delivered"),
            (
                Settlement(DeliveryState.SKIPPED, "answered"),
                {"state": "skipped", "delivered": None, "reason": "answered", "cause": None},
                "skipped",
            ),
            (
                Settlement(DeliveryState.PARKED, "phone: too long", "HTTP 400"),
                {"state": "parked", "delivered": None, "reason": "phone: too long", "cause": "HTTP 400"},
                "parked",
            ),
            (
                Settlement(DeliveryState.DUE, "HTTP 503", "HTTP 503", NOW + 5 * MINUTE),
                {"state": "due", "delivered": None, "reason": "HTTP 503", "due_at": NOW + 5 * MINUTE},
                "under_way",
            ),
        ],
        ids=lambda value: value.state.value if isinstance(value, Settlement) else "",
    )
    def test_settled_attempt_is_recorded(
        self, ledger: Ledger, settlement: Settlement, row: dict[str, Any], counted: str
    ) -> None:
        call_id = news(ledger, "a")
        settle(ledger, leased(ledger), settlement, NOW, NOW + MINUTE)
        found = delivery(ledger, call_id)
        assert {name: getattr(found, name) for name in row} == row
        assert found.changed_at == NOW + MINUTE
        (attempt,) = ledger.show_call(call_id).attempts
        assert (attempt.revision, attempt.outcome) == (1, settlement.state)
        assert (attempt.started_at, attempt.ended_at) == (NOW, NOW + MINUTE)
        assert (attempt.detail, attempt.destination) == (settlement.reason or None, "crm")
        assert balance(ledger) == {"ledger": 1, counted: 1}

    def test_retried_delivery_waits_until_due_and_counts_its_attempts(self, ledger: Ledger) -> None:
        news(ledger, "a")
        again = Settlement(DeliveryState.DUE, "HTTP 503", due_at=NOW + 5 * MINUTE)
        settle(ledger, leased(ledger), again, NOW, NOW)
        assert ledger.lease(["crm"], SOURCES, NOW + 4 * MINUTE, 1) == []
        lease = leased(ledger, NOW + 5 * MINUTE)
        assert (lease.attempt, lease.revision, lease.owed_at) == (2, 1, NOW)

    def test_delivery_delayed_by_limits_counts_no_attempt(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        for _ in range(2):
            given = Settlement(DeliveryState.DUE, "no room", "no room", NOW + MINUTE, unsent=True)
            settle(ledger, leased(ledger, NOW + MINUTE), given, NOW, NOW)
        lease = leased(ledger, NOW + MINUTE)
        assert (lease.attempt, lease.lane) == (1, Lane.LIVE)
        assert ledger.show_call(call_id).attempts == []
        assert ledger.counts().attempts == {}

    def test_a_lease_is_settled_once(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        lease = leased(ledger)
        settle(ledger, lease, DELIVERED, NOW, NOW)
        settle(ledger, lease, Settlement(DeliveryState.PARKED, "late"), NOW, NOW)
        assert delivery(ledger, call_id).state == "delivered"
        assert len(ledger.show_call(call_id).attempts) == 1

    def test_shown_crm_objects_are_those_sent_last(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        sent = Settlement(DeliveryState.DUE, "half", due_at=NOW, done=(CONTACT,))
        settle(ledger, leased(ledger), sent, NOW, NOW)
        merged = SyncedObject("contact", "contacts", CONTACT.key, KnownObject("52", b"told"), shared=False)
        call = SyncedObject("call", "calls", "a", KnownObject("9", b"told"), shared=False)
        done = Settlement(DeliveryState.DELIVERED, done=(merged, call))
        settle(ledger, leased(ledger), done, NOW, NOW)
        assert document_of(ledger.show_call(call_id).crm_objects) == [
            {
                "destination": "crm",
                "object": "call",
                "type": "calls",
                "key": "a",
                "crm_id": "9",
                "altered": {},
            },
            {
                "destination": "crm",
                "object": "contact",
                "type": "contacts",
                "key": CONTACT.key,
                "crm_id": "52",
                "altered": {},
            },
        ]

    def test_altered_fields_are_counted_and_shown(self, ledger: Ledger) -> None:
        last_writes = {
            "name": FieldWrite("1 a", with_altered(digest_of("a long text"), "a long", "s")),
            "city": FieldWrite("1 a", b"x" * 8),
        }
        own = {"note": FieldWrite("", with_altered(short_of("👍"), "?", "c"))}
        ids = []
        for number, shared in enumerate((True, False)):
            left = KnownObject("7", b"told", {}, last_writes if shared else own)
            kinds = {"name": "shortened"} if shared else {"note": "characters"}
            done = SyncedObject("contact", "contacts", "+86", left, shared=shared, altered=kinds)
            for name in ("a", "b"):
                ids.append(news(ledger, f"{name}{number}"))
                settled = Settlement(DeliveryState.DELIVERED, account="hub", done=(done,))
                settle(ledger, leased(ledger), settled, NOW, NOW + number * MINUTE)
        told = ledger.counts().altered
        assert [(one.object, one.field, one.kind, one.count) for one in told] == [
            ("contact", "note", "characters", 2),
            ("contact", "name", "shortened", 2),
        ]
        assert {one.destination for one in told} == {"crm"}
        # What has not happened for a week is mended.
        later = NOW + 7 * DAY
        news(ledger, "c")
        settle(ledger, leased(ledger), DELIVERED, later, later)
        assert [one.field for one in ledger.counts().altered] == ["note", "name"]
        news(ledger, "d")
        settle(ledger, leased(ledger), DELIVERED, later + MINUTE / 2, later + MINUTE / 2)
        assert [one.field for one in ledger.counts().altered] == ["note"]
        assert all(one.last_at for one in told)
        shown = [ledger.show_call(each).crm_objects[0].altered for each in ids]
        assert shown == [{"name": "shortened"}] * 2 + [{"note": "characters"}] * 2

    @pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.PARKED])
    def test_a_revision_during_a_lease_makes_it_due_again(self, ledger: Ledger, state: DeliveryState) -> None:
        call_id = news(ledger, "a", name="张")
        lease = leased(ledger)
        news(ledger, "a", NOW + MINUTE, name="李")
        assert (delivery(ledger, call_id).state, delivery(ledger, call_id).wanted) == ("leased", 2)
        assert ledger.lease(["crm"], SOURCES, NOW + MINUTE, 1) == []
        settle(ledger, lease, Settlement(state, "why", "cause"), NOW, NOW + 2 * MINUTE)
        row = delivery(ledger, call_id)
        assert (row.state, row.reason, row.cause) == ("due", None, None)
        assert row.delivered == (1 if state is DeliveryState.DELIVERED else None)
        assert balance(ledger) == {"ledger": 1, "under_way": 1}
        again = leased(ledger, NOW + 2 * MINUTE)
        assert (again.revision, again.attempt, again.values["name"]) == (2, 1, "李")
        assert again.owed_at == NOW + MINUTE

    @pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.PARKED])
    def test_a_revision_makes_a_settled_delivery_due_again(
        self, ledger: Ledger, state: DeliveryState
    ) -> None:
        call_id = news(ledger, "a")
        settle(ledger, leased(ledger), Settlement(state, "why", "cause"), NOW, NOW)
        news(ledger, "a", NOW + MINUTE, name="李")
        row = delivery(ledger, call_id)
        assert (row.state, row.wanted, row.tries, row.reason) == ("due", 2, 0, None)
        assert leased(ledger, NOW + MINUTE).revision == 2

    # -- the dead, and the parked --------------------------------------------------
    def test_leases_of_a_dead_daemon_are_due_again(self, ledger: Ledger, place: LedgerPlace) -> None:
        for name in ("a", "b", "c"):
            news(ledger, name)
        settle(ledger, leased(ledger), DELIVERED, NOW, NOW)
        held = {leased(ledger).key, leased(ledger).key}
        again = reopened(ledger, place)
        assert again.lease(["crm"], SOURCES, NOW + MINUTE, 1) == []
        assert again.release_leases() == 2
        assert again.release_leases() == 0
        assert balance(again) == {"ledger": 3, "delivered": 1, "under_way": 2}
        leases = [leased(again, NOW + MINUTE) for _ in range(2)]
        assert {lease.key for lease in leases} == held
        assert {lease.attempt for lease in leases} == {2}
        again.close()

    def test_retry_makes_parked_and_waiting_deliveries_due(self, ledger: Ledger) -> None:
        settled = {
            "done": DELIVERED,
            "left": Settlement(DeliveryState.SKIPPED, "answered"),
            "bad": Settlement(DeliveryState.PARKED, "HTTP 400"),
            "worse": Settlement(DeliveryState.PARKED, "HTTP 422"),
            "later": Settlement(DeliveryState.DUE, "HTTP 503", due_at=NOW + timedelta(days=1)),
        }
        calls = {}
        for name, settlement in settled.items():
            calls[name] = news(ledger, name)
            settle(ledger, leased(ledger), settlement, NOW, NOW)
        calls["held"] = news(ledger, "held")
        leased(ledger)
        ids = {name: delivery(ledger, call_id).id for name, call_id in calls.items()}

        assert ledger.retry([ids["later"], ids["bad"]], NOW + MINUTE) == 2
        assert ledger.retry([ids["done"], ids["left"], ids["held"], 999], NOW + MINUTE) == 0
        assert {leased(ledger, NOW + MINUTE).key for _ in range(2)} == {"bad", "later"}
        assert ledger.retry([], NOW + MINUTE) == 1
        lease = leased(ledger, NOW + MINUTE)
        assert (lease.key, lease.attempt, lease.owed_at) == ("worse", 1, NOW + MINUTE)
        assert balance(ledger) == {"ledger": 6, "delivered": 1, "skipped": 1, "under_way": 4}

    # -- destinations --------------------------------------------------------------
    def test_new_destination_skips_older_calls(self, ledger: Ledger) -> None:
        ledger.start_destinations(TO_CRM, NOW)
        assert ledger.skipped_before() == {}
        old = news(ledger, "old")
        ledger.start_destinations(BOTH, NOW + MINUTE)
        assert ledger.skipped_before() == {"other": NOW + MINUTE}
        row = delivery(ledger, old, "other")
        assert (row.state, row.reason) == ("skipped", "before this destination")
        assert balance(ledger, "other") == {"ledger": 1, "skipped": 1}
        assert delivery(ledger, old).state == "due"

        new = news(ledger, "new", NOW + 2 * MINUTE, BOTH)
        ledger.start_destinations(BOTH, NOW + 3 * MINUTE)
        assert ledger.skipped_before() == {"other": NOW + MINUTE}
        assert delivery(ledger, new, "other").state == "due"
        assert balance(ledger, "other") == {"ledger": 2, "skipped": 1, "under_way": 1}
        assert set(ledger.counts().deliveries) == {"crm", "other"}

    # -- whose key it is -------------------------------------------------------------
    def test_key_claims_name_the_first_call_of_a_key(self, ledger: Ledger) -> None:
        routes = {"main": ("crm",), "branch": ("crm", "other")}
        for source in ("main", "branch"):
            filed_all(ledger, [arrival("a", source=source), arrival(f"only {source}", source=source)])
            judge_all(ledger, NOW, routes)
        ids = {(row.source, row.key): row.id for row in ledger.list_calls([], 9)}
        found = ledger.key_claims(list(ids.values()), ["crm"])
        assert list(found) == [ids["branch", "a"]]
        (claim,) = found[ids["branch", "a"]]
        assert (claim.call.source, claim.holder.source, claim.holder.key) == ("branch", "main", "a")
        assert claim.holder.created_at == NOW
        # At another account nobody came before it.
        assert ledger.key_claims([ids["branch", "a"]], ["other"]) == {}

    def test_bulk_recall_equals_single_recalls(self, ledger: Ledger) -> None:
        first = left_by(ledger, "a", {"contact": ("+86139", True, b"1"), "call": ("a", False, b"2")})
        second = left_by(ledger, "b", {"call": ("b", False, b"3")})
        wanted = [
            PlannedDelivery(first, "a", [planned("contact", "+86139"), planned("call", "a", shared=False)]),
            PlannedDelivery(second, "b", [planned("contact", "+86139"), planned("call", "b", shared=False)]),
            PlannedDelivery(
                second, "b", [planned("contact", "another"), planned("call", "another", shared=False)]
            ),
            PlannedDelivery(77, "c", []),
        ]
        found = [
            {name: each.digest for name, each in known.items()} for known in ledger.recall("hub", wanted)
        ]
        assert found == [{"contact": b"1", "call": b"2"}, {"contact": b"1", "call": b"3"}, {}, {}]
        assert ledger.recall("elsewhere", wanted[:1])[0].keys() == {"call"}
