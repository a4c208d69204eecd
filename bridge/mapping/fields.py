"""One field of an object, ready to be filled from the values of a call."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import GeneratorType
from typing import Any, Self

from bridge.lib.expression import as_text
from bridge.lib.lengths import LengthUnit, shortened
from bridge.mapping.schema import FieldSection
from bridge.mapping.values import MappingFault, is_clean, json_value
from bridge.model.field_policies import POLICIES
from bridge.model.plan import PlannedField
from bridge.model.write_policy import WritePolicy

ExpressionValues = Sequence[Any]
ValueReader = Callable[[ExpressionValues], Any]
"""Takes one value out of those that all expressions of a mapping have become."""

NOT_TRUE = "its `when` is not true"
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Failed:
    """Stands for the value of an expression that failed; told only if the value is needed."""

    message: str


@dataclass(frozen=True, slots=True)
class ValueSource:
    """Where a text of the mapping stands, and how its value is read."""

    name: str
    read: ValueReader

    def value(self, values: ExpressionValues) -> Any:
        """The value, which may be anything that an expression gives."""
        found = self.read(values)
        if type(found) is Failed:
            raise self.fault(found.message)
        return found

    def data(self, values: ExpressionValues) -> Any:
        """The value as JSON can carry it."""
        return self.as_data(self.value(values))

    def is_true(self, values: ExpressionValues) -> bool:
        """Whether a condition holds."""
        found = self.value(values)
        if isinstance(found, GeneratorType):
            raise self.fault("is always true: add `| list` behind select, reject or map")
        return bool(found)

    def as_data(self, value: Any) -> Any:
        """A value as JSON can carry it, or a fault that names this place."""
        try:
            return json_value(value)
        except MappingFault as fault:
            raise self.fault(str(fault)) from fault

    def fault(self, message: str, about: str = "") -> MappingFault:
        """A fault of this place; `about` is told, but groups nothing."""
        cause = f"{self.name}: {message}"
        return MappingFault(f"{cause}{about}", cause=cause)


class _LeftOut(Exception):
    """The field is left out, and why."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: where its value comes from, and what is made of it."""

    name: str
    section: FieldSection
    place: ValueSource
    when: ValueSource | None
    table: Mapping[str, Any] | None
    default: ValueSource | None
    read: ValueReader
    write: WritePolicy
    separator: str
    unit: LengthUnit
    """What `limit` counts."""
    plain: bool
    """Whether it is its value and nothing more, as most fields are."""

    @classmethod
    def of(
        cls,
        name: str,
        section: FieldSection,
        place: ValueSource,
        *,
        when: ValueSource | None,
        table: Mapping[str, Any] | None,
        default: ValueSource | None,
        unit: LengthUnit,
    ) -> Self:
        """A field as it is written, with the places of its texts."""
        more = (when, table, default, section.limit, section.limit_bytes)
        plain = section.missing == "omit" and all(one is None for one in more)
        write, separator = section.write, section.separator
        return cls(name, section, place, when, table, default, place.read, write, separator, unit, plain)

    def planned(self, values: ExpressionValues, key: str) -> PlannedField | str:
        """The field for the call with this key, or why it is left out."""
        section = self.section
        if self.when is not None and not self.when.is_true(values):
            return NOT_TRUE
        default: Any = None
        try:
            content = self.place.value(values)
            if self.table is not None and content not in (None, ""):
                content = self._translated(content, self.table, values)
            if self.default is not None and content in (None, ""):
                content = self.default.value(values)
            if self.default is not None and POLICIES[self.write].needs_default:
                default = self._limited(self.default.data(values))
        except _LeftOut as reason:
            return str(reason)
        content = self.place.as_data(content)
        if content in (None, ""):
            if section.missing == "omit":
                return EMPTY
            if section.missing == "error":
                raise self.place.fault("is empty, and must not be", f" (call {key})")
            content = None
        else:
            content = self._limited(content)
        return PlannedField(content, self.write, self.separator, default)

    def _limited(self, content: Any) -> Any:
        limit, limit_bytes = self.section.limit, self.section.limit_bytes
        if (limit is None and limit_bytes is None) or not isinstance(content, str | list):
            return content
        content = as_text(content)
        if limit is not None:
            content = shortened(content, limit, self.unit)
        return content if limit_bytes is None else shortened(content, limit_bytes, "bytes")

    def _translated(self, content: Any, table: Mapping[str, Any], values: ExpressionValues) -> Any:
        if not isinstance(content, list | tuple):
            return self._looked_up(content, table, values)
        found = []
        for item in content:
            try:
                found.append(self._looked_up(item, table, values))
            except _LeftOut:
                continue
        return found

    def _looked_up(self, content: Any, table: Mapping[str, Any], values: ExpressionValues) -> Any:
        code = as_text(content)
        if code in table:
            return table[code]
        rule = self.section.unknown or ("park" if self.default is None else "default")
        if rule == "keep":
            return content
        if rule == "default" and self.default is not None:
            return self.default.value(values)
        if rule == "omit":
            raise _LeftOut(f"{code!r} is not in its map")
        raise self.place.fault(f"{code!r} is not in its map: add it, or say what becomes of it by `unknown`")


def plan_fields(
    fields: Iterable[Field], values: ExpressionValues, key: str
) -> tuple[dict[str, PlannedField], dict[str, str]]:
    """The fields of an object for the call with this key, and why others are left out."""
    planned: dict[str, PlannedField] = {}
    absent: dict[str, str] = {}
    for field in fields:
        if field.plain:
            # Most fields, and most of what a plan costs: what needs no second look ends here.
            content = field.read(values)
            if content is None or content == "":
                absent[field.name] = EMPTY
                continue
            kind = type(content)
            if kind is int or kind is bool or (kind is str and is_clean(content)):
                planned[field.name] = PlannedField(content, field.write, field.separator)
                continue
        found = field.planned(values, key)
        if isinstance(found, str):
            absent[field.name] = found
        else:
            planned[field.name] = found
    return planned, absent
