"""Compiled requests of a connector: `find`, `read`, `link`, batches, and what they render to.

Begin at `Request.render()`; the `compile_…` functions make such objects of a file's sections.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlencode

from bridge.crm.connector.compiling import ANSWER, Compiler, Condition, Names, Pick, Tree, Values
from bridge.crm.connector.foreign_answer import Expects, expected_of
from bridge.crm.connector.outcome_rules import Rule, compile_rules
from bridge.crm.connector.request_schema import (
    BatchSection,
    FindSection,
    LinkSection,
    ReadSection,
    RequestSection,
)
from bridge.crm.connector.schema import TokenSection
from bridge.lib.expression import ExpressionError, Language, as_text
from bridge.lib.toml_file import KeyPath

ParameterValue = str | int | float | bool | None
_BY_ID = re.compile(r"(?<![.\w])id\b")
BodyKind = Literal["json", "form", "text", "none"]


@dataclass(slots=True)
class Rendered:
    """One request with its texts evaluated, without authentication yet; `kind` says what `body` is."""

    method: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    kind: BodyKind = "none"
    body: Any = None
    hidden: tuple[str, ...] = ()
    """Values that were computed with secrets, such as signatures; messages hide them like secrets."""

    def content(self) -> bytes:
        """The bytes of the body.

        Raises:
            TypeError, ValueError: the body holds what JSON cannot carry.
        """
        if self.kind == "json":
            # msgspec would be faster, but it writes bytes as Base64 and sets as lists in place of a
            # TypeError.
            return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()
        if self.kind == "form":
            return urlencode(flat(self.body)).encode()
        return as_text(self.body).encode() if self.kind == "text" else b""

    @property
    def content_type(self) -> str | None:
        """The content type of a JSON or form body; None for text, which names its own, and without a body."""
        return {"json": "application/json", "form": "application/x-www-form-urlencoded"}.get(self.kind)


def flat(values: Mapping[str, Any]) -> list[tuple[str, ParameterValue]]:
    """Parameters of a query or a form as pairs: a list repeats its name, null is left out."""
    pairs: list[tuple[str, ParameterValue]] = []
    for name, value in values.items():
        if isinstance(value, list | tuple):
            pairs += [(name, as_text(item)) for item in value]
        elif value is not None:
            pairs.append((name, as_text(value)))
    return pairs


@dataclass(frozen=True, slots=True)
class Request:
    """One compiled request of a connector."""

    method: str
    tree: Tree
    kind: BodyKind
    idempotent: bool
    limit: str
    rules: tuple[Rule, ...]
    expects: Expects = ""
    """What an answer of 2xx must carry to be the CRM's own: nothing, text or JSON."""

    def render(self, names: Values) -> Rendered:
        """Fill in the names and return the request, without authentication.

        Raises:
            ExpressionError: an expression fails on these names.
        """
        return rendered_of(self.method, self.tree.fill(names), "path", self.kind)


def rendered_of(method: str, filled: Mapping[str, Any], address_name: str, kind: BodyKind) -> Rendered:
    """Build a request of evaluated parts; `address_name` says under which name the address stands.

    Raises:
        ExpressionError: the address is empty, or the form is no table.
    """
    body = filled.get(kind)
    if kind == "form" and not isinstance(body, Mapping):
        raise ExpressionError("its form is no table: write an expression that gives names and values")
    return Rendered(
        method=method,
        path=address(filled, address_name),
        query=filled.get("query", {}),
        headers={name: as_text(value) for name, value in filled.get("headers", {}).items()},
        kind=kind,
        body=body,
    )


def address(filled: Mapping[str, Any], name: str) -> str:
    """The address that stands under a name of the evaluated parts.

    Raises:
        ExpressionError: it is empty.
    """
    text = as_text(filled.get(name))
    if not text:
        raise ExpressionError(f"its {name} is empty")
    return text


@dataclass(frozen=True, slots=True)
class Batch:
    """One request for many objects; the answer is judged item by item."""

    request: Request
    item: Tree
    max: int
    results: Pick
    match: tuple[Pick, Pick] | None
    errors: Pick | None
    error_match: Pick | None
    id: Pick | None
    complete: Condition | None
    atomic: bool


@dataclass(frozen=True, slots=True)
class Find:
    """Looks an object up by its key."""

    request: Request
    section: FindSection
    hits: Pick
    id: Pick
    fields: Pick
    where: Condition | None
    by: Pick | None
    batch: Batch | None


@dataclass(frozen=True, slots=True)
class Read:
    """Reads an object's present fields."""

    request: Request
    by_id: bool
    """Whether the request uses the record's id; else it uses the key."""
    id: Pick | None
    fields: Pick
    batch: Batch | None


@dataclass(frozen=True, slots=True)
class Link:
    """Links an object to another; without a request the link is part of the object's own requests."""

    request: Request | None
    batch: Batch | None = None


def compile_request(
    compiler: Compiler,
    key_path: KeyPath,
    section: RequestSection,
    names: Names,
    rules: tuple[Rule, ...] | None = None,
) -> Request:
    """Compile a request whose texts may use `names`; `rules` replace its own `outcomes`."""
    language = compiler.language(names)
    kind, body = body_of(compiler, language, key_path, section)
    parts: dict[str, Any] = {"path": section.path, "query": section.query, "headers": section.headers}
    if kind != "none":
        parts[kind] = body
    tree = compiler.tree(language, key_path, parts, "path")
    if kind != "none" and section.method == "GET":
        compiler.problem((*key_path, kind), "a GET has no body", "use query, or another method")
    return Request(
        method=section.method,
        tree=tree,
        kind=kind,
        idempotent=section.method == "GET" if section.idempotent is None else section.idempotent,
        limit=section.limit,
        rules=compile_rules(compiler, (*key_path, "outcomes"), section.outcomes) if rules is None else rules,
    )


def body_of(
    compiler: Compiler, language: Language, key_path: KeyPath, section: RequestSection | TokenSection
) -> tuple[BodyKind, Any]:
    """The kind and the value of a request's body; two bodies, or a form that is no table, are problems."""
    kinds: dict[BodyKind, Any] = {"json": section.json_, "form": section.form, "text": section.text}
    given = [kind for kind, body in kinds.items() if body is not None]
    for second in given[1:]:
        compiler.problem((*key_path, second), f"there is a {given[0]} body already", "give one body")
    kind: BodyKind = given[0] if given else "none"
    if isinstance(section.form, str) and not compiler.whole(language, section.form):
        remedy = 'write a table, or one expression: "{{ key | merge(fields) }}"'
        compiler.problem((*key_path, "form"), "is text, and no table", remedy)
    return kind, kinds.get(kind)


def compile_batch(
    compiler: Compiler,
    key_path: KeyPath,
    single: tuple[RequestSection, Request],
    section: BatchSection | None,
    names: Names,
) -> Batch | None:
    """Compile the batch of a single request; its items may use `names` and `index`."""
    if section is None:
        return None
    key_path = (*key_path, "batch")
    request = _batch_request(compiler, key_path, single, section, names)
    item = compiler.tree(compiler.language({**names, "index": None}), (*key_path, "item"), section.item)
    pair: Names = {"item": None, "result": None, "settings": None}
    results = compiler.pick((*key_path, "results"), section.results)
    assert results is not None  # noqa: S101 -- it is required
    return Batch(
        request=request,
        item=item,
        max=section.max,
        results=results,
        match=_match(compiler, key_path, section, pair),
        errors=compiler.pick((*key_path, "errors"), section.errors),
        error_match=compiler.pick((*key_path, "error_match"), section.error_match, pair),
        id=compiler.pick((*key_path, "id"), section.id, {**ANSWER, **pair}),
        complete=compiler.condition(
            compiler.language(ANSWER, common=False), (*key_path, "complete"), section.complete
        ),
        atomic=section.atomic,
    )


def _batch_request(
    compiler: Compiler,
    key_path: KeyPath,
    single: tuple[RequestSection, Request],
    section: BatchSection,
    names: Names,
) -> Request:
    """Compile the request that carries all items; keys it lacks are those of the single request."""
    alone, compiled = single
    request = compile_request(
        compiler,
        key_path,
        RequestSection(
            method=section.method or alone.method,
            path=section.path or alone.path,
            query=section.query,
            headers=section.headers,
            json=section.json_,
            form=None,
            text=None,
            idempotent=compiled.idempotent,
            limit=alone.limit,
        ),
        {"items": None, **({"fields": None} if "fields" in names else {})},
        (*compile_rules(compiler, (*key_path, "outcomes"), section.outcomes), *compiled.rules),
    )
    return replace(request, expects=compiled.expects)


def _match(
    compiler: Compiler, key_path: KeyPath, section: BatchSection, pair: Names
) -> tuple[Pick, Pick] | None:
    """Compile `match`, which pairs items with results; None where results come in the items' order."""
    if section.match is None:
        return None
    of_item, of_result = (
        compiler.pick((*key_path, "match", number), text, pair) for number, text in enumerate(section.match)
    )
    return (of_item, of_result) if of_item is not None and of_result is not None else None


def compile_find(compiler: Compiler, key_path: KeyPath, section: FindSection, names: Names) -> Find:
    """Compile one `find`."""
    hit: Names = {"hit": None, "key": names["key"]}
    hits = compiler.pick((*key_path, "hits"), section.hits)
    hit_id = compiler.pick((*key_path, "id"), section.id, {"hit": None})
    fields = compiler.pick((*key_path, "fields"), section.fields, {"hit": None})
    assert hits is not None  # noqa: S101 -- these have defaults, so they are there
    assert hit_id is not None  # noqa: S101
    assert fields is not None  # noqa: S101
    if section.several in ("oldest", "newest") and section.by is None:
        compiler.problem((*key_path, "several"), f"{section.several} by what?", 'add by = "created_at"')
    request = compile_request(compiler, key_path, section.model_copy(update={"idempotent": True}), names)
    request = replace(request, expects=expected_of(hits))
    return Find(
        request=request,
        section=section,
        hits=hits,
        id=hit_id,
        fields=fields,
        where=compiler.condition(compiler.language(hit, common=False), (*key_path, "where"), section.where),
        by=compiler.pick((*key_path, "by"), section.by, {"hit": None}),
        batch=compile_batch(compiler, key_path, (section, request), section.batch, names),
    )


def compile_read(
    compiler: Compiler, key_path: KeyPath, section: ReadSection | None, names: Names
) -> Read | None:
    """Compile `read`; None where the object has none."""
    if section is None:
        return None
    fields = compiler.pick((*key_path, "fields"), section.fields)
    assert fields is not None  # noqa: S101 -- it has a default
    request = compile_request(compiler, key_path, section.model_copy(update={"idempotent": True}), names)
    request = replace(request, expects=expected_of(fields))
    return Read(
        request=request,
        by_id=any(_BY_ID.search(template.source) for template in request.tree.templates),
        id=compiler.pick((*key_path, "id"), section.id),
        fields=fields,
        batch=compile_batch(compiler, key_path, (section, request), section.batch, names),
    )


def compile_link(compiler: Compiler, key_path: KeyPath, section: LinkSection, names: Names) -> Link:
    """Compile `link.NAME`; its texts may use `to.id` and `to.key`."""
    known: Names = {**names, "to": frozenset({"id", "key"})}
    if not section.path:
        compiler.problem((*key_path, "path"), "is required", "or say inline = true")
    request = compile_request(compiler, key_path, section, known)
    return Link(request, compile_batch(compiler, key_path, (section, request), section.batch, known))
