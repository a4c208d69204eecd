"""The fields of the platform's record, and which of them are what mappings read as `call.…`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bridge.lib.whole_numbers import parse_int
from bridge.record.call import Direction, Sex, text_of
from bridge.record.dialect import ComputedAttribute, EnvelopeFields, FieldKind

_NAMES_BY_KIND: dict[FieldKind, str] = {
    FieldKind.TEXT: """
        sn user_sn user_name parent_sn team_sn team_name name phone address unit unit_phone project_sn
        project_caption endreason recordpath recordfile status cdr_sn mark agent_sn agent_name status_manual
        hangup_serial_number source operator area_code status_sub fs_listen_agent caller warning_results
        satisfaction_caption virtual_extension_number last_reply virtual_extension_endreason
        ext2 ext3 ext4 ext5 dial_task_main_sn rec_sex classify sip_error_code summary
        data1 data2 data3 data4 data5 data6 data7 data8 data9 data10 data11 data12 data13 data14 data15
        data16 data17 data18 data19 data20 data21 data22 data23 data24 data25 data26 data27 data28 data29
        data30""",
    FieldKind.NAME: "uuid base_info",
    FieldKind.INTEGER: """
        id talktimes score call_count asks_count return_visit asks_count_routine qc_status is_wechat
        fs_monitor_change_talk fs_push_screens fs_intervention_time is_deleted is_transfertoagent
        call_from_type transfer_type number_status actual_push_screens_total is_seating_assistance
        warning_times degree_of_satisfaction satisfaction_invitation_type tts_service_id
        auto_add_wechat_status charging_minute ext1 is_first_connected""",
    FieldKind.TIME: "created_at updated_at connected_at disconnected_at started_at push_crm_at",
    FieldKind.EPOCH: "pushed_at listened_at intervention_at",
    FieldKind.TAGS: "labelling dynamic_labelling",
    FieldKind.DIALOGUE: "talk_info",
}

FIELD_KINDS: Mapping[str, FieldKind] = MappingProxyType(
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

DIRECT_ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        name: tuple(fields.split())
        for name, fields in {
            "uuid": "uuid",
            "sn": "sn",
            "id": "id",
            "phone": "phone",
            "name": "name",
            "company": "unit",
            "company_phone": "unit_phone",
            "address": "address",
            "area": "area_code",
            "grade_auto": "status",
            "grade_manual": "status_manual",
            "grade_sub": "status_sub",
            "score": "score",
            "tags": "labelling",
            "dynamic_tags": "dynamic_labelling",
            "created_at": "created_at",
            "updated_at": "updated_at",
            "started_at": "started_at",
            "connected_at": "connected_at",
            "disconnected_at": "disconnected_at",
            "first_connected": "is_first_connected",
            "talk_seconds": "talktimes",
            "charged_minutes": "charging_minute",
            "call_count": "call_count",
            "from_type": "call_from_type",
            "is_deleted": "is_deleted",
            "hangup_by": "endreason",
            "hangup_node": "hangup_serial_number",
            "number_status": "number_status",
            "caller": "caller",
            "transferred": "is_transfertoagent",
            "recording_file": "recordfile",
            "dialogue": "talk_info",
            "last_reply": "last_reply",
            "question_count": "asks_count",
            "summary": "summary",
            "remark": "mark",
            "read": "return_visit",
            "project": "project_sn",
            "project_name": "project_caption",
            "task": "dial_task_main_sn cdr_sn",
            "task_name": "source",
            "agent_sn": "agent_sn",
            "agent_name": "agent_name",
            "user_sn": "user_sn",
            "user_name": "user_name",
            "account": "parent_sn",
            "team_name": "team_name",
            "wechat_pushed": "is_wechat",
            "wechat_status": "auto_add_wechat_status",
            "satisfaction": "degree_of_satisfaction",
            "satisfaction_text": "satisfaction_caption",
        }.items()
    }
)

# The platform documents two lists of these codes. From 4 on they contradict each other; used here are codes
# on which both agree, or which only one of them has.
_INBOUND = frozenset({1, 7})
_OUTBOUND = frozenset({0, 2, 3, 4, 6})
_VOICE_TEST = 3
_SEX: Mapping[str, Sex] = {"1": "male", "2": "female", "男": "male", "女": "female"}


def _direction(record: Mapping[str, Any]) -> Direction | None:
    kind = parse_int(record.get("call_from_type"))
    if kind in _INBOUND:
        return "inbound"
    if kind in _OUTBOUND:
        return "outbound"
    base_info = (text_of(record.get("base_info")) or "").lower()
    if base_info.endswith("out"):
        return "outbound"
    return "inbound" if base_info.endswith("in") else None


def _is_voice_test(record: Mapping[str, Any]) -> bool:
    return parse_int(record.get("call_from_type")) == _VOICE_TEST


def _sex(record: Mapping[str, Any]) -> Sex | None:
    return _SEX.get(text_of(record.get("rec_sex")) or "")


COMPUTED_ATTRIBUTES: Mapping[str, ComputedAttribute] = MappingProxyType(
    {
        "direction": ComputedAttribute(("call_from_type", "base_info"), _direction),
        "is_voice_test": ComputedAttribute(("call_from_type",), _is_voice_test),
        "sex": ComputedAttribute(("rec_sex",), _sex),
    }
)

ENVELOPE = EnvelopeFields(
    ambiguous=frozenset({"id", "status", "source", "name", "operator", "mark", "summary", "sn", "classify"}),
    identifying=frozenset({"uuid", "created_at", "updated_at", "started_at"}),
)
