"""Requests, compiled: a connector's texts, with names for what is sent, become one HTTP request."""

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
    """One request, ready but for authentication; `body` is what `kind` says."""

    method: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    kind: BodyKind = "none"
    body: Any = None
    hidden: tuple[str, ...] = ()
    """What was computed with secrets: never shown, like them."""

    def content(self) -> bytes:
        """The body as it is sent."""
        if self.kind == "json":
            # msgspec is faster, and makes a text of bytes and sets, which no CRM has asked for.
            return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()
        if self.kind == "form":
            return urlencode(flat(self.body)).encode()
        return as_text(self.body).encode() if self.kind == "text" else b""

    @property
    def content_type(self) -> str | None:
        """What the body is; None where the connector says it, or there is none."""
        return {"json": "application/json", "form": "application/x-www-form-urlencoded"}.get(self.kind)


def flat(values: Mapping[str, Any]) -> list[tuple[str, ParameterValue]]:
    """Parameters of a query or a form: a list repeats its name, null leaves it out."""
    pairs: list[tuple[str, ParameterValue]] = []
    for name, value in values.items():
        if isinstance(value, list | tuple):
            pairs += [(name, as_text(each)) for each in value]
        elif value is not None:
            pairs.append((name, as_text(value)))
    return pairs


@dataclass(frozen=True, slots=True)
class Request:
    """A compiled request."""

    method: str
    tree: Tree
    kind: BodyKind
    idempotent: bool
    limit: str
    rules: tuple[Rule, ...]
    expects: Expects = ""
    """What a good answer must carry."""

    def render(self, names: Values) -> Rendered:
        """Its parts with their texts evaluated.

        Raises:
            ExpressionError: an expression fails on these names.
        """
        return rendered_of(self.method, self.tree.fill(names), "path", self.kind)


def rendered_of(method: str, filled: Mapping[str, Any], address_name: str, kind: BodyKind) -> Rendered:
    """A request of its parts.

    Raises:
        ExpressionError: its address is empty, or its form is no table.
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
    """Where a request goes, as it was written under a name.

    Raises:
        ExpressionError: it came out empty.
    """
    text = as_text(filled.get(name))
    if not text:
        raise ExpressionError(f"its {name} is empty")
    return text


@dataclass(frozen=True, slots=True)
class Batch:
    """The same request for many objects at once."""

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
    """One way to look an object up."""

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
    """Whether it goes by the record's id; else by our key."""
    id: Pick | None
    fields: Pick
    batch: Batch | None


@dataclass(frozen=True, slots=True)
class Link:
    """Links an object to another; without a request it travels in the object's own."""

    request: Request | None
    batch: Batch | None = None


def compile_request(
    compiler: Compiler,
    place: KeyPath,
    section: RequestSection,
    names: Names,
    rules: tuple[Rule, ...] | None = None,
) -> Request:
    """A request whose texts may use `names`; its rules are its own, unless they are given."""
    language = compiler.language(names)
    kind, body = body_of(compiler, language, place, section)
    parts: dict[str, Any] = {"path": section.path, "query": section.query, "headers": section.headers}
    if kind != "none":
        parts[kind] = body
    tree = compiler.tree(language, place, parts, "path")
    if kind != "none" and section.method == "GET":
        compiler.problem((*place, kind), "a GET has no body", "use query, or another method")
    return Request(
        method=section.method,
        tree=tree,
        kind=kind,
        idempotent=section.method == "GET" if section.idempotent is None else section.idempotent,
        limit=section.limit,
        rules=compile_rules(compiler, (*place, "outcomes"), section.outcomes) if rules is None else rules,
    )


def body_of(
    compiler: Compiler, language: Language, place: KeyPath, section: RequestSection | TokenSection
) -> tuple[BodyKind, Any]:
    """The one body that a request is written with; a form may be an expression that gives its table."""
    kinds: dict[BodyKind, Any] = {"json": section.json_, "form": section.form, "text": section.text}
    given = [kind for kind, body in kinds.items() if body is not None]
    for second in given[1:]:
        compiler.problem((*place, second), f"there is a {given[0]} body already", "give one body")
    kind: BodyKind = given[0] if given else "none"
    if isinstance(section.form, str) and not compiler.whole(language, section.form):
        remedy = 'write a table, or one expression: "{{ key | merge(fields) }}"'
        compiler.problem((*place, "form"), "is text, and no table", remedy)
    return kind, kinds.get(kind)


def compile_batch(
    compiler: Compiler,
    place: KeyPath,
    single: tuple[RequestSection, Request],
    section: BatchSection | None,
    names: Names,
) -> Batch | None:
    """The batch of a single request; its items may use `names` and `index`."""
    if section is None:
        return None
    place = (*place, "batch")
    request = _batch_request(compiler, place, single, section, names)
    item = compiler.tree(compiler.language({**names, "index": None}), (*place, "item"), section.item)
    pair: Names = {"item": None, "result": None, "settings": None}
    results = compiler.pick((*place, "results"), section.results)
    assert results is not None  # noqa: S101 -- it is required
    return Batch(
        request=request,
        item=item,
        max=section.max,
        results=results,
        match=_match(compiler, place, section, pair),
        errors=compiler.pick((*place, "errors"), section.errors),
        error_match=compiler.pick((*place, "error_match"), section.error_match, pair),
        id=compiler.pick((*place, "id"), section.id, {**ANSWER, **pair}),
        complete=compiler.condition(
            compiler.language(ANSWER, common=False), (*place, "complete"), section.complete
        ),
        atomic=section.atomic,
    )


def _batch_request(
    compiler: Compiler,
    place: KeyPath,
    single: tuple[RequestSection, Request],
    section: BatchSection,
    names: Names,
) -> Request:
    """The request that carries all items; what the batch leaves unsaid is as in the single one."""
    alone, compiled = single
    request = compile_request(
        compiler,
        place,
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
        (*compile_rules(compiler, (*place, "outcomes"), section.outcomes), *compiled.rules),
    )
    return replace(request, expects=compiled.expects)


def _match(
    compiler: Compiler, place: KeyPath, section: BatchSection, pair: Names
) -> tuple[Pick, Pick] | None:
    """What an item and its result have in common; None where results stand in the items' order."""
    if section.match is None:
        return None
    ours, theirs = section.match
    of_item = compiler.pick((*place, "match", 0), _as_expression(ours, "item"), pair)
    of_result = compiler.pick((*place, "match", 1), _as_expression(theirs, "result"), pair)
    return (of_item, of_result) if of_item is not None and of_result is not None else None


def _as_expression(text: str, owner: str) -> str:
    """A dotted path of a pair's side as an expression on it."""
    if "{{" in text:
        return text
    parts = [] if text == "." else text.split(".")
    return "{{ " + owner + "".join(f"[{_index(part)}]" for part in parts) + " }}"


def _index(part: str) -> str:
    return part if part.isdecimal() else repr(part)


def compile_find(compiler: Compiler, place: KeyPath, section: FindSection, names: Names) -> Find:
    """One way to look an object up."""
    hit: Names = {"hit": None, "key": names["key"]}
    hits = compiler.pick((*place, "hits"), section.hits)
    found = compiler.pick((*place, "id"), section.id, {"hit": None})
    fields = compiler.pick((*place, "fields"), section.fields, {"hit": None})
    assert hits is not None  # noqa: S101 -- these have defaults, so they are there
    assert found is not None  # noqa: S101
    assert fields is not None  # noqa: S101
    if section.several in ("oldest", "newest") and section.by is None:
        compiler.problem((*place, "several"), f"{section.several} by what?", 'add by = "created_at"')
    request = compile_request(compiler, place, section.model_copy(update={"idempotent": True}), names)
    request = replace(request, expects=expected_of(hits))
    return Find(
        request=request,
        section=section,
        hits=hits,
        id=found,
        fields=fields,
        where=compiler.condition(compiler.language(hit, common=False), (*place, "where"), section.where),
        by=compiler.pick((*place, "by"), section.by, {"hit": None}),
        batch=compile_batch(compiler, place, (section, request), section.batch, names),
    )


def compile_read(
    compiler: Compiler, place: KeyPath, section: ReadSection | None, names: Names
) -> Read | None:
    """How an object's present fields are read."""
    if section is None:
        return None
    fields = compiler.pick((*place, "fields"), section.fields)
    assert fields is not None  # noqa: S101 -- it has a default
    request = compile_request(compiler, place, section.model_copy(update={"idempotent": True}), names)
    request = replace(request, expects=expected_of(fields))
    return Read(
        request=request,
        by_id=any(_BY_ID.search(template.source) for template in request.tree.templates),
        id=compiler.pick((*place, "id"), section.id),
        fields=fields,
        batch=compile_batch(compiler, place, (section, request), section.batch, names),
    )


def compile_link(compiler: Compiler, place: KeyPath, section: LinkSection, names: Names) -> Link:
    """How an object is linked to another."""
    known: Names = {**names, "to": frozenset({"id", "key"})}
    if not section.path:
        compiler.problem((*place, "path"), "is required", "or say inline = true")
    request = compile_request(compiler, place, section, known)
    return Link(request, compile_batch(compiler, place, (section, request), section.batch, known))
