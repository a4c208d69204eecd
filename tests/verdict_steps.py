"""Plain steps for the tests of verdicts: a call hears one record after the other."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from bridge.model.calls import Known, Verdict, Via, digests
from bridge.record.platform_record import canonical
from bridge.record.verdict import Ruling, read_incoming, rule

ZONE = ZoneInfo("Asia/Shanghai")
RECEIVED = datetime(2025, 4, 14, 3, 0, tzinfo=UTC)
NEW, REVISION, DUPLICATE, STALE = Verdict.NEW, Verdict.REVISION, Verdict.DUPLICATE, Verdict.STALE
CALLBACK, LIST = Via.CALLBACK, Via.LIST
NOTHING: frozenset[str] = frozenset()
Record = dict[str, Any]
Arrived = tuple[Record, Via]


def clock(minute: int) -> str:
    return f"2025-04-14 10:{minute:02}:00"


def epoch(minute: int) -> int:
    return int(datetime(2025, 4, 14, 2, minute, tzinfo=UTC).timestamp())


def record(minute: int | None, **fields: Any) -> Record:
    """A record with a stamp, unless `minute` is None."""
    stamp = {} if minute is None else {"updated_at": clock(minute)}
    return {"uuid": "u"} | stamp | fields


def hear(known: Known | None, said: Record, via: Via = CALLBACK, reads: frozenset[str] = NOTHING) -> Ruling:
    ruling = rule(known, read_incoming(said, via, ZONE, RECEIVED), reads, ZONE)
    check(known, said, ruling)
    return ruling


def check(known: Known | None, said: Record, ruling: Ruling) -> None:
    """What holds of every ruling."""
    state = ruling.known
    if ruling.kept:
        assert dict(state.values) == said
    before = 0 if known is None else known.revision
    if ruling.verdict in (NEW, REVISION):
        assert state.revision == before + 1
        assert not ruling.unchanged
        assert digests(ruling.digest) <= state.history
        return
    assert known is not None
    assert (state.revision, state.history, ruling.kept) == (before, known.history, False)
    if ruling.unchanged:
        assert (dict(state.values), state.via) == (dict(known.values), known.via)


def after(*arrived: Arrived, reads: frozenset[str] = NOTHING) -> Known:
    known: Known | None = None
    for said, via in arrived:
        known = hear(known, said, via, reads).known
    assert known is not None
    return known


def meaning(known: Known) -> Record:
    """What the state says: without the stamp and what is empty."""
    said = canonical(known.values, ZONE)
    return {name: value for name, value in said.items() if value is not None and name != "updated_at"}


def say(minute: int | None, via: Via = CALLBACK, **fields: Any) -> Arrived:
    return record(minute, **fields), via
