"""How the calls of a window stand beside the platform's list."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime

from bridge.ledger import Window
from bridge.ledger.sqlite import covering, reading
from bridge.ledger.sqlite.payloads import Payloads
from bridge.listed import Standing
from bridge.model import Arrival

AT_ONCE = 1000


def standing(
    connection: sqlite3.Connection,
    payloads: Payloads,
    source: str,
    window: tuple[datetime, datetime],
    known: Collection[int],
    unknown: Sequence[Arrival],
    destinations: Sequence[str],
) -> Standing:
    """What `Standing` says; the caller sees to it that all of it is of one moment."""
    come, left = _looked_for_again(connection, source, unknown)
    found = come.union(known)
    listed, unlisted = 0, []
    rest = set(found)
    for call_id in covering.calls_between(connection, source, *window):
        if call_id in found:
            listed += 1
            rest.discard(call_id)
        else:
            unlisted.append(call_id)
    # The list says of these that they were created in the window; the ledger knows better, or not at all.
    elsewhere = sorted(rest)
    balances = {}
    for name in destinations:
        counts = Counter(reading.balance(connection, name, [source], Window(*window)))
        if elsewhere:
            counts.update(reading.balance_of(connection, name, source, elsewhere))
        balances[name] = dict(counts)
    return Standing(
        known=frozenset(come),
        unknown=left,
        strays=list(covering.strays(connection, payloads, source)) if left else (),
        ledger=len(found) + len(unlisted),
        listed=listed,
        unlisted=unlisted,
        destinations=balances,
    )


def _looked_for_again(
    connection: sqlite3.Connection, source: str, unknown: Sequence[Arrival]
) -> tuple[set[int], list[int]]:
    """The calls that have come since, and the places of the rows whose calls have not."""
    come, left = set(), []
    for start in range(0, len(unknown), AT_ONCE):
        part = unknown[start : start + AT_ONCE]
        for place, found in enumerate(covering.places(connection, source, part), start):
            if found.call_id is None:
                left.append(place)
            else:
                come.add(found.call_id)
    return come, left
