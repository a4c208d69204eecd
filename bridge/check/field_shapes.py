"""Which values a CRM's field takes, by the CRM's own description: type, options, length, form of times.

Begin at `FieldShape.refuses()`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.crm.connector import Describe
from bridge.crm.connector.answer import dig
from bridge.lib.errors import did_you_mean
from bridge.lib.expression import as_text
from bridge.lib.lengths import UNIT_NAMES, LengthUnit, length_of

_NUMBERS = {"bigint", "currency", "decimal", "double", "float", "int", "integer", "long", "money", "number"}
_NUMBERS |= {"numeric", "percent", "short"}
_BOOLEANS = {"bool", "boolean", "checkbox", "true_or_false"}
_TIMES = {"date", "date_time", "datetime", "datetime_tz", "timestamp"}
_MOST_OPTIONS = 12
EXAMPLE_TIME = datetime(2026, 11, 22, 16, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FieldShape:
    """Type, options, length and form of times of one CRM field."""

    type: str
    options: Sequence[str]
    length: int | None
    form: str | None = None
    """How a time is written there, as in strftime(3); None: unknown."""

    @classmethod
    def of(cls, describe: Describe, definition: Any) -> "FieldShape":
        """Read the shape out of the CRM's description of a field."""
        section = describe.section
        listed = dig(definition, section.options) if section.options is not None else None
        options = [
            as_text(dig(option, section.option) if isinstance(option, Mapping) else option)
            for option in (listed if isinstance(listed, list | Mapping) else ())
        ]
        length = as_text(dig(definition, section.length)) if section.length is not None else ""
        kind = as_text(dig(definition, section.type)) if section.type is not None else ""
        return cls(
            kind,
            options,
            int(length) if length.isdecimal() and int(length) > 0 else None,
            section.forms.get(kind),
        )

    def refuses(self, value: Any, unit: LengthUnit) -> tuple[str, str] | None:
        """Message and remedy where the CRM would refuse a value; None where it would take it."""
        if value in (None, "", []):
            return None
        shown = as_text(value)
        if self.form is None and not _fits(self.type, value):
            return (
                f"{shown[:40]!r} does not fit: the CRM expects {self.type}",
                "use a filter, or another field",
            )
        if self.form is not None and not _is_written_as(self.form, value):
            example = EXAMPLE_TIME.strftime(self.form)
            return (
                f"{shown[:40]!r} is not written as the CRM takes a {self.type}: {example}",
                f"use | local('{self.form}', 'UTC')",
            )
        parts = value if isinstance(value, list) else [value]
        if self.options:
            for part in map(as_text, parts):
                if part not in self.options and not (";" in part and {*part.split(";")} <= {*self.options}):
                    return f"{part!r} is no option of the CRM", _nearest(part, self.options)
        if self.length is not None and isinstance(value, str) and length_of(value, unit) > self.length:
            long, unit_name = length_of(value, unit), UNIT_NAMES[unit]
            return f"has {long} {unit_name}, the CRM takes {self.length}", f"add limit = {self.length}"
        return None


def _nearest(part: str, options: Sequence[str]) -> str:
    near = did_you_mean(part, options)
    if near.startswith("did") or len(options) <= _MOST_OPTIONS:
        return near
    return f"it has {len(options)}, such as {', '.join(options[:_MOST_OPTIONS])}"


def _fits(kind: str, value: Any) -> bool:
    """Whether a value fits a type; every value fits a type that is not known here."""
    word = kind.lower()
    if word in _NUMBERS:
        return not isinstance(value, bool | list) and _is(float, value)
    if word in _BOOLEANS:
        return isinstance(value, bool) or as_text(value).lower() in ("0", "1", "false", "true", "yes", "no")
    if word in _TIMES:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return True
        return isinstance(value, str) and (value.isdecimal() or _is(datetime.fromisoformat, value))
    return True


def _is_written_as(form: str, value: Any) -> bool:
    """Whether a value is a time in exactly this form: some CRMs accept others and store nothing."""
    try:
        return isinstance(value, str) and datetime.strptime(value, form).strftime(form) == value  # noqa: DTZ007
    except ValueError:
        return False


def _is(read: Callable[[Any], object], value: Any) -> bool:
    try:
        read(value)
    except (TypeError, ValueError):
        return False
    return True
