"""What every ledger promises of leases in bulk: taken, noted, given back and settled many at once."""

from datetime import datetime

import pytest

from bridge.ledger import EndedAttempt, Ledger, ProgressNote
from bridge.model.calls import Via
from bridge.model.crm_objects import KnownObject, SyncedObject
from bridge.model.deliveries import DeliveryState, Lane, Lease, Settlement
from bridge.model.sync_progress import Running, SyncMethod, SyncProgress
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    SOURCES,
    arrival,
    balance,
    delivery,
    filed_all,
    judge_all,
    news,
)
from tests.ledger.contract.arrangements import BOTH
from tests.ledger.contract.place import LedgerPlace

LATER = NOW + 60 * MINUTE
TWO = ["other", "crm"]


def backfilled(ledger: Ledger, key: str, at: datetime) -> None:
    """A call that the list told of first, which goes to two destinations."""
    filed_all(ledger, [arrival(key, at=at, via=Via.LIST)])
    judge_all(ledger, at, BOTH)


def told(leases: list[Lease]) -> list[tuple[str, str]]:
    return [(lease.key, lease.destination) for lease in leases]


class LeaseContract:
    """Leases in bulk."""

    # -- taking ----------------------------------------------------------------------
    def test_leases_go_by_lane_then_by_time_over_all_destinations(self, ledger: Ledger) -> None:
        backfilled(ledger, "old", NOW)
        for key, minute, destinations in (
            ("third", 3, BOTH),
            ("first", 1, {"main": ("crm",)}),
            ("second", 2, {"main": ("other",)}),
        ):
            news(ledger, key, NOW + minute * MINUTE, destinations)
        leases = ledger.lease(TWO, SOURCES, LATER, 4)
        assert told(leases[:2]) == [("first", "crm"), ("second", "other")]
        assert sorted(told(leases[2:])) == [("third", "crm"), ("third", "other")]
        assert sorted(told(ledger.lease(TWO, SOURCES, LATER, 4))) == [("old", "crm"), ("old", "other")]
        assert ledger.lease(TWO, SOURCES, LATER, 4) == []

    def test_no_more_are_leased_than_asked_for(self, ledger: Ledger) -> None:
        for minute in range(5):
            news(ledger, str(minute), NOW + minute * MINUTE, BOTH)
        taken = [lease.key for _ in range(4) for lease in ledger.lease(TWO, SOURCES, LATER, 3)]
        assert taken == ["0", "0", "1", "1", "2", "2", "3", "3", "4", "4"]

    def test_nothing_is_leased_where_nothing_is_asked_for(self, ledger: Ledger) -> None:
        news(ledger, "a")
        assert ledger.lease(TWO, SOURCES, LATER, 0) == ledger.lease([], SOURCES, LATER, 9) == []
        assert [lease.key for lease in ledger.lease(TWO, SOURCES, LATER, 9)] == ["a"]

    def test_lane_takes_only_its_own_deliveries(self, ledger: Ledger) -> None:
        backfilled(ledger, "old", NOW)
        assert ledger.lease(TWO, SOURCES, LATER, 9, lane=Lane.LIVE) == []
        news(ledger, "live", NOW + MINUTE)
        (lease,) = ledger.lease(TWO, SOURCES, LATER, 9, lane=Lane.LIVE)
        assert (lease.key, lease.lane) == ("live", Lane.LIVE)
        assert ledger.lease(TWO, SOURCES, LATER, 9, lane=Lane.RETRY) == []
        assert {lease.lane for lease in ledger.lease(TWO, SOURCES, LATER, 9, lane=Lane.BACKFILL)} == {
            Lane.BACKFILL
        }

    def test_only_the_sources_asked_for_are_leased(self, ledger: Ledger) -> None:
        filed_all(ledger, [arrival("a", source="branch"), arrival("b")])
        judge_all(ledger, NOW, {"main": ("crm",), "branch": ("crm",)})
        assert [lease.key for lease in ledger.lease(["crm"], ["main"], NOW, 9)] == ["b"]
        assert ledger.lease(["crm"], ["main"], NOW, 9) == []
        assert [lease.key for lease in ledger.lease(["crm"], ["branch"], NOW, 9)] == ["a"]

    def test_each_lease_says_which_objects_it_has_fed(self, ledger: Ledger) -> None:
        for key in ("a", "b"):
            news(ledger, key)
        done = SyncedObject("contact", "contacts", "+861", KnownObject("5", b"x"))
        again = Settlement(DeliveryState.DUE, "half", due_at=NOW, account="hub", done=(done,))
        first, second = ledger.lease(["crm"], SOURCES, NOW, 2)
        ledger.settle(
            [
                EndedAttempt(first, again, NOW),
                EndedAttempt(second, Settlement(DeliveryState.DUE, "x", due_at=NOW), NOW),
            ],
            NOW,
        )
        found = {lease.key: lease.previous for lease in ledger.lease(["crm"], SOURCES, NOW, 2)}
        assert found == {first.key: (("contacts", "+861"),), second.key: ()}

    # -- what cannot be read -----------------------------------------------------------
    def test_damaged_delivery_is_parked_and_the_others_are_leased(
        self, ledger: Ledger, place: LedgerPlace
    ) -> None:
        ids = {key: news(ledger, key) for key in ("a", "b", "c")}
        place.damage(ids["b"])
        assert {lease.key for lease in ledger.lease(["crm"], SOURCES, NOW, 3)} == {"a", "c"}
        assert ledger.lease(["crm"], SOURCES, NOW, 3) == []
        assert balance(ledger) == {"ledger": 3, "under_way": 2, "parked": 1}
        (row,) = ledger.list_deliveries("parked", "crm", 9)
        assert (row.key, row.tries) == ("b", 1)
        assert (row.reason or "").startswith("the stored record cannot be read")

    def test_list_of_leases_is_empty_only_where_nothing_readable_is_due(
        self, ledger: Ledger, place: LedgerPlace
    ) -> None:
        for minute in range(3):
            call_id = news(ledger, str(minute), NOW + minute * MINUTE)
            if minute < 2:
                place.damage(call_id)
        assert [lease.key for lease in ledger.lease(["crm"], SOURCES, LATER, 1)] == ["2"]
        assert ledger.lease(["crm"], SOURCES, LATER, 1) == []
        assert balance(ledger) == {"ledger": 3, "under_way": 1, "parked": 2}

    # -- giving back -------------------------------------------------------------------
    def test_given_back_leases_are_due_each_at_its_time(self, ledger: Ledger) -> None:
        ids = {key: news(ledger, key) for key in ("a", "b", "c")}
        leases = ledger.lease(["crm"], SOURCES, NOW, 3)
        at = {lease.delivery_id: NOW + place * MINUTE for place, lease in enumerate(leases)}
        assert ledger.give_back([(lease, at[lease.delivery_id]) for lease in leases]) == set(at)
        for call_id in ids.values():
            row = delivery(ledger, call_id)
            assert (row.state, row.due_at, row.tries) == ("due", at[row.id], 0)
        assert ledger.give_back([]) == set()

    def test_only_deliveries_that_are_due_again_are_named(self, ledger: Ledger) -> None:
        for key in ("settled", "parked", "skipped", "free"):
            news(ledger, key)
        leases = {lease.key: lease for lease in ledger.lease(["crm"], SOURCES, NOW, 4)}
        ledger.settle([EndedAttempt(leases["settled"], Settlement(DeliveryState.DELIVERED), NOW)], NOW)
        ledger.hold([leases["parked"].delivery_id], "no", NOW, skip=False)
        ledger.hold([leases["skipped"].delivery_id], "no", NOW, skip=True)
        given = ledger.give_back([(lease, NOW) for lease in leases.values()])
        assert given == {leases["free"].delivery_id}
        assert balance(ledger) == {"ledger": 4, "delivered": 1, "parked": 1, "skipped": 1, "under_way": 1}

    # -- noting ------------------------------------------------------------------------
    def test_progress_of_many_is_kept_with_one_note(self, ledger: Ledger) -> None:
        for key in ("a", "b", "settled"):
            news(ledger, key)
        leases = {lease.key: lease for lease in ledger.lease(["crm"], SOURCES, NOW, 3)}
        ledger.settle([EndedAttempt(leases["settled"], Settlement(DeliveryState.DELIVERED), NOW)], NOW)
        sent = {"contact": SyncProgress(Running(SyncMethod.CREATE, sent_at=NOW))}
        done = SyncedObject("call", "calls", "x", KnownObject("7", b"y"), shared=False)
        ledger.note(
            [
                ProgressNote(lease, "hub", sent, (("hub", "contact", key),), (done,))
                for key, lease in leases.items()
            ]
        )
        assert ledger.in_doubt() == {leases[key].delivery_id: [("hub", "contact", key)] for key in ("a", "b")}
        ledger.release_leases()
        for lease in ledger.lease(["crm"], SOURCES, LATER, 3):
            assert lease.progress == sent
            assert lease.previous == (("calls", "x"),)

    # -- settling ----------------------------------------------------------------------
    @pytest.mark.parametrize("skip", [True, False], ids=["skip", "park"])
    def test_each_settlement_hears_what_came_meanwhile(self, ledger: Ledger, skip: bool) -> None:
        ids = {key: news(ledger, key) for key in ("plain", "revised", "held", "gone", "failed")}
        leases = {lease.key: lease for lease in ledger.lease(["crm"], SOURCES, NOW, 5)}
        news(ledger, "revised", NOW + MINUTE, name="李")
        ledger.hold([leases["held"].delivery_id], "no", NOW, skip=skip)
        ledger.give_back([(leases["gone"], NOW)])
        ended = {key: Settlement(DeliveryState.DELIVERED) for key in leases}
        ended["held"] = ended["failed"] = Settlement(DeliveryState.DUE, "HTTP 503", "HTTP 503", LATER)
        ledger.settle([EndedAttempt(leases[key], ended[key], NOW) for key in leases], NOW + MINUTE)
        rows = {key: delivery(ledger, call_id) for key, call_id in ids.items()}
        word = "skipped" if skip else "parked"
        assert {key: (row.state, row.delivered, row.tries) for key, row in rows.items()} == {
            "plain": ("delivered", 1, 1),
            "revised": ("due", 1, 0),
            "held": (word, None, 1),
            "gone": ("due", None, 0),
            "failed": ("due", None, 1),
        }
        assert rows["held"].reason == f"{word} by a person: no"
        assert (rows["failed"].due_at, rows["failed"].reason) == (LATER, "HTTP 503")
        assert ledger.counts().attempts == {"crm": {"delivered": 2, "due": 2}}
        assert len(ledger.show_call(ids["gone"]).attempts) == 0

    def test_more_settlements_than_a_statement_takes_are_all_written(self, ledger: Ledger) -> None:
        for number in range(230):
            news(ledger, str(number))
        leases = ledger.lease(["crm"], SOURCES, NOW, 1000)
        assert len(leases) == 230
        done = SyncedObject("contact", "contacts", "+861", KnownObject("5", b"x"))
        delivered = Settlement(DeliveryState.DELIVERED, account="hub", done=(done,))
        ledger.settle([EndedAttempt(lease, delivered, NOW) for lease in leases], NOW)
        assert balance(ledger) == {"ledger": 230, "delivered": 230}
        assert ledger.lease(["crm"], SOURCES, LATER, 1) == []
