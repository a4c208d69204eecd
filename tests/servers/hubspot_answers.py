"""The shapes of HubSpot's answers."""

import json
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tests.servers.wire import Answer

_CORRELATION = "aeb5f871-7f07-4993-9211-075dc63e7cbf"
LIMIT_HEADERS = {
    "x-hubspot-ratelimit-max": "190",
    "x-hubspot-ratelimit-remaining": "189",
    "x-hubspot-ratelimit-interval-milliseconds": "10000",
    "x-hubspot-ratelimit-daily": "650000",
    "x-hubspot-ratelimit-daily-remaining": "649999",
}


def iso(moment: datetime) -> str:
    """Milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def envelope(status: int, category: str, message: str, **more: Any) -> Answer:
    """An error of the whole request."""
    body = {"status": "error", "message": message, "correlationId": _CORRELATION, "category": category}
    return Answer(status, {**body, **more})


def refusal(message: str, properties: Iterable[str] = ()) -> Answer:
    """What was asked for is not valid."""
    names = list(properties)
    return envelope(400, "VALIDATION_ERROR", message, **({"context": {"properties": names}} if names else {}))


def properties_refused(problems: Iterable[dict[str, Any]]) -> Answer:
    """Properties that do not exist, or values that they do not take: said in JSON inside the message."""
    return refusal(f"Property values were not valid: {json.dumps(list(problems))}")


def property_problem(name: str, error: str, message: str) -> dict[str, Any]:
    """One of them."""
    return {
        "isValid": False,
        "message": message,
        "error": error,
        "name": name,
        "localizedErrorMessage": message,
    }


def missing(what: str) -> Answer:
    """No such object."""
    return envelope(404, "OBJECT_NOT_FOUND", f"Object not found. objectId are usually numeric: {what}")


def item_error(answer: Answer, context: dict[str, list[str]], kind: str) -> dict[str, Any]:
    """One error of a batch: no index, only a context to know it by."""
    category, message = answer.body["category"], answer.body["message"]
    if category == "OBJECT_NOT_FOUND":
        message = (
            f"Could not get some {kind.upper()} objects, they may be deleted or not exist. "
            "Check that ids are valid."
        )
    return {"status": "error", "category": category, "message": message, "context": context}


def batch_answer(
    status: int, results: list[dict[str, Any]], errors: list[dict[str, Any]], *, dated: bool
) -> Answer:
    """A batch; with errors 207, but the dated generation stays with 200 and says it in the body only."""
    now = iso(datetime.now(UTC))
    body: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    if errors:
        body.update(numErrors=len(errors), errors=errors)
        status = status if dated else 207
    return Answer(status, body)


def shuffled(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same every time, and never in the order of the inputs."""
    mixed = sorted(results, key=lambda result: zlib.crc32(str(result["id"]).encode()))
    return mixed if mixed != results else mixed[::-1]


def association(one: str, other: str, type_id: int) -> dict[str, Any]:
    """One direction of a link."""
    spec = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id}
    return {"from": {"id": one}, "to": {"id": other}, "associationSpec": spec}
