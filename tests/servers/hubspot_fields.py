"""HubSpot's own properties, what values they take, and what its search sees of them."""

import re
from typing import Any

import phonenumbers

from tests.servers.base import Field
from tests.servers.hubspot_answers import property_problem

_TEXT = 65_536
_DISPOSITIONS = (
    "9d9162e7-6cf3-4944-bf63-4dff82258764",
    "f240bbac-87c9-4f6e-bf70-924b57d47db7",
    "a4c4c377-d246-4b32-a13b-75a56a4cd0ff",
    "b2cf5968-551e-4856-9783-52b3da59a7d0",
    "73a0d17f-1163-4015-bdd5-ec830791da20",
    "17b47fee-58de-441e-a44c-c6300d46f273",
)
_STATUSES = [
    "BUSY",
    "CALLING_CRM_USER",
    "CANCELED",
    "COMPLETED",
    "CONNECTING",
    "FAILED",
    "IN_PROGRESS",
    "NO_ANSWER",
    "QUEUED",
    "RINGING",
]
_NATIONAL = {
    "hs_searchable_calculated_phone_number": "phone",
    "hs_searchable_calculated_mobile_number": "mobilephone",
    "hs_searchable_calculated_international_phone_number": "phone",
}
CONTACTS = (
    Field("email", unique=True),
    Field("phone", type="phone"),
    Field("mobilephone", type="phone"),
    *map(Field, ["firstname", "lastname", "company", "jobtitle", "city", "country", "hubspot_owner_id"]),
    Field(
        "lifecyclestage", type="choice", options=("subscriber", "lead", "opportunity", "customer", "other")
    ),
    Field(
        "hs_lead_status", type="choice", options=("NEW", "OPEN", "IN_PROGRESS", "CONNECTED", "UNQUALIFIED")
    ),
    *(Field(name, type="phone", readonly=True) for name in _NATIONAL),
    *(Field(name, readonly=True) for name in ("hs_object_id", "createdate", "lastmodifieddate")),
)
CALLS = (
    Field("hs_timestamp", type="datetime", required=True),
    *map(Field, ["hs_call_title", "hs_call_body", "hs_call_from_number", "hs_call_to_number"]),
    *map(
        Field, ["hs_call_recording_url", "hubspot_owner_id", "hs_activity_type", "hs_call_callee_object_id"]
    ),
    *map(Field, ["hs_call_callee_object_type", "hs_call_app_id", "hs_call_external_id"]),
    *map(Field, ["hs_call_external_account_id", "hs_call_source"]),
    Field("hs_call_duration", type="number"),
    Field("hs_call_direction", type="choice", options=("INBOUND", "OUTBOUND")),
    Field("hs_call_status", type="choice", options=tuple(_STATUSES)),
    Field("hs_call_disposition", type="choice", options=_DISPOSITIONS),
    *(Field(name, readonly=True) for name in ("hs_object_id", "hs_createdate", "hs_lastmodifieddate")),
)
_TYPES = {
    "choice": ("enumeration", "select"),
    "number": ("number", "number"),
    "integer": ("number", "number"),
    "datetime": ("datetime", "date"),
    "date": ("date", "date"),
    "boolean": ("bool", "booleancheckbox"),
    "phone": ("string", "phonenumber"),
}
_SHAPES = {
    "number": (re.compile(r"-?\d+(\.\d+)?"), "INVALID_FLOAT"),
    "integer": (re.compile(r"-?\d+"), "INVALID_INTEGER"),
    "boolean": (re.compile("true|false"), "INVALID_BOOLEAN"),
    "datetime": (
        re.compile(r"\d{12,14}|\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?Z"),
        "INVALID_DATE",
    ),
    "date": (re.compile(r"\d{12,14}|\d{4}-\d\d-\d\d"), "INVALID_DATE"),
}


def invalid(  # noqa: PLR0911  # one for each way to be wrong
    field: Field | None, name: str, value: str
) -> dict[str, Any] | None:
    """What is wrong with a value, as HubSpot says it inside its message; an empty string clears."""
    if field is None:
        return property_problem(name, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist')
    if field.readonly:
        return property_problem(
            name, "READ_ONLY_VALUE", f'"{name}" is a read only property; its value cannot be set'
        )
    if not value:
        return None
    if field.options and value not in field.options:
        allowed = ", ".join(field.options)
        return property_problem(
            name, "INVALID_OPTION", f"{value} was not one of the allowed options: [{allowed}]"
        )
    if len(value) > (field.length or _TEXT):
        return property_problem(
            name, "PROPERTY_VALUE_TOO_LONG", f"{name} is longer than {field.length or _TEXT}"
        )
    shape, error = _SHAPES.get(field.type, (None, ""))
    if shape is not None and not shape.fullmatch(value):
        return property_problem(name, error, f"{value} was not a valid {field.type}.")
    return None


def national(fields: dict[str, Any]) -> dict[str, str]:
    """The calculated properties: digits without the country code, and with it."""
    found: dict[str, str] = {}
    for name, source in _NATIONAL.items():
        text = fields.get(source, "")
        digits = re.sub(r"\D", "", text)
        if "international" not in name and text.startswith("+"):
            try:
                digits = str(phonenumbers.parse(text).national_number)
            except phonenumbers.NumberParseException:
                digits = ""
        if digits:
            found[name] = digits
    return found


def lets_pass(entry: dict[str, Any], held: Any) -> bool:  # noqa: PLR0911  # one for each operator
    """Whether one filter lets a value pass."""
    value = str(held).lower() if held is not None else None
    wanted = str(entry.get("value", "")).lower()
    several = [str(one).lower() for one in entry.get("values", [])]
    match entry["operator"]:
        case "EQ":
            return value == wanted
        case "NEQ":
            return value != wanted
        case "IN":
            return value in several
        case "NOT_IN":
            return value is not None and value not in several
        case "HAS_PROPERTY":
            return value is not None
        case "NOT_HAS_PROPERTY":
            return value is None
        case "CONTAINS_TOKEN":
            return value is not None and wanted.strip("*") in value
    raise NotImplementedError(f"this server cannot search with {entry['operator']}")


def property_entry(field: Field) -> dict[str, Any]:
    """What the list of properties says of one."""
    kind, widget = _TYPES.get(field.type, ("string", "text"))
    return {
        "name": field.name,
        "label": field.name,
        "type": kind,
        "fieldType": widget,
        "groupName": "information",
        "hasUniqueValue": field.unique,
        "calculated": field.name in _NATIONAL,
        "options": [{"label": option, "value": option, "hidden": False} for option in field.options],
        "modificationMetadata": {"readOnlyValue": field.readonly, "archivable": True},
    }
