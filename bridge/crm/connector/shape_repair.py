"""Repairs wrong keys and types in a connector file, so that one run finds its other mistakes too.

Begin at `repaired()`. What is repaired is only checked further; a broken file is never used.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bridge.crm.connector.schema import ConnectorFile
from bridge.lib.errors import Problem, nearest_name
from bridge.lib.toml_file import KeyPath, TomlFile
from bridge.lib.validation import keys_of, kind_at, model_or_problems, one_of

# pydantic may find more mistakes behind a repaired value: eight rounds are enough for any nesting.
_ROUNDS = 8


def repaired(file: TomlFile) -> tuple[ConnectorFile | None, list[Problem]]:
    """The validated file and its problems; a broken file comes back repaired, or as None where that fails."""
    section, problems = model_or_problems(ConnectorFile, file)
    if section is not None:
        return section, []
    data = deepcopy(file.data)
    for _ in range(_ROUNDS):
        try:
            return ConnectorFile.model_validate(data), problems
        except ValidationError as error:
            for mistake in error.errors(include_url=False, include_input=False):
                _repair(data, mistake["loc"], mistake["type"])
    return None, problems


def _repair(data: Any, key_path: KeyPath, kind: str) -> None:
    """Repair the value at a key path: rename a misspelt key, replace a wrong value by any valid one."""
    above: Any = _at(data, key_path[:-1])
    # The path that pydantic gives has an index for a list of one, and the branch of a union: both are not
    # in the file, so they are dropped.
    while key_path and not _holds(above, key_path[-1]) and kind != "missing":
        key_path = key_path[:-1]
        above = _at(data, key_path[:-1])
    if not key_path or not isinstance(above, dict | list):
        return
    last = key_path[-1]
    if kind == "extra_forbidden" and isinstance(above, dict):
        value = above.pop(str(last))
        near = _near(str(last), one_of(kind_at(ConnectorFile, key_path[:-1])))
        if near is not None:
            above.setdefault(near, value)
    elif isinstance(above, list) and isinstance(last, int):
        del above[last]
    elif isinstance(above, dict):
        above.pop(str(last), None)
        if _required(key_path):
            above[str(last)] = _any_value(kind_at(ConnectorFile, key_path))


def _at(data: Any, key_path: KeyPath) -> Any:
    for part in key_path:
        if _holds(data, part):
            data = data[part]
        elif part != 0:
            return None
    return data


def _holds(above: Any, part: int | str) -> bool:
    if isinstance(above, list):
        return isinstance(part, int) and part < len(above)
    return isinstance(above, dict) and part in above


def _near(name: str, model: Any) -> str | None:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return None
    return nearest_name(name, keys_of(model))


def _required(key_path: KeyPath) -> bool:
    model = one_of(kind_at(ConnectorFile, key_path[:-1]))
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return False
    field = keys_of(model).get(str(key_path[-1]))
    return field is not None and field.is_required()


def _any_value(kind: Any) -> Any:
    """Some valid value of a type."""
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if kind is int:
        return 1
    if get_origin(kind) is tuple:
        inner: Sequence[Any] = get_args(kind)
        return ["x"] * (len(inner) if Ellipsis not in inner else 1)
    return {} if get_origin(kind) is dict else "x"
