"""The judge: gives every receipt its verdict, in the order of arrival, after the platform has its answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from bridge.intake.columns import ColumnReader, columns_of, field_flags, when
from bridge.ledger import Destinations, IntakeLedger
from bridge.model.call_order import event_time, is_ahead
from bridge.model.calls import Columns, Judgment, Known, Pending, Verdict
from bridge.model.skip_reasons import BEFORE_DESTINATION, BEFORE_START
from bridge.record.call import Call
from bridge.record.json_body import read_object
from bridge.record.origin import Origin
from bridge.record.verdict import (
    Incoming,
    Ruling,
    first,
    read_incoming,
    read_stamps,
    rule,
)

log = structlog.get_logger("bridge.judge")

GROUP = 200
"""Receipts judged in one commit."""


@dataclass(frozen=True, slots=True)
class SourceRules:
    """How the records of one source are judged, and where its calls go."""

    origin: Origin
    destinations: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    start_at: datetime | None = None


class Judge:
    """Gives receipts their verdicts; a daemon has one, so that verdicts are given in order."""

    def __init__(
        self,
        ledger: IntakeLedger,
        sources: Mapping[str, SourceRules],
        *,
        destinations_since: Mapping[str, datetime],
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._since = destinations_since
        self._columns = {name: ColumnReader(rules.origin.dialect) for name, rules in sources.items()}
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
                # A record with an unexpected error must not stop the judge: it is set aside for a person.
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
            known = first(self._read(before, rules), rules.origin).known
        if known is None:
            return self._judge_first(receipt, rules)
        incoming = self._read(receipt, rules)
        ruling = rule(known, incoming, rules.reads, rules.origin)
        flags = (*incoming.flags, *_ahead_flags(incoming.values, receipt, rules.origin))
        return self._judgment(receipt, ruling, ruling.known.values, incoming.stamp, flags)

    def _judge_first(self, receipt: Pending, rules: SourceRules) -> Judgment:
        """The verdict on a call's first record: most calls have no other, so only their columns are read."""
        record, odd = self._columns[receipt.source].read(receipt.payload)
        stamps = read_stamps(record, rules.origin, receipt.received_at)
        known = Known({}, {}, stamps.stamp, receipt.via, revision=1)
        ruling = Ruling(Verdict.NEW, known, unchanged=False, kept=True)
        flags = (*stamps.flags, *odd, *_ahead_flags(record, receipt, rules.origin))
        return self._judgment(receipt, ruling, record, stamps.stamp, flags)

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
            called_at=when(called_at),
            flags=tuple(dict.fromkeys(flags)),
            skip=self._skipped(call, rules),
        )

    def _repeat(self, receipt: Pending) -> Judgment:
        """The verdict on a record that is byte for byte the known state."""
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
            return dict.fromkeys(rules.destinations, BEFORE_START)
        return {
            name: BEFORE_DESTINATION
            for name in rules.destinations
            if name in self._since and created_at < self._since[name]
        }


def _ahead_flags(record: Mapping[str, Any], receipt: Pending, origin: Origin) -> tuple[str, ...]:
    """Flags for a call's times that lie too far ahead of its first receipt."""
    dialect = origin.dialect
    times = {"started_ahead": "started_at", "created_ahead": "created_at"}
    return tuple(
        flag
        for flag, attribute in times.items()
        for field in dialect.fields_of(attribute)
        if is_ahead(dialect.time(record.get(field), origin.zone), receipt.first_seen_at)
    )
