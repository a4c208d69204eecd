"""The platform's record: its fields by name, and what each means once the noise of types is gone."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from hashlib import blake2b
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from bridge.lib.timestamps import UnreadableTimeError, parse_time, read_time
from bridge.record.dialogue import Turn, meaning, parse_dialogue, split_labels
from bridge.record.origin import Origin


class Kind(Enum):
    """How a field is read, by its declared type and by how it really arrives."""

    TEXT = "text"
    NAME = "name"  # of a call: case-blind
    INTEGER = "integer"
    TIME = "time"  # naive, in the platform's zone
    EPOCH = "epoch"
    TAGS = "tags"
    DIALOGUE = "dialogue"


_NAMES_BY_KIND: dict[Kind, str] = {
    Kind.TEXT: """
        sn user_sn user_name parent_sn team_sn team_name name phone address unit unit_phone project_sn
        project_caption endreason recordpath recordfile status cdr_sn mark agent_sn agent_name status_manual
        hangup_serial_number source operator area_code status_sub fs_listen_agent caller warning_results
        satisfaction_caption virtual_extension_number last_reply virtual_extension_endreason
        ext2 ext3 ext4 ext5 dial_task_main_sn rec_sex classify sip_error_code summary
        data1 data2 data3 data4 data5 data6 data7 data8 data9 data10 data11 data12 data13 data14 data15
        data16 data17 data18 data19 data20 data21 data22 data23 data24 data25 data26 data27 data28 data29
        data30""",
    Kind.NAME: "uuid base_info",
    Kind.INTEGER: """
        id talktimes score call_count asks_count return_visit asks_count_routine qc_status is_wechat
        fs_monitor_change_talk fs_push_screens fs_intervention_time is_deleted is_transfertoagent
        call_from_type transfer_type number_status actual_push_screens_total is_seating_assistance
        warning_times degree_of_satisfaction satisfaction_invitation_type tts_service_id
        auto_add_wechat_status charging_minute ext1 is_first_connected""",
    Kind.TIME: "created_at updated_at connected_at disconnected_at started_at push_crm_at",
    Kind.EPOCH: "pushed_at listened_at intervention_at",
    Kind.TAGS: "labelling dynamic_labelling",
    Kind.DIALOGUE: "talk_info",
}

FIELDS: Mapping[str, Kind] = MappingProxyType(
    {name: kind for kind, names in _NAMES_BY_KIND.items() for name in names.split()}
)

BOOKKEEPING: Mapping[str, str] = MappingProxyType(
    {
        "updated_at": "the stamp that orders the states of a record, not a part of what they say",
        "push_crm_at": "when the platform last pushed the record: every push would be news of itself",
        "pushed_at": "when a screen was asked to pop up at an agent's desk",
        "fs_push_screens": "whether that screen pop was requested and acknowledged",
        "actual_push_screens_total": "how many screen pops were acknowledged",
    }
)

_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}\.[0-9]{1,15}")


def canonical(record: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """The meaning of every field that is there, empty ones as None; what cannot be read stays as it is."""
    zone = origin.zone
    result: dict[str, Any] = {}
    for name, value in record.items():
        if value is None or value == "" or (isinstance(value, str) and not value.strip()):
            result[name] = None
        elif (kind := FIELDS.get(name)) is None:
            # Of what type an unknown field is, nobody has said: a number and its digits are one.
            result[name] = _read_text(value, zone)
        elif kind is Kind.DIALOGUE:
            result[name] = dialogue_of(record, origin) or None
        else:
            result[name] = _READERS[kind](value, zone)
    return result


def dialogue_of(record: Mapping[str, Any], origin: Origin) -> tuple[Turn, ...]:
    """The turns of a record, dated by its own call times."""
    zone = origin.zone
    start = parse_time(record.get("connected_at"), zone) or parse_time(record.get("started_at"), zone)
    end = parse_time(record.get("disconnected_at"), zone)
    return parse_dialogue(
        record.get("talk_info"), start or parse_time(record.get("created_at"), zone), end, zone
    )


def digest(canonical_mapping: Mapping[str, Any]) -> bytes:
    """16 bytes that tell one meaning from another, in every process and order of keys; absent is None.

    A dialogue counts with what both full encodings carry.
    """
    said = {name: value for name, value in canonical_mapping.items() if value is not None and value != ()}
    # ASCII output writes half surrogate pairs as escapes, so that they cannot break the encoding.
    text = json.dumps(said, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_jsonable)
    return blake2b(text.encode("ascii"), digest_size=16).digest()


def parse_int(value: object) -> int | None:
    """A whole number, however it is spelt (`88`, `"88"`, `88.0`, true); None for anything else."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and _INTEGER.fullmatch(text := value.strip()):
        return int(text.partition(".")[0])
    return None


def _read_text(value: Any, _zone: ZoneInfo) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _read_name(value: Any, zone: ZoneInfo) -> Any:
    text = _read_text(value, zone)
    return text.strip().lower() if isinstance(text, str) else text


def _read_integer(value: Any, _zone: ZoneInfo) -> Any:
    number = parse_int(value)
    if number is None and isinstance(value, str) and _DECIMAL.fullmatch(text := value.strip()):
        return float(text)
    return value if number is None else number


def _read_time(value: Any, zone: ZoneInfo) -> Any:
    try:
        return read_time(value, zone)
    except UnreadableTimeError:
        return value


def _read_tags(value: Any, _zone: ZoneInfo) -> Any:
    if isinstance(value, dict | bool):
        return value
    return split_labels(value) or None


_READERS: Mapping[Kind, Callable[[Any, ZoneInfo], Any]] = {
    Kind.TEXT: _read_text,
    Kind.NAME: _read_name,
    Kind.INTEGER: _read_integer,
    Kind.TIME: _read_time,
    Kind.EPOCH: _read_time,
    Kind.TAGS: _read_tags,
}


def _jsonable(value: object) -> Any:
    if isinstance(value, datetime):
        return {"time": value.astimezone(UTC).isoformat()}
    if isinstance(value, Turn):
        return meaning(value)
    raise TypeError(f"a {type(value).__name__} has no place in a record")
