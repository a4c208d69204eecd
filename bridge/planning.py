"""From a call's known state to the plan of one destination."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from bridge.call import Call
from bridge.mapping import CompiledMapping
from bridge.plan import Plan, Skip


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


def event_of(call: Call) -> str:
    """A call's place among calls: its time, then its key."""
    at = call.started_at or call.created_at
    # It stands beside every field of every contact: of a key its start is enough for the rare tie.
    return f"{round(at.timestamp() * 1000) if at else 0:011x} {call.key[:16]}"
