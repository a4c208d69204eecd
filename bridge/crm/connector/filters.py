"""The filters of connector files: escaping, encoding, signing, and reshaping of tables.

Begin at `CONNECTOR_FILTERS` at the end, which says under which name a connector file uses each function.
"""

import base64
import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import NoneType
from typing import Any
from urllib.parse import quote

import phonenumbers

from bridge.lib import patterns
from bridge.lib.errors import did_you_mean
from bridge.lib.expression import as_text
from bridge.lib.values import SettingError

_CRITERIA = re.compile(r"([\\(),])")
_LONGEST_BETWEEN = 1000


def path(value: Any) -> str:
    """Escape a text so that it stays one segment of an address."""
    return quote(as_text(value), safe="")


def soql(value: Any) -> str:
    """Escape a text for the quotes of a SOQL query."""
    return as_text(value).replace("\\", "\\\\").replace("'", "\\'")


def odata(value: Any) -> str:
    """Escape a text for the quotes of an OData filter."""
    return as_text(value).replace("'", "''")


def criteria(value: Any) -> str:
    """Escape a text for Zoho's search criteria: `\\` before brackets, commas and itself."""
    return _CRITERIA.sub(r"\\\1", as_text(value))


def json_text(value: Any) -> str:
    """A value as JSON text, for a query parameter or for JSON inside JSON."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def to_base64(value: Any) -> str:
    """A text in Base64."""
    return base64.b64encode(_bytes(value)).decode("ascii")


def to_base64url(value: Any) -> str:
    """A text in Base64 with `-` and `_`, as addresses take it."""
    return base64.urlsafe_b64encode(_bytes(value)).decode("ascii")


def to_digest(value: Any, algorithm: str = "sha256", form: str = "hex") -> str:
    """A text's digest: `md5`, `sha1`, `sha256`, `sha512`; as `hex` or `base64`."""
    return _written(hashlib.new(algorithm, _bytes(value), usedforsecurity=False).digest(), form)


def to_hmac(value: Any, key: Any, algorithm: str = "sha256", form: str = "hex") -> str:
    """A text's HMAC under a key; as `hex` or `base64`."""
    return _written(hmac.new(_bytes(key), _bytes(value), algorithm).digest(), form)


def from_base64(value: Any) -> bytes:
    """The bytes of a Base64 text, such as a key for `hmac`."""
    return base64.b64decode(as_text(value))


def joined_pairs(value: Mapping[str, Any], between: str = "&", equals: str = "=", empty: bool = False) -> str:
    """A table as `a=1&b=2`, sorted by name: what many CRMs have signed.

    Empty values are left out. With `empty` only null is left out, because null is not sent either.
    """
    kept = ((name, as_text(content)) for name, content in _items(value) if content is not None)
    return between.join(f"{name}{equals}{content}" for name, content in sorted(kept) if empty or content)


def texts(value: Mapping[str, Any], between: str = ";", null: str | None = None) -> dict[str, Any]:
    """A table with all values as text: lists are joined by `between`, null becomes `null`."""
    return {name: null if content is None else _text(content, between) for name, content in _items(value)}


def merge(value: Mapping[str, Any] | None, *others: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge tables; where two have the same name, the later table wins."""
    merged: dict[str, Any] = {}
    for later in (value, *others):
        merged.update(_items(later) if later is not None else ())
    return merged


def without(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A table without some names."""
    return {name: content for name, content in _items(value) if name not in names}


def _short(*texts_: str | None) -> None:
    # Each stands in the result as often as the table has values: 1,000 characters × 1,000 fields are 1 MB.
    if any(text is not None and len(text) > _LONGEST_BETWEEN for text in texts_):
        raise ValueError(f"a name or separator is longer than {_LONGEST_BETWEEN} characters")


def wrap(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A table whose every value stands in a table of its own: `{"a": {"value": 1}}`."""
    _short(name)
    return {key: {name: content} for key, content in _items(value)}


def pairs(value: Mapping[str, Any], name: str = "name", content: str = "value") -> list[dict[str, Any]]:
    """A table as a list: `[{"name": "a", "value": 1}]`."""
    _short(name, content)
    return [{name: key, content: held} for key, held in _items(value)]


def table_of_pairs(
    value: Iterable[Mapping[str, Any]], name: str = "name", content: str = "value"
) -> dict[str, Any]:
    """A list of names and values as a table: the opposite of `pairs`."""
    return {as_text(pair[name]): plain(pair.get(content)) for pair in value}


def first_match(value: Any, pattern: str, group: int = 1) -> str | None:
    """The text that a regular expression's group matches first; null where nothing matches."""
    match = patterns.search(pattern, as_text(value))
    return match[group] if match else None


def ascii_digits(value: Any) -> str:
    """The digits 0 to 9 of a text."""
    return "".join(char for char in as_text(value) if char in "0123456789")


def last_digits(value: Any, count: int) -> str:
    """The last `count` digits of a text."""
    return ascii_digits(value)[-count:]


def national_digits(value: Any) -> str:
    """An E.164 number's digits without the country code; of any other text all its digits."""
    text = as_text(value)
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return ascii_digits(text)
    return phonenumbers.national_significant_number(number)


def variants(value: Any) -> list[str]:
    """An E.164 number as people write it: with `+`, with `00`, digits only, national, with trunk 0."""
    text, whole, short = as_text(value), ascii_digits(value), national_digits(value)
    forms = [text, f"00{whole}", whole, short, f"0{short}"] if text.startswith("+") else [text, whole]
    return list(dict.fromkeys(form for form in forms if form))


def uuid5(value: Any, namespace: str = "callbridge") -> str:
    """A UUID that is the same each time for the same text and namespace."""
    return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_DNS, namespace), as_text(value)))


_PLAIN = (str, int, NoneType, bool, float)


def plain(value: Any) -> Any:
    """A value as JSON can carry it."""
    if value.__class__ in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _items(value: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((str(name), plain(content)) for name, content in value.items())


def _text(value: Any, between: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return between.join(as_text(item) for item in value)
    return as_text(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else as_text(value).encode()


def _written(raw: bytes, form: str) -> str:
    return base64.b64encode(raw).decode("ascii") if form == "base64" else raw.hex()


def _algorithm(value: object) -> None:
    if value not in _ALGORITHMS:
        raise SettingError("is no algorithm here", did_you_mean(as_text(value), _ALGORITHMS))


def _form(value: object) -> None:
    if value not in _FORMS:
        raise SettingError("is no form of a digest", did_you_mean(as_text(value), _FORMS))


def _pattern(value: object) -> None:
    try:
        patterns.refuse_unsafe(as_text(value))
    except patterns.PatternError as error:
        raise SettingError(str(error), error.remedy) from None


_ALGORITHMS = ("md5", "sha1", "sha256", "sha512")
_FORMS = ("base64", "hex")
CONNECTOR_ARGUMENTS: dict[str, Callable[[Any], object]] = {
    "algorithm": _algorithm,
    "form": _form,
    "pattern": _pattern,
}
"""Parameter name → the check of a constant argument; it raises SettingError, when the file is loaded."""

CONNECTOR_FILTERS: dict[str, Callable[..., Any]] = {
    "base64": to_base64,
    "base64url": to_base64url,
    "criteria": criteria,
    "digest": to_digest,
    "digits": ascii_digits,
    "found": first_match,
    "from_base64": from_base64,
    "hmac": to_hmac,
    "joined_pairs": joined_pairs,
    "json": json_text,
    "last_digits": last_digits,
    "merge": merge,
    "national": national_digits,
    "odata": odata,
    "pairs": pairs,
    "path": path,
    "soql": soql,
    "table": table_of_pairs,
    "texts": texts,
    "uuid5": uuid5,
    "variants": variants,
    "without": without,
    "wrap": wrap,
}
"""Name in connector files → filter."""
