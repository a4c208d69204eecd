"""Reads a call's first record: the verdict on it is always `new`, so it is known before the record is filed.

The door reads each record as if it were a call's first, and nearly all are. Where filing opens a call for it,
the verdict and the deliveries owed are written in the same commit; else the judge reads it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.intake.columns import ColumnReader, columns_of, when
from bridge.model.call_order import event_time, is_ahead
from bridge.model.calls import NewCall
from bridge.model.skip_reasons import BEFORE_DESTINATION, BEFORE_START
from bridge.record.call import Call
from bridge.record.head import Head
from bridge.record.origin import Origin
from bridge.record.verdict import read_stamps

_TIMES_AHEAD = (("started_ahead", "started_at"), ("created_ahead", "created_at"))


@dataclass(frozen=True, slots=True)
class SourceRules:
    """How the records of one source are judged, and where its calls go."""

    origin: Origin
    destinations: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    start_at: datetime | None = None


class NewCallReader:
    """Reads what the ledger keeps of a new call of one source, and which destinations it is owed to."""

    def __init__(self, rules: SourceRules, destinations_since: Mapping[str, datetime]) -> None:
        self._rules = rules
        self._since = destinations_since
        self._columns = ColumnReader(rules.origin.dialect)
        self.decoder = self._columns.decoder
        """Decodes a record's head together with all else that `of_head` reads."""

    def of_record(self, payload: bytes, received_at: datetime, first_seen_at: datetime) -> NewCall:
        """The call that a record opens; the call was first seen when its first receipt came.

        Raises:
            NotAnObject: the record cannot be read.
        """
        record, odd = self._columns.read(payload)
        return self._of(record, odd, received_at, first_seen_at)

    def of_head(self, head: Head, received_at: datetime) -> NewCall | None:
        """The call that a record opens whose head was read by `decoder`; None: the judge has to read it."""
        try:
            record, odd = self._columns.of_head(head)
            return self._of(record, odd, received_at, received_at)
        except Exception:  # noqa: BLE001
            # Whatever is wrong with the record, it must be filed: the judge logs it and sets it aside.
            return None

    def _of(
        self,
        record: Mapping[str, Any],
        odd: tuple[str, ...],
        received_at: datetime,
        first_seen_at: datetime,
    ) -> NewCall:
        origin = self._rules.origin
        stamps = read_stamps(record, origin, received_at)
        call = Call.of(record, "", origin)
        flags = (*stamps.flags, *odd, *ahead_flags(record, first_seen_at, origin))
        return NewCall(
            columns=columns_of(call),
            stamp=stamps.stamp,
            called_at=when(event_time(call.started_at, call.created_at, first_seen_at)),
            flags=tuple(dict.fromkeys(flags)) if flags else (),
            destinations=self._rules.destinations,
            skip=self.skipped(call),
        )

    def skipped(self, call: Call) -> dict[str, str]:
        """The destinations that leave a call out because of its age, with the rule's name."""
        created_at = call.created_at or call.started_at
        if created_at is None:
            return {}
        rules = self._rules
        if rules.start_at is not None and created_at < rules.start_at:
            return dict.fromkeys(rules.destinations, BEFORE_START)
        return {
            name: BEFORE_DESTINATION
            for name in rules.destinations
            if name in self._since and created_at < self._since[name]
        }


def ahead_flags(record: Mapping[str, Any], first_seen_at: datetime, origin: Origin) -> tuple[str, ...]:
    """Flags for a call's times that lie too far ahead of its first receipt."""
    dialect, zone = origin.dialect, origin.zone
    return tuple(
        [
            flag
            for flag, attribute in _TIMES_AHEAD
            for field in dialect.fields_of(attribute)
            if is_ahead(dialect.time(record.get(field), zone), first_seen_at)
        ]
    )
