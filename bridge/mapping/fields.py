"""Compiled fields: each takes its value out of the evaluated expressions and makes a `PlannedField` of it.

Begin at `plan_fields()`.
"""

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
"""The values of all expressions of a mapping for one call, in their order; `Failed` among them."""
ValueReader = Callable[[ExpressionValues], Any]
"""Takes one value out of them."""

NOT_TRUE = "its `when` is not true"
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Failed:
    """Stands for the value of an expression that failed; raised as a fault only where the value is used."""

    message: str


@dataclass(frozen=True, slots=True)
class ValueSource:
    """One text of the mapping: its name for messages, and how its value is taken."""

    name: str
    read: ValueReader

    def value(self, values: ExpressionValues) -> Any:
        """The value, of any type that an expression can give.

        Raises:
            MappingFault: the expression failed.
        """
        value = self.read(values)
        if type(value) is Failed:
            raise self.fault(value.message)
        return value

    def data(self, values: ExpressionValues) -> Any:
        """The value as JSON.

        Raises:
            MappingFault: the expression failed, or the value is no JSON.
        """
        return self.as_data(self.value(values))

    def is_true(self, values: ExpressionValues) -> bool:
        """Whether a condition is true.

        Raises:
            MappingFault: the expression failed, or is a generator, which is always true.
        """
        value = self.value(values)
        if isinstance(value, GeneratorType):
            raise self.fault("is always true: add `| list` behind select, reject or map")
        return bool(value)

    def as_data(self, value: Any) -> Any:
        """A value as JSON.

        Raises:
            MappingFault: it is none; the message names this text of the mapping.
        """
        try:
            return json_value(value)
        except MappingFault as fault:
            raise self.fault(str(fault)) from fault

    def fault(self, message: str, about: str = "") -> MappingFault:
        """A fault that names this text; `about` is in the message, not in the cause that groups faults."""
        cause = f"{self.name}: {message}"
        return MappingFault(f"{cause}{about}", cause=cause)


class _LeftOut(Exception):
    """Raised where a field is left out; the message says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """One compiled field of an object."""

    name: str
    section: FieldSection
    source: ValueSource
    when: ValueSource | None
    table: Mapping[str, Any] | None
    default: ValueSource | None
    read: ValueReader
    write: WritePolicy
    separator: str
    unit: LengthUnit
    """What `limit` counts."""
    plain: bool
    """Whether the field is its value and nothing more, as most fields are."""

    @classmethod
    def of(
        cls,
        name: str,
        section: FieldSection,
        source: ValueSource,
        *,
        when: ValueSource | None,
        table: Mapping[str, Any] | None,
        default: ValueSource | None,
        unit: LengthUnit,
    ) -> Self:
        """Compile a field; the sources are those of its texts."""
        more = (when, table, default, section.limit, section.limit_bytes)
        plain = section.missing == "omit" and all(part is None for part in more)
        write, separator = section.write, section.separator
        return cls(name, section, source, when, table, default, source.read, write, separator, unit, plain)

    def planned(self, values: ExpressionValues, key: str) -> PlannedField | str:
        """Plan the field for the call with this key; a text says why it is left out.

        Raises:
            MappingFault: the call cannot be mapped.
        """
        section = self.section
        if self.when is not None and not self.when.is_true(values):
            return NOT_TRUE
        default: Any = None
        try:
            content = self.source.value(values)
            if self.table is not None and content not in (None, ""):
                content = self._translated(content, self.table, values)
            if self.default is not None and content in (None, ""):
                content = self.default.value(values)
            if self.default is not None and POLICIES[self.write].needs_default:
                default = self._limited(self.default.data(values))
        except _LeftOut as reason:
            return str(reason)
        content = self.source.as_data(content)
        if content in (None, ""):
            if section.missing == "omit":
                return EMPTY
            if section.missing == "error":
                raise self.source.fault("is empty, and must not be", f" (call {key})")
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
        translated = []
        for item in content:
            try:
                translated.append(self._looked_up(item, table, values))
            except _LeftOut:
                continue
        return translated

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
        raise self.source.fault(f"{code!r} is not in its map: add it, or say what becomes of it by `unknown`")


def plan_fields(
    fields: Iterable[Field], values: ExpressionValues, key: str
) -> tuple[dict[str, PlannedField], dict[str, str]]:
    """Plan the fields of an object for the call with this key; also the left-out ones with the reason.

    Raises:
        MappingFault: the call cannot be mapped.
    """
    planned: dict[str, PlannedField] = {}
    absent: dict[str, str] = {}
    for field in fields:
        if field.plain:
            # Most fields end here, without the checks of `planned`: fields are most of what a plan costs.
            content = field.read(values)
            if content is None or content == "":
                absent[field.name] = EMPTY
                continue
            kind = type(content)
            if kind is int or kind is bool or (kind is str and is_clean(content)):
                planned[field.name] = PlannedField(content, field.write, field.separator)
                continue
        result = field.planned(values, key)
        if isinstance(result, str):
            absent[field.name] = result
        else:
            planned[field.name] = result
    return planned, absent
