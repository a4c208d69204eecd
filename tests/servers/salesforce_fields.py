"""Salesforce's own fields, and what values they take."""

import re
from typing import Any

from tests.servers.base import Field

_STAMPS = ("CreatedDate", "LastModifiedDate", "SystemModstamp")
_PERSON = (
    Field("LastName", length=80, required=True),
    Field("FirstName", length=40),
    Field("Name", readonly=True),
    Field("Phone", type="phone", length=40),
    Field("MobilePhone", type="phone", length=40),
    Field("Email", length=80),
    Field("Title", length=128),
    Field("Description", length=32_000),
    Field("LeadSource"),
    Field("OwnerId", type="reference"),
    *(Field(name, type="datetime", readonly=True) for name in _STAMPS),
)
OBJECTS: dict[str, tuple[Field, ...]] = {
    "Contact": (
        *_PERSON,
        Field("HomePhone", type="phone", length=40),
        Field("AccountId", type="reference"),
        *map(Field, ["MailingCity", "MailingCountry"]),
    ),
    "Lead": (
        *_PERSON,
        Field("Company", length=255, required=True),
        Field("Status"),
        Field("IsConverted", type="boolean", readonly=True),
    ),
    "Task": (
        Field("Subject", length=255),
        Field("WhoId", type="reference"),
        Field("WhatId", type="reference"),
        Field("OwnerId", type="reference"),
        Field(
            "Status",
            type="choice",
            options=("Not Started", "In Progress", "Completed", "Waiting on someone else", "Deferred"),
        ),
        Field("Priority", type="choice", options=("High", "Normal", "Low")),
        Field("ActivityDate", type="date"),
        Field("Description", length=32_000),
        Field("TaskSubtype", type="choice", options=("Task", "Email", "Call"), create_only=True),
        Field("CallType", type="choice", options=("Inbound", "Outbound", "Internal")),
        Field("CallDurationInSeconds", type="integer", length=8),
        Field("CallDisposition", length=255),
        Field("CallObject", length=255),
        *(Field(name, type="datetime", readonly=True) for name in _STAMPS),
    ),
}
_TYPES = {
    "text": "string",
    "choice": "picklist",
    "integer": "int",
    "number": "double",
}
_SHAPES = {
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "datetime": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:?\d\d)"),
    "integer": re.compile(r"-?\d{1,8}"),
    "number": re.compile(r"-?\d+(\.\d+)?"),
    "boolean": re.compile("true|false", re.IGNORECASE),
    "reference": re.compile(r"[A-Za-z0-9]{15}([A-Za-z0-9]{3})?"),
}


def label(name: str) -> str:
    """The name as people see it: `CallType` is Call Type."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("__c")).replace("_", " ")


def invalid(field: Field, value: Any) -> tuple[str, str] | None:  # noqa: PLR0911  # one for each way
    """Code and sentence for a value that a field does not take; null clears, and is good."""
    if value is None:
        return None
    shape = _SHAPES.get(field.type)
    if shape is not None:
        if shape.fullmatch(str(value)) and not isinstance(value, (dict, list)):
            return None
        if field.type == "reference":
            return "MALFORMED_ID", f"{label(field.name)}: id value of incorrect type: {value}"
        kind = _TYPES.get(field.type, field.type)
        return "JSON_PARSER_ERROR", f"Cannot deserialize instance of {kind} from value {value}"
    if not isinstance(value, str):
        return "JSON_PARSER_ERROR", f"Cannot deserialize instance of string from value {value}"
    if field.options and value not in field.options:
        code = "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
        return code, f"{label(field.name)}: bad value for restricted picklist field: {value}"
    if len(value) > (field.length or 255):
        most = field.length or 255
        return (
            "STRING_TOO_LONG",
            f"{label(field.name)}: data value too large: {value[:80]} (max length={most})",
        )
    return None


def described(field: Field) -> dict[str, Any]:
    """What a describe says of one."""
    values = [{"value": option, "label": option, "active": True} for option in field.options]
    return {
        "name": field.name,
        "label": label(field.name),
        "type": _TYPES.get(field.type, field.type),
        "length": 0 if field.type in {"integer", "date", "datetime"} else field.length or 255,
        "nillable": not field.required,
        "createable": not field.readonly,
        "updateable": not field.readonly and not field.create_only,
        "externalId": field.unique or field.external,
        "unique": field.unique,
        "custom": field.name.endswith("__c"),
        "restrictedPicklist": bool(field.options),
        "picklistValues": values,
    }
