"""Compiles a mapping file, and applies it to calls: each becomes a plan, or is skipped by a rule.

Mistakes of a mapping stop the start of the daemon, not a delivery. Begin at `CompiledMapping.plan()`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from bridge.lib.errors import ConfigError, Problem
from bridge.lib.expression import AttributeTable, ExpressionError, Language, Template
from bridge.lib.lengths import LengthUnit
from bridge.lib.phone import to_e164
from bridge.lib.toml_file import KeyPath, TomlFile, load_toml
from bridge.lib.validation import in_order, model_or_problems
from bridge.mapping.checks import check_contents, read_templates
from bridge.mapping.fields import NOT_TRUE, ExpressionValues, Failed, Field, ValueSource, plan_fields
from bridge.mapping.filters import MAPPING_ARGUMENTS, MAPPING_FILTERS
from bridge.mapping.schema import FieldSection, MappingFile, ObjectSection, TrialSection
from bridge.mapping.values import MappingFault
from bridge.model.plan import Plan, PlannedObject, Skip
from bridge.model.skip_reasons import NO_OBJECT, NOT_IN_TRIAL, without_key
from bridge.record.call import CALL_FIELDS, Call
from bridge.record.dialect import Dialect

LANGUAGE = Language(
    {"call": frozenset(CALL_FIELDS) - {"record"}, "record": None},
    MAPPING_FILTERS,
    plain=[Call],
    arguments=MAPPING_ARGUMENTS,
)


@dataclass(frozen=True, slots=True)
class _CompiledObject:
    """One compiled `[objects.X]`."""

    name: str
    section: ObjectSection
    when: ValueSource | None
    key: tuple[tuple[str, ValueSource], ...]
    fields: tuple[Field, ...]
    shared: bool
    by_source: bool


class CompiledMapping:
    """One compiled mapping file, applied to calls by all workers."""

    def __init__(self, file: TomlFile, unit: LengthUnit = "characters") -> None:
        """Compile a mapping; `unit` is what the CRM's length limits count.

        Raises:
            ConfigError: all its problems, each with its line and remedy.
        """
        self.path = file.path
        self._source = file
        found, problems = model_or_problems(MappingFile, file)
        templates, unreadable = read_templates(file, LANGUAGE)
        problems = in_order([*problems, *unreadable, *check_contents(file)])
        if found is None or problems:
            raise ConfigError(problems)
        self.file = found
        # An expression that stands in several places is evaluated once a call.
        self._templates = list({one.source: one for one in templates.values() if not one.constant}.values())
        self._singles: dict[int, Callable[[Mapping[str, Any]], list[Any]]] = {}
        self._evaluate = LANGUAGE.compile(self._templates)
        self._unit = unit
        compiler = _Compiler(file.path.name, found, templates, self._templates, unit)
        self._rules = [
            (rule.name, compiler.source(("rules", number, "when"))) for number, rule in enumerate(found.rules)
        ]
        self.objects = [compiler.object(name, section) for name, section in found.objects.items()]
        self._trial = _Trial(found.trial) if found.trial is not None else None
        reads = {read for template in self._templates for read in template.reads}
        self._record_reads = frozenset(name for owner, name in reads if owner == "record")
        self._call_reads = frozenset(name for owner, name in reads if owner == "call")

    def problem(self, path: KeyPath, message: str, remedy: str = "") -> Problem:
        """A problem of this mapping, with its key path and its line."""
        key = ".".join(str(part) for part in path)
        return Problem(str(self.path), key, message, remedy, self._source.line(path))

    def fields_read(self, dialect: Dialect) -> frozenset[str]:
        """The platform's fields whose changes make a call due, because this mapping reads them.

        These are the fields that it reads by name, and the bookkeeping fields that normalised values come
        from.
        """
        made_of = {field for name in self._call_reads for field in dialect.fields_of(name)}
        return self._record_reads | (made_of & dialect.bookkeeping.keys())

    def plan(self, call: Call) -> Plan | Skip:
        """The objects that the CRM should hold for a call, or the rule that skips it.

        Raises:
            MappingFault: the call cannot be mapped and waits for a person.
        """
        if self._trial is not None and not self._trial.takes(call):
            return Skip(NOT_IN_TRIAL)
        values = self.values(call)
        for name, condition in self._rules:
            if not condition.is_true(values):
                return Skip(name)
        planned: dict[str, PlannedObject] = {}
        left_out: dict[str, str] = {}
        for compiled in self.objects:
            result = _planned(compiled, values, call.key, planned)
            if isinstance(result, Skip):
                return result
            if isinstance(result, str):
                left_out[compiled.name] = result
            else:
                planned[compiled.name] = result
        if not planned:
            return Skip(NO_OBJECT)
        return Plan(tuple(planned.values()), left_out, self.file.shadow)

    def values(self, call: Call) -> ExpressionValues:
        """The values of all expressions for a call; a `Failed` stands for one that fails."""
        names = {
            "call": call,
            "record": AttributeTable(call.record),
            "_zone": call.origin.zone,
            "_country": call.origin.country,
            "_unit": self._unit,
        }
        try:
            return self._evaluate(names)
        except ExpressionError:
            return [self._evaluate_one(number, names) for number in range(len(self._templates))]

    def _evaluate_one(self, number: int, names: Mapping[str, Any]) -> Any:
        """The value of one expression, or a `Failed`."""
        if number not in self._singles:
            self._singles[number] = LANGUAGE.compile([self._templates[number]])
        try:
            return self._singles[number](names)[0]
        except ExpressionError as error:
            return Failed(str(error))


def load_mapping(path: Path) -> CompiledMapping:
    """Read and compile a mapping file, or raise `ConfigError` with all its problems."""
    return CompiledMapping(load_toml(path))


class _Compiler:
    """Compiles the sections of a mapping: says for each text which of the evaluated values is its own."""

    def __init__(
        self,
        file_name: str,
        file: MappingFile,
        templates: Mapping[KeyPath, Template],
        evaluated: Iterable[Template],
        unit: LengthUnit,
    ) -> None:
        self._file_name = file_name
        self._maps = file.maps
        self._templates = templates
        self._unit = unit
        numbers = {template.source: number for number, template in enumerate(evaluated)}
        self._order = {path: numbers[one.source] for path, one in templates.items() if not one.constant}

    def source(self, path: KeyPath, named: KeyPath = ()) -> ValueSource:
        """The source of the text at a key path; faults name `named`, or this path."""
        name = f"{'.'.join(map(str, named or path))} in {self._file_name}"
        if path in self._order:
            return ValueSource(name, itemgetter(self._order[path]))
        return _constant(name, self._templates[path].text)

    def optional(self, path: KeyPath, value: Any) -> ValueSource | None:
        """The source of an optional value: None where the file has none, a constant where it is no text."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.source(path)
        return _constant(f"{'.'.join(map(str, path))} in {self._file_name}", value)

    def object(self, name: str, section: ObjectSection) -> _CompiledObject:
        """Compile `[objects.X]`."""
        path = ("objects", name)
        parts = {part: (*path, "key", part) for part in section.key}
        reads = frozenset[tuple[str, str]]().union(
            *(self._templates[key_path].reads for key_path in parts.values())
        )
        return _CompiledObject(
            name,
            section,
            self.optional((*path, "when"), section.when),
            tuple((part, self.source(key_path)) for part, key_path in parts.items()),
            tuple(
                self._field((*path, "fields", field), field, written)
                for field, written in section.fields.items()
            ),
            shared=("call", "key") not in reads,
            by_source=("call", "source") in reads,
        )

    def _field(self, path: KeyPath, name: str, section: FieldSection) -> Field:
        full = (*path, "value")
        if isinstance(section.value, str):
            source = self.source(full if full in self._templates else path, path)
        else:
            source = _constant(f"{'.'.join(map(str, path))} in {self._file_name}", section.value)
        return Field.of(
            name,
            section,
            source,
            when=self.optional((*path, "when"), section.when),
            table=self._maps[section.map] if isinstance(section.map, str) else section.map,
            default=self.optional((*path, "default"), section.default),
            unit=self._unit,
        )


def _constant(name: str, value: Any) -> ValueSource:
    return ValueSource(name, lambda _: value)


def _planned(
    compiled: _CompiledObject, values: ExpressionValues, key: str, planned: Mapping[str, PlannedObject]
) -> PlannedObject | Skip | str:
    """Plan an object; a text says why it is left out, a `Skip` why the whole call is."""
    if compiled.when is not None and not compiled.when.is_true(values):
        return NOT_TRUE
    parts = {part: source.data(values) for part, source in compiled.key}
    for part, content in parts.items():
        if content in (None, ""):
            return _without_key(compiled, part)
    fields, absent = plan_fields(compiled.fields, values, key)
    section = compiled.section
    return PlannedObject(
        compiled.name,
        section.type or compiled.name,
        parts,
        fields,
        {link: target for link, target in section.link.items() if target in planned},
        absent,
        section.on_deleted,
        compiled.shared,
        compiled.by_source,
    )


def _without_key(compiled: _CompiledObject, part: str) -> Skip | str:
    if compiled.section.on_missing_key == "park":
        raise MappingFault(f"object {compiled.name} has no {part}, which is its key")
    if compiled.section.on_missing_key == "skip":
        return Skip(without_key(compiled.name, part))
    return f"{part}, which is its key, is empty"


class _Trial:
    """`[trial]`: the few calls that are delivered while a mapping is tried out."""

    def __init__(self, section: TrialSection) -> None:
        self._written = section.phones
        self._tasks = frozenset(section.tasks)
        self._projects = frozenset(section.projects)
        self._phones: dict[str, frozenset[str | None]] = {}

    def takes(self, call: Call) -> bool:
        """Whether one of the trial's lists names the call."""
        if not self._tasks.isdisjoint({call.task, call.task_name}):
            return True
        if not self._projects.isdisjoint({call.project, call.project_name}):
            return True
        country = call.origin.country
        if country not in self._phones:
            self._phones[country] = frozenset(to_e164(phone, country) for phone in self._written) - {None}
        return call.phone_e164 in self._phones[country]
