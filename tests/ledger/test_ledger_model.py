"""Any order of steps: the SQLite ledger beside a tiny model of it, balanced after every step."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.ledger.sqlite import SqliteLedger
from bridge.model.calls import Verdict, Via
from bridge.model.deliveries import DeliveryState, Lane, Lease, Settlement
from tests.fixtures.examples import searching
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    SOURCES,
    TO_CRM,
    arrival,
    balance,
    filed_all,
    judgment,
    settle,
    uuid,
)
from tests.fixtures.ledger_counters import assert_counters_match_rows

UNSETTLED = (DeliveryState.DUE, DeliveryState.LEASED)


@dataclass
class Call:
    """What the model knows of one call."""

    waits: int = 0
    revision: int = 0
    state: DeliveryState | None = None
    wanted: int = 0
    delivered: int | None = None
    lane: Lane = Lane.LIVE
    called_at: int = 0
    due_at: int = 0
    tries: int = 0
    attempts: int = 0

    @property
    def heading(self) -> str:
        if self.waits or self.state is None or self.state in UNSETTLED:
            return "under_way"
        return self.state.value


class LedgerMachine(RuleBasedStateMachine):
    """Records, verdicts, leases, settlements, deaths and retries, on a minute clock."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.ledger = SqliteLedger(self.folder / "ledger.db", create=True)
        self.ledger.start_destinations(TO_CRM, NOW)
        self.calls: dict[str, Call] = {}
        self.queue: list[tuple[str, Via, int]] = []
        """Each receipt that waits: its call, the way that it came, and when."""
        self.leases: list[Lease] = []
        self.minute = 0

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    @rule(numbers=st.lists(st.integers(0, 3), min_size=1, max_size=3), via=st.sampled_from(Via))
    def record(self, numbers: list[int], via: Via) -> None:
        keys = [uuid(number) for number in numbers]
        filed = filed_all(self.ledger, [arrival(key, via=via, at=NOW + self.minute * MINUTE) for key in keys])
        assert [one.key for one in filed] == keys
        for key in keys:
            self.calls.setdefault(key, Call()).waits += 1
        self.queue += [(key, via, self.minute) for key in keys]

    @precondition(lambda self: self.queue)
    @rule(
        verdict=st.sampled_from([Verdict.REVISION, Verdict.DUPLICATE, Verdict.STALE]), skipped=st.booleans()
    )
    def judge(self, verdict: Verdict, skipped: bool) -> None:
        pending = self.ledger.waiting(1)[0]
        key, via, received_at = self.queue.pop(0)
        assert (pending.key, pending.via) == (key, via)
        call = self.calls[key]
        assert (pending.known.revision if pending.known else 0) == call.revision
        call.waits -= 1
        skip = {"crm": "before start_at"} if skipped else {}
        found = judgment(pending, verdict if call.revision else Verdict.NEW, skip=skip)
        self.ledger.judge([found], TO_CRM, NOW + self.minute * MINUTE)
        if found.verdict in (Verdict.NEW, Verdict.REVISION):
            call.revision += 1
            call.wanted, call.tries = call.revision, 0
            # A live call goes before one from the list, whichever was told of first.
            call.lane = Lane.LIVE if via is Via.CALLBACK else Lane.BACKFILL
            call.called_at = received_at
            if call.state is not DeliveryState.LEASED:
                # What was let in once is not left out afterwards.
                left_out = skipped and (call.revision == 1 or call.state is DeliveryState.SKIPPED)
                call.state = DeliveryState.SKIPPED if left_out else DeliveryState.DUE
                call.due_at = self.minute

    @rule()
    def lease(self) -> None:
        self.lease_first()

    def lease_first(self) -> bool:
        """Lease the first that is due, by lane and then by the call's own time; whether there was one."""
        due = {
            key: (call.lane, call.called_at)
            for key, call in self.calls.items()
            if call.state is DeliveryState.DUE and call.due_at <= self.minute
        }
        leases = self.ledger.lease(["crm"], SOURCES, NOW + self.minute * MINUTE, 1)
        if not leases:
            assert not due
            return False
        (lease,) = leases
        call = self.calls[lease.key]
        assert due[lease.key] == min(due.values())
        call.state = DeliveryState.LEASED
        call.tries += 1
        assert (lease.revision, lease.attempt, lease.lane) == (call.wanted, call.tries, call.lane)
        assert lease.values["uuid"] == lease.key
        self.leases.append(lease)
        return True

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), state=st.sampled_from([one for one in DeliveryState if one != "leased"]))
    def settle(self, data: st.DataObject, state: DeliveryState) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        now, later = NOW + self.minute * MINUTE, NOW + (self.minute + 2) * MINUTE
        settlement = Settlement(state, "why", due_at=later if state is DeliveryState.DUE else None)
        for _ in range(2):
            # The second time nobody holds the lease any more.
            settle(self.ledger, lease, settlement, now, now)
        call = self.calls[lease.key]
        call.attempts += 1
        if state is DeliveryState.DELIVERED:
            call.delivered = lease.revision
        call.state, call.due_at = state, self.minute + 2
        if call.wanted > lease.revision:
            call.state, call.due_at, call.tries = DeliveryState.DUE, self.minute, 0
        elif state is DeliveryState.DUE:
            # What failed gives way to live calls that did not.
            call.lane = max(call.lane, Lane.RETRY)

    @rule()
    def die_and_come_back(self) -> None:
        self.ledger.close()
        self.ledger = SqliteLedger(self.folder / "ledger.db")
        self.ledger.start_destinations(TO_CRM, NOW)
        assert self.ledger.release_leases() == len(self.leases)
        for lease in self.leases:
            call = self.calls[lease.key]
            # Due at once: no wait was agreed with anybody.
            call.state, call.due_at = DeliveryState.DUE, -1
        self.leases.clear()
        while self.lease_first():
            pass

    @rule()
    def retry_parked(self) -> None:
        parked = [call for call in self.calls.values() if call.state is DeliveryState.PARKED]
        assert self.ledger.retry([], NOW + self.minute * MINUTE) == len(parked)
        for call in parked:
            call.state, call.due_at, call.tries = DeliveryState.DUE, self.minute, 0
            call.lane = max(call.lane, Lane.RETRY)

    @rule()
    def time_goes_on(self) -> None:
        self.minute += 1

    @invariant()
    def balanced(self) -> None:
        expected: dict[str, int] = {"ledger": len(self.calls)} if self.calls else {}
        for call in self.calls.values():
            expected[call.heading] = expected.get(call.heading, 0) + 1
        assert balance(self.ledger) == expected

    @invariant()
    def counted(self) -> None:
        assert_counters_match_rows(self.ledger, self.folder / "ledger.db")

    @invariant()
    def the_rows_are_those_of_the_model(self) -> None:
        waiting = [one.key for one in self.ledger.waiting(100)]
        assert waiting == [key for key, _, _ in self.queue]
        for row in self.ledger.list_calls([], 10):
            call = self.calls[row.key]
            assert row.revision == call.revision
            shown = self.ledger.show_call(row.id)
            assert len(shown.attempts) == call.attempts
            assert row.deliveries == ({} if call.state is None else {"crm": call.state})
            for found in shown.deliveries:
                assert (found.wanted, found.delivered) == (call.wanted, call.delivered)
                assert found.tries == call.tries


TestLedgerModel = LedgerMachine.TestCase
TestLedgerModel.settings = settings(
    max_examples=300 if searching() else 15,
    stateful_step_count=50 if searching() else 25,
)
