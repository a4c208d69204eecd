"""An attempt: one prepared delivery, driven from request to request until it ends."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from bridge.delivery.crm_requests import CrmReply, CrmRequest, CrmResult, RequestFlow
from bridge.delivery.destination import Destination
from bridge.delivery.journal import DeliveryJournal
from bridge.delivery.parking import parked_by_our_fault
from bridge.delivery.plan_sync import PlanSync
from bridge.delivery.poison_records import FaultCount, faults_of
from bridge.delivery.stages import MappedDelivery, SettledDelivery, busy_ledger_of
from bridge.ledger import DeliveryLedger, PlannedDelivery
from bridge.ledger.retrying import until_answered
from bridge.lib.errors import DeliveryError, LedgerError, Permanent
from bridge.model.crm_objects import KnownObject
from bridge.model.deliveries import Lane

# Requests for each object of a plan. A first delivery makes two or three; the longest known one (found, gone,
# found again, a duplicate, its link gone) about 15. Each is sent at most QUICK_TRIES times, and once more
# with a new token.
MOST_QUESTIONS = 20
_OF_CIRCLES = (
    "Look at the record in the CRM, its bin included, and at the connector's rules for gone and duplicate;"
    " then retry"
)


@dataclass(slots=True, eq=False)
class Attempt:
    """The request that a delivery waits for, or how it ended; with neither it is delivered."""

    delivery: MappedDelivery
    journal: DeliveryJournal
    sync: PlanSync
    steps: RequestFlow[None]
    earlier_faults: FaultCount | None
    """The faults that its record has caused in earlier attempts."""
    wanted: CrmRequest | None = field(default=None, init=False)
    """What it waits for; None: it has ended, or not begun."""
    error: DeliveryError | None = field(default=None, init=False)
    fault: Exception | None = field(default=None, init=False)
    """A fault of ours, not of the CRM."""
    began_at: datetime = field(init=False)
    """When its worker took it."""
    questions: int = field(default=0, init=False)
    """Requests made in this attempt."""

    @property
    def lane(self) -> Lane:
        """The lane of its delivery."""
        return self.delivery.lease.lane

    def begin(self, now: datetime) -> None:
        """Go on to its first request."""
        self.began_at = now
        self._step(lambda: next(self.steps))

    def go_on(self, result: CrmResult) -> None:
        """Take the answer to its request and go on to the next, up to `MOST_QUESTIONS` for each object."""
        self.questions += 1
        if self.questions >= MOST_QUESTIONS * len(self.delivery.plan.objects):
            result = self._in_circles()
        if isinstance(result, CrmReply):
            self._step(lambda: self.steps.send(result))
        else:
            self._step(lambda: self.steps.throw(result))

    def break_off(self, fault: Exception) -> None:
        """End it by a fault of ours."""
        self.wanted, self.fault = None, fault

    def _step(self, step: Callable[[], CrmRequest]) -> None:
        self.wanted = None
        try:
            self.wanted = step()
        except StopIteration:
            pass
        except DeliveryError as error:
            self.error = error
        except Exception as fault:  # noqa: BLE001 -- one record's fault must not end the others
            self.fault = fault

    def _in_circles(self) -> DeliveryError:
        what = self.wanted.label if self.wanted is not None else "the CRM"
        error = Permanent(
            f"{what}: the CRM was asked {self.questions} times in one try, and its answers lead in circles."
            f" {_OF_CIRCLES}",
            cause=f"{what}: the CRM's answers lead in circles",
        )
        error.says = _OF_CIRCLES
        return error


class AttemptStarter:
    """Starts attempts: reads what was last sent to the planned objects, for many deliveries at once."""

    def __init__(self, ledger: DeliveryLedger, clock: Callable[[], datetime], stop: threading.Event) -> None:
        """`clock` dates requests, so it must be a steady one that nobody sets."""
        self._ledger = ledger
        self._clock = clock
        self._stop = stop

    def start(
        self, prepared: Sequence[MappedDelivery], destination: Destination, now: datetime
    ) -> list[Attempt | SettledDelivery]:
        """An attempt for each prepared delivery of a destination; one whose state cannot be read is parked.

        Raises:
            LedgerError: the daemon stops while the ledger is busy.
        """
        if not prepared:
            return []
        account = destination.account.name
        try:
            known = self._recall(prepared, account)
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001 -- see parked_by_our_fault
            if len(prepared) == 1:
                return [_parked(prepared[0], account, error, now)]
            # A damaged row of one of them must not stop the others.
            return [started for each in prepared for started in self.start([each], destination, now)]
        return [
            self._attempt(each, destination, states) for each, states in zip(prepared, known, strict=True)
        ]

    def _recall(self, prepared: Sequence[MappedDelivery], account: str) -> list[dict[str, KnownObject]]:
        wanted = [
            PlannedDelivery(each.lease.delivery_id, each.lease.key, each.plan.objects) for each in prepared
        ]
        return until_answered(
            lambda: self._ledger.recall(account, wanted),
            self._stop,
            busy=busy_ledger_of(prepared[0].lease),
        )

    def _attempt(
        self, prepared: MappedDelivery, destination: Destination, states: dict[str, KnownObject]
    ) -> Attempt:
        lease, plan = prepared.lease, prepared.plan
        journal = DeliveryJournal(lease, destination.account.name, plan, states, prepared.keys)
        sync = PlanSync(destination.connector, journal, prepared.event, self._clock)
        faults = faults_of(lease.progress, lease.revision)
        return Attempt(prepared, journal, sync, sync.run(plan), faults)


def _parked(prepared: MappedDelivery, account: str, error: Exception, now: datetime) -> SettledDelivery:
    lease = prepared.lease
    settlement = replace(parked_by_our_fault(lease, error), account=account, progress=lease.progress)
    return SettledDelivery(lease, now, prepared.turn, settlement)
