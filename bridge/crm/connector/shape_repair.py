"""A connector file with mistakes of shape, mended as well as can be, so that one run tells the rest too."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bridge.crm.connector.schema import ConnectorFile
from bridge.lib.errors import Problem, nearest_name
from bridge.lib.toml_file import KeyPath, TomlFile
from bridge.lib.validation import keys_of, kind_at, model_or_problems, one_of

# Each round mends what pydantic sees; behind a mended value it may see more.
_ROUNDS = 8


def repaired(file: TomlFile) -> tuple[ConnectorFile | None, list[Problem]]:
    """The file, or the nearest that can be compiled (None: there is none), and what was wrong with it."""
    found, problems = model_or_problems(ConnectorFile, file)
    if found is not None:
        return found, []
    data = deepcopy(file.data)
    for _ in range(_ROUNDS):
        try:
            return ConnectorFile.model_validate(data), problems
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False):
                _mend(data, one["loc"], one["type"])
    return None, problems


def _mend(data: Any, place: KeyPath, kind: str) -> None:
    """Put right what stands at a place: a misspelt key is what it is near to, a wrong value any right one."""
    above: Any = _at(data, place[:-1])
    # A value that stands for a list of one has no index, and in a union the branch is part of the place.
    while place and not _holds(above, place[-1]) and kind != "missing":
        place = place[:-1]
        above = _at(data, place[:-1])
    if not place or not isinstance(above, dict | list):
        return
    last = place[-1]
    if kind == "extra_forbidden" and isinstance(above, dict):
        value = above.pop(str(last))
        near = _near(str(last), one_of(kind_at(ConnectorFile, place[:-1])))
        if near is not None:
            above.setdefault(near, value)
    elif isinstance(above, list) and isinstance(last, int):
        del above[last]
    elif isinstance(above, dict):
        above.pop(str(last), None)
        if _required(place):
            above[str(last)] = _any(kind_at(ConnectorFile, place))


def _at(data: Any, place: KeyPath) -> Any:
    for part in place:
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


def _required(place: KeyPath) -> bool:
    model = one_of(kind_at(ConnectorFile, place[:-1]))
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return False
    field = keys_of(model).get(str(place[-1]))
    return field is not None and field.is_required()


def _any(kind: Any) -> Any:
    """A value of a kind."""
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if kind is int:
        return 1
    if get_origin(kind) is tuple:
        inner: Sequence[Any] = get_args(kind)
        return ["x"] * (len(inner) if Ellipsis not in inner else 1)
    return {} if get_origin(kind) is dict else "x"
