"""Prepare: turns leases into plans; nothing is locked or sent to the CRM yet."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from bridge.delivery.destination import Routes
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.journal import last_sent, left_behind
from bridge.delivery.locks import KeyLocks, lock_keys_of
from bridge.delivery.parking import (
    parked_as_poison_record,
    parked_as_unreadable,
    parked_by_conflict,
    parked_by_mapping,
    parked_by_our_fault,
)
from bridge.delivery.stages import MappedDelivery, SettledDelivery
from bridge.ledger import DeliveryLedger
from bridge.mapping import MappingFault
from bridge.mapping.event_order import event_of
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from bridge.model.key_claims import Claim, Conflict, claims_applied
from bridge.model.plan import Plan, Skip
from bridge.model.skip_reasons import SHADOW
from bridge.record.call import Call
from bridge.record.lazy_record import UnreadableRecordError

UNSEEN = "in doubt until the index has caught up"


class _Mapped(msgspec.Struct, frozen=True):
    """What the mapping, and the claims of other sources, make of a delivery."""

    plan: Plan | Skip | None
    """None: there is none; `ended` says why, or a person holds the delivery."""
    event: str = ""
    """The call's place among calls: its time, then its key."""
    ended: Settlement | None = None
    """How the delivery ends because it has no plan."""


class Preparer:
    """Prepares leased deliveries: maps each, and asks for the claims of all of them at once."""

    def __init__(self, ledger: DeliveryLedger, routes: Routes, locks: KeyLocks, doubts: DoubtClock) -> None:
        self._ledger = ledger
        self._routes = routes
        self._locks = locks
        self._doubts = doubts
        self._siblings = {name: routes.destinations_like(name) for name in routes.destinations}

    def prepare(self, leases: Sequence[Lease], now: datetime) -> list[MappedDelivery | SettledDelivery]:
        """Map leases of one destination; those for which nothing is to be sent are settled.

        Raises:
            LedgerError: the ledger could not be asked.
        """
        believed = [self._doubts.believed(lease) for lease in leases]
        planned = [self._mapped(lease) for lease in believed]
        claims = self._claims(believed, planned)
        return [
            self._prepared(lease, self._claimed(lease, mapped, claims.get(lease.call_id, ())), now)
            for lease, mapped in zip(believed, planned, strict=True)
        ]

    def _prepared(self, lease: Lease, mapped: _Mapped, now: datetime) -> MappedDelivery | SettledDelivery:
        turn = self._locks.begin_turn(lease.delivery_id)
        # A mapped record takes about 25 KB, and hundreds of deliveries are leased ahead.
        lease = replace(lease, values={})
        settlement = self._settled_unasked(lease, mapped, now)
        if settlement is not None:
            return SettledDelivery(lease, now, turn, self._with_progress(lease, settlement))
        plan = mapped.plan
        assert isinstance(plan, Plan)  # noqa: S101 -- what is skipped is settled
        keys = {
            *lock_keys_of(self._account(lease), plan),
            # A key that has changed locks the old object too.
            *((self._account(lease), kind, key) for kind, key in lease.previous),
        }
        return MappedDelivery(lease, turn, plan, mapped.event, sorted(keys))

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

    def may_release(self, lease: Lease) -> bool:
        """Whether no request of it is in doubt, or a look-up of any delivery would show it by now.

        An attempt that ended because the ledger was busy has kept its keys.
        """
        return self._doubts.shown_at(lease.destination, last_sent(lease.progress)) is None

    def _mapped(self, lease: Lease) -> _Mapped:
        if lease.held:
            return _Mapped(None)
        try:
            call = Call.of(lease.values, lease.key, self._routes.origins[lease.source])
            plan = self._routes.destinations[lease.destination].mapping.plan(call)
            return _Mapped(plan, event_of(call, lease.first_seen_at))
        except MappingFault as fault:
            return _Mapped(None, ended=parked_by_mapping(fault))
        except UnreadableRecordError as error:
            return _Mapped(None, ended=parked_as_unreadable(error))
        except Exception as error:  # noqa: BLE001 -- see parked_by_our_fault
            return _Mapped(None, ended=parked_by_our_fault(lease, error))

    def _claims(self, leases: Sequence[Lease], planned: Sequence[_Mapped]) -> dict[int, list[Claim]]:
        """The calls of other sources that came to the account under the keys of these before them."""
        ids = [
            lease.call_id
            for lease, mapped in zip(leases, planned, strict=True)
            if isinstance(mapped.plan, Plan)
        ]
        return self._ledger.key_claims(ids, self._siblings[leases[0].destination]) if ids else {}

    def _claimed(self, lease: Lease, mapped: _Mapped, claims: Sequence[Claim]) -> _Mapped:
        """The plan, unless another source's call came to the account under this call's key before it."""
        if not isinstance(mapped.plan, Plan):
            return mapped
        try:
            verdict = claims_applied(claims, mapped.plan)
        except Exception as error:  # noqa: BLE001 -- see parked_by_our_fault
            return _Mapped(None, ended=parked_by_our_fault(lease, error))
        if isinstance(verdict, Conflict):
            return _Mapped(None, mapped.event, parked_by_conflict(lease, verdict))
        return _Mapped(verdict, mapped.event)

    def _account(self, lease: Lease) -> str:
        return self._routes.destinations[lease.destination].account.name
