"""What counts as the name of a call, and how names are spelt."""

import re
from hashlib import blake2b
from typing import Any

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Characters; of a longer one the first 200 are kept, with a digest of the whole.
_LONGEST_NAME = 200
# A long name as `name_in` has shortened it: shortened again, it must stay the same.
_SHORTENED = re.compile(r"[^\0]{200}#[0-9a-f]{16}", re.DOTALL)
NIL_UUID = "00000000-0000-0000-0000-000000000000"
# What programs write for "no name": two calls with one of these are not the same call.
NO_NAMES = frozenset(
    {NIL_UUID, "null", "(null)", "undefined", "none", "nil", "nan", "n/a", "-", "--", "无", "空"}
)


class IdentityConflict(ValueError):
    """One record carries the UUIDs of two calls."""


def is_uuid(name: str) -> bool:
    """Whether a name is a UUID; two different ones are never one call."""
    return UUID.fullmatch(name) is not None


def storable(text: str) -> str:
    """A text as it can be stored: half surrogate pairs are no UTF-8, and NUL ends a text in SQLite."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def name_in(value: Any) -> str:
    """A value as the name of a call: in lower case, cut where it is long; empty where it is none."""
    if value is None or isinstance(value, bool | list | dict):
        return ""
    if isinstance(value, float) and value.is_integer():
        # Some encoders write every number as a decimal: `12.0` is the name `12`.
        value = int(value)
    text = storable(str(value).strip().lower())
    if len(text) > _LONGEST_NAME and not _SHORTENED.fullmatch(text):
        text = f"{text[:_LONGEST_NAME]}#{blake2b(text.encode(), digest_size=8).hexdigest()}"
    return "" if text in NO_NAMES else text
