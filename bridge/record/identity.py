"""Which call is it? A call's names, from what a record says."""

import re
from hashlib import blake2b
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LONGEST_NAME = 200
# A long name as the ledger keeps it, by which it is asked for again.
_SHORTENED = re.compile(r"[^\0]{200}#[0-9a-f]{16}", re.DOTALL)
_NIL = "00000000-0000-0000-0000-000000000000"
# What programs write for no name: calls that share it are not one call.
NO_NAMES = frozenset(
    {_NIL, "null", "(null)", "undefined", "none", "nil", "nan", "n/a", "-", "--", "无", "空"}
)


class IdentityConflict(ValueError):
    """One record carries the UUIDs of two calls."""


def is_uuid(name: str) -> bool:
    """Whether a name is a UUID; two different ones are never one call."""
    return _UUID.fullmatch(name) is not None


def names_of(uuid: Any, base_info: Any) -> tuple[str, ...]:
    """The call's names, lower case, the first one first; empty where the record has none.

    A name is the record's `uuid`, the UUID that `base_info` starts with, or `base_info`
    whole when it starts with none.

    Raises:
        IdentityConflict: `uuid` and a `base_info` that starts with another UUID.
    """
    own = _text(uuid)
    unique = _text(base_info)
    if found := _UUID.match(unique):
        carried = found.group() if found.group() != _NIL else ""
        if is_uuid(own) and carried and own != carried:
            raise IdentityConflict(f"uuid is {own}, base_info starts with {carried}")
        unique = carried
    # Of a name in which a character was broken nobody knows which it was.
    return tuple(dict.fromkeys(name for name in (own, unique) if name and "\ufffd" not in name))


def storable(text: str) -> str:
    """A text as every ledger stores it: half a surrogate pair is no UTF-8, and NUL ends a text for SQLite."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool | list | dict):
        return ""
    if isinstance(value, float) and value.is_integer():
        # Some encoders write every number as a decimal.
        value = int(value)
    text = storable(str(value).strip().lower())
    if len(text) > _LONGEST_NAME and not _SHORTENED.fullmatch(text):
        text = f"{text[:_LONGEST_NAME]}#{blake2b(text.encode(), digest_size=8).hexdigest()}"
    return "" if text in NO_NAMES else text
