"""Zoho's own fields, and what values they take."""

import re
from typing import Any

from tests.servers.base import Field

_CONTACT = (
    Field("First_Name", length=40),
    Field("Last_Name", length=80, required=True),
    Field("Phone", type="phone", length=30),
    Field("Mobile", type="phone", length=30),
    Field("Home_Phone", type="phone", length=30),
    Field("Email", length=100),
    Field("Description", type="textarea", length=32_000),
    *map(Field, ["Title", "Mailing_City", "Mailing_Country", "Lead_Source", "Company"]),
    Field("Owner", type="reference"),
    *(Field(name, type="datetime", readonly=True) for name in ("Created_Time", "Modified_Time")),
)
MODULES: dict[str, tuple[Field, ...]] = {
    "Contacts": _CONTACT,
    "Leads": (*_CONTACT, Field("Lead_Status")),
    "Calls": (
        Field("Subject", required=True),
        Field("Call_Type", type="choice", options=("Inbound", "Outbound", "Missed"), required=True),
        Field("Call_Start_Time", type="datetime", required=True),
        Field("Call_Duration", type="duration"),
        Field("Call_Duration_in_seconds", type="integer"),
        Field(
            "Outgoing_Call_Status", type="choice", options=("Scheduled", "Completed", "Overdue", "Cancelled")
        ),
        *map(Field, ["Call_Purpose", "Call_Result", "Call_Agenda", "Caller_ID", "Dialled_Number"]),
        Field("Description", type="textarea", length=32_000),
        Field("Voice_Recording__s"),
        Field("Call_Status"),
        Field("CTI_Entry", type="boolean"),
        Field("Who_Id", type="reference"),
        Field("What_Id", type="reference"),
        Field("$se_module"),
        Field("Owner", type="reference"),
        *(Field(name, type="datetime", readonly=True) for name in ("Created_Time", "Modified_Time")),
    ),
}
_DATA_TYPES = {
    "choice": "picklist",
    "reference": "lookup",
    "duration": "text",
    "number": "double",
}
_SHAPES = {
    "datetime": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "duration": re.compile(r"(\d{1,2}:[0-5]\d|\d{1,4}):[0-5]\d"),
}
_JSON: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "reference": (dict,),
}
_SHOWN = {"integer": "integer", "number": "double", "boolean": "boolean", "reference": "jsonobject"}


def invalid(field: Field, value: Any) -> dict[str, Any] | None:  # noqa: PLR0911  # one for each way
    """The details of INVALID_DATA for a value; null clears, and is good."""
    if value is None:
        return None
    wanted = _JSON.get(field.type, (str,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        return {"expected_data_type": _SHOWN.get(field.type, "text"), "api_name": field.name}
    if isinstance(value, dict):
        bad = not isinstance(value.get("id"), str)
        return {"expected_data_type": "bigint", "api_name": "id"} if bad else None
    text = str(value)
    if field.options and text not in field.options:
        values = [{"display_value": option, "actual_value": option} for option in field.options]
        return {"api_name": field.name, "supported_values": values}
    shape = _SHAPES.get(field.type)
    if shape is not None and not shape.fullmatch(text):
        shown = "text" if field.type == "duration" else field.type
        return {"expected_data_type": shown, "api_name": field.name}
    if isinstance(value, str) and len(text) > (field.length or 255):
        return {"maximum_length": field.length or 255, "api_name": field.name}
    return None


def needs_duration(fields: dict[str, Any]) -> bool:
    """A call that took place has one."""
    planned = fields.get("Outgoing_Call_Status") in {"Scheduled", "Overdue", "Cancelled"}
    return not planned and fields.get("Call_Type") != "Missed"


def settings_entry(field: Field) -> dict[str, Any]:
    """What settings/fields says of one."""
    return {
        "api_name": field.name,
        "field_label": field.name.replace("_", " "),
        "data_type": _DATA_TYPES.get(field.type, field.type),
        "json_type": _SHOWN.get(field.type, "string"),
        "length": field.length or 255,
        "system_mandatory": field.required,
        "custom_field": field.unique,
        "read_only": field.readonly,
        "unique": {"casesensitive": "false"} if field.unique else {},
        "pick_list_values": [{"display_value": value, "actual_value": value} for value in field.options],
    }
