"""The balance: every call counts under exactly one heading, on the platform, here, and at each destination.

Per source `platform + ledger_only = ledger + quarantined + platform_only`; per destination
`ledger = delivered + skipped + parked + under_way`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from bridge.ledger import InspectionLedger, Window
from bridge.ledger.queries import Loss
from bridge.lib.documents import document_of
from bridge.lib.iso_times import stamp

Balance = dict[str, Any]
"""A part of the document that `audit --json` prints."""

SOURCE_HEADINGS = ("platform", "ledger", "quarantined", "erased", "platform_only", "ledger_only")

ARRIVES_WITHIN = timedelta(hours=6)
"""A record comes at most so long after its call was created, as far as a lost one can be told."""


def local_balance(
    ledger: InspectionLedger,
    sources: Sequence[str],
    destinations: Mapping[str, Sequence[str]],
    window: Window,
) -> Balance:
    """The balance without asking the platform: only the destinations' equation is checked.

    `destinations`: by name, the sources whose calls each takes.
    """
    by_destination = {
        name: document_of(ledger.balance(name, taken, window)) for name, taken in destinations.items()
    }
    losses = open_losses(ledger, sources, window)
    return {
        "since": _shown(window.since),
        "until": _shown(window.until),
        "sources": {source: local_counts(ledger, source, window) for source in sources},
        "destinations": by_destination,
        "losses": document_of(losses),
        "balanced": not losses and all(map(destination_balances, by_destination.values())),
    }


def open_losses(ledger: InspectionLedger, sources: Sequence[str], window: Window) -> list[Loss]:
    """Losses that concern these sources and this window, and that no reconciliation has filled yet."""
    found = []
    for loss in ledger.losses():
        concerned = [source for source in loss.open if source in sources]
        began = None if loss.since_at is None else loss.since_at - ARRIVES_WITHIN
        before = window.since is not None and loss.until_at < window.since
        behind = window.until is not None and began is not None and began >= window.until
        if concerned and not before and not behind:
            found.append(replace(loss, open=concerned))
    return found


def local_counts(ledger: InspectionLedger, source: str, window: Window) -> Balance:
    """The counts of a source whose platform is not asked."""
    counted = ledger.source_counts(source, window)
    return {"platform": None, **asdict(counted), "platform_only": None, "ledger_only": None, "ids": {}}


def destination_balances(counts: Mapping[str, int]) -> bool:
    """Whether a destination balances: `ledger = delivered + skipped + parked + under_way`."""
    settled = counts["delivered"] + counts["skipped"] + counts["parked"] + counts["under_way"]
    return counts["ledger"] == settled


def source_balances(counts: Mapping[str, Any]) -> bool:
    """Whether a source balances: `platform + ledger_only = ledger + quarantined + platform_only`.

    The whole list must have been seen, and no call may be on the platform only.
    """
    if counts["platform"] is None:
        return True
    theirs = counts["platform"] + counts["ledger_only"]
    ours = counts["ledger"] + counts["quarantined"] + counts["platform_only"]
    return bool(theirs == ours and counts["platform_only"] == 0 and counts.get("complete", True))


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else stamp(moment)


def whole_balance(
    audited: Mapping[str, Balance],
    left_out: Mapping[str, Balance],
    since: str | None,
    losses: Sequence[Loss] = (),
) -> Balance:
    """The balance of all sources: `audited` with their platforms' lists, `left_out` without.

    Each has counted its own calls at the destinations, so that all its counts are of one moment.
    `losses` are those of the sources that have no platform to ask.
    """
    destinations: dict[str, Counter[str]] = {}
    sources: dict[str, Balance] = {}
    for name, found in {**audited, **left_out}.items():
        sources[name] = {key: value for key, value in found.items() if key != "destinations"}
        for destination, counts in found["destinations"].items():
            destinations.setdefault(destination, Counter()).update(counts)
    by_destination = {name: dict(counts) for name, counts in destinations.items()}
    balanced = all(map(source_balances, sources.values())) and all(
        map(destination_balances, by_destination.values())
    )
    balanced = balanced and not losses
    return {
        "since": min((one["since"] for one in audited.values()), default=since),
        "until": max((one["until"] for one in audited.values()), default=None),
        "sources": sources,
        "destinations": by_destination,
        "losses": document_of(list(losses)),
        "balanced": balanced,
    }
