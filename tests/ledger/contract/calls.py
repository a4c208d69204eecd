"""What every ledger promises, whatever it is made of: one class, run once for each kind."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.ledger import Ledger, Window
from bridge.lib.iso_times import moment, stamp
from bridge.model.calls import Columns, Quarantined
from bridge.model.crm_state import CrmState, FieldWrite, SyncedObject
from bridge.model.deliveries import DeliveryState, Lane, Settlement
from bridge.model.field_digests import digest_of, short_of, with_altered
from bridge.model.jobs import JobState
from tests.fixtures.ledger_calls import (
    ALWAYS,
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
    stray,
    uuid,
)
from tests.ledger.contract.identity import IdentityContract
from tests.ledger.contract.intake import BOTH, IntakeContract
from tests.ledger.contract.operators import OperatingContract

DELIVERED = Settlement(DeliveryState.DELIVERED)
DAY = timedelta(days=1)
CONTACT = SyncedObject("contact", "contacts", "+8615899770637", CrmState("51", b"told"), shared=False)


class LedgerContract(IntakeContract, IdentityContract, OperatingContract):
    """Delivering, runs and looking; taking in is inherited."""

    def new_ledger(self, folder: Path) -> Ledger:
        """A fresh ledger, or the one that was made in `folder` before."""
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Iterator[Ledger]:
        ledger = self.new_ledger(tmp_path)
        yield ledger
        ledger.close()

    def reopened(self, ledger: Ledger, folder: Path) -> Ledger:
        ledger.close()
        return self.new_ledger(folder)

    # -- leasing -------------------------------------------------------------------
    def test_a_lease_carries_the_newest_state(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a", name="张")
        news(ledger, "a", NOW + MINUTE, name="李")
        lease = leased(ledger, NOW + MINUTE)
        assert (lease.call_id, lease.key, lease.source, lease.destination) == (call_id, "a", "main", "crm")
        assert (lease.revision, lease.attempt, lease.owed_at) == (2, 1, NOW + MINUTE)
        assert lease.values == {"uuid": "a", "name": "李"}
        row = delivery(ledger, call_id)
        assert (row["id"], row["state"], row["tries"]) == (lease.delivery_id, "leased", 1)
        assert balance(ledger) == {"ledger": 1, "under_way": 1}
        assert ledger.lease(["crm"], SOURCES, NOW + timedelta(days=1)) is None

    def test_what_has_been_due_longest_goes_first(self, ledger: Ledger) -> None:
        for minutes in (3, 1, 2):
            news(ledger, f"call-{minutes}", NOW + minutes * MINUTE)
        assert ledger.lease(["crm"], SOURCES, NOW) is None
        assert leased(ledger, NOW + MINUTE).key == "call-1"
        assert ledger.lease(["crm"], SOURCES, NOW + MINUTE) is None
        later = NOW + timedelta(hours=1)
        assert [leased(ledger, later).key for _ in range(2)] == ["call-2", "call-3"]

    def test_only_the_destinations_asked_for_are_leased(self, ledger: Ledger) -> None:
        news(ledger, "a", NOW, BOTH)
        assert ledger.lease([], SOURCES, NOW) is None
        assert ledger.lease(["elsewhere"], SOURCES, NOW) is None
        assert leased(ledger, NOW, ["other"]).destination == "other"
        assert ledger.lease(["other"], SOURCES, NOW) is None
        assert leased(ledger, NOW, ["elsewhere", "crm"]).destination == "crm"

    def test_no_two_workers_hold_one_delivery(self, ledger: Ledger) -> None:
        filed_all(ledger, [arrival(uuid(number)) for number in range(120)])
        ledger.judge([judgment(pending) for pending in ledger.waiting(200)], TO_CRM, NOW)
        start, taken = threading.Barrier(6), list[int]()

        def work() -> None:
            start.wait(5)
            while (lease := ledger.lease(["crm"], SOURCES, NOW)) is not None:
                taken.append(lease.delivery_id)
                if lease.delivery_id % 2:
                    settle(ledger, lease, DELIVERED, NOW, NOW)

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
                {"state": "due", "delivered": None, "reason": "HTTP 503", "due_at": stamp(NOW + 5 * MINUTE)},
                "under_way",
            ),
        ],
        ids=lambda value: value.state.value if isinstance(value, Settlement) else "",
    )
    def test_an_attempt_ends(
        self, ledger: Ledger, settlement: Settlement, row: dict[str, Any], counted: str
    ) -> None:
        call_id = news(ledger, "a")
        settle(ledger, leased(ledger), settlement, NOW, NOW + MINUTE)
        found = delivery(ledger, call_id)
        assert {name: found[name] for name in row} == row
        assert found["changed_at"] == stamp(NOW + MINUTE)
        (attempt,) = ledger.show_call(call_id)["attempts"]
        assert (attempt["revision"], attempt["outcome"]) == (1, settlement.state)
        assert (attempt["started_at"], attempt["ended_at"]) == (stamp(NOW), stamp(NOW + MINUTE))
        assert (attempt["detail"], attempt["destination"]) == (settlement.reason or None, "crm")
        assert balance(ledger) == {"ledger": 1, counted: 1}

    def test_a_retry_waits_for_its_time_and_counts_on(self, ledger: Ledger) -> None:
        news(ledger, "a")
        again = Settlement(DeliveryState.DUE, "HTTP 503", due_at=NOW + 5 * MINUTE)
        settle(ledger, leased(ledger), again, NOW, NOW)
        assert ledger.lease(["crm"], SOURCES, NOW + 4 * MINUTE) is None
        lease = leased(ledger, NOW + 5 * MINUTE)
        assert (lease.attempt, lease.revision, lease.owed_at) == (2, 1, NOW)

    def test_giving_way_to_limits_is_no_attempt(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        for _ in range(2):
            given = Settlement(DeliveryState.DUE, "no room", "no room", NOW + MINUTE, unsent=True)
            settle(ledger, leased(ledger, NOW + MINUTE), given, NOW, NOW)
        lease = leased(ledger, NOW + MINUTE)
        assert (lease.attempt, lease.lane) == (1, Lane.LIVE)
        assert ledger.show_call(call_id)["attempts"] == []
        assert ledger.counts()["attempts"] == {}

    def test_a_lease_is_settled_once(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        lease = leased(ledger)
        settle(ledger, lease, DELIVERED, NOW, NOW)
        settle(ledger, lease, Settlement(DeliveryState.PARKED, "late"), NOW, NOW)
        assert delivery(ledger, call_id)["state"] == "delivered"
        assert len(ledger.show_call(call_id)["attempts"]) == 1

    def test_the_crm_objects_are_those_sent_last(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        sent = Settlement(DeliveryState.DUE, "half", due_at=NOW, done=(CONTACT,))
        settle(ledger, leased(ledger), sent, NOW, NOW)
        merged = SyncedObject("contact", "contacts", CONTACT.key, CrmState("52", b"told"), shared=False)
        call = SyncedObject("call", "calls", "a", CrmState("9", b"told"), shared=False)
        done = Settlement(DeliveryState.DELIVERED, done=(merged, call))
        settle(ledger, leased(ledger), done, NOW, NOW)
        assert ledger.show_call(call_id)["crm_objects"] == [
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

    def test_what_a_crm_made_of_fields_is_counted_and_shown(self, ledger: Ledger) -> None:
        last_writes = {
            "name": FieldWrite("1 a", with_altered(digest_of("a long text"), "a long", "s")),
            "city": FieldWrite("1 a", b"x" * 8),
        }
        own = {"note": FieldWrite("", with_altered(short_of("👍"), "?", "c"))}
        ids = []
        for number, shared in enumerate((True, False)):
            left = CrmState("7", b"told", {}, last_writes if shared else own)
            kinds = {"name": "shortened"} if shared else {"note": "characters"}
            done = SyncedObject("contact", "contacts", "+86", left, shared=shared, altered=kinds)
            for name in ("a", "b"):
                ids.append(news(ledger, f"{name}{number}"))
                settled = Settlement(DeliveryState.DELIVERED, account="hub", done=(done,))
                settle(ledger, leased(ledger), settled, NOW, NOW + number * MINUTE)
        told = ledger.counts()["altered"]
        assert [(one["object"], one["field"], one["kind"], one["count"]) for one in told] == [
            ("contact", "note", "characters", 2),
            ("contact", "name", "shortened", 2),
        ]
        assert {one["destination"] for one in told} == {"crm"}
        # What has not happened for a week is mended.
        later = NOW + 7 * DAY
        news(ledger, "c")
        settle(ledger, leased(ledger), DELIVERED, later, later)
        assert [one["field"] for one in ledger.counts()["altered"]] == ["note", "name"]
        news(ledger, "d")
        settle(ledger, leased(ledger), DELIVERED, later + MINUTE / 2, later + MINUTE / 2)
        assert [one["field"] for one in ledger.counts()["altered"]] == ["note"]
        assert all(one["last_at"] for one in told)
        shown = [ledger.show_call(each)["crm_objects"][0]["altered"] for each in ids]
        assert shown == [{"name": "shortened"}] * 2 + [{"note": "characters"}] * 2

    @pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.PARKED])
    def test_a_revision_during_a_lease_makes_it_due_again(self, ledger: Ledger, state: DeliveryState) -> None:
        call_id = news(ledger, "a", name="张")
        lease = leased(ledger)
        news(ledger, "a", NOW + MINUTE, name="李")
        assert (delivery(ledger, call_id)["state"], delivery(ledger, call_id)["wanted"]) == ("leased", 2)
        assert ledger.lease(["crm"], SOURCES, NOW + MINUTE) is None
        settle(ledger, lease, Settlement(state, "why", "cause"), NOW, NOW + 2 * MINUTE)
        row = delivery(ledger, call_id)
        assert (row["state"], row["reason"], row["cause"]) == ("due", None, None)
        assert row["delivered"] == (1 if state is DeliveryState.DELIVERED else None)
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
        assert (row["state"], row["wanted"], row["tries"], row["reason"]) == ("due", 2, 0, None)
        assert leased(ledger, NOW + MINUTE).revision == 2

    # -- the dead, and the parked --------------------------------------------------
    def test_the_leases_of_a_dead_daemon_are_due_again(self, ledger: Ledger, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            news(ledger, name)
        settle(ledger, leased(ledger), DELIVERED, NOW, NOW)
        held = {leased(ledger).key, leased(ledger).key}
        again = self.reopened(ledger, tmp_path)
        assert again.lease(["crm"], SOURCES, NOW + MINUTE) is None
        assert again.release_leases() == 2
        assert again.release_leases() == 0
        assert balance(again) == {"ledger": 3, "delivered": 1, "under_way": 2}
        leases = [leased(again, NOW + MINUTE) for _ in range(2)]
        assert {lease.key for lease in leases} == held
        assert {lease.attempt for lease in leases} == {2}
        again.close()

    def test_retry_makes_due_what_is_parked_or_waits(self, ledger: Ledger) -> None:
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
        ids = {name: delivery(ledger, call_id)["id"] for name, call_id in calls.items()}

        assert ledger.retry([ids["later"], ids["bad"]], NOW + MINUTE) == 2
        assert ledger.retry([ids["done"], ids["left"], ids["held"], 999], NOW + MINUTE) == 0
        assert {leased(ledger, NOW + MINUTE).key for _ in range(2)} == {"bad", "later"}
        assert ledger.retry([], NOW + MINUTE) == 1
        lease = leased(ledger, NOW + MINUTE)
        assert (lease.key, lease.attempt, lease.owed_at) == ("worse", 1, NOW + MINUTE)
        assert balance(ledger) == {"ledger": 6, "delivered": 1, "skipped": 1, "under_way": 4}

    # -- destinations --------------------------------------------------------------
    def test_a_later_destination_skips_the_calls_before_it(self, ledger: Ledger) -> None:
        ledger.start_destinations(TO_CRM, NOW)
        assert ledger.skipped_before() == {}
        old = news(ledger, "old")
        ledger.start_destinations(BOTH, NOW + MINUTE)
        assert ledger.skipped_before() == {"other": NOW + MINUTE}
        row = delivery(ledger, old, "other")
        assert (row["state"], row["reason"]) == ("skipped", "before this destination")
        assert balance(ledger, "other") == {"ledger": 1, "skipped": 1}
        assert delivery(ledger, old)["state"] == "due"

        new = news(ledger, "new", NOW + 2 * MINUTE, BOTH)
        ledger.start_destinations(BOTH, NOW + 3 * MINUTE)
        assert ledger.skipped_before() == {"other": NOW + MINUTE}
        assert delivery(ledger, new, "other")["state"] == "due"
        assert balance(ledger, "other") == {"ledger": 2, "skipped": 1, "under_way": 1}
        assert set(ledger.counts()["deliveries"]) == {"crm", "other"}

    # -- runs ----------------------------------------------------------------------
    def test_runs_are_taken_in_order_and_end(self, ledger: Ledger) -> None:
        assert ledger.take_job(NOW) is None
        first = ledger.request_job("retry", {"ids": [1, 2]}, NOW)
        second = ledger.request_job("prune", {"source": "主"}, NOW)
        assert ledger.job(first).state == "requested"
        taken = ledger.take_job(NOW + MINUTE)
        assert taken is not None
        assert (taken.id, taken.kind, taken.args) == (first, "retry", {"ids": [1, 2]})
        assert ledger.job(first).state == "running"
        ledger.end_job(first, JobState.DONE, {"retried": 2, "in_doubt": 0}, NOW + 2 * MINUTE)
        ended = ledger.job(first)
        assert (ended.state, ended.result, ended.ended_at) == (
            "done",
            {"retried": 2, "in_doubt": 0},
            NOW + 2 * MINUTE,
        )
        other = ledger.take_job(NOW)
        assert other is not None
        assert (other.id, other.args) == (second, {"source": "主"})
        assert ledger.take_job(NOW) is None

    def test_a_run_that_a_dead_daemon_left_is_taken_up_again(self, ledger: Ledger, tmp_path: Path) -> None:
        run_id = ledger.request_job("retry", {"ids": []}, NOW)
        assert ledger.take_job(NOW) is not None
        again = self.reopened(ledger, tmp_path)
        again.release_leases()
        taken = again.take_job(NOW + MINUTE)
        again.close()
        assert taken is not None, "a command waits for this run without end"
        assert taken.id == run_id

    # -- looking -------------------------------------------------------------------
    def test_the_balance_counts_calls_by_creation(self, ledger: Ledger) -> None:
        for hours in range(4):
            news(ledger, f"call-{hours}", NOW + timedelta(hours=hours))
        filed_all(ledger, [arrival("elsewhere", source="branch")])
        one, three = NOW + timedelta(hours=1), NOW + timedelta(hours=3)
        assert balance(ledger, window=Window(one, three)) == {"ledger": 2, "under_way": 2}
        assert balance(ledger, window=Window(three)) == {"ledger": 1, "under_way": 1}
        assert balance(ledger, window=Window(None, one)) == {"ledger": 1, "under_way": 1}
        assert balance(ledger, sources=("main", "branch")) == {"ledger": 5, "under_way": 5}
        assert balance(ledger, sources=()) == {}
        assert ledger.source_counts("main", Window(one, three))["ledger"] == 2
        assert ledger.source_counts("branch", ALWAYS)["ledger"] == 1
        assert ledger.first_call_at() == NOW
        assert ledger.first_call_at("nowhere") is None

    def test_calls_are_found_by_name_phone_and_sn(self, ledger: Ledger) -> None:
        for number in range(3):
            filed_all(ledger, [arrival(uuid(number), f"base-{number}", at=NOW + number * MINUTE)])
            (pending,) = ledger.waiting(1)
            created_at = stamp(datetime(2025, 4, 14 - number, tzinfo=UTC))
            columns = Columns(sn=f"sn-{number % 2}", phone=f"+861589977063{number}", created_at=created_at)
            ledger.judge([judgment(pending, columns=columns)], TO_CRM, NOW)

        def found(*words: str, limit: int = 10) -> list[str]:
            return [row["key"] for row in ledger.list_calls(words, limit)]

        assert found() == [uuid(0), uuid(1), uuid(2)]
        assert found(limit=2) == [uuid(0), uuid(1)]
        assert found("base-1") == found(uuid(1)) == found("+8615899770631") == [uuid(1)]
        assert found("sn-0") == [uuid(0), uuid(2)]
        assert found("sn-1", uuid(2), "base-2") == [uuid(1), uuid(2)]
        assert found("nothing") == []
        row = ledger.list_calls([uuid(1)], 10)[0]
        assert (row["phone"], row["sn"], row["revision"]) == ("+8615899770631", "sn-1", 1)
        assert row["deliveries"] == {"crm": "due"}
        assert moment(row["created_at"]) == datetime(2025, 4, 13, tzinfo=UTC)

    def test_deliveries_are_listed_those_changed_last_first(self, ledger: Ledger) -> None:
        for minutes, name in enumerate(("a", "b", "c")):
            news(ledger, name, NOW + minutes * MINUTE, BOTH if name == "b" else TO_CRM)
        settle(ledger, leased(ledger), Settlement(DeliveryState.PARKED, "why"), NOW, NOW + 9 * MINUTE)

        def found(state: str | None = None, to: str | None = None, limit: int = 9) -> list[tuple[str, str]]:
            return [(row["key"], row["destination"]) for row in ledger.list_deliveries(state, to, limit)]

        assert found() == [("a", "crm"), ("c", "crm"), ("b", "other"), ("b", "crm")]
        assert found("parked") == [("a", "crm")]
        assert found("due", "crm") == [("c", "crm"), ("b", "crm")]
        assert found(None, "other") == [("b", "other")]
        assert found(limit=1) == [("a", "crm")]

    def test_counts_are_of_everything(self, ledger: Ledger) -> None:
        ledger.start_destinations(BOTH, NOW)
        news(ledger, "a", NOW)
        news(ledger, "b", NOW + MINUTE)
        settle(ledger, leased(ledger), Settlement(DeliveryState.PARKED, "why", "HTTP 400"), NOW, NOW)
        filed_all(ledger, [stray(Quarantined.NOT_AN_OBJECT, b"x"), arrival("c", at=NOW + 5 * MINUTE)])
        found = ledger.counts()
        assert found["calls"] == {"main": 3}
        assert found["receipts"] == {"new": 2, "waiting": 1}
        assert found["quarantined"] == {"not_an_object": 1}
        nothing = dict.fromkeys(DeliveryState, 0)
        assert found["deliveries"] == {"crm": nothing | {"due": 1, "parked": 1}, "other": nothing}
        (parked,) = found["parked"]
        assert (parked["destination"], parked["cause"], parked["count"]) == ("crm", "HTTP 400", 1)
        assert found["oldest_owed_at"] == stamp(NOW + MINUTE)
        assert found["last_received_at"] == stamp(NOW + 5 * MINUTE)
        judge_all(ledger)
        assert ledger.counts()["receipts"] == {"new": 3}
        assert ledger.writable()
