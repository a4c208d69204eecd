"""Applies environment variables such as `CALLBRIDGE_SERVER__LISTEN` to a file's data."""

import json
from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import BaseModel

from bridge.lib.errors import Problem, did_you_mean
from bridge.lib.toml_file import ENVIRONMENT, KeyPath
from bridge.lib.validation import has_parts, kind_at, one_of
from bridge.lib.values import Secret, SettingError

PREFIX = "CALLBRIDGE_"


def lay_overrides(
    data: dict[str, Any], environ: Mapping[str, str], root: type[BaseModel], problems: list[Problem]
) -> dict[KeyPath, str]:
    """Write the environment's values into `data`, mistakes into `problems`; return each path's variable."""
    variables: dict[KeyPath, str] = {}
    # Sorted, so that a whole table is written before its parts.
    for variable in sorted(environ):
        parts = variable.upper().removeprefix(PREFIX).lower().split("__")
        if not variable.upper().startswith(PREFIX) or len(parts) == 1:
            continue
        if parts[0] not in root.model_fields:
            near = did_you_mean(parts[0].upper(), [name.upper() for name in root.model_fields])
            problems.append(Problem(ENVIRONMENT, variable, f'there is no section "{parts[0]}"', near))
            continue
        try:
            variables[_lay(data, parts, environ[variable], root, variables)] = variable
        except SettingError as error:
            problems.append(Problem(ENVIRONMENT, variable, str(error), error.remedy))
    return variables


def _lay(
    data: dict[str, Any],
    parts: list[str],
    text: str,
    root: type[BaseModel],
    variables: Mapping[KeyPath, str],
) -> KeyPath:
    path: KeyPath = ()
    node = data
    for part in parts[:-1]:
        key = _spelled(node, part)
        path = (*path, key)
        below = node.get(key, {})
        kind = kind_at(root, path)
        if isinstance(below, list) or (kind is not None and not has_parts(one_of(kind))):
            raise SettingError("reaches into a value", "set the whole value; lists and tables as JSON")
        others = [path] if path in variables and not isinstance(below, dict) else []
        if one_of(kind) is Secret:
            # A secret stands in one place only: an override moves it.
            below = {}
            others += [other for other in variables if other[:-1] == path]
        if others:
            raise SettingError(f"contradicts {variables[others[0]]}", "set one of the two")
        node[key] = below if isinstance(below, dict) else {}
        node = node[key]
    last = _spelled(node, parts[-1])
    path = (*path, last)
    node[last] = _decoded(text, kind_at(root, path))
    return path


def _spelled(table: Mapping[str, Any], part: str) -> str:
    """The key as the file spells it: variables have no lower case and no dashes."""
    if part in table:
        return part
    return next((key for key in table if key.lower().replace("-", "_") == part), part)


def _decoded(text: str, kind: Any) -> Any:
    """Lists and tables are JSON; what is text by its kind may look like JSON and is not."""
    if not text.startswith(("[", "{")) or not (get_origin(kind) is tuple or has_parts(kind)):
        return text
    try:
        return json.loads(text)
    except ValueError:
        if kind is Secret:
            return text
        raise SettingError("is no valid JSON", "lists and tables are written as JSON") from None
