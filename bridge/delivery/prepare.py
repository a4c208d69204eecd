"""From a lease to a plan with its lines: what a delivery needs before anything is asked of the CRM."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge.delivery.destination import Destination
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.executor import Attempt
from bridge.delivery.journal import DeliveryJournal, last_sent, left_behind
from bridge.delivery.locks import KeyLocks, lock_keys_of
from bridge.delivery.outcome import OutcomeRules
from bridge.delivery.plan_sync import PlanSync
from bridge.ledger import Held
from bridge.lib.errors import LedgerError
from bridge.mapping import MappingFault
from bridge.mapping.planning import event_of
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from bridge.model.key_claims import Claim, Conflict, claims_applied
from bridge.model.plan import Plan, Skip
from bridge.record.call import Call
from bridge.record.origin import Origin

# When a delivery that had to give way to one that waits itself is looked at again, after that one's time.
HELD_FOR = timedelta(seconds=5)
UNSEEN = "in doubt until the index has caught up"


@dataclass(slots=True)
class Job:
    """One leased delivery on its way, or at its end."""

    lease: Lease
    started_at: datetime
    settlement: Settlement | None = None
    plan: Plan | None = None
    event: str = ""
    lines: Sequence[Held] = ()
    journal: DeliveryJournal | None = None
    plan_sync: PlanSync | None = None
    attempt: Attempt | None = None
    gives_way: bool = False
    """Another delivery holds one of its lines, perhaps until `free_at`."""
    free_at: datetime | None = None


class Preparer:
    """Prepares leased deliveries."""

    def __init__(
        self,
        destinations: Mapping[str, Destination],
        origins: Mapping[str, Origin],
        locks: KeyLocks,
        outcomes: OutcomeRules,
        doubts: DoubtClock,
        claims: Callable[[Sequence[int], Sequence[str]], Mapping[int, Sequence[Claim]]],
    ) -> None:
        """`claims` is asked who came before a call under its key: see `bridge.ledger.Ledger.key_claims`."""
        self._destinations = destinations
        self._origins = origins
        self._locks = locks
        self._outcomes = outcomes
        self._doubts = doubts
        self._claims = claims
        self._together: dict[str, list[str]] = {}
        """The destinations of each account."""
        for name, destination in destinations.items():
            self._together.setdefault(destination.account.name, []).append(name)

    def prepare(self, lease: Lease, now: datetime, patience: float) -> Job:
        """Map a delivery and take its lines, waiting so many seconds for them."""
        lease = self._doubts.believed(lease)
        plan, event, fault = self._planned(lease)
        # The record is large, and all that is wanted of it is in the plan.
        lease = replace(lease, values={})
        account = self._destinations[lease.destination].account.name
        settlement = self._wait_out(lease, plan) or fault or self._outcomes.of_poison_record(lease, account)
        if settlement is not None:
            return Job(lease, now, settlement)
        if lease.held:
            # It is a person's from here on, unless another word came meanwhile.
            return Job(lease, now, Settlement(DeliveryState.DUE, due_at=now, unsent=True))
        if isinstance(plan, Skip) or plan.shadow:
            rule = plan.rule if isinstance(plan, Skip) else "shadow: nothing is sent"
            return Job(lease, now, Settlement(DeliveryState.SKIPPED, rule))
        # A key that changed takes the old line too.
        lines = {*lock_keys_of(account, plan), *((account, kind, key) for kind, key in lease.previous)}
        if not self._locks.acquire(lease.delivery_id, lines, patience):
            # Who holds them may wait itself, for its look-up: till then, and until that has had its
            # turn among others, this one is in nobody's way.
            free_at = self._locks.free_at(lease.delivery_id, lines)
            if self._may_let_go(lease):
                # What it wants may wait for what it holds, where two calls exchange their keys.
                self._locks.release(lease.delivery_id)
            return Job(
                lease, now, gives_way=True, free_at=None if free_at is None else max(free_at, now) + HELD_FOR
            )
        return Job(lease, now, None, plan, event, sorted(lines))

    def _wait_out(self, lease: Lease, plan: Plan | Skip) -> Settlement | None:
        """What is in doubt and no longer planned is left behind, but only once a look-up would see it.

        Until then its lines stay held: another call would make the same object again.
        """
        shown_at = self._doubts.shown_at(lease.destination, left_behind(lease.progress, plan))
        if shown_at is None:
            return None
        held = [line for line, owner in self._locks.holders().items() if owner == lease.delivery_id]
        return Settlement(
            DeliveryState.DUE,
            f"destination {lease.destination}: {UNSEEN}, and is left behind then",
            UNSEEN,
            shown_at,
            account=self._destinations[lease.destination].account.name,
            progress=lease.progress,
            lines=tuple(sorted(held)),
        )

    def _may_let_go(self, lease: Lease) -> bool:
        """Whether nothing of it is in doubt, or everybody's look-up shows that by now.

        A ledger that was busy ends an attempt with its lines held.
        """
        return self._doubts.shown_at(lease.destination, last_sent(lease.progress)) is None

    def _planned(self, lease: Lease) -> tuple[Plan | Skip, str, Settlement | None]:
        """The plan, the call's place among calls, and how it ended where there is no plan."""
        if lease.held:
            return Skip("held by a person"), "", None
        try:
            plan, event = self._plan(lease)
            verdict = self._claimed(lease, plan)
            if isinstance(verdict, Conflict):
                return Skip(verdict.cause), event, self._outcomes.of_conflict(lease, verdict)
            return verdict, event, None
        except LedgerError:
            raise
        except MappingFault as fault:
            ended = self._outcomes.of_mapping_fault(fault)
        except Exception as error:  # noqa: BLE001 -- see of_our_fault
            ended = self._outcomes.of_our_fault(lease, error)
        return Skip(ended.cause), "", ended

    def _claimed(self, lease: Lease, plan: Plan | Skip) -> Plan | Skip | Conflict:
        """The plan, unless another source's call came to the account under this call's key before it."""
        if isinstance(plan, Skip):
            return plan
        together = self._together[self._destinations[lease.destination].account.name]
        return claims_applied(self._claims([lease.call_id], together).get(lease.call_id, ()), plan)

    def _plan(self, lease: Lease) -> tuple[Plan | Skip, str]:
        call = Call.of(lease.values, lease.key, self._origins[lease.source])
        plan = self._destinations[lease.destination].mapping.plan(call)
        return plan, event_of(call, lease.first_seen_at)
