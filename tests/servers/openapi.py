"""Requests held against a vendor's own OpenAPI file."""

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from openapi_schema_validator import OAS30WriteValidator, oas30_format_checker

_ROOT = Path(__file__).resolve().parents[2]


def specs_folder() -> Path | None:
    """Where the vendors' files are: `CALLBRIDGE_SPECS`, or beside the repository; None where they are not."""
    named = os.environ.get("CALLBRIDGE_SPECS")
    folder = Path(named) if named else _ROOT.parent / "shared" / "specs"
    return folder if folder.is_dir() else None


def load(vendor: str, *names: str) -> "Description | None":
    """The files of one vendor as one description; None where one of them is missing."""
    folder = specs_folder()
    files = [folder / vendor / name for name in names] if folder is not None else []
    if not files or not all(file.is_file() for file in files):
        return None
    return _load(tuple(files))


@cache
def _load(files: tuple[Path, ...]) -> "Description":
    return Description([_repaired(json.loads(file.read_text("utf-8"))) for file in files])


class Description:
    """The operations of some OpenAPI 3.0 files.

    Path, method, parameters and body are held against them, in words for a person. Headers that a
    description does not name are nobody's fault; query parameters are.
    """

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self._operations: list[tuple[re.Pattern[str], int, str, dict[str, Any], dict[str, Any]]] = []
        for document in documents:
            for template, item in document["paths"].items():
                pattern = re.compile("".join(_piece(part) for part in template.split("/")[1:]))
                for method in {"get", "post", "put", "patch", "delete"} & set(item):
                    operation = {**item[method], "parameters": _parameters(document, item, item[method])}
                    variables = template.count("{")
                    self._operations.append((pattern, variables, method.upper(), operation, document))

    def violations(
        self,
        method: str,
        raw_path: str,
        query: list[tuple[str, str]],
        headers: Mapping[str, str],
        body: bytes,
    ) -> list[str]:
        """What the vendor's description does not allow in this request; `raw_path` is still encoded."""
        matching = [
            found for found in self._operations if found[2] == method and found[0].fullmatch(raw_path)
        ]
        if not matching:
            return ["no such operation"]
        pattern, _, _, operation, document = min(matching, key=lambda found: found[1])
        found = pattern.fullmatch(raw_path)
        values = [unquote(value) for value in found.groups()] if found else []
        return [
            *(["an empty path parameter"] if "" in values else []),
            *_query_violations(document, operation, query, headers),
            *_body_violations(document, operation, headers, body),
        ]


def _query_violations(
    document: dict[str, Any],
    operation: dict[str, Any],
    query: list[tuple[str, str]],
    headers: Mapping[str, str],
) -> list[str]:
    known = {entry["name"]: entry for entry in operation["parameters"] if entry["in"] == "query"}
    sentences = [f"unknown query parameter {name}" for name, _ in query if name not in known]
    given = {name for name, _ in query}
    for entry in operation["parameters"]:
        present = given if entry["in"] == "query" else set(headers)
        name = entry["name"] if entry["in"] == "query" else entry["name"].lower()
        if entry["in"] != "path" and entry.get("required") and name not in present:
            sentences.append(f"{entry['in']} parameter {entry['name']} is missing")
    for name, value in query:
        if name in known:
            schema = known[name].get("schema", {})
            sentences += [f"{name}: {text}" for text in _errors(document, schema, _typed(schema, value))]
    return sentences


def _body_violations(
    document: dict[str, Any], operation: dict[str, Any], headers: Mapping[str, str], body: bytes
) -> list[str]:
    wanted = operation.get("requestBody")
    if wanted is None:
        return ["a body where none belongs"] if body else []
    if not body:
        return ["the body is missing"] if wanted.get("required") else []
    media = headers.get("content-type", "").partition(";")[0].strip()
    if media not in wanted["content"]:
        return [f"content type {media or 'missing'}, not one of {', '.join(wanted['content'])}"]
    try:
        content = json.loads(body)
    except ValueError as error:
        return [f"the body is no JSON: {error}"]
    return _errors(document, wanted["content"][media]["schema"], content)


def _errors(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    whole = {**schema, "components": document.get("components", {})}
    validator = OAS30WriteValidator(whole, format_checker=oas30_format_checker)
    return [
        f"{'/'.join(str(part) for part in error.absolute_path) or 'the value'}: {error.message}"
        for error in sorted(validator.iter_errors(value), key=lambda error: str(error.absolute_path))
    ]


def _typed(schema: dict[str, Any], value: str) -> Any:
    if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if schema.get("type") == "boolean" and value in {"true", "false"}:
        return value == "true"
    if schema.get("type") == "array":
        return [_typed(schema.get("items", {}), part) for part in value.split(",")]
    return value


def _parameters(
    document: dict[str, Any], item: dict[str, Any], operation: dict[str, Any]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for entry in [*item.get("parameters", []), *operation.get("parameters", [])]:
        name = entry["$ref"].rpartition("/")[2] if "$ref" in entry else None
        found.append(document["components"]["parameters"][name] if name else entry)
    return found


def _piece(part: str) -> str:
    return "/" + re.sub(r"\\\{[^}]*\\\}", "([^/]*)", re.escape(part))


def _repaired(node: Any) -> Any:
    """A copy without what upsets validators: null examples, and parts that are kept on other hosts."""
    if isinstance(node, list):
        return [_repaired(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if str(node.get("$ref", "")).startswith("http"):
        return {}
    return {key: _repaired(value) for key, value in node.items() if key != "example" or value is not None}
