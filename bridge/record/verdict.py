"""The verdict on a record: whether it is news, given what is known of its call. Begin at `rule`.

Pure functions of the known state, the incoming record and the fields that mappings read. The known state is,
field by field, the value of the newest record (by `updated_at`) that carried the field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bridge.lib.timestamps import UnreadableTimeError
from bridge.model.call_order import AHEAD
from bridge.model.calls import Known, Verdict, Via, digests
from bridge.record.canonical import canonical, digest
from bridge.record.dialect import Dialect
from bridge.record.dialogue_merge import lay_over, same_dialogue
from bridge.record.origin import Origin
from bridge.record.turn import Turn


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as it arrived, and its canonical form."""

    values: Mapping[str, Any]
    meaning: Mapping[str, Any]
    stamp: int | None
    via: Via
    flags: tuple[str, ...] = ()
    undatable: bool = False
    """Whether it has a stamp that cannot be read."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """What a record's own times tell of it."""

    stamp: int | None
    """When the platform last changed it, in epoch seconds."""
    flags: tuple[str, ...]
    """Times that cannot be read, or lie too far ahead."""
    undatable: bool
    """Whether it has a stamp that cannot be read."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict and the state after it; see `bridge.model.calls.Judgment` for `unchanged` and `kept`."""

    verdict: Verdict
    known: Known
    unchanged: bool
    kept: bool
    digest: bytes = b""
    previous_digest: bytes = b""


def is_repeat(via: Via, known_via: Via) -> bool:
    """Whether a record that is byte for byte the known state is a duplicate without being judged.

    A row of the list that confirms a callback is judged: from then on the state counts as the list's.
    """
    return via is Via.CALLBACK or via is known_via


def read_incoming(record: Mapping[str, Any], via: Via, origin: Origin, received_at: datetime) -> Incoming:
    """A record beside its canonical form; a stamp more than a day ahead counts as missing and is flagged."""
    dialect, meaning = origin.dialect, canonical(record, origin)
    read = read_stamps(record, origin, received_at)
    flags = read.flags + dialogue_flags(meaning.get(dialect.dialogue.field), dialect)
    return Incoming(record, meaning, read.stamp, via, flags, read.undatable)


def dialogue_flags(turns: Sequence[Turn] | None, dialect: Dialect) -> tuple[str, ...]:
    """A flag where a part of a dialogue could not be read, and is kept as it came."""
    return (f"unreadable:{dialect.dialogue.field}",) if any(turn.flagged for turn in turns or ()) else ()


def read_stamps(record: Mapping[str, Any], origin: Origin, received_at: datetime) -> Stamps:
    """A record's stamp, and flags for it and the other times that cannot be read."""
    dialect = origin.dialect
    moments: dict[str, datetime | None] = {}
    unreadable: list[str] = []
    for name in (dialect.stamp_field, *dialect.event_fields):
        try:
            moments[name] = dialect.read_time(record.get(name), origin.zone)
        except UnreadableTimeError:
            unreadable.append(name)
    stamp = moments.get(dialect.stamp_field)
    flags = tuple(f"unreadable:{name}" for name in unreadable)
    if stamp is not None and stamp - received_at > AHEAD:
        return Stamps(None, ("stamp_ahead", *flags), undatable=False)
    seconds = None if stamp is None else int(stamp.timestamp())
    return Stamps(seconds, flags, undatable=dialect.stamp_field in unreadable)


def rule(known: Known | None, incoming: Incoming, reads: frozenset[str], origin: Origin) -> Ruling:
    """The verdict on a record, and the known state after it."""
    if known is None:
        return first(incoming, origin)
    return _RecordComparison(known, incoming, origin.dialect.news_fields | reads, origin).ruling()


def _earlier(one: int | None, other: int | None) -> bool:
    """Whether a stamp comes before another; a missing one comes before any."""
    return other is not None and (one is None or one < other)


def first(incoming: Incoming, origin: Origin) -> Ruling:
    """The ruling on a call's first record; its digest is only computed when a second record comes."""
    stamps = dict.fromkeys(_carried(incoming, origin.dialect), incoming.stamp)
    state = Known(incoming.values, stamps, incoming.stamp, incoming.via, revision=1)
    return Ruling(Verdict.NEW, state, unchanged=False, kept=True)


def _carried(incoming: Incoming, dialect: Dialect) -> list[str]:
    """The fields that a record speaks of; an empty dialogue or name does not replace a known one."""
    silent, meaning = dialect.silent_if_empty, incoming.meaning
    return [name for name in incoming.values if name not in silent or meaning.get(name)]


def _newsworthy(meaning: Mapping[str, Any], news: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in meaning.items() if name in news}


class _RecordComparison:
    """One record beside what is known of its call."""

    def __init__(self, known: Known, incoming: Incoming, news: frozenset[str], origin: Origin) -> None:
        self._known = known
        self._incoming = incoming
        self._news = news
        self._meaning = canonical(known.values, origin)
        self._dialect = origin.dialect
        self._dialogue_field = origin.dialect.dialogue.field
        self._carried = _carried(incoming, origin.dialect)
        self._history, self._first_digest = known.history, b""
        if known.revision == 1:
            self._first_digest = digest(_newsworthy(self._meaning, news))
            self._history |= {self._first_digest}
        self._different = {name for name in self._carried if not self._same(name)}

    def _same(self, name: str) -> bool:
        ours, theirs = self._meaning.get(name), self._incoming.meaning[name]
        if name == self._dialogue_field and ours:
            return same_dialogue(ours, theirs)
        return bool(ours == theirs)

    def _is_news(self, names: set[str]) -> bool:
        return not self._news.isdisjoint(names)

    def ruling(self) -> Ruling:
        ours, theirs = self._known.stamp, self._incoming.stamp
        if _earlier(ours, theirs):
            return self._newer()
        if theirs is not None and _earlier(theirs, ours):
            return self._older()
        if ours is not None and self._incoming.undatable and self._incoming.via is Via.CALLBACK:
            # Without a readable stamp it may be older than what is known, so it only fills gaps. A listed row
            # is not older: the list shows the present.
            return self._older()
        return self._undated()

    def _newer(self) -> Ruling:
        if self._is_news(self._different):
            return self._revised(set(self._carried), via=self._incoming.via)
        return self._repeated(set(self._carried), via=self._incoming.via)

    def _older(self) -> Ruling:
        filled = self._unsaid_since(self._incoming.stamp)
        if self._is_news(self._different & filled):
            return self._revised(filled, via=self._known.via)
        verdict = Verdict.STALE if self._is_news(self._different) else Verdict.DUPLICATE
        # Equal fields are confirmed as of this record's time: still older records must not change them.
        ruling = self._repeated(filled, via=self._known.via)
        return replace(ruling, verdict=verdict)

    def _undated(self) -> Ruling:
        """The ruling at equal or missing stamps: a listed row counts, a callback brings no old state back."""
        listed = self._incoming.via is Via.LIST
        if not self._is_news(self._different):
            holds = self._known.via is Via.LIST and not listed
            taken = self._unsaid_since(self._incoming.stamp) if holds else set(self._carried)
            return self._repeated(taken, via=Via.LIST if listed else self._known.via)
        if listed:
            return self._revised(set(self._carried), via=Via.LIST)
        if self._known.via is Via.LIST:
            filled = self._unsaid_since(self._incoming.stamp)
            if self._is_news(self._different & filled):
                return self._revised(filled, via=Via.LIST)
            return self._stale()
        revised = self._revised(set(self._carried), via=self._incoming.via)
        return self._stale() if digests(revised.digest) & self._history else revised

    def _unsaid_since(self, stamp: int | None) -> set[str]:
        """The fields of the record that no newer record has carried."""
        known = dict(self._known.stamps)
        if not self._meaning.get(self._dialogue_field):
            known.pop(self._dialogue_field, None)
        return {name for name in self._carried if name not in known or _earlier(known[name], stamp)}

    def _stale(self) -> Ruling:
        return Ruling(Verdict.STALE, self._known, unchanged=True, kept=False)

    def _stamped(self, taken: set[str]) -> tuple[int | None, dict[str, int | None]]:
        known = self._known
        stamp = self._incoming.stamp
        if stamp is None and not self._incoming.undatable:
            stamp = known.stamp
        newest = max((one for one in (known.stamp, stamp) if one is not None), default=None)
        return newest, {**known.stamps, **dict.fromkeys(taken, stamp)}

    def _repeated(self, taken: set[str], via: Via) -> Ruling:
        """The ruling for no news: stamps are updated, and changed fields that are no news are kept too."""
        noted = (self._different & taken) - self._news - {self._dialect.stamp_field}
        values = {**self._known.values, **{name: self._incoming.values[name] for name in noted}}
        equal = taken - self._different
        if self._dialogue_field in equal:
            values[self._dialogue_field] = self._dialogue(values)
        newest, stamps = self._stamped(equal | noted | (taken & {self._dialect.stamp_field}))
        state = replace(self._known, values=values, stamps=stamps, stamp=newest, via=via)
        unchanged = values == self._known.values and via is self._known.via
        return Ruling(Verdict.DUPLICATE, state, unchanged=unchanged, kept=False)

    def _revised(self, taken: set[str], via: Via) -> Ruling:
        """The ruling for news: the taken fields replace the known ones."""
        values = {**self._known.values, **{name: self._incoming.values[name] for name in taken}}
        if self._dialogue_field in taken:
            values[self._dialogue_field] = self._dialogue(self._known.values)
        newest, stamps = self._stamped(taken)
        meaning = {**self._meaning, **{name: self._incoming.meaning[name] for name in taken}}
        if self._dialogue_field in taken:
            meaning[self._dialogue_field] = lay_over(
                self._meaning.get(self._dialogue_field) or (), meaning[self._dialogue_field]
            )
        # Two digests are kept: of the new state, and of the record alone. So the same record is recognised as
        # a repeat even after other records have added fields to the state.
        said = digest(_newsworthy(meaning, self._news))
        said += digest(_newsworthy(self._incoming.meaning, self._news))
        history = self._history | digests(said)
        state = Known(values, stamps, newest, via, self._known.revision + 1, history)
        kept = values == self._incoming.values
        return Ruling(Verdict.REVISION, state, False, kept, said, self._first_digest)

    def _dialogue(self, values: Mapping[str, Any]) -> Any:
        """The merged dialogue; unchanged where one of the two encodings holds all of it."""
        ours = self._meaning.get(self._dialogue_field) or ()
        theirs = self._incoming.meaning[self._dialogue_field]
        merged = lay_over(ours, theirs)
        if merged == ours:
            return values.get(self._dialogue_field)
        if merged == theirs:
            return self._incoming.values[self._dialogue_field]
        return self._dialect.dialogue.write(merged)
