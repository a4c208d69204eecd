"""A mapping file: which calls go to a CRM, as which objects, with which fields.

Compiled at load, so that a mistake stops the start; applied to a call it gives a plan of
what the CRM should hold, or the rule that keeps the call out. Nothing is sent here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bridge.call import CALL_FIELDS, Call
from bridge.errors import ConfigError, Problem, did_you_mean
from bridge.expression import ExpressionError, Fields, Language, Template, as_text
from bridge.filters import FILTERS
from bridge.tomlfile import KeyPath, TomlFile, load_toml
from bridge.validation import validate


def _scalar(value: object) -> object:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("should be text, a number, true or false")  # noqa: TRY004 -- pydantic's way
    return value


Scalar = Annotated[Any, AfterValidator(_scalar)]
LANGUAGE = Language({"call": frozenset(CALL_FIELDS) - {"record"}, "record": None}, FILTERS)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RuleSection(_Section):
    """`[[rules]]`: a call that fails one is skipped, with its name."""

    name: str = Field(min_length=1, description="What the operator reads where a call was skipped.")
    when: str = Field(description="An expression; the call is delivered only where it is true.")


class FieldSection(_Section):
    """`[objects.X.fields]`: one field of a CRM object."""

    value: Scalar = Field(description="A constant, or an expression.")
    write: Literal["always"] = Field("always", description="When the field is written: newest call wins.")
    map: dict[str, Scalar] | None = Field(None, description="What each value becomes.")
    default: Scalar | None = Field(None, description="For a value that is empty or not in `map`.")
    limit: int | None = Field(None, ge=1, description="The most characters; a longer text ends in `…`.")


def _in_full(value: object) -> object:
    return value if isinstance(value, dict | FieldSection) else {"value": value}


class ObjectSection(_Section):
    """`[objects.X]`: one CRM object that a call makes or feeds."""

    type: str | None = Field(None, description="The connector's name for it, where that is not X.")
    key: dict[str, str] = Field(min_length=1, description="What makes it one and the same object.")
    on_missing_key: Literal["unlinked", "skip", "park"] = Field(
        "unlinked", description="What happens to a call without the key."
    )
    when: str | None = Field(None, description="The object is left out where this is not true.")
    fields: dict[str, Annotated[FieldSection, BeforeValidator(_in_full)]] = Field(
        default_factory=dict, description="Its fields: a value, or a table with more."
    )
    link: dict[str, str] = Field(default_factory=dict, description="Link of the connector → object here.")


class TestSection(_Section):
    """`[[tests]]`: a record, and what the mapping must make of it."""

    record: str = Field(description="A JSON file with a record, relative to the mapping.")
    expect: dict[str, Any] = Field(default_factory=dict, description="Object → field → value.")


class MappingFile(_Section):
    """A mapping as it is written."""

    connector: str = Field(description="The connector's name.")
    rules: list[RuleSection] = Field(default_factory=list, description="Which calls are delivered.")
    objects: dict[str, ObjectSection] = Field(min_length=1, description="The CRM objects, in order.")
    tests: list[TestSection] = Field(default_factory=list, description="The mapping's own cases.")


@dataclass(frozen=True, slots=True)
class PlannedObject:
    """One object that the CRM should hold for a call; `links` are link name → object name."""

    name: str
    type: str
    key: Mapping[str, Any]
    fields: Mapping[str, Any]
    links: Mapping[str, str]

    @property
    def key_text(self) -> str:
        """The rendered key, as the ledger keeps it."""
        return " ".join(as_text(part) for part in self.key.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call becomes, in the order in which it is sent."""

    objects: tuple[PlannedObject, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """A named rule keeps the call out of the CRM."""

    rule: str


class MappingFault(Exception):
    """The mapping cannot be applied to this call; the message names object and field."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """Stands for the value of an expression that failed; told only if the value is needed."""

    message: str


class CompiledMapping:
    """A mapping that can be applied to calls."""

    def __init__(self, file: TomlFile) -> None:
        """Compile a mapping.

        Raises:
            ConfigError: all its problems, each with its line and remedy.
        """
        self.path = file.path
        self._source = file
        self.file = validate(MappingFile, file)
        self._places: dict[str, int] = {}
        self._templates: list[Template] = []
        problems = [*self._read_templates(file), *self._check_links(file)]
        if problems:
            raise ConfigError(problems)
        self._evaluate = LANGUAGE.compile(self._templates)
        self.reads = frozenset(_platform_fields(self._templates))
        """The platform's fields that it reads by name: their changes are news."""

    def _read_templates(self, file: TomlFile) -> list[Problem]:
        problems = []
        for path, text in _texts(self.file):
            place = ".".join(str(part) for part in path)
            try:
                template = LANGUAGE.parse(text)
            except ExpressionError as error:
                problems.append(Problem(str(file.path), place, str(error), line=file.line(path)))
                continue
            if len(path) == 3 and path[-1] == "when" and not template.whole:
                message, remedy = "is no condition", "write one expression: {{ call.talk_seconds > 0 }}"
                problems.append(Problem(str(file.path), place, message, remedy, file.line(path)))
                continue
            self._places[place] = len(self._templates)
            self._templates.append(template)
        return problems

    def _check_links(self, file: TomlFile) -> list[Problem]:
        names = list(self.file.objects)
        problems = []
        for name, section in self.file.objects.items():
            for link, target in section.link.items():
                path = ("objects", name, "link", link)
                place = ".".join(path)
                if target not in names:
                    message = f'there is no object "{target}" to link to'
                    remedy = did_you_mean(target, names)
                elif target == name:
                    message, remedy = f'"{name}" cannot be linked to itself', "name another object"
                elif names.index(target) >= names.index(name):
                    message = f'"{target}" comes after "{name}", so it cannot be linked yet'
                    remedy = f"move [objects.{target}] before [objects.{name}]"
                else:
                    continue
                problems.append(Problem(str(file.path), place, message, remedy, file.line(path)))
        return problems

    def problem(self, path: KeyPath, message: str, remedy: str = "") -> Problem:
        """A problem with this mapping, with the place it is written at."""
        place = ".".join(str(part) for part in path)
        return Problem(str(self.path), place, message, remedy, self._source.line(path))

    def plan(self, call: Call, zone: ZoneInfo, country: str) -> Plan | Skip:
        """What the CRM should hold for a call.

        Raises:
            MappingFault: the call cannot be mapped and waits for a person.
        """
        values = self._values(
            {"call": call, "record": Fields(call.record), "_zone": zone, "_country": country}
        )
        for number, rule in enumerate(self.file.rules):
            if not values(f"rules.{number}.when"):
                return Skip(rule.name)
        objects: list[PlannedObject] = []
        for name, section in self.file.objects.items():
            planned = self._plan_object(name, section, values, {done.name for done in objects})
            if isinstance(planned, Skip):
                return planned
            if planned is not None:
                objects.append(planned)
        if not objects:
            return Skip("no object: the call has no key for any")
        return Plan(tuple(objects))

    def _values(self, names: Mapping[str, Any]) -> Callable[[str], Any]:
        values: Sequence[Any]
        try:
            values = self._evaluate(names)
        except ExpressionError:
            values = [_alone(template, names) for template in self._templates]

        def value(place: str) -> Any:
            found = values[self._places[place]]
            if isinstance(found, _Failed):
                raise MappingFault(f"{place} in {self.path.name}: {found.message}")
            return found

        return value

    def _plan_object(
        self, name: str, section: ObjectSection, value: Callable[[str], Any], planned: set[str]
    ) -> PlannedObject | Skip | None:
        place = f"objects.{name}"
        if section.when is not None and not value(f"{place}.when"):
            return None
        key = {part: self._json(f"{place}.key.{part}", value(f"{place}.key.{part}")) for part in section.key}
        missing = [part for part, content in key.items() if content in (None, "")]
        if missing:
            if section.on_missing_key == "park":
                raise MappingFault(f"object {name} has no {missing[0]}, which is its key")
            return None if section.on_missing_key == "unlinked" else Skip(f"{name} without {missing[0]}")
        fields = {}
        for field_name, written in section.fields.items():
            content = self._field(f"{place}.fields.{field_name}", written, value)
            if content is not None:
                fields[field_name] = content
        links = {link: target for link, target in section.link.items() if target in planned}
        return PlannedObject(name, section.type or name, key, fields, links)

    def _field(self, place: str, section: FieldSection, value: Callable[[str], Any]) -> Any:
        content = value(place) if isinstance(section.value, str) else section.value
        if section.map is not None and content not in (None, ""):
            code = as_text(content)
            if code not in section.map and section.default is None:
                raise MappingFault(
                    f"{place} in {self.path.name}: {code!r} is not in its map, and it has no default"
                )
            content = section.map.get(code)
        if content in (None, ""):
            content = section.default
        content = self._json(place, content)
        if section.limit is not None and isinstance(content, str | list):
            content = FILTERS["shorten"](as_text(content), section.limit)
        return content

    def _json(self, place: str, content: Any) -> Any:
        try:
            return json_value(content)
        except MappingFault as fault:
            raise MappingFault(f"{place} in {self.path.name}: {fault}") from fault


def load_mapping(path: Path) -> CompiledMapping:
    """Read and compile a mapping file, or raise `ConfigError` with all its problems."""
    return CompiledMapping(load_toml(path))


def _texts(file: MappingFile) -> list[tuple[KeyPath, str]]:
    """Every text of a mapping that may hold an expression, with its place."""
    texts: list[tuple[KeyPath, str]] = [
        (("rules", number, "when"), rule.when) for number, rule in enumerate(file.rules)
    ]
    for name, section in file.objects.items():
        place = ("objects", name)
        if section.when is not None:
            texts.append(((*place, "when"), section.when))
        texts.extend(((*place, "key", part), text) for part, text in section.key.items())
        for field_name, written in section.fields.items():
            if isinstance(written.value, str):
                texts.append(((*place, "fields", field_name), written.value))
    return texts


def _platform_fields(templates: Sequence[Template]) -> Iterator[str]:
    for template in templates:
        for owner, attribute in template.reads:
            if owner == "record":
                yield attribute
            elif (owner, attribute) == ("call", "updated_at"):
                # The one normalised value that is made of a bookkeeping field.
                yield attribute


def _alone(template: Template, names: Mapping[str, Any]) -> Any:
    try:
        return LANGUAGE.compile([template])(names)[0]
    except ExpressionError as error:
        return _Failed(str(error))


def json_value(value: Any) -> Any:
    """A value as JSON can carry it; times as ISO 8601, half surrogates replaced.

    Raises:
        MappingFault: a value that is no data, such as a whole turn.
    """
    if isinstance(value, float) and not isfinite(value):
        raise MappingFault(f"{value} is no value for a field")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {json_value(str(name)): json_value(item) for name, item in value.items()}
    raise MappingFault(f"a {type(value).__name__} is no value for a field: use a filter, such as transcript")
