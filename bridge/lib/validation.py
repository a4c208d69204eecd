"""Checks a file against a model, and puts pydantic's errors into words an operator can act on."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bridge.lib.errors import ConfigError, Problem, did_you_mean, suggest_nearest
from bridge.lib.toml_file import ENVIRONMENT, KeyPath, TomlFile, Written
from bridge.lib.values import Secret, SettingError

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

IN_SHORT = "in_short"
"""A model's class variable: the key that a value in place of the whole table stands for."""
_UNION_TAG = re.compile(r"\{[a-z]+\}")
_QUOTED = re.compile(r"'([^']+)'")

_SAYS = {
    "missing": "is required",
    "string_type": "should be text",
    "path_type": "should be the path of a file",
    "dict_type": "should be a table",
    "model_type": "should be a table",
    "model_attributes_type": "should be a table",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}
# Kinds of error about a list or a table, which a variable holds as JSON.
_HAVE_PARTS = {"dict_type", "model_type", "model_attributes_type", "list_type", "tuple_type"}
_BOUNDS = {"greater_than_equal": "write {ge} or more", "less_than_equal": "write {le} or less"}


def validate(model: type[M], file: TomlFile) -> M:
    """A file's data as a model, or one ConfigError with all that is wrong with it."""
    found, problems = model_or_problems(model, file)
    if found is None:
        raise ConfigError(problems)
    return found


def model_or_problems(model: type[M], file: TomlFile) -> tuple[M | None, list[Problem]]:
    """A file's data as a model, or None and the problems; for callers who go on to find more."""
    try:
        return model.model_validate(file.data), []
    except ValidationError as error:
        written = Written(file, file.data, {})
        errors = error.errors(include_url=False, include_input=False)
        return None, [told(written, one, model) for one in errors]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in the order of their lines, each once; those without a line first."""
    return sorted(dict.fromkeys(problems), key=lambda one: one.line or 0)


def marked(model: type[BaseModel], data: Any, mark: type[T]) -> Iterator[tuple[KeyPath, Any, T]]:
    """Every value that stands where an annotation of the models carries a mark of this type.

    It is found in what the operator wrote, so a mistake elsewhere hides none: with `model_or_problems`
    beside it, one run tells the mistakes of shape and of content together.
    """
    yield from _marked(model, (), data, (), mark)


def _marked(
    kind: Any, marks: Iterable[Any], value: Any, path: KeyPath, mark: type[T]
) -> Iterator[tuple[KeyPath, Any, T]]:
    for option, more in _options(kind, tuple(marks)):
        for one in more:
            if isinstance(one, mark):
                yield path, value, one
        if isinstance(option, type) and issubclass(option, BaseModel):
            yield from _marked_in_table(option, value, path, mark)
        elif get_origin(option) is dict and isinstance(value, dict):
            for name, inside in value.items():
                yield from _marked(get_args(option)[1], (), inside, (*path, name), mark)
        elif get_origin(option) in {list, tuple} and isinstance(value, list):
            for place, inside in enumerate(value):
                yield from _marked(get_args(option)[0], (), inside, (*path, place), mark)


def _marked_in_table(
    model: type[BaseModel], value: Any, path: KeyPath, mark: type[T]
) -> Iterator[tuple[KeyPath, Any, T]]:
    keys = keys_of(model)
    short = getattr(model, IN_SHORT, None)
    if short is not None and not isinstance(value, dict):
        yield from _marked(keys[short].annotation, keys[short].metadata, value, path, mark)
    for name, field in keys.items() if isinstance(value, dict) else ():
        if name in value:
            yield from _marked(field.annotation, field.metadata, value[name], (*path, name), mark)


def _options(kind: Any, marks: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The kinds an annotation allows, each with the marks that it carries."""
    if get_origin(kind) is Annotated:
        base, *more = get_args(kind)
        yield from _options(base, (*marks, *more))
    elif get_origin(kind) in {Union, UnionType}:
        for one in get_args(kind):
            if one is not type(None):
                yield from _options(one, marks)
    else:
        yield kind, marks


def told(written: Written, error: ErrorDetails, root: type[BaseModel]) -> Problem:
    """One of pydantic's errors in our words, without the value it complains about."""
    # A union's tag is no key of the file.
    path = tuple(part for part in error["loc"] if not (isinstance(part, str) and _UNION_TAG.fullmatch(part)))
    kind = error["type"]
    if kind == "extra_forbidden":
        parent = one_of(kind_at(root, path[:-1]))
        remedy = did_you_mean(str(path[-1]), keys_of(parent))
        return written.problem(path, f'unknown key "{path[-1]}"', remedy)
    cause = error.get("ctx", {}).get("error")
    message = _SAYS.get(kind) or str(cause or error["msg"].replace("Input should", "should"))
    remedy = cause.remedy if isinstance(cause, SettingError) else ""
    if kind in {"enum", "literal_error"}:
        remedy = _nearest(_at(written.data, path), error.get("ctx", {}).get("expected", ""))
    elif kind in _BOUNDS:
        remedy = _BOUNDS[kind].format(**error.get("ctx", {}))
    problem = written.problem(path, message, remedy)
    if problem.file == ENVIRONMENT and kind in _HAVE_PARTS:
        return replace(problem, remedy="write it as JSON")
    return problem


def _nearest(value: Any, expected: str) -> str:
    """The nearest of the words that pydantic lists as expected; nothing where none is near."""
    return suggest_nearest(value, _QUOTED.findall(expected)) if isinstance(value, str) else ""


def _at(data: Any, path: KeyPath) -> Any:
    """The value at a path of the data; a single value may stand for a list of one."""
    for part in path:
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part] if part < len(data) else None
        elif not isinstance(part, int):
            return None
    return data


def keys_of(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The keys of a table, as the operator writes them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def has_parts(kind: Any) -> bool:
    return (
        get_origin(kind) is dict or kind is Secret or (isinstance(kind, type) and issubclass(kind, BaseModel))
    )


def one_of(kind: Any) -> Any:
    """The kind of a list's elements: one of them may stand for the list."""
    return _bare(get_args(kind)[0]) if get_origin(kind) in {tuple, list} else kind


def kind_at(root: type[BaseModel], path: KeyPath) -> Any:
    """The kind of value the models hold at a path; None where they know none."""
    kind: Any = root
    for part in path:
        if get_origin(kind) in {tuple, list} and isinstance(part, int):
            kind = one_of(kind)
            continue
        kind = one_of(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in keys_of(kind):
            kind = _bare(keys_of(kind)[str(part)].annotation)
        elif get_origin(kind) is dict:
            kind = _bare(get_args(kind)[1])
        else:
            return None
    return kind


def _bare(kind: Any) -> Any:
    while True:
        others = [one for one in get_args(kind) if one is not type(None)]
        if get_origin(kind) is Annotated or (get_origin(kind) in {Union, UnionType} and len(others) == 1):
            kind = others[0]
        else:
            return kind
