"""Zoho's search criteria: `(Field:operator:value)`, joined by and/or, with backslash escapes."""

import re
from collections.abc import Callable
from typing import Any

_PART = re.compile(r"\(([A-Za-z_$][\w.$]*):([a-z_]+):((?:\\.|[^\\(),])*)\)")

Condition = Callable[[dict[str, Any]], bool]


class BadCriteria(Exception):
    """The criteria are none."""


def criteria(text: str, known: frozenset[str]) -> Condition:
    """Read criteria, or raise `BadCriteria`."""
    condition, at = _any(text, 0, known)
    if at != len(text):
        raise BadCriteria(text[at:])
    return condition


def digits(text: Any) -> str:
    """A number as a search compares it: blanks, hyphens and brackets inside do not count, a plus does."""
    return re.sub(r"(?<=\S)[ ()\-.]", "", str(text))


def _any(text: str, at: int, known: frozenset[str]) -> tuple[Condition, int]:
    first, at = _one(text, at, known)
    parts, joint = [first], ""
    while text[at : at + 2] == "or" or text[at : at + 3] == "and":
        word = "or" if text[at] == "o" else "and"
        if joint and word != joint:
            raise BadCriteria(text[at:])
        joint = word
        part, at = _one(text, at + len(word), known)
        parts.append(part)
    chosen = any if joint == "or" else all
    return (lambda fields: chosen(part(fields) for part in parts)), at


def _one(text: str, at: int, known: frozenset[str]) -> tuple[Condition, int]:
    found = _PART.match(text, at)
    if found is not None:
        return _leaf(found[1], found[2], re.sub(r"\\(.)", r"\1", found[3]), known), found.end()
    if text[at : at + 1] != "(":
        raise BadCriteria(text[at:])
    condition, end = _any(text, at + 1, known)
    if text[end : end + 1] != ")":
        raise BadCriteria(text[end:])
    return condition, end + 1


def _leaf(name: str, operator: str, value: str, known: frozenset[str]) -> Condition:
    if name not in known or operator not in {"equals", "not_equal", "starts_with"}:
        raise BadCriteria(f"{name}:{operator}")

    def holds(fields: dict[str, Any]) -> bool:
        held = fields.get(name)
        text = str(held["id"] if isinstance(held, dict) else held or "").lower()
        if operator == "starts_with":
            return text.startswith(value.lower())
        return (text == value.lower()) is (operator == "equals")

    return holds
