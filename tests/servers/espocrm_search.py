"""EspoCRM's list parameters: PHP's bracketed query names, and the `where` tree over a record's values."""

import operator
import re
from collections.abc import Callable
from typing import Any

Values = Callable[[str], list[Any]]
"""All values that a record holds for an attribute (a contact has several numbers)."""

_BRACKETS = re.compile(r"\[([^\]]*)\]")


class UnknownItem(Exception):
    """A type or a shape that the server does not know."""


def php_query(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """`where[0][type]=equals` as PHP reads it: nested, a later value replacing an earlier one."""
    tree: dict[str, Any] = {}
    for name, value in pairs:
        head, bracket, _ = name.partition("[")
        keys = [head, *_BRACKETS.findall(name[len(head) :])] if bracket else [name]
        level = tree
        for key in keys[:-1]:
            inner = level.setdefault(key or str(len(level)), {})
            if not isinstance(inner, dict):
                inner = level[key] = {}
            level = inner
        level[keys[-1] or str(len(level))] = value
    return tree


def as_items(given: Any) -> list[dict[str, Any]]:
    """A list of conditions, from JSON or from numbered brackets."""
    if isinstance(given, dict):
        given = list(given.values())
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise UnknownItem("where is no list of items")
    return given


def holds(item: dict[str, Any], values: Values) -> bool:
    """Whether a record with these values meets one item."""
    kind = item.get("type")
    value = item.get("value")
    if kind in {"or", "and", "not"}:
        inner = [holds(one, values) for one in as_items(value)]
        return any(inner) if kind == "or" else all(inner) if kind == "and" else not all(inner)
    attribute = item.get("attribute") or item.get("field")
    if not isinstance(attribute, str):
        raise UnknownItem("an item without an attribute")
    return _compares(kind, value, [held for held in values(attribute) if held is not None])


def _compares(kind: Any, value: Any, held: list[Any]) -> bool:
    texts = [_text(one) for one in held]
    if kind in {"in", "linkedWith"}:
        asked = value.values() if isinstance(value, dict) else [value] if isinstance(value, str) else value
        return not {_text(one) for one in asked}.isdisjoint(texts)
    if kind in _OF_NONE:
        return _OF_NONE[kind](texts)
    if kind not in _OF_ONE:
        raise UnknownItem(f"where type {kind!r}")
    return any(_OF_ONE[kind](text, _text(value)) for text in texts)


def _is_like(text: str, pattern: str) -> bool:
    expression = ".*".join(re.escape(part) for part in pattern.split("%"))
    return re.fullmatch(expression, text, re.DOTALL | re.IGNORECASE) is not None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


_OF_ONE: dict[str, Callable[[str, str], bool]] = {
    "equals": operator.eq,
    "notEquals": operator.ne,
    "like": _is_like,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": operator.contains,
    "after": operator.gt,
    "before": operator.lt,
    "greaterThanOrEquals": operator.ge,
    "lessThanOrEquals": operator.le,
}
_OF_NONE: dict[str, Callable[[list[str]], bool]] = {
    "isNull": operator.not_,
    "isNotNull": bool,
    "isTrue": lambda texts: "1" in texts,
    "isFalse": lambda texts: "1" not in texts,
}
