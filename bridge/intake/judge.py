"""The judge: gives every receipt its verdict, in the order of arrival, after the platform has its answer."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from bridge.intake.columns import columns_of, field_flags, when
from bridge.intake.new_calls import NewCallReader, SourceRules, ahead_flags
from bridge.ledger import Destinations, IntakeLedger
from bridge.model.call_order import event_time
from bridge.model.calls import Columns, Judgment, Known, Pending, Verdict
from bridge.record.call import Call
from bridge.record.json_body import read_object
from bridge.record.verdict import (
    Incoming,
    Ruling,
    first,
    read_incoming,
    rule,
)

log = structlog.get_logger("bridge.judge")

GROUP = 200
"""Receipts judged in one commit."""


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
        self._new_calls = {name: NewCallReader(rules, destinations_since) for name, rules in sources.items()}
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
            return self._judge_first(receipt)
        incoming = self._read(receipt, rules)
        ruling = rule(known, incoming, rules.reads, rules.origin)
        flags = (*incoming.flags, *ahead_flags(incoming.values, receipt.first_seen_at, rules.origin))
        return self._judgment(receipt, ruling, ruling.known.values, incoming.stamp, flags)

    def _judge_first(self, receipt: Pending) -> Judgment:
        """The verdict on a call's first record: most calls have no other, so only their columns are read."""
        reader = self._new_calls[receipt.source]
        new = reader.of_record(receipt.payload, receipt.received_at, receipt.first_seen_at)
        return Judgment(
            receipt_id=receipt.receipt_id,
            call_id=receipt.call_id,
            source=receipt.source,
            verdict=Verdict.NEW,
            known=Known({}, {}, new.stamp, receipt.via, revision=1),
            unchanged=False,
            kept=True,
            digest=b"",
            columns=new.columns,
            stamp=new.stamp,
            called_at=new.called_at,
            flags=new.flags,
            skip=new.skip,
        )

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
            skip=self._new_calls[receipt.source].skipped(call),
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
