"""The range of a reconciliation: from when until when it looks, and how far it covers its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge.lib.iso_times import moment, stamp
from bridge.lib.stored_times import past
from bridge.reconcile.window import ListWindow
from bridge.record.origin import Origin

OVERLAP = timedelta(minutes=30)
"""Every run looks at so much again that was covered already."""


@dataclass(frozen=True, slots=True)
class ReconcileRules:
    """How one source is reconciled."""

    origin: Origin
    reads: frozenset[str]
    settle: timedelta
    lookbacks: Mapping[str, timedelta]
    """How far back a run looks, by what triggered it; `short` for all others."""
    start_at: datetime | None
    page_size: int

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self.origin.source


@dataclass(frozen=True, slots=True)
class ReconcileRange:
    """What a run has decided to look at, and whether a complete walk moves the coverage, up to when."""

    whole: ListWindow
    cover_until: datetime | None


def choose_range(
    args: Mapping[str, Any], rules: ReconcileRules, covered: datetime | None, now: datetime
) -> ReconcileRange:
    """From min(now - lookback, covered - 30 min) until now - settle, unless it was asked otherwise."""
    lookback = rules.lookbacks.get(args.get("trigger") or "short", rules.lookbacks["short"])
    settled = now - rules.settle
    if covered is not None and past(covered, now) is None:
        # A coverage in the future was written while the clock was wrong, and the one before it is lost: so
        # the widest lookback applies.
        lookback = max(lookback, *rules.lookbacks.values())
        covered = now - lookback
    base = covered or rules.start_at or now - lookback
    since = _second(moment(args["since"]) if args.get("since") else min(now - lookback, base - OVERLAP))
    until = _second(moment(args["until"]) if args.get("until") else settled)
    covers = since <= base and not args.get("dry_run")
    return ReconcileRange(ListWindow(since, until), min(until, _second(settled)) if covers else None)


def _second(at: datetime) -> datetime:
    return at.replace(microsecond=0)


def range_as_json(plan: ReconcileRange) -> dict[str, Any]:
    """A range as a job's progress keeps it, so that it is the same after an interruption."""
    cover_until = None if plan.cover_until is None else stamp(plan.cover_until)
    return {
        "since": stamp(plan.whole.since),
        "until": stamp(plan.whole.until),
        "cover_until": cover_until,
    }
