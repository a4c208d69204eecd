"""The rules of a delivery's state: each takes a delivery as it is, and returns it as it will be.

A ledger finds the deliveries, asks these rules, and keeps the result. Where it changes many rows in one SQL
statement, a test compares that statement with the rule in every state. Begin at `owed` and `settled`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from msgspec.structs import replace

from bridge.model.calls import Verdict, Via
from bridge.model.deliveries import Delivery, DeliveryState, Heading, Lane, ParkKind, Settlement
from bridge.model.failures import BY_A_PERSON, UNREADABLE_RECORD
from bridge.model.skip_reasons import BEFORE_DESTINATION
from bridge.model.sync_progress import Forgotten, SyncProgress

"""Why a call is skipped that was there before the destination was."""


# -- what a verdict makes due ------------------------------------------------------
@dataclass(frozen=True, slots=True)
class News:
    """What a verdict means for the deliveries of its call."""

    revision: int
    lane: Lane
    called_at: datetime | None = None
    skipped_by: str | None = None
    """The rule that leaves the call out of this destination."""


def makes_due(verdict: Verdict) -> bool:
    """Whether a verdict makes the call's deliveries due: it does where it has changed the known state."""
    return verdict in (Verdict.NEW, Verdict.REVISION)


def lane_of(via: Via) -> Lane:
    """The lane of a new delivery: a callback is of a call that has just ended, the list fills gaps."""
    return Lane.LIVE if via is Via.CALLBACK else Lane.BACKFILL


def owed(delivery: Delivery | None, news: News, now: datetime) -> Delivery:
    """The delivery of a new call, or the delivery after a revision of its call.

    A leased one becomes due for the revision when it settles; what a person skipped stays skipped. A call
    that was once let in is not left out by a rule later.
    """
    if delivery is None:
        return _first_owed(news, now)
    stays = delivery.state is DeliveryState.LEASED or delivery.held_as is DeliveryState.SKIPPED
    told = replace(
        delivery,
        wanted=news.revision,
        owed_at=now,
        tries=0,
        cause=None,
        park_kind=None,
        held_as=delivery.held_as if delivery.held_as is DeliveryState.SKIPPED else None,
        lane=news.lane,
        called_at=news.called_at or delivery.called_at,
        changed_at=now,
    )
    if stays:
        return told
    never_let_in = delivery.state is DeliveryState.SKIPPED or not delivery.wanted
    if news.skipped_by is not None and never_let_in:
        return replace(told, state=DeliveryState.SKIPPED, due_at=None, reason=news.skipped_by)
    return replace(told, state=DeliveryState.DUE, due_at=now, reason=None)


def _first_owed(news: News, now: datetime) -> Delivery:
    due = news.skipped_by is None
    return Delivery(
        DeliveryState.DUE if due else DeliveryState.SKIPPED,
        news.revision,
        now,
        owed_at=now,
        due_at=now if due else None,
        reason=news.skipped_by,
        lane=news.lane,
        called_at=news.called_at,
    )


def before_destination(revision: int, called_at: datetime | None, now: datetime) -> Delivery:
    """The delivery of a call that was there before the destination."""
    return Delivery(DeliveryState.SKIPPED, revision, now, reason=BEFORE_DESTINATION, called_at=called_at)


def never_read(reason: str, now: datetime) -> Delivery:
    """The delivery of a call whose only record cannot be read: parked, until a person decides."""
    return Delivery(
        DeliveryState.PARKED, 0, now, reason=reason, cause=UNREADABLE_RECORD, park_kind=ParkKind.FAILED
    )


# -- leases and their ends ---------------------------------------------------------
def leased(delivery: Delivery, now: datetime) -> Delivery:
    """The delivery after a worker has leased it, which counts as one more try."""
    return replace(delivery, state=DeliveryState.LEASED, tries=delivery.tries + 1, changed_at=now)


def given_back(delivery: Delivery, due_at: datetime) -> Delivery:
    """The delivery after a worker gave it back unused, so that the lease counts as no try."""
    return replace(_lease_over(delivery, due_at), tries=max(0, delivery.tries - 1))


def released(delivery: Delivery) -> Delivery:
    """The delivery after the daemon that leased it has died: due since the time when it was leased."""
    return _lease_over(delivery, delivery.changed_at)


def _lease_over(delivery: Delivery, due_at: datetime) -> Delivery:
    """Due again; or held as a person wished, unless it is in doubt and must keep its locks."""
    if delivery.held_as is not None and not delivery.in_doubt:
        return _as_held(delivery, delivery.held_as)
    return replace(delivery, state=DeliveryState.DUE, due_at=due_at, park_kind=None)


def _as_held(delivery: Delivery, held_as: DeliveryState) -> Delivery:
    parked = held_as is DeliveryState.PARKED
    return replace(
        delivery,
        state=held_as,
        due_at=None,
        cause=BY_A_PERSON if parked else delivery.cause,
        park_kind=ParkKind.HELD if parked else None,
        # A skip goes on after a revision; a wish to park is fulfilled by parking it once.
        held_as=None if parked else held_as,
    )


def unreadable(delivery: Delivery, reason: str, now: datetime) -> Delivery:
    """A leased delivery whose record cannot be read: parked, unless a person has skipped it."""
    skipped = delivery.held_as is DeliveryState.SKIPPED
    return replace(
        delivery,
        state=DeliveryState.SKIPPED if skipped else DeliveryState.PARKED,
        due_at=None,
        reason=reason,
        cause=UNREADABLE_RECORD,
        park_kind=None if skipped else ParkKind.FAILED,
        held_as=delivery.held_as if skipped else None,
        changed_at=now,
    )


def settled(delivery: Delivery, revision: int, settlement: Settlement, now: datetime) -> Delivery:
    """The delivery after an attempt at a revision.

    A newer revision that came meanwhile makes it due again. If a person parked or skipped it meanwhile, that
    counts now, unless the CRM has the call already; a delivery in doubt keeps its locks, and is held later.
    """
    outdated, in_doubt = delivery.wanted > revision, bool(settlement.held_keys)
    delivered = settlement.state is DeliveryState.DELIVERED
    held_as = delivery.held_as
    ended = replace(
        delivery,
        state=DeliveryState.DUE if outdated else settlement.state,
        due_at=now if outdated else settlement.due_at,
        delivered=revision if delivered else delivery.delivered,
        tries=0 if outdated else delivery.tries - settlement.unsent,
        cause=None if outdated else settlement.cause or None,
        changed_at=now,
        in_doubt=in_doubt,
    )
    if held_as is None:
        ended = replace(ended, reason=None if outdated else settlement.reason or None)
    elif in_doubt:
        ended = replace(ended, due_at=settlement.due_at or now)
    elif held_as is DeliveryState.SKIPPED or outdated or not delivered:
        return _as_held(replace(ended, cause=None), held_as)
    else:
        ended = replace(ended, held_as=None)
    failed = not (outdated or in_doubt or settlement.unsent)
    return replace(
        ended,
        park_kind=settlement.park_kind if ended.state is DeliveryState.PARKED else None,
        # What failed must not delay live calls that did not. One in doubt keeps its lane: others wait for its
        # locks.
        lane=max(ended.lane, Lane.RETRY) if failed and ended.state is DeliveryState.DUE else ended.lane,
    )


# -- what persons say --------------------------------------------------------------
class RetryScope(Enum):
    """How a person has named the deliveries to retry."""

    ID = "id"
    CAUSE = "cause"
    """A whole cause."""
    WORDS = "words"
    """Words of the cause, or of the reason."""
    ALL = "all"


def may_retry(delivery: Delivery, scope: RetryScope) -> bool:
    """Whether a retry takes a delivery whose id, cause or reason matches what a person named.

    What is in doubt, or was parked by a person, is not taken along with all others. What a person skipped is
    taken by its id only.
    """
    parked = delivery.state is DeliveryState.PARKED
    waits = parked or delivery.state is DeliveryState.DUE
    if not delivery.wanted:
        return False
    if scope is RetryScope.ID:
        return waits or delivery.held_as is not None
    if scope is RetryScope.CAUSE:
        return waits and delivery.held_as is None
    unnamed = delivery.park_kind not in (ParkKind.IN_DOUBT, ParkKind.HELD)
    if scope is RetryScope.WORDS:
        return waits and delivery.held_as is None and unnamed
    return parked and unnamed


def retry_says_absent(delivery: Delivery) -> bool:
    """Whether a retry of this delivery means that a person has looked, and its request did not arrive."""
    return delivery.park_kind is ParkKind.IN_DOUBT


def retried(delivery: Delivery, now: datetime) -> Delivery:
    """The delivery after a retry: due now, behind live calls, held by no person; a leased one goes on."""
    by_a_person = delivery.held_as is not None or delivery.park_kind is ParkKind.HELD
    again = replace(
        delivery,
        reason=None if by_a_person else delivery.reason,
        cause=None,
        park_kind=None,
        held_as=None,
        lane=max(delivery.lane, Lane.RETRY),
        changed_at=now,
    )
    if delivery.state is DeliveryState.LEASED:
        return replace(again, owed_at=delivery.owed_at or now)
    return replace(again, state=DeliveryState.DUE, due_at=now, owed_at=now, tries=0)


def may_hold(delivery: Delivery, held_as: DeliveryState) -> bool:
    """Whether a person can park it (it is owed), or skip it (no person has skipped it yet)."""
    if held_as is DeliveryState.SKIPPED:
        return delivery.held_as is not DeliveryState.SKIPPED
    return delivery.state in (DeliveryState.DUE, DeliveryState.LEASED) and delivery.wanted > 0


def held(delivery: Delivery, held_as: DeliveryState, why: str, now: datetime) -> Delivery:
    """The delivery after a person parked or skipped it: held now, or once its attempt or doubt has ended."""
    said = f"{held_as} by a person" + (f": {why}" if why else "")
    told = replace(delivery, reason=said, held_as=held_as, changed_at=now)
    return told if is_busy(delivery) else _as_held(replace(told, cause=None), held_as)


def is_busy(delivery: Delivery) -> bool:
    """Whether it holds key locks: it is leased, or in doubt."""
    due = delivery.state is DeliveryState.DUE
    return delivery.state is DeliveryState.LEASED or (due and delivery.in_doubt)


def may_replay(delivery: Delivery, *, forget: bool) -> bool:
    """Whether a replay takes it; with `forget` also one whose object is no longer in the CRM."""
    done = delivery.state in (DeliveryState.DELIVERED, DeliveryState.SKIPPED)
    return delivery.held_as is None and (done or (forget and delivery.park_kind is ParkKind.GONE))


def replayed(delivery: Delivery, now: datetime) -> Delivery:
    """The delivery after a replay: due in the backfill lane, as if it had never been tried."""
    return replace(
        delivery,
        state=DeliveryState.DUE,
        owed_at=now,
        due_at=now,
        tries=0,
        reason=None,
        cause=None,
        park_kind=None,
        lane=Lane.BACKFILL,
        changed_at=now,
    )


def forgotten_progress(
    progress: Mapping[str, SyncProgress], objects: Iterable[str]
) -> dict[str, SyncProgress]:
    """Progress once everything is to be sent again; `objects` are those that were sent before.

    What is in doubt stays so: it must not be sent a second time because all else is.
    """
    left = {name: each for name, each in progress.items() if each.sent_at is not None}
    for name in objects:
        if name not in left:
            before = progress.get(name, SyncProgress())
            # A value that this call may have appended already is looked for before anything is appended.
            added = {**before.appended, **before.adding}
            left[name] = SyncProgress(Forgotten(), key=before.key, adding=added, elsewhere=before.elsewhere)
    return left


# -- lanes and counts --------------------------------------------------------------
def is_overdue(delivery: Delivery, before: datetime) -> bool:
    """Whether a live delivery has been owed for too long: from now on live calls go before it."""
    waits = delivery.state is DeliveryState.DUE and delivery.lane is Lane.LIVE
    return waits and delivery.owed_at is not None and delivery.owed_at < before


def heading(state: DeliveryState | None, *, unjudged: bool) -> Heading:
    """The heading of a call at a destination; `unjudged`: a record of it waits for its verdict."""
    if unjudged or state in (None, DeliveryState.DUE, DeliveryState.LEASED):
        return Heading.UNDER_WAY
    return Heading(state)
