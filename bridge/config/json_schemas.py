"""Makes the JSON Schemas of the three kinds of file, for editors: exactly the keys that are accepted.

They are made of the models, in draft 7, which the TOML editors know best. Texts inside (expressions,
rates, statuses) are judged by `check`, so a schema only says where a text goes.
"""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from bridge.config.load import Config
from bridge.crm.connector.schema import ConnectorFile
from bridge.lib.crontab import Crontab
from bridge.lib.validation import keys_of
from bridge.lib.values import listed, show_duration
from bridge.mapping import MappingFile

DIALECT = "http://json-schema.org/draft-07/schema#"
_KINDS: dict[str, tuple[type[BaseModel], str]] = {
    "config": (Config, "callbridge: config.toml"),
    "connector": (ConnectorFile, "callbridge: a connector, how one CRM's API works"),
    "mapping": (MappingFile, "callbridge: a mapping, what goes where"),
}
FILE_KINDS = tuple(_KINDS)


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of `config`, `connector` or `mapping`."""
    model, title = _KINDS[kind]
    made = model.model_json_schema(
        schema_generator=_Generator, ref_template="#/definitions/{model}", mode="validation"
    )
    definitions = made.pop("$defs", {})
    description = str(made.pop("description", ""))
    return {
        "$schema": DIALECT,
        "title": title,
        "description": description,
        **_plain(made),
        "definitions": {name: _plain(section) for name, section in sorted(definitions.items())},
    }


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, for files in TOML: it has no null, and one value may stand for a list."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        made = super().function_before_schema(schema)
        takes: Callable[..., Any] = schema["function"]["function"]
        return {"anyOf": [made["items"], made]} if takes is listed else made

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner: CoreSchema = schema["schema"]
        return self.generate_inner(inner)

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return show_duration(dft)
        if isinstance(dft, Crontab):
            return dft.expr
        return super().encode_default(dft)


def key_rows(model: type[BaseModel], beside: type[BaseModel] | None = None) -> Iterator[str]:
    """The rows of a table of keys in docs/connectors.md; without those that `beside` tells already."""
    listed_elsewhere = keys_of(beside) if beside is not None else {}
    for name, field in keys_of(model).items():
        if name in listed_elsewhere and _default(listed_elsewhere[name]) == _default(field):
            continue
        yield f"| `{name}` | {_default(field)} | {(field.description or '').replace('|', chr(92) + '|')} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default()
    if value is None:
        return "unset"
    if isinstance(value, BaseModel) or value in ((), {}, ""):
        return "none"
    if isinstance(value, timedelta):
        value = show_duration(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


_WORDS = {"prefixItems": "items", "const": "enum"}
"""What draft 7 and older readers call it."""


def _plain(node: Any) -> Any:
    """A schema without pydantic's titles and without defaults that say nothing, in older words."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    made: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            made[key] = {name: _plain(section) for name, section in value.items()}
        elif key != "title" and not (key == "default" and (value is None or isinstance(value, dict))):
            # A table's own keys tell their defaults.
            made[_WORDS.get(str(key), str(key))] = [value] if key == "const" else _plain(value)
    if "$ref" in made and len(made) > 1:
        # Before draft 2019-09 nothing beside a `$ref` counts.
        made = {"allOf": [{"$ref": made.pop("$ref")}], **made}
    return made
