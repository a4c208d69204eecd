"""The keys of a mapping file, each with its meaning; what several keys must agree on is in `checks`."""

from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from bridge.lib.values import SettingError
from bridge.model.write_policy import WritePolicy


class Form(Enum):
    """What a text may hold; `checks` finds these marks in the annotations."""

    TEXT = "text"
    """A constant, or one with `{{ … }}` in it."""
    CONDITION = "condition"
    """One expression and nothing else."""
    CONSTANT = "constant"
    """Where `{{ … }}` would be sent as it stands."""


def _scalar(value: object) -> object:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("should be text, a number, true or false")  # noqa: TRY004 -- pydantic's way
    return value


_Scalar = Annotated[
    Any, AfterValidator(_scalar), WithJsonSchema({"type": ["string", "number", "integer", "boolean"]})
]
FieldValue = Annotated[_Scalar, Form.TEXT]
Constant = Annotated[_Scalar, Form.CONSTANT]
Text = Annotated[str, Form.TEXT]
ConditionText = Annotated[str, Form.CONDITION]
MapTable = dict[str, Constant]


def _name_of_map(value: object) -> object:
    if not isinstance(value, str):
        raise SettingError(
            "is neither a table nor the name of one", 'write { A = "hot" }, or the name of a table in [maps]'
        )
    return value


MapOrName = Annotated[
    Annotated[MapTable, Tag("{table}")] | Annotated[str, BeforeValidator(_name_of_map), Tag("{name}")],
    Discriminator(lambda value: "{table}" if isinstance(value, dict) else "{name}"),
]


def _expected(value: object) -> object:
    if value is not False and not isinstance(value, dict):
        raise SettingError("should be a table of fields, or false", "false: no such object is planned")
    return value


Expected = Annotated[
    Any, AfterValidator(_expected), WithJsonSchema({"anyOf": [{"type": "object"}, {"const": False}]})
]


class MappingSection(BaseModel):
    """A table of a mapping file; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RuleSection(MappingSection):
    """`[[rules]]`: a call that fails one is skipped, with its name."""

    name: str = Field(min_length=1, description="What the operator reads where a call was skipped.")
    when: ConditionText = Field(description="The call is delivered only where it is true.")


class TrialSection(MappingSection):
    """`[trial]`: only calls that one of the lists names are delivered."""

    phones: list[str] = Field(default_factory=list, description="Phone numbers, compared in E.164.")
    tasks: list[str] = Field(default_factory=list, description="Campaign tasks, by code or name.")
    projects: list[str] = Field(default_factory=list, description="Projects (scripts), by code or name.")


def _value_or_table(schema: dict[str, Any]) -> None:
    table = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": ["string", "number", "integer", "boolean"]}, table]


class FieldSection(MappingSection):
    """`[objects.X.fields]`: one field of a CRM object."""

    model_config = ConfigDict(json_schema_extra=_value_or_table)
    in_short: ClassVar[str] = "value"

    value: FieldValue = Field(description="A constant, or an expression.")
    when: ConditionText | None = Field(None, description="The field is left out where this is not true.")
    map: MapOrName | None = Field(None, description="What each value becomes: a table, or one of [maps].")
    unknown: Literal["park", "omit", "keep", "default"] | None = Field(
        None, description="What happens to a value that is not in `map`."
    )
    default: FieldValue | None = Field(None, description="For a value that is empty.")
    missing: Literal["omit", "null", "error"] = Field(
        "omit", description="What happens to a value that is empty, also after `default`."
    )
    limit: int | None = Field(
        None, ge=1, description="The most characters, as the CRM counts them; a longer text ends in `…`."
    )
    limit_bytes: int | None = Field(
        None, ge=3, description="The most bytes in UTF-8, the `…` of a longer text included."
    )
    write: WritePolicy = Field(WritePolicy.ALWAYS, description="When the field is written.")
    separator: str = Field("\n", description="What `append` puts before the value.")

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, data: object) -> object:
        return data if isinstance(data, dict | FieldSection) else {cls.in_short: data}


class ObjectSection(MappingSection):
    """`[objects.X]`: one CRM object that a call makes or feeds."""

    type: str | None = Field(None, description="The connector's name for it, where that is not X.")
    key: dict[str, Text] = Field(min_length=1, description="What makes it one and the same object.")
    on_missing_key: Literal["unlinked", "skip", "park"] = Field(
        "unlinked", description="What happens to a call without the key."
    )
    on_deleted: Literal["park", "recreate"] = Field(
        "park", description="What happens when a person deleted the object in the CRM."
    )
    when: ConditionText | None = Field(None, description="The object is left out where this is not true.")
    fields: dict[str, FieldSection] = Field(
        default_factory=dict, description="Its fields: a value, or a table with more."
    )
    link: dict[str, str] = Field(default_factory=dict, description="Link of the connector → object here.")


class CaseSection(MappingSection):
    """`[[tests]]`: a record, and what the mapping must make of it."""

    name: str = Field("", description="What the result is shown under.")
    record: str | None = Field(None, description="A JSON file with a record, relative to the mapping.")
    fields: dict[str, Any] = Field(
        default_factory=dict, description="Fields of the platform laid over the record, or all there are."
    )
    expect: dict[str, Expected] = Field(
        default_factory=dict, description="Object → field or part of the key → value; false: no such object."
    )
    expect_skip: str | None = Field(None, description="The rule that must skip the call.")
    expect_error: str | None = Field(None, min_length=1, description="Words of the fault that must park it.")


class MappingFile(MappingSection):
    """A mapping as it is written."""

    connector: str = Field(description="The connector's name.")
    shadow: bool = Field(default=False, description="Plan and record everything, send nothing.")
    trial: TrialSection | None = Field(None, description="Deliver only what is listed, to begin with.")
    rules: list[RuleSection] = Field(default_factory=list, description="Which calls are delivered.")
    maps: dict[str, MapTable] = Field(
        default_factory=dict, description="Tables that several fields look values up in."
    )
    objects: dict[str, ObjectSection] = Field(min_length=1, description="The CRM objects, in order.")
    tests: list[CaseSection] = Field(default_factory=list, description="The mapping's own cases.")
