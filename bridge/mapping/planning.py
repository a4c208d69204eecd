"""From a call's known state to the plan of one destination."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from bridge.mapping import CompiledMapping
from bridge.model.call_order import event_text, event_time
from bridge.model.plan import Plan, Skip
from bridge.record.call import Call


@dataclass(frozen=True, slots=True)
class Origin:
    """How to read the calls of one source."""

    zone: ZoneInfo
    country: str
    recording_url: str


def call_of(values: Mapping[str, Any], key: str, source: str, origin: Origin) -> Call:
    """A call as mappings see it."""
    return Call.of(
        values,
        key=key,
        source=source,
        zone=origin.zone,
        country=origin.country,
        recording_url=origin.recording_url,
    )


def plan_of(mapping: CompiledMapping, call: Call, origin: Origin) -> Plan | Skip:
    """What a CRM should hold for a call.

    Raises:
        MappingFault: the call cannot be mapped.
    """
    return mapping.plan(call, origin.zone, origin.country)


def event_of(call: Call, first_seen_at: datetime) -> str:
    """A call's place among calls: its time, then its key."""
    return event_text(event_time(call.started_at, call.created_at, first_seen_at), call.key)
