"""Judge: behind the door, the verdict on every receipt, in the order of arrival."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import structlog

from bridge.ledger import Destinations, Ledger
from bridge.lib.iso_times import stamp
from bridge.lib.timestamps import parse_time
from bridge.model.call_order import event_time, is_ahead
from bridge.model.calls import Columns, Judgment, Known, Pending, Verdict
from bridge.record.arrival import sn_of
from bridge.record.call import Call
from bridge.record.dialogue_merge import parse_dialogue
from bridge.record.identity import storable
from bridge.record.json_body import broken_fields, parse_leniently, read_object
from bridge.record.origin import Origin
from bridge.record.verdict import (
    DIALOGUE,
    Incoming,
    Ruling,
    dialogue_flags,
    first,
    read_incoming,
    read_stamps,
    rule,
)

log = structlog.get_logger("bridge.judge")

GROUP = 200
_LONGEST_COLUMN = 200
_REPLACED = b"\xef\xbf\xbd"
_NOT_A_NAME = re.compile(r"[^\w.-]")
_MOST_FLAGS, _LONGEST_FLAG = 20, 50


@dataclass(frozen=True, slots=True)
class SourceRules:
    """How the records of one source are judged, and where its calls go."""

    origin: Origin
    destinations: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    start_at: datetime | None = None


class Judge:
    """Gives receipts their verdicts; there is one, so that verdicts follow one another."""

    def __init__(
        self,
        ledger: Ledger,
        sources: Mapping[str, SourceRules],
        *,
        destinations_since: Mapping[str, datetime],
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._since = destinations_since
        self._destinations: Destinations = {name: rules.destinations for name, rules in sources.items()}

    def judge_waiting(self, now: datetime) -> int:
        """One step: the verdicts on the oldest receipts that wait; how many there were."""
        pending = self._ledger.waiting(GROUP, list(self._sources))
        judgments: list[Judgment] = []
        unreadable: list[tuple[Pending, str]] = []
        latest: dict[int, Judgment | Pending] = {}
        for receipt in pending:
            try:
                judgment = self._judge(receipt, latest)
            except Exception as error:
                # One record that trips us must not hold up the door: it waits for a person.
                log.exception("receipt.unreadable", source=receipt.source, call=receipt.key)
                unreadable.append((receipt, f"the record cannot be read: {error}"))
                continue
            judgments.append(judgment)
            if not judgment.repeats:
                latest[receipt.call_id] = receipt if judgment.verdict is Verdict.NEW else judgment
        if judgments:
            self._ledger.judge(judgments, self._destinations, now)
        for receipt, reason in unreadable:
            self._ledger.set_aside(receipt, reason, self._destinations, now)
        return len(pending)

    def _judge(self, receipt: Pending, latest: Mapping[int, Judgment | Pending]) -> Judgment:
        """The verdict on one receipt; `latest` is what earlier ones of this step made of its call."""
        rules = self._sources[receipt.source]
        before = latest.get(receipt.call_id)
        known = receipt.known
        if receipt.repeats and before is None:
            return self._repeat(receipt)
        if isinstance(before, Judgment):
            known = before.known
        elif before is not None:
            known = first(self._read(before, rules)).known
        if known is None:
            return self._judge_first(receipt, rules)
        incoming = self._read(receipt, rules)
        ruling = rule(known, incoming, rules.reads, rules.origin)
        flags = (*incoming.flags, *_ahead_flags(incoming.values, receipt, rules.origin))
        return self._judgment(receipt, ruling, ruling.known.values, incoming.stamp, flags)

    def _judge_first(self, receipt: Pending, rules: SourceRules) -> Judgment:
        """Most calls are heard of once: only what the columns need is read."""
        record, odd = read_columns(receipt.payload)
        stamped, flags = read_stamps(record, rules.origin, receipt.received_at)
        known = Known({}, {}, stamped, receipt.via, revision=1)
        ruling = Ruling(Verdict.NEW, known, unchanged=False, kept=True)
        flags = (*flags, *odd, *_ahead_flags(record, receipt, rules.origin))
        return self._judgment(receipt, ruling, record, stamped, flags)

    def _judgment(
        self,
        receipt: Pending,
        ruling: Ruling,
        record: Mapping[str, Any],
        stamped: int | None,
        flags: tuple[str, ...],
    ) -> Judgment:
        """A ruling with what the ledger keeps of the call, whose state is `record` as far as it counts."""
        rules = self._sources[receipt.source]
        call = Call.of(record, receipt.key, rules.origin)
        called_at = event_time(call.started_at, call.created_at, receipt.first_seen_at)
        return Judgment(
            receipt_id=receipt.receipt_id,
            call_id=receipt.call_id,
            source=receipt.source,
            verdict=ruling.verdict,
            known=ruling.known,
            unchanged=ruling.unchanged,
            kept=ruling.kept,
            digest=ruling.digest,
            previous_digest=ruling.previous_digest,
            columns=columns_of(call),
            stamp=stamped,
            called_at=_when(called_at),
            flags=tuple(dict.fromkeys(flags)),
            skip=self._skipped(call, rules),
        )

    def _repeat(self, receipt: Pending) -> Judgment:
        """Byte for byte what is known."""
        return Judgment(
            receipt_id=receipt.receipt_id,
            call_id=receipt.call_id,
            source=receipt.source,
            verdict=Verdict.DUPLICATE,
            known=Known({}, {}, None, receipt.via, revision=0),
            unchanged=True,
            kept=False,
            digest=b"",
            columns=Columns(),
            stamp=None,
            repeats=True,
        )

    def _read(self, receipt: Pending, rules: SourceRules) -> Incoming:
        record, unreadable = read_object(receipt.payload)
        incoming = read_incoming(record, receipt.via, rules.origin, receipt.received_at)
        odd = field_flags(receipt.payload, record, unreadable)
        return replace(incoming, flags=incoming.flags + odd) if odd else incoming

    def _skipped(self, call: Call, rules: SourceRules) -> dict[str, str]:
        """The destinations that leave the call out because of its age."""
        created_at = call.created_at or call.started_at
        if created_at is None:
            return {}
        if rules.start_at is not None and created_at < rules.start_at:
            return dict.fromkeys(rules.destinations, "before start_at")
        return {
            name: "before this destination"
            for name in rules.destinations
            if name in self._since and created_at < self._since[name]
        }


def _ahead_flags(record: Mapping[str, Any], receipt: Pending, origin: Origin) -> tuple[str, ...]:
    """What is told of a call's own times that lie too far ahead of its first receipt."""
    times = {"started_ahead": "started_at", "created_ahead": "created_at"}
    return tuple(
        flag
        for flag, name in times.items()
        if is_ahead(parse_time(record.get(name), origin.zone), receipt.first_seen_at)
    )


_COLUMN_FIELDS = (
    "sn",
    "phone",
    "name",
    "status",
    "status_manual",
    "created_at",
    "started_at",
    "updated_at",
    "talktimes",
    "connected_at",
    "disconnected_at",
    "call_from_type",
    "source",
)
_COLUMNS = msgspec.json.Decoder(
    msgspec.defstruct(
        "_ColumnFields",
        [*((name, Any, None) for name in _COLUMN_FIELDS), (DIALOGUE, msgspec.Raw, msgspec.Raw(b"null"))],
    )
)
_UTC = ZoneInfo("UTC")


def read_columns(payload: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The platform's fields that `columns_of` needs, a third of the cost of reading them all; and flags."""
    if _REPLACED not in payload:
        try:
            read = _COLUMNS.decode(payload)
        except (msgspec.MsgspecError, UnicodeError):
            # What msgspec refuses may be JSON all the same.
            pass
        else:
            return {name: getattr(read, name) for name in _COLUMN_FIELDS}, _dialogue_flags(
                getattr(read, DIALOGUE)
            )
    record, unreadable = read_object(payload)
    flags = dialogue_flags(parse_dialogue(record.get(DIALOGUE), None, None, _UTC))
    return record, field_flags(payload, record, unreadable) + flags


def _dialogue_flags(raw: msgspec.Raw) -> tuple[str, ...]:
    """Whether a dialogue can be read whole; a list of turns, as it comes nearly always, is not looked at."""
    text = bytes(raw)
    if text == b"null" or text.startswith((b"[{", b"[]", b'""')):
        return ()
    return dialogue_flags(parse_dialogue(parse_leniently(text)[0], None, None, _UTC))


def field_flags(payload: bytes, record: Mapping[str, Any], unreadable: Sequence[str]) -> tuple[str, ...]:
    """`unreadable:score` for a value that JSON does not know, `broken_text:name` for a broken character."""
    if not unreadable and _REPLACED not in payload:
        return ()
    flags = [f"unreadable:{_flag_name(name)}" for name in unreadable]
    if _REPLACED in payload:
        flags += [f"broken_text:{_flag_name(name)}" for name in broken_fields(record)]
    return tuple(flags[:_MOST_FLAGS])


def _flag_name(name: str) -> str:
    """Flags stand one behind the other with blanks between them, and names are the sender's."""
    return storable(_NOT_A_NAME.sub("_", name)[:_LONGEST_FLAG])


def columns_of(call: Call) -> Columns:
    """What operators filter by."""
    return Columns(
        sn=sn_of(call.sn),
        phone=_short(call.phone_e164 or call.phone),
        name=_short(call.name),
        grade=_short(call.grade),
        created_at=_when(call.created_at),
        started_at=_when(call.started_at),
        talk_seconds=min(call.talk_seconds, 2**62),
        from_type=_small(call.from_type),
        task=_short(call.task_name),
    )


def _short(text: str | None) -> str | None:
    # A column is for filtering, not for keeping.
    return None if text is None else storable(text[:_LONGEST_COLUMN])


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else stamp(moment)


def _small(number: int | None) -> int | None:
    return number if number is not None and abs(number) < 2**62 else None
