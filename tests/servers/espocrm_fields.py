"""EspoCRM's fields, and what its validators say of a value."""

import re
from typing import Any

from tests.servers.base import Field

_PHONE = re.compile(r"[0-9A-Za-z_@:#+()\-. ]{1,36}")
_TIME_TEXT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_DATE_TEXT = re.compile(r"\d{4}-\d\d-\d\d")

PERSON = (
    Field("firstName", length=100),
    Field("lastName", length=100, required=True),
    Field("name", readonly=True),
    Field("phoneNumber", type="phone"),
    Field("phoneNumberData", type="phones"),
    Field("emailAddress", length=254),
    Field("title", length=100),
    Field("description"),
    Field("addressStreet", length=255),
    Field("addressCity", length=100),
    Field("doNotCall", type="boolean"),
    Field("assignedUserId", type="reference"),
)
LEAD = (
    Field("accountName", length=255),
    Field("website", length=255),
    Field(
        "status",
        type="choice",
        options=("New", "Assigned", "In Process", "Converted", "Recycled", "Dead"),
    ),
    Field(
        "source",
        type="choice",
        options=("Call", "Email", "Existing Customer", "Partner", "Public Relations", "Web Site", "Other"),
    ),
)
CALL = (
    Field("name", length=100, required=True),
    Field("status", type="choice", options=("Planned", "Held", "Not Held")),
    Field("direction", type="choice", options=("Outbound", "Inbound")),
    Field("dateStart", type="datetime", required=True),
    Field("dateEnd", type="datetime", required=True),
    Field("duration", type="integer", readonly=True),
    Field("uid", readonly=True),
    Field("description"),
    Field("parentType", type="choice", options=("Account", "Lead", "Contact", "Opportunity", "Case")),
    Field("parentId", type="reference"),
    Field("assignedUserId", type="reference", required=True),
    Field("contactsIds", type="links"),
    Field("leadsIds", type="links"),
    Field("usersIds", type="links"),
    Field("teamsIds", type="links"),
)
TYPES = {
    "text": "varchar",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "choice": "enum",
    "choices": "multiEnum",
    "reference": "link",
    "links": "linkMultiple",
}


def fault_of(field: Field, value: Any, *, international: bool) -> str | None:
    """The type of the failure, as the error names it; None: the value is good."""
    if field.type == "text":
        return "maxLength" if field.length and len(str(value)) > field.length else None
    good = True
    match field.type:
        case "phone":
            good = _is_phone(value, international=international)
        case "phones":
            numbers = [one.get("phoneNumber") for one in value] if isinstance(value, list) else [None]
            good = all(_is_phone(number, international=international) for number in numbers)
        case "choice":
            good = value in field.options
        case "datetime":
            good = _TIME_TEXT.fullmatch(str(value)) is not None
        case "date":
            good = _DATE_TEXT.fullmatch(str(value)) is not None
        case "integer":
            good = isinstance(value, int) and not isinstance(value, bool)
        case "links" | "choices":
            good = isinstance(value, list)
    return None if good else "valid"


def _is_phone(value: Any, *, international: bool) -> bool:
    if not isinstance(value, str) or not _PHONE.fullmatch(value):
        return False
    return not international or re.fullmatch(r"\+\d{5,15}", re.sub(r"[ ().-]", "", value)) is not None
