"""Compares listed rows with what the ledger knows: pure functions, from reading a row to explaining a gap."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

from bridge.model.calls import DIGEST_SIZE, LONGEST_GARBAGE, Arrival, Known, Verdict, Via
from bridge.model.listing import RowMatch, UnlistedCall
from bridge.record.arrival import arrival_by, garbage, read_head
from bridge.record.call import Call, text_of
from bridge.record.dialect import Dialect
from bridge.record.head import Head
from bridge.record.identity import storable
from bridge.record.json_body import NotAnObject, parse_object, read_json_text
from bridge.record.origin import Origin
from bridge.record.unwrap_body import TooMany, read_record
from bridge.record.verdict import read_incoming, rule


class DiffOutcome(StrEnum):
    """What the comparison of a listed row with the ledger has shown."""

    MATCHED = "matched"
    MISSING = "missing"
    REVISED = "revised"
    STALE = "stale"
    CONFLICTING = "conflicting"
    DEFERRED = "deferred"
    """It has changed here since the list was asked: the next run compares it."""


_RANK = {
    outcome: rank
    for rank, outcome in enumerate(
        (
            DiffOutcome.DEFERRED,
            DiffOutcome.MATCHED,
            DiffOutcome.STALE,
            DiffOutcome.REVISED,
            DiffOutcome.MISSING,
            DiffOutcome.CONFLICTING,
        )
    )
}


def stronger_outcome(before: DiffOutcome | None, now: DiffOutcome) -> DiffOutcome:
    """The outcome of a call that was seen twice: what was found first, not that it was filed since."""
    return now if before is None or _RANK[now] > _RANK[before] else before


@dataclass(frozen=True, slots=True)
class ListedRow:
    """One row of the list, read only as far as filing needs."""

    arrival: Arrival
    key: str
    """Tells rows apart: equal for all rows of a call, however their fields are spelt."""
    digest: bytes
    user: str | None
    edited_at: str | None
    """Its `updated_at`, as it is written."""


_LARGE, _MOST_VALUES = 2**20, 300_000
"""A row may be as large as a page; its values would take 30 times as much memory as its text."""


def read_row(origin: Origin, row: bytes, now: datetime) -> ListedRow:
    """A row as the door would take it."""
    digest = blake2b(row, digest_size=DIGEST_SIZE).digest()
    try:
        text, head = _read(row, origin.dialect)
        arrival = arrival_by(head, origin, Via.LIST, text, now)
    except NotAnObject as error:
        refused = garbage(origin.source, Via.LIST, row, str(error), now)
        return ListedRow(refused, _garbage_key(row), digest, None, None)
    if arrival.names:
        key = arrival.names[0]
    elif arrival.trouble is None and arrival.sn and arrival.local_time:
        key = f"{arrival.sn}@{arrival.local_time}"
    else:
        key = stray_key(arrival.payload, origin.dialect)
    edited_at = head.updated_at
    edited_at = edited_at if isinstance(edited_at, str) and edited_at else None
    return ListedRow(arrival, key, digest, text_of(head.user), edited_at)


def _read(row: bytes, dialect: Dialect) -> tuple[bytes, Head]:
    """The record of a row, and its head; a row that names no call may be a wrapping of one that does."""
    head, trouble = None, ""
    if _is_swollen(row):
        raise NotAnObject(f"it holds more than {_MOST_VALUES} values")
    try:
        if dialect.decode is None:
            text = read_json_text(row)
            head = read_head(text, dialect)
            if head.holds_name() or head.sn:
                return text, head
    except NotAnObject as error:
        trouble = str(error)
    try:
        unwrapped = read_record(row, dialect)
        return unwrapped, read_head(unwrapped, dialect)
    except (NotAnObject, TooMany) as error:
        if head is None:
            raise NotAnObject(trouble or str(error)) from None
    return text, head


def _is_swollen(row: bytes) -> bool:
    """Whether reading a row would take far more memory than its text."""
    return len(row) > _LARGE and sum(map(row.count, (b",", b"{", b"["))) > _MOST_VALUES


def _garbage_key(body: bytes) -> str:
    """The key of a body without a record: a digest of as much of it as quarantine keeps."""
    return blake2b(body[:LONGEST_GARBAGE], digest_size=DIGEST_SIZE).hexdigest()


def stray_key(body: bytes, dialect: Dialect, *, edited: bool = True) -> str:
    """The key of a record that belongs to no call, with or without the time of its last edit."""
    try:
        record = {} if _is_swollen(body) else parse_object(body)
    except NotAnObject:
        record = {}
    if not record:
        return _garbage_key(body)
    values = (
        record.get(name) for name in (*dialect.identifying_fields, *([dialect.stamp_field] if edited else []))
    )
    texts = ("" if value is None else str(value).strip().lower() for value in values)
    return storable(" | ".join(texts))


def compare_by_digest(listed: ListedRow, place: RowMatch, asked_at: int) -> DiffOutcome | None:
    """The outcome that a row's digest shows; None: the row must be read."""
    if place.trouble is not None:
        return DiffOutcome.CONFLICTING
    if place.call_id is None:
        return DiffOutcome.MISSING
    if place.newest > asked_at or not place.judged:
        return DiffOutcome.DEFERRED
    if place.digest == listed.digest:
        return DiffOutcome.STALE if place.stale else DiffOutcome.MATCHED
    return None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome for a row that was read; `adds`: it holds something to keep, be it news or not."""

    outcome: DiffOutcome
    adds: bool


def compare_by_meaning(listed: ListedRow, known: Known, reads: frozenset[str], origin: Origin) -> Comparison:
    """Compare a row with the known state of its call, by the same rules as the judge."""
    arrival = listed.arrival
    record = parse_object(arrival.payload)
    if record == known.values and all(stamp == known.stamp for stamp in known.stamps.values()):
        return Comparison(DiffOutcome.MATCHED, adds=False)
    incoming = read_incoming(record, Via.LIST, origin, arrival.received_at)
    ruling = rule(known, incoming, reads, origin)
    if ruling.verdict is Verdict.REVISION:
        return Comparison(DiffOutcome.REVISED, adds=True)
    state = ruling.known
    adds = state.values != known.values or state.stamps != known.stamps
    stale = ruling.verdict is Verdict.STALE
    return Comparison(DiffOutcome.STALE if stale else DiffOutcome.MATCHED, adds=adds)


def explaining_fields(dialect: Dialect) -> tuple[str, ...]:
    """The fields that may explain why the list does not show a call."""
    return (*dialect.fields_of("user_sn"), *dialect.fields_of("is_deleted"))


def user_of(call: UnlistedCall, origin: Origin) -> str | None:
    """The user who owns a call's record: a list may show it to this user alone; None: not known."""
    return Call.of(call.said, call.key, origin).user_sn


def explain(call: UnlistedCall, listed_users: Collection[str], origin: Origin) -> str:
    """Why the list may not show a call that the ledger has."""
    user = user_of(call, origin)
    if Call.of(call.said, call.key, origin).is_deleted:
        return "deleted there"
    if call.successor is not None:
        return f"redialled: its sn now belongs to call {call.successor}"
    if user is not None and listed_users and user not in listed_users:
        return f"belongs to user {user}, whom no login's list shows"
    if call.created_at is None:
        return "when it was created is not known here: it counts from its arrival, and is listed elsewhere"
    return "not listed"
