"""纷享销客's fields as `describe` tells them, and what its values look like."""

from typing import Any

from tests.servers.base import Field

PERSON = (
    Field("name", length=100, required=True),
    Field("tel", type="phone", length=100),
    Field("mobile", type="phone", length=100),
    Field("email", length=100),
    Field("company", length=300),
    Field("job_title", length=100),
    Field("remark", type="long_text", length=2000),
    Field("owner", type="employee"),
)
LEAD = (
    *PERSON,
    Field("address", length=300),
    Field("source", type="choice", options=("1", "2", "other")),
    Field("leads_stage", type="choice", options=("1", "2", "3")),
    Field("leads_pool_id", type="reference"),
    Field("next_followed_time", type="datetime"),
)
CALL = (
    Field("name", length=100, required=True),
    Field("owner", type="employee"),
    Field("call_uuid__c", length=100, external=True),
    Field("lead__c", type="reference"),
    Field("contact__c", type="reference"),
    Field("started_at__c", type="datetime"),
    Field("ended_at__c", type="datetime"),
    Field("talk_seconds__c", type="number"),
    Field("direction__c", type="choice", options=("out", "in")),
    Field("grade__c", type="choice", options=("A", "B", "C", "D", "E", "F")),
    Field("recording__c", type="url", length=1000),
    Field("transcript__c", type="long_text", length=10_000),
)
TYPES = {
    "phone": "phone_number",
    "choice": "select_one",
    "datetime": "date_time",
    "reference": "object_reference",
}
_EARLIEST_MS = 946_684_800_000


def is_fault(field: Field, value: Any) -> bool:
    """Whether a value is not in the documented form, is too long or is no option."""
    match field.type:
        case "number":
            return not (isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdigit())
        case "datetime":
            return not isinstance(value, int) or isinstance(value, bool) or value < _EARLIEST_MS
        case "employee":
            return not isinstance(value, list) or not all(isinstance(one, str) for one in value)
        case "choice":
            return value not in field.options
        case "boolean":
            return not isinstance(value, bool)
    return not isinstance(value, str) or bool(field.length and len(value) > field.length)


def described(field: Field) -> dict[str, Any]:
    """One field as `describe` shows it."""
    about: dict[str, Any] = {
        "api_name": field.name,
        "label": field.name,
        "type": TYPES.get(field.type, field.type),
        "is_required": field.required,
        "is_active": True,
    }
    about |= {"max_length": field.length} if field.length else {}
    options = [{"label": f"选项{value}", "value": value} for value in field.options]
    return about | ({"options": options} if options else {})
