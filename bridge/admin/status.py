"""The status of a whole callbridge as one document: what `status --json` prints and what a page may show."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from bridge.ledger import AccountLedger, InspectionLedger, UpkeepLedger
from bridge.ledger.accounts import KeptBudget
from bridge.ledger.queries import FailureGroup, LedgerCounts, ListStanding
from bridge.ledger.upkeep import Space
from bridge.lib.documents import Document, document_of
from bridge.lib.iso_times import moment, stamp
from bridge.lib.stored_times import LONGEST_PAUSE, bounded
from bridge.model.deliveries import DeliveryState
from bridge.model.failures import OF_THIS_CAUSE


class StatusLedger(InspectionLedger, AccountLedger, UpkeepLedger, Protocol):
    """What health, metrics and the status ask of a ledger."""


def status_document(ledger: StatusLedger, listed_sources: Sequence[str], now: datetime) -> Document:
    """Counts by state, how far behind, and what needs a person; the keys are those of `status --json`.

    `listed_sources`: those whose list can be asked, which are told of even before the first walk.
    """
    counts = ledger.counts()
    parked = sum(states[DeliveryState.PARKED] for states in counts.deliveries.values())
    quarantined = sum(counts.quarantined.values())
    losses = [loss for loss in ledger.losses() if loss.open]
    return {
        **_counts_document(counts),
        "lag_seconds": _lag(counts, now),
        **_lists(listed_sources, counts.lists),
        "accounts": accounts_now(ledger.load_budgets(), now),
        "losses": document_of(losses),
        "needs_person": parked + quarantined + len(losses),
        "space": space_document(ledger.space()),
    }


def _counts_document(counts: LedgerCounts) -> Document:
    """The counts under their own names; remedies with the whole command."""
    apart = ("oldest_owed_at", "lists")
    document: Document = {name: value for name, value in document_of(counts).items() if name not in apart}
    groups = {"retrying": counts.retrying, "parked": counts.parked}
    return document | {name: [with_retry_command(group) for group in each] for name, each in groups.items()}


def _lag(counts: LedgerCounts, now: datetime) -> float:
    """For how many seconds the oldest of what is owed has been owed."""
    owed_at = counts.oldest_owed_at
    return 0.0 if owed_at is None else round(max(0.0, (now - owed_at).total_seconds()), 3)


def space_document(space: Space) -> Document:
    """Bytes by the names that `status --json` has."""
    return {
        "ledger_bytes": space.ledger_bytes,
        "wal_bytes": space.log_bytes,
        "free_bytes": space.free_bytes,
        "floor_bytes": space.floor_bytes,
    }


def _lists(listed_sources: Sequence[str], lists: Mapping[str, ListStanding]) -> Document:
    """How the sources stand with their lists; one that was never walked is there all the same."""
    names = dict.fromkeys([*listed_sources, *lists])
    known = {name: lists.get(name, ListStanding()) for name in names}
    return {
        "last_reconciliation": {name: document_of(one.last) for name, one in known.items()},
        "covered_until": {name: document_of(one.covered_until) for name, one in known.items()},
        "gaps": {name: document_of(one.gaps) for name, one in known.items()},
    }


def with_retry_command(group: FailureGroup) -> Document:
    """The same cause, its remedy with the whole command that tries these deliveries again."""
    whole = f"--cause {shlex.quote(group.cause or '')} --destination {shlex.quote(group.destination)}"
    document: Document = document_of(group)
    return document | {"remedy": (group.remedy or "").replace(OF_THIS_CAUSE, whole) or None}


def accounts_now(budgets: Mapping[str, KeptBudget], now: datetime) -> list[Document]:
    """What CRM accounts allow: which are paused, why and until when; rates as they were learned."""
    found = []
    for name, kept in budgets.items():
        breaker, limits = kept.saved["breaker"], []
        for limit, each in kept.saved["classes"].items():
            ends_at = each["paused_until"]
            left = None if each["daily"] is None else max(0, each["daily"] - each["spent"])
            limits.append(
                {
                    "limit": limit,
                    "rates": each["rates"],
                    "learned_rate": each.get("learned_rate"),
                    "requests": each["requests"],
                }
                | {"daily_left": left, "day_ends_at": each["day_ends_at"]}
                | {"paused_until": ends_at if ends_at and _goes_on(moment(ends_at), now) else None}
            )
        open_until = breaker["open_until"]
        # Its time may be over: then the next delivery finds out.
        if open_until and bounded(moment(open_until), now, LONGEST_PAUSE) is None:
            # A clock that stood wrong has told this time.
            open_until = stamp(now)
        paused = {"until": open_until, "why": breaker["why"]} if open_until else None
        found.append({"account": name, "as_of": stamp(kept.at), "paused": paused, "limits": limits})
    return found


def _goes_on(at: datetime, now: datetime) -> bool:
    """Whether a pause goes on; one of longer than any wait is over."""
    return at > now and bounded(at, now) is not None
