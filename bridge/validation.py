"""What a file should hold, and what pydantic says of it, in words an operator can act on."""

from collections.abc import Mapping
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bridge.errors import ConfigError, Problem, did_you_mean
from bridge.tomlfile import ENVIRONMENT, KeyPath, TomlFile, Written
from bridge.values import Secret, SettingError

M = TypeVar("M", bound=BaseModel)

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


def validate(model: type[M], file: TomlFile) -> M:
    """A file's data as a model, or one ConfigError with all that is wrong with it."""
    try:
        return model.model_validate(file.data)
    except ValidationError as error:
        written = Written(file, file.data, {})
        errors = error.errors(include_url=False, include_input=False)
        raise ConfigError([told(written, one, model) for one in errors]) from None


def told(written: Written, error: ErrorDetails, root: type[BaseModel]) -> Problem:
    """One of pydantic's errors in our words, without the value it complains about."""
    path, kind = tuple(error["loc"]), error["type"]
    if kind == "extra_forbidden":
        parent = one_of(kind_at(root, path[:-1]))
        remedy = did_you_mean(str(path[-1]), keys_of(parent))
        return written.problem(path, f'unknown key "{path[-1]}"', remedy)
    cause = error.get("ctx", {}).get("error")
    message = _SAYS.get(kind) or str(cause or error["msg"].replace("Input should", "should"))
    problem = written.problem(path, message, cause.remedy if isinstance(cause, SettingError) else "")
    if problem.file == ENVIRONMENT and message in {"should be a list", "should be a table"}:
        return replace(problem, remedy="write it as JSON")
    return problem


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
