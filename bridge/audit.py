"""The balance: does every call stand under exactly one heading?"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bridge.ledger import Ledger, Window
from bridge.model import stamp

Balance = dict[str, Any]


def local_balance(
    ledger: Ledger, sources: Sequence[str], destinations: Mapping[str, Sequence[str]], window: Window
) -> Balance:
    """The ledger's own side of the balance; the platform is left out.

    `destinations` are name → the sources whose calls it takes.
    """
    by_source: dict[str, Balance] = {}
    for source in sources:
        counted = ledger.source_counts(source, window)
        by_source[source] = {
            "platform": None,
            **counted,
            "platform_only": None,
            "ledger_only": None,
            "ids": {},
        }
    by_destination = {name: ledger.balance(name, taken, window) for name, taken in destinations.items()}
    return {
        "since": _shown(window.since),
        "until": _shown(window.until),
        "sources": by_source,
        "destinations": by_destination,
        "balanced": all(map(balances, by_destination.values())),
    }


def balances(counts: Mapping[str, int]) -> bool:
    """`ledger = delivered + skipped + parked + under_way`."""
    settled = counts["delivered"] + counts["skipped"] + counts["parked"] + counts["under_way"]
    return counts["ledger"] == settled


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else stamp(moment)
