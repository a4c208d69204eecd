"""What every ledger promises about taking records in; see `suite`."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bridge.ledger import Ledger
from bridge.ledger.queries import SourceCounts
from bridge.lib.errors import LedgerBusy
from bridge.model.calls import Filed, Known, Quarantined, Verdict, Via
from bridge.model.deliveries import DeliveryState, Settlement
from tests.fixtures.ledger_calls import (
    ALWAYS,
    MINUTE,
    NOW,
    SOURCES,
    TO_CRM,
    arrival,
    balance,
    call_keys,
    call_of,
    delivery,
    filed,
    filed_all,
    judge_all,
    judgment,
    leased,
    news,
    settle,
    stray,
    uuid,
)
from tests.ledger.contract.arrangements import BOTH


class IntakeContract:
    """Filing, waiting, judging, setting aside."""

    # -- filing --------------------------------------------------------------------
    def test_the_first_record_makes_a_call_under_its_first_name(self, ledger: Ledger) -> None:
        found = filed(ledger, arrival(uuid(1), "base-1"))
        assert found.call_id is not None
        assert (found.key, found.trouble) == (uuid(1), None)
        assert call_keys(ledger, "main") == [uuid(1)]
        shown = ledger.show_call(found.call_id)
        assert set(shown.names) == {uuid(1), "base-1"}
        assert [row.verdict for row in shown.receipts] == [None]
        assert shown.revision == 0
        assert shown.record == {}
        assert ledger.counts().receipts == {"waiting": 1}

    def test_a_second_name_joins_and_the_key_stays(self, ledger: Ledger) -> None:
        first = filed(ledger, arrival("base-1"))
        second = filed(ledger, arrival(uuid(1), "base-1"))
        third = filed(ledger, arrival(uuid(1)))
        assert [second, third] == [first, first]
        assert first.key == "base-1"
        assert first.call_id is not None
        assert set(ledger.show_call(first.call_id).names) == {uuid(1), "base-1"}
        assert len(ledger.show_call(first.call_id).receipts) == 3

    def test_batch_sees_calls_it_has_filed_itself(self, ledger: Ledger) -> None:
        batch = [arrival(uuid(1)), arrival(uuid(2)), arrival(uuid(1), "base-1"), arrival("base-1")]
        found = filed_all(ledger, batch)
        assert [one.key for one in found] == [uuid(1), uuid(2), uuid(1), uuid(1)]
        assert len({one.call_id for one in found}) == 2

    def test_sources_share_no_names(self, ledger: Ledger) -> None:
        ours = filed(ledger, arrival(uuid(1)))
        theirs = filed(ledger, arrival(uuid(1), source="branch"))
        assert ours.call_id != theirs.call_id
        assert ledger.counts().calls == {"main": 1, "branch": 1}
        assert call_keys(ledger, "branch") == [uuid(1)]

    def test_names_of_two_calls_are_a_conflict(self, ledger: Ledger) -> None:
        one = call_of(ledger, arrival("base-1"))
        two = call_of(ledger, arrival("base-2"))
        found = filed(ledger, arrival("base-1", "base-2", "base-3"))
        assert found == Filed(None, trouble=Quarantined.IDENTITY_CONFLICT)
        assert ledger.counts().quarantined == {"identity_conflict": 1}
        assert ledger.show_call(one).names == ["base-1"]
        assert ledger.show_call(two).names == ["base-2"]
        assert ledger.counts().receipts == {"waiting": 2}
        # Nothing of the refused record counts: its third name is still free.
        assert filed(ledger, arrival("base-3")).call_id not in (one, two, None)

    def test_a_second_uuid_for_a_known_call_is_a_conflict(self, ledger: Ledger) -> None:
        call_id = call_of(ledger, arrival(uuid(1), "base-1"))
        found = filed(ledger, arrival(uuid(2), "base-1"))
        assert found.trouble is Quarantined.IDENTITY_CONFLICT
        assert set(ledger.show_call(call_id).names) == {uuid(1), "base-1"}
        # The other UUID is a call of its own once it comes alone.
        assert filed(ledger, arrival(uuid(2))).key == uuid(2)

    def test_uuid_learnt_later_still_conflicts_with_another(self, ledger: Ledger) -> None:
        filed_all(ledger, [arrival("base-1"), arrival(uuid(1), "base-1")])
        assert filed(ledger, arrival(uuid(2), "base-1")).trouble is Quarantined.IDENTITY_CONFLICT

    @pytest.mark.parametrize("trouble", [one for one in Quarantined if one != Quarantined.UNREADABLE])
    def test_unfilable_body_is_quarantined_once(self, ledger: Ledger, trouble: Quarantined) -> None:
        found = filed_all(ledger, [stray(trouble, b"one"), stray(trouble, b"one"), stray(trouble, b"two")])
        assert found == [Filed(None, trouble=trouble)] * 3
        assert filed(ledger, stray(trouble, b"one")).trouble is trouble
        assert ledger.counts().quarantined == {trouble: 2}
        assert ledger.counts().receipts == {}
        assert ledger.waiting(10) == []
        of_calls = 0 if trouble is Quarantined.NOT_AN_OBJECT else 2
        assert ledger.source_counts("main", ALWAYS) == SourceCounts(0, of_calls, 0)

    def test_the_same_body_is_kept_for_each_source(self, ledger: Ledger) -> None:
        trouble = Quarantined.UNIDENTIFIED
        filed_all(ledger, [stray(trouble, b"{}"), stray(trouble, b"{}", source="branch")])
        assert ledger.counts().quarantined == {"unidentified": 2}

    def test_submitted_work_keeps_its_order(self, ledger: Ledger) -> None:
        futures = [ledger.submit([arrival(uuid(number)), arrival("again")]) for number in range(40)]
        assert [future.result(5)[0].key for future in futures] == [uuid(number) for number in range(40)]
        waiting = ledger.waiting(100)
        assert [one.key for one in waiting[::2]] == [uuid(number) for number in range(40)]
        assert {one.key for one in waiting[1::2]} == {"again"}
        assert [one.receipt_id for one in waiting] == sorted(one.receipt_id for one in waiting)

    def test_closed_ledger_accepts_nothing(self, ledger: Ledger) -> None:
        submitted = [ledger.submit([arrival(uuid(number))]) for number in range(20)]
        ledger.close()
        assert [future.result(0)[0].key for future in submitted] == [uuid(number) for number in range(20)]
        with pytest.raises(LedgerBusy):
            filed_all(ledger, [arrival(uuid(99))])
        assert not ledger.writable()

    # -- waiting -------------------------------------------------------------------
    def test_waiting_receipts_carry_all_that_arrived(self, ledger: Ledger) -> None:
        bodies = [b'{"uuid": "a",  "name": "\xe5\xbc\xa0"}', b'{"uuid":"a"}']
        filed_all(ledger, [arrival("a", payload=bodies[0])])
        filed_all(ledger, [arrival("a", payload=bodies[1], via=Via.LIST, at=NOW + MINUTE)])
        first, second = ledger.waiting(10)
        assert (first.payload, first.via, first.received_at) == (bodies[0], Via.CALLBACK, NOW)
        assert (second.payload, second.via, second.received_at) == (bodies[1], Via.LIST, NOW + MINUTE)
        assert (first.key, first.source, first.known, second.known) == ("a", "main", None, None)
        assert first.call_id == second.call_id
        assert [one.receipt_id for one in ledger.waiting(1)] == [first.receipt_id]

    def test_known_state_is_read_back_as_it_was_judged(self, ledger: Ledger) -> None:
        records: list[dict[str, Any]] = [
            {"uuid": "a", "name": "张"},
            {"uuid": "a", "name": "\ud800", "n": 2**70, "deep": [{"x": [1.5, None, ""]}]},
        ]
        history: frozenset[bytes] = frozenset()
        for revision, values in enumerate(records, 1):
            filed_all(ledger, [arrival("a", payload=json.dumps(values).encode())])
            pending = ledger.waiting(1)[0]
            found = judgment(pending)
            history |= {found.digest} if found.digest else set()
            newest = 1_744_597_250 + revision
            stamps: dict[str, int | None] = dict.fromkeys(values, newest)
            stamps |= {"name": None, "uuid": 1_744_500_000}
            state = Known(values, stamps, newest, Via.LIST, revision, history)
            ledger.judge([replace(found, known=state, kept=revision == 1)], TO_CRM, NOW)

            filed_all(ledger, [arrival("a")])
            probe = ledger.waiting(1)[0]
            assert probe.known == state
            ledger.judge([judgment(probe, Verdict.STALE)], TO_CRM, NOW)

    def test_stamp_of_an_emptied_field_is_kept(self, ledger: Ledger) -> None:
        """A newer record said `name` is empty: an older one must not fill it, after a restart either."""
        filed_all(ledger, [arrival("a")])
        (pending,) = ledger.waiting(1)
        at = 1_744_597_250
        state = Known({"uuid": "a"}, {"uuid": at, "name": at}, at, Via.CALLBACK, 1)
        ledger.judge([replace(judgment(pending), known=state, kept=False)], TO_CRM, NOW)
        filed_all(ledger, [arrival("a")])
        known = ledger.waiting(1)[0].known
        assert known is not None
        assert known.stamps.get("name", "forgotten") == at

    # -- judging -------------------------------------------------------------------
    def test_news_becomes_a_revision_and_a_delivery_for_every_destination(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a", NOW, BOTH, name="张")
        shown = ledger.show_call(call_id)
        assert [(row.verdict, row.revision, row.via) for row in shown.receipts] == [("new", 1, "callback")]
        assert (shown.revision, shown.record) == (1, {"uuid": "a", "name": "张"})
        rows = [(row.destination, row.state, row.wanted) for row in shown.deliveries]
        assert rows == [("crm", "due", 1), ("other", "due", 1)]
        assert ledger.waiting(10) == []

        news(ledger, "a", NOW + MINUTE, BOTH, name="李")
        shown = ledger.show_call(call_id)
        assert [(row.verdict, row.revision) for row in shown.receipts] == [
            ("new", 1),
            ("revision", 2),
        ]
        assert shown.record["name"] == "李"
        assert [row.wanted for row in shown.deliveries] == [2, 2]

    @pytest.mark.parametrize("verdict", [Verdict.DUPLICATE, Verdict.STALE])
    def test_record_without_news_is_stored_and_causes_no_delivery(
        self, ledger: Ledger, verdict: Verdict
    ) -> None:
        call_id = news(ledger, "a", name="张")
        settle(ledger, leased(ledger), Settlement(DeliveryState.DELIVERED), NOW, NOW)
        filed_all(ledger, [arrival("a", payload=b'{"uuid":"a","name":"x"}')])
        (pending,) = ledger.waiting(10)
        found = replace(judgment(pending, verdict), flags=("stamp_ahead", "odd"))
        ledger.judge([found], TO_CRM, NOW + MINUTE)
        shown = ledger.show_call(call_id)
        last = shown.receipts[-1]
        assert (last.verdict, last.revision, last.flags) == (verdict, None, "stamp_ahead odd")
        assert (shown.revision, shown.record["name"]) == (1, "张")
        assert delivery(ledger, call_id).state == "delivered"
        assert ledger.counts().receipts == {"new": 1, verdict: 1}
        assert ledger.waiting(10) == []

    def test_newer_stamp_of_an_unchanged_record_is_kept(self, ledger: Ledger) -> None:
        news(ledger, "a", name="张")
        filed_all(ledger, [arrival("a")])
        (pending,) = ledger.waiting(10)
        before = pending.known
        assert before is not None
        state = Known(before.values, {"uuid": 1_800_000_000}, 1_800_000_000, before.via, 1, before.history)
        ledger.judge([replace(judgment(pending, Verdict.DUPLICATE), known=state)], TO_CRM, NOW)
        filed_all(ledger, [arrival("a")])
        known = ledger.waiting(10)[0].known
        assert known is not None
        assert (known.stamp, known.stamps["uuid"]) == (1_800_000_000, 1_800_000_000)
        assert (known.values, known.history) == (before.values, before.history)

    def test_a_rule_skips_one_destination_from_the_start(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a", NOW, BOTH, skip={"other": "before start_at"})
        skipped = delivery(ledger, call_id, "other")
        assert (skipped.state, skipped.reason, skipped.due_at) == (
            "skipped",
            "before start_at",
            None,
        )
        assert balance(ledger, "other") == {"ledger": 1, "skipped": 1}
        assert balance(ledger, "crm") == {"ledger": 1, "under_way": 1}
        assert ledger.lease(["other"], SOURCES, NOW, 1) == []

    def test_calls_of_a_source_without_destinations_are_kept(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a", NOW, {})
        assert ledger.show_call(call_id).deliveries == []
        assert ledger.show_call(call_id).revision == 1

    # -- setting aside -------------------------------------------------------------
    def test_unreadable_first_record_parks_its_delivery_and_stops_waiting(self, ledger: Ledger) -> None:
        call_id = call_of(ledger, arrival("a"))
        (pending,) = ledger.waiting(10)
        ledger.set_aside(pending, "the record cannot be read: why", BOTH, NOW)
        assert ledger.waiting(10) == []
        for name in ("crm", "other"):
            row = delivery(ledger, call_id, name)
            assert (row.state, row.wanted) == ("parked", 0)
            assert row.reason == "the record cannot be read: why"
            assert balance(ledger, name) == {"ledger": 1, "parked": 1}
        assert [row.verdict for row in ledger.show_call(call_id).receipts] == ["quarantined"]
        # There is nothing to send, so nothing to retry.
        assert ledger.retry([], NOW) == 0
        news(ledger, "a", NOW + MINUTE)
        assert leased(ledger, NOW + MINUTE).revision == 1

    def test_unreadable_later_record_waits_in_quarantine(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        settle(ledger, leased(ledger), Settlement(DeliveryState.DELIVERED), NOW, NOW)
        filed_all(ledger, [arrival("a")])
        assert balance(ledger) == {"ledger": 1, "under_way": 1}
        (pending,) = ledger.waiting(10)
        ledger.set_aside(pending, "why", TO_CRM, NOW)
        row = delivery(ledger, call_id)
        assert (row.state, row.wanted, row.delivered) == ("delivered", 1, 1)
        assert ledger.counts().quarantined == {"unreadable": 1}
        # The call itself is known, so the platform's side of the balance counts it once.
        assert ledger.source_counts("main", ALWAYS).quarantined == 0

    def test_unreadable_record_does_not_lose_an_attempt_under_way(self, ledger: Ledger) -> None:
        """The request is out: what became of it is written, and nobody else sends beside it."""
        call_id = news(ledger, "a")
        lease = leased(ledger)
        filed_all(ledger, [arrival("a")])
        (pending,) = ledger.waiting(10)
        ledger.set_aside(pending, "why", TO_CRM, NOW)
        ledger.retry([], NOW)
        assert ledger.lease(["crm"], SOURCES, NOW + MINUTE, 1) == [], "leased to two workers at once"
        settle(ledger, lease, Settlement(DeliveryState.DELIVERED), NOW, NOW + MINUTE)
        assert delivery(ledger, call_id).delivered == 1
        assert len(ledger.show_call(call_id).attempts) == 1

    def test_byte_identical_repetition_is_recognised(self, ledger: Ledger) -> None:
        first, again = arrival("a", payload=b'{"uuid":"a"}'), arrival("a", payload=b'{"uuid":"a"}')
        other = arrival("a", payload=b'{"uuid":"a","x":1}')
        filed_all(ledger, [first])
        (pending,) = ledger.waiting(10)
        assert not pending.repeats
        ledger.judge([judgment(pending)], TO_CRM, NOW)
        filed_all(ledger, [again, other, arrival("a", payload=b'{"uuid":"a"}', via=Via.LIST)])
        same, changed, listed = ledger.waiting(10)
        assert (same.repeats, changed.repeats, listed.repeats) == (True, False, False)
        assert (changed.known is not None, listed.known is not None) == (True, True)
        repeated = replace(judgment(changed, Verdict.DUPLICATE), receipt_id=same.receipt_id, repeats=True)
        ledger.judge([repeated], TO_CRM, NOW)
        assert ledger.counts().receipts == {"new": 1, "duplicate": 1, "waiting": 2}
        assert [one.receipt_id for one in ledger.waiting(10)] == [changed.receipt_id, listed.receipt_id]

    def test_waiting_receipts_count_as_under_way(self, ledger: Ledger) -> None:
        for state in (DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.PARKED):
            news(ledger, state)
            settle(ledger, leased(ledger), Settlement(state, "why"), NOW, NOW)
        assert balance(ledger) == {"ledger": 3, "delivered": 1, "skipped": 1, "parked": 1}
        filed_all(ledger, [arrival(state, at=NOW + timedelta(hours=1)) for state in ("delivered", "skipped")])
        assert balance(ledger) == {"ledger": 3, "parked": 1, "under_way": 2}
        filed_all(ledger, [arrival("parked"), arrival("unheard")])
        assert balance(ledger) == {"ledger": 4, "under_way": 4}
        judge_all(ledger)
        assert balance(ledger) == {"ledger": 4, "under_way": 4}
