"""Prepare: turns a lease into a plan and takes its key locks; nothing is sent to the CRM yet."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge.delivery.destination import Routes
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.journal import last_sent, left_behind
from bridge.delivery.locks import KeyLocks, lock_keys_of
from bridge.delivery.parking import (
    parked_as_poison_record,
    parked_by_conflict,
    parked_by_mapping,
    parked_by_our_fault,
)
from bridge.delivery.stages import BlockedDelivery, PreparedDelivery, SettledDelivery
from bridge.ledger import DeliveryLedger
from bridge.lib.errors import LedgerError
from bridge.lib.stored_times import bounded
from bridge.mapping import MappingFault
from bridge.mapping.event_order import event_of
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from bridge.model.key_claims import Conflict, claims_applied
from bridge.model.plan import Plan, Skip
from bridge.model.skip_reasons import SHADOW
from bridge.record.call import Call

# A blocked delivery is looked at again 5 s after the holder of its key goes on: the holder must come first,
# and may be late where many are due.
AFTER_HOLDER = timedelta(seconds=5)
UNSEEN = "in doubt until the index has caught up"


@dataclass(frozen=True, slots=True)
class _Mapped:
    """What the mapping, and the claims of other sources, make of a delivery."""

    plan: Plan | Skip | None
    """None: there is none; `ended` says why, or a person holds the delivery."""
    event: str = ""
    """The call's place among calls: its time, then its key."""
    ended: Settlement | None = None
    """How the delivery ends because it has no plan."""


class Preparer:
    """Prepares leased deliveries, one by one."""

    def __init__(self, ledger: DeliveryLedger, routes: Routes, locks: KeyLocks, doubts: DoubtClock) -> None:
        self._ledger = ledger
        self._routes = routes
        self._locks = locks
        self._doubts = doubts
        self._siblings = {name: routes.destinations_like(name) for name in routes.destinations}

    def prepare(
        self, lease: Lease, now: datetime, lock_timeout: float
    ) -> PreparedDelivery | BlockedDelivery | SettledDelivery:
        """Map a delivery and take its key locks, waiting up to `lock_timeout` seconds for them.

        Raises:
            LedgerError: the ledger could not be asked.
        """
        turn = self._locks.begin_turn(lease.delivery_id)
        lease = self._doubts.believed(lease)
        mapped = self._map(lease)
        plan = mapped.plan
        # A call's values take about 60 KB, and batches hold hundreds of leases.
        lease = replace(lease, values={})
        settlement = self._settled_unasked(lease, mapped, now)
        if settlement is not None:
            return SettledDelivery(lease, now, turn, self._with_progress(lease, settlement))
        assert isinstance(plan, Plan)  # noqa: S101 -- what is skipped is settled
        keys = {
            *lock_keys_of(self._account(lease), plan),
            # A key that has changed locks the old object too.
            *((self._account(lease), kind, key) for kind, key in lease.previous),
        }
        if self._locks.acquire(lease.delivery_id, keys, lock_timeout):
            return PreparedDelivery(lease, now, turn, plan, mapped.event, sorted(keys))
        # A time further ahead than any delivery waits was set while the clock was wrong.
        free_at = bounded(self._locks.free_at(lease.delivery_id, keys), now)
        if self._may_release(lease):
            # Released, or two calls that exchange their keys would wait for each other for ever.
            self._locks.release(lease.delivery_id)
        return BlockedDelivery(lease, None if free_at is None else max(free_at, now) + AFTER_HOLDER)

    def _settled_unasked(self, lease: Lease, mapped: _Mapped, now: datetime) -> Settlement | None:
        """The settlement of a delivery for which nothing is sent; None: something is to be sent."""
        plan = mapped.plan
        ended = (
            self._wait_out(lease, plan)
            or mapped.ended
            or parked_as_poison_record(lease, self._account(lease))
        )
        if ended is not None:
            return ended
        if lease.held:
            # Its doubt is settled, so the ledger now parks or skips it, unless a revision came meanwhile.
            return Settlement(DeliveryState.DUE, due_at=now, unsent=True)
        if isinstance(plan, Skip):
            return Settlement(DeliveryState.SKIPPED, plan.rule)
        return Settlement(DeliveryState.SKIPPED, SHADOW) if plan is not None and plan.shadow else None

    def _with_progress(self, lease: Lease, settlement: Settlement) -> Settlement:
        """The settlement with the progress of earlier attempts, because nothing was sent in this one."""
        if settlement.account:
            return settlement
        return replace(settlement, account=self._account(lease), progress=lease.progress)

    def _wait_out(self, lease: Lease, plan: Plan | Skip | None) -> Settlement | None:
        """Wait for a request in doubt whose object is no longer planned.

        Its keys stay locked until a look-up would show it: another call could create the same object again.
        """
        shown_at = self._doubts.shown_at(lease.destination, left_behind(lease.progress, plan))
        if shown_at is None:
            return None
        held = [key for key, holder in self._locks.holders().items() if holder == lease.delivery_id]
        return Settlement(
            DeliveryState.DUE,
            f"destination {lease.destination}: {UNSEEN}, and is left behind then",
            UNSEEN,
            shown_at,
            account=self._account(lease),
            progress=lease.progress,
            held_keys=tuple(sorted(held)),
        )

    def _may_release(self, lease: Lease) -> bool:
        """Whether no request of it is in doubt, or a look-up of any delivery would show it by now.

        An attempt that ended because the ledger was busy has kept its keys.
        """
        return self._doubts.shown_at(lease.destination, last_sent(lease.progress)) is None

    def _map(self, lease: Lease) -> _Mapped:
        if lease.held:
            return _Mapped(None)
        try:
            plan, event = self._plan(lease)
            verdict = self._claimed(lease, plan)
            if isinstance(verdict, Conflict):
                return _Mapped(None, event, parked_by_conflict(lease, verdict))
            return _Mapped(verdict, event)
        except LedgerError:
            raise
        except MappingFault as fault:
            return _Mapped(None, ended=parked_by_mapping(fault))
        except Exception as error:  # noqa: BLE001 -- see parked_by_our_fault
            return _Mapped(None, ended=parked_by_our_fault(lease, error))

    def _plan(self, lease: Lease) -> tuple[Plan | Skip, str]:
        call = Call.of(lease.values, lease.key, self._routes.origins[lease.source])
        plan = self._routes.destinations[lease.destination].mapping.plan(call)
        return plan, event_of(call, lease.first_seen_at)

    def _claimed(self, lease: Lease, plan: Plan | Skip) -> Plan | Skip | Conflict:
        """The plan, unless another source's call came to the account under this call's key before it."""
        if isinstance(plan, Skip):
            return plan
        claims = self._ledger.key_claims([lease.call_id], self._siblings[lease.destination])
        return claims_applied(claims.get(lease.call_id, ()), plan)

    def _account(self, lease: Lease) -> str:
        return self._routes.destinations[lease.destination].account.name
