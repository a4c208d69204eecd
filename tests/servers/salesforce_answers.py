"""The shapes of Salesforce's answers."""

from typing import Any

from tests.servers.base import Record
from tests.servers.wire import Answer, Asked, Refused


def body(asked: Asked) -> dict[str, Any]:
    """The body, an object."""
    content = asked.json()
    if not isinstance(content, dict):
        raise Refused(errors(400, "JSON_PARSER_ERROR", "Unexpected end-of-input or no object"))
    return content


def errors(status: int, code: str, message: str, fields: list[str] | None = None) -> Answer:
    """An error, in the array that Salesforce answers with."""
    error: dict[str, Any] = {"message": message, "errorCode": code}
    return Answer(status, [error if fields is None else {**error, "fields": fields}])


def missing() -> Answer:
    """No such thing."""
    return errors(404, "NOT_FOUND", "The requested resource does not exist")


def duplicates(others: list[Record]) -> Answer:
    """A duplicate rule found others."""
    matches = [
        {
            "additionalInformation": [],
            "fieldDiffs": [],
            "matchConfidence": 100.0,
            "record": {"attributes": {"type": "Contact"}, "Id": record.id},
        }
        for record in others
    ]
    result = {
        "allowSave": True,
        "duplicateRule": "Standard_Contact_Duplicate_Rule",
        "duplicateRuleEntityType": "Contact",
        "errorMessage": "Use one of these records?",
        "matchResults": [
            {
                "entityType": "Contact",
                "errors": [],
                "matchRecords": matches,
                "size": len(matches),
                "success": True,
            }
        ],
    }
    error = {
        "duplicateResult": result,
        "errorCode": "DUPLICATES_DETECTED",
        "message": "Use one of these records?",
    }
    return Answer(400, [error])
