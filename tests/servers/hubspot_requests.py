"""How HubSpot reads paths and bodies."""

import re
from typing import Any

from tests.servers.hubspot_answers import refusal
from tests.servers.wire import Asked, Refused

DATED = re.compile(r"20\d\d-\d\d")
BATCH = 100
OPERATORS = frozenset(
    [
        *("EQ", "NEQ", "LT", "LTE", "GT", "GTE", "BETWEEN", "IN", "NOT_IN"),
        *("HAS_PROPERTY", "NOT_HAS_PROPERTY", "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"),
    ]
)


def canonical(asked: Asked) -> list[str]:
    """The path of either generation as one list: objects, default, associate or properties first."""
    match asked.segments:
        case ["crm", "v4", "objects", one, one_id, "associations", "default", other, other_id]:
            return ["default", one, one_id, other, other_id]
        case ["crm", "v4", "associations", one, other, "batch", "associate", "default"]:
            return ["associate", one, other]
        case ["crm", "v3", "objects" | "properties" as what, *rest]:
            return [what, *rest]
        case ["crm", _, date, *_] if DATED.fullmatch(date):
            return _canonical_dated(list(asked.segments))
    return []


def _canonical_dated(segments: list[str]) -> list[str]:
    match segments:
        case ["crm", "objects", _, one, one_id, "associations", "default", other, other_id]:
            return ["default", one, one_id, other, other_id]
        case ["crm", "associations", _, one, other, "batch", "associate", "default"]:
            return ["associate", one, other]
        case ["crm", "objects" | "properties" as what, _, *rest]:
            return [what, *rest]
    return []


def is_dated(asked: Asked) -> bool:
    """Whether the path is of the dated generation."""
    return bool(DATED.fullmatch(asked.segments[2]))


def body(asked: Asked) -> dict[str, Any]:
    """The body, an object."""
    content = asked.json()
    if not isinstance(content, dict):
        raise Refused(refusal("Invalid input JSON on line 1, column 1"))
    return content


def needed(content: Any, key: str, wanted: type = object) -> Any:
    """One key of an object that has to be there."""
    if not isinstance(content, dict) or key not in content:
        message = f"Invalid input JSON on line 1, column 1: Some required fields were not set: [{key}]"
        raise Refused(refusal(message))
    if not isinstance(content[key], wanted):
        message = f"Invalid input JSON: Cannot deserialize value of {key} as {wanted.__name__}"
        raise Refused(refusal(message))
    return content[key]


def properties(content: dict[str, Any]) -> dict[str, Any]:
    """All values are strings."""
    given = needed(content, "properties", dict)
    wrong = [name for name, value in given.items() if not isinstance(value, str)]
    if wrong:
        message = f"Invalid input JSON: Cannot deserialize value of type `java.lang.String` of {wrong[0]}"
        raise Refused(refusal(message))
    return dict(given)


def inputs(asked: Asked) -> list[dict[str, Any]]:
    """What a batch consists of."""
    given: list[dict[str, Any]] = needed(body(asked), "inputs", list)
    if not 1 <= len(given) <= BATCH:
        raise Refused(refusal(f"The maximum number of inputs supported in a batch request is {BATCH}"))
    if not all(isinstance(entry, dict) for entry in given):
        raise Refused(refusal("Invalid input JSON: inputs are objects"))
    return given


def links(content: dict[str, Any]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Whom a new object is linked to, and by which category and type; the list has to be there."""
    found = []
    for entry in needed(content, "associations", list):
        to = needed(needed(entry, "to", dict), "id", str)
        kinds = needed(entry, "types", list)
        found.append(
            (
                to,
                [
                    (needed(of, "associationCategory", str), needed(of, "associationTypeId", int))
                    for of in kinds
                ],
            )
        )
    return found


def pairs(asked: Asked) -> list[tuple[str, str]]:
    """What is linked to what in a batch of associations."""
    return [
        (needed(needed(pair, "from", dict), "id", str), needed(needed(pair, "to", dict), "id", str))
        for pair in inputs(asked)
    ]


def filter_property(entry: Any) -> str:
    """The property a filter looks at, if the filter is one."""
    operator = needed(entry, "operator", str)
    if operator not in OPERATORS:
        raise Refused(refusal(f"Invalid input JSON: {operator} is no operator"))
    if operator in {"IN", "NOT_IN"}:
        needed(entry, "values", list)
    elif operator not in {"HAS_PROPERTY", "NOT_HAS_PROPERTY"}:
        needed(entry, "value", str)
    return str(needed(entry, "propertyName", str))
