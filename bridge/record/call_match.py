"""Decides which call an arrival belongs to, from the calls that a ledger finds. Begin at `match_call`.

Names that come together on one record are of one call; two different UUIDs are never of one call. A record
without a name joins the only call of the same `sn` and time.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from bridge.model.calls import Arrival, Quarantined
from bridge.record.identity import is_uuid


class KnownCall(msgspec.Struct, frozen=True):
    """A call that the ledger has."""

    call_id: int
    key: str


class CallFinder(Protocol):
    """Finds the calls of an arrival's source, those of arrivals before it in the same batch included."""

    def by_name(self, source: str, name: str) -> KnownCall | None:
        """The call that has this name."""

    def by_sn_and_time(self, arrival: Arrival, *, nameless: bool) -> Sequence[KnownCall]:
        """Calls of the arrival's `sn` and `started_at`, or `created_at` where either side lacks the other.

        `nameless`: only those that no record has given a name yet.
        """

    def uuid_of(self, call_id: int) -> str | None:
        """The UUID among the call's names."""


class Joins(msgspec.Struct, frozen=True):
    """The arrival belongs to a call that is known."""

    call: KnownCall
    new_names: tuple[str, ...] = ()
    """The arrival's names that the call does not have yet."""
    names_it: bool = False
    """Whether the call had no name, and gets these."""


class Opens(msgspec.Struct, frozen=True):
    """The arrival is the first of its call."""

    key: str
    nameless: bool = False
    """Whether it has no name yet: then `key` is made of its `sn` and time."""


class Refused(msgspec.Struct, frozen=True):
    """No call takes the arrival: it goes into quarantine."""

    trouble: Quarantined
    detail: str


CallMatch = Joins | Opens | Refused


def match_call(arrival: Arrival, calls: CallFinder) -> CallMatch:
    """Which call the arrival joins or opens, or why none takes it."""
    if arrival.trouble is not None:
        return Refused(arrival.trouble, arrival.detail)
    return _by_names(arrival, calls) if arrival.names else _by_sn_and_time(arrival, calls)


def key_of_nameless(arrival: Arrival) -> str:
    """The key of a call that is known by `sn` and time alone."""
    return f"{arrival.sn}@{arrival.local_time}"


def _by_names(arrival: Arrival, calls: CallFinder) -> CallMatch:
    found = {
        name: call for name in arrival.names if (call := calls.by_name(arrival.source, name)) is not None
    }
    joined = set(found.values())
    if len(joined) > 1:
        return _conflict("its names belong to two calls: " + ", ".join(sorted(found)))
    if not joined:
        waiting = calls.by_sn_and_time(arrival, nameless=True)
        # Several nameless calls fit, and none of them may be guessed.
        return (
            Joins(waiting[0], arrival.names, names_it=True) if len(waiting) == 1 else Opens(arrival.names[0])
        )
    call = joined.pop()
    new = tuple(name for name in arrival.names if name not in found)
    other = calls.uuid_of(call.call_id) if any(map(is_uuid, new)) else None
    if other is not None:
        return _conflict(f"its names belong to call {other}, which has another UUID")
    return Joins(call, new)


def _conflict(detail: str) -> Refused:
    return Refused(Quarantined.IDENTITY_CONFLICT, detail)


def _by_sn_and_time(arrival: Arrival, calls: CallFinder) -> CallMatch:
    if arrival.sn is None or (arrival.started_at or arrival.created_at) is None:
        return Refused(Quarantined.UNIDENTIFIED, "no uuid, no base_info, and no sn or time")
    matches = calls.by_sn_and_time(arrival, nameless=False)
    if len(matches) > 1:
        keys = ", ".join(call.key for call in matches)
        return Refused(Quarantined.AMBIGUOUS, f"{len(matches)} calls have its sn and time: {keys}")
    key = key_of_nameless(arrival)
    known = matches[0] if matches else calls.by_name(arrival.source, key)
    return Opens(key, nameless=True) if known is None else Joins(known)
