"""A connector: how one CRM's API works, compiled from its TOML file and shared by all workers.

Owns the keys of connector files, and turns them into requests to send and answers to judge.
May import `record`, `model` and `lib`; it opens no connection.
Begin at `schema.py` for the keys, at `Connector` below for what becomes of them, and at `outcome.py` for
what an answer means.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from bridge.crm.connector.addresses import constant_web_origin, web_origin_of
from bridge.crm.connector.auth import Auth, compile_auth, outputs_of
from bridge.crm.connector.compiling import ANSWER, Compiler, Condition, Names, Pick, Tree
from bridge.crm.connector.error_details import compile_errors
from bridge.crm.connector.outcome import Classifier
from bridge.crm.connector.outcome_rules import compile_rules
from bridge.crm.connector.request import (
    Find,
    Link,
    Read,
    Request,
    compile_find,
    compile_link,
    compile_read,
    compile_request,
)
from bridge.crm.connector.request_schema import DescribeSection, RequestSection
from bridge.crm.connector.schema import ConnectorFile, ObjectTypeSection, ProbeSection
from bridge.crm.connector.shape_repair import repaired
from bridge.crm.connector.steps import Step, compile_steps
from bridge.lib.errors import ConfigError, Problem, did_you_mean
from bridge.lib.toml_file import KeyPath, TomlFile, load_toml
from bridge.lib.validation import in_order


@dataclass(frozen=True, slots=True)
class Describe:
    """The compiled `describe` of an object: asks the CRM which fields it has."""

    section: DescribeSection
    request: Request
    fields: Pick
    read_only: Condition | None


@dataclass(frozen=True, slots=True)
class Probe:
    """One compiled `[[probe]]`: a request of `check --online`."""

    section: ProbeSection
    request: Request
    expect: Condition | None
    writes: Condition | None


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One compiled `[objects.X]`: the requests that find, read, create, update and link such an object."""

    name: str
    key: tuple[str, ...]
    upsert: tuple[Step, ...]
    find: tuple[Find, ...]
    create: tuple[Step, ...]
    update: tuple[Step, ...]
    read: Read | None
    link: Mapping[str, Link]
    describe: Describe | None
    whole: bool
    read_as: Mapping[str, Tree]
    """Field → expression that turns the CRM's form of a value into the mapping's; `*`: all others."""

    @property
    def index_lag(self) -> timedelta:
        """The longest time that a new object may stay unseen by `find`."""
        return max((find.section.index_lag for find in self.find), default=timedelta(0))

    @property
    def settles_within(self) -> timedelta:
        """How long after a request without an answer its effect may still appear."""
        polls = [step.poll for step in (*self.upsert, *self.create, *self.update) if step.poll is not None]
        return max([self.index_lag, *(poll.longest + self.index_lag for poll in polls)])

    @property
    def batches(self) -> list[int]:
        """The sizes of all batches that this type has."""
        requests: list[Step | Find | Read | Link] = [*self.upsert, *self.create, *self.update, *self.find]
        requests += [*self.link.values(), *([self.read] if self.read is not None else [])]
        return [request.batch.max for request in requests if request.batch is not None]

    @property
    def reads_json(self) -> bool:
        """Whether the answer to any of its requests is read as JSON."""
        parts: list[Step | Find | Read] = [*self.upsert, *self.create, *self.update, *self.find]
        parts += [] if self.read is None else [self.read]
        return any(part.request.expects == "json" for part in parts)

    def steps_of(self, method: str) -> Sequence[Step]:
        """The steps of `create`, `update` or `upsert`."""
        return {"create": self.create, "update": self.update}.get(method, self.upsert)

    def shows(self, method: str, number: int) -> bool:
        """Whether a look-up tells if step `number` was carried out: only the step that creates the object."""
        if number > 0 or method == "update":
            return False
        return bool(self.find) or (method == "upsert" and self.read is not None)

    @property
    def look_again_after(self) -> float:
        """Seconds until a look-up may find what it does not find now; at least 1."""
        return max(self.index_lag.total_seconds(), 1.0)

    @property
    def readable(self) -> bool:
        """Whether its present fields can be read, which most write policies need."""
        return self.read is not None or bool(self.find)


class Connector:
    """One compiled connector file: everything callbridge knows about a CRM's API."""

    def __init__(self, file: TomlFile) -> None:
        """Compile a connector.

        Raises:
            ConfigError: all its problems, each with its line and remedy.
        """
        self.path = file.path
        section, problems = repaired(file)
        if section is None:
            raise ConfigError(problems)
        self.file = section
        self.name = section.name
        self.secrets = section.secrets
        outputs = [output for token in section.auth.token for output in outputs_of(token)]
        compiler = Compiler(file, _common(section, frozenset(outputs)))
        self.auth: Auth = compile_auth(compiler, section.auth)
        self.root: Tree = compiler.tree(compiler.language({}), ("root",), section.root)
        self.objects = {
            name: _object(compiler, ("objects", name), name, written)
            for name, written in section.objects.items()
        }
        self.classifier = self._classifier(compiler)
        self.together = max((size for kind in self.objects.values() for size in kind.batches), default=1)
        """The size of the largest batch: so many deliveries are worth sending together."""
        self.probes = tuple(
            _probe(compiler, ("probe", number), written) for number, written in enumerate(section.probe)
        )
        self.origins: Tree = compiler.tree(compiler.language({}), ("origins",), section.origins)
        """Hosts that requests may go to beside base_url's and those that the token's answer names."""
        _check_probes(compiler, section)
        _check_limits(compiler, section)
        _check_origins(compiler, section)
        if problems or compiler.problems:
            raise ConfigError(in_order([*problems, *_not_followed(compiler.problems, problems)]))

    def _classifier(self, compiler: Compiler) -> Classifier:
        section = self.file
        return Classifier(
            compile_rules(compiler, ("outcomes",), section.outcomes),
            compile_errors(compiler, section.errors),
            own_ok=any(rule.then == "ok" for rule in section.outcomes),
            speaks=section.speaks,
            api=any(kind.reads_json for kind in self.objects.values()),
        )


def _not_followed(found: Iterable[Problem], before: Iterable[Problem]) -> Iterator[Problem]:
    """Those that do not merely follow from a value that could not be read: a rule whose condition was."""
    broken = [one.key for one in before]
    for one in found:
        if not one.follows or not any(key.startswith(f"{one.key}.") for key in broken):
            yield one


def _common(section: ConnectorFile, outputs: frozenset[str]) -> Names:
    return {
        "base_url": None,
        "secrets": frozenset(section.secrets),
        "settings": frozenset(section.settings),
        "token": outputs,
        "now": frozenset({"epoch", "epoch_ms", "iso8601", "compact"}),
        "random": frozenset({"uuid4", "hex"}),
    }


def _object(compiler: Compiler, key_path: KeyPath, name: str, section: ObjectTypeSection) -> ObjectType:
    key: Names = {"key": frozenset(section.key)}
    # Some CRMs must be told which fields to return: `fields` are the names that the mapping writes.
    lookup: Names = {**key, "fields": None}
    inline = frozenset(link for link, written in section.link.items() if written.inline)
    whole: Names = {**key, "fields": None, "links": inline}
    _check_methods(compiler, key_path, section)
    return ObjectType(
        name=name,
        key=section.key,
        upsert=compile_steps(compiler, (*key_path, "upsert"), section.upsert, whole),
        find=tuple(
            compile_find(compiler, (*key_path, "find", number), written, lookup)
            for number, written in enumerate(section.find)
        ),
        create=compile_steps(compiler, (*key_path, "create"), section.create, whole),
        update=compile_steps(compiler, (*key_path, "update"), section.update, {**whole, "id": None}),
        read=compile_read(compiler, (*key_path, "read"), section.read, {**lookup, "id": None}),
        link={
            link: Link(None)
            if written.inline
            else compile_link(compiler, (*key_path, "link", link), written, {**key, "id": None})
            for link, written in section.link.items()
        },
        describe=_describe(compiler, (*key_path, "describe"), section.describe),
        whole=section.whole,
        read_as={
            field: compiler.tree(
                compiler.language({"value": None, "name": None}, common=False),
                (*key_path, "read_as", field),
                text,
            )
            for field, text in section.read_as.items()
        },
    )


def _check_methods(compiler: Compiler, key_path: KeyPath, section: ObjectTypeSection) -> None:
    """Note a missing create or upsert, two of them, and what the chosen one lacks."""
    if section.upsert and section.create:
        compiler.problem((*key_path, "create"), "stands beside an upsert", "keep one of them")
    if not section.upsert and not section.create:
        compiler.problem(
            key_path, "can be neither created nor upserted", "add upsert, or find, create and update"
        )
    if section.create and section.update and not section.find:
        compiler.problem((*key_path, "update"), "needs a find, or nothing tells what to update", "add find")
    for method, steps in (("create", section.create), ("upsert", section.upsert)):
        for number, step in enumerate(steps):
            if step.reread and not section.find:
                compiler.problem(
                    (*key_path, method, number, "reread"), "needs a find, or nothing tells the id", "add find"
                )
    if section.whole and not section.find and section.read is None:
        compiler.problem(
            (*key_path, "whole"),
            "needs the object's present fields, or an update would empty them",
            "add read",
        )


def _describe(compiler: Compiler, key_path: KeyPath, section: DescribeSection | None) -> Describe | None:
    if section is None:
        return None
    fields = compiler.pick((*key_path, "fields"), section.fields)
    assert fields is not None  # noqa: S101 -- it is required
    about = compiler.language({"field": None}, common=False)
    return Describe(
        section,
        compile_request(compiler, key_path, section, {}),
        fields,
        compiler.condition(about, (*key_path, "read_only"), section.read_only),
    )


def _probe(compiler: Compiler, key_path: KeyPath, section: ProbeSection) -> Probe:
    expect = compiler.condition(compiler.language(ANSWER), (*key_path, "expect"), section.expect)
    about = compiler.language({**ANSWER, "field": None})
    writes = compiler.condition(about, (*key_path, "writes"), section.writes)
    return Probe(section, compile_request(compiler, key_path, section, {}), expect, writes)


def _check_probes(compiler: Compiler, section: ConnectorFile) -> None:
    earlier: list[str] = []
    for number, probe in enumerate(section.probe):
        key_path: KeyPath = ("probe", number)
        if probe.object is not None and probe.object not in section.objects:
            message = f'there is no object "{probe.object}"'
            compiler.problem((*key_path, "object"), message, did_you_mean(probe.object, section.objects))
        if probe.writes is not None and probe.object is None:
            compiler.problem((*key_path, "writes"), "of which object's fields?", 'add object = "…"')
        if probe.after is not None and probe.after not in earlier:
            message = f'there is no probe "{probe.after}" before it'
            compiler.problem((*key_path, "after"), message, did_you_mean(probe.after, earlier))
        earlier.append(probe.name)


def _check_limits(compiler: Compiler, section: ConnectorFile) -> None:
    known = {"default", "poll", *section.limits}
    named: list[tuple[KeyPath, str | None]] = [
        (key_path, request.limit) for key_path, request in _requests(section)
    ]
    named += [(("auth", "token", number), token.limit) for number, token in enumerate(section.auth.token)]
    for key_path, limit in named:
        if limit is not None and limit not in known:
            message = f'there is no limit "{limit}"'
            compiler.problem((*key_path, "limit"), message, did_you_mean(limit, known))


def _check_origins(compiler: Compiler, section: ConnectorFile) -> None:
    """Note addresses that lead to a host which neither base_url nor `origins` names."""
    for number, origin in enumerate(section.origins):
        if "{{" not in origin and not constant_web_origin(origin):
            compiler.problem(("origins", number), "is no address", "write it like https://login.example.com")
    known = {web_origin_of(section.base_url), *map(constant_web_origin, section.origins)}
    for key_path, address in (*compiler.addresses, (("root",), section.root)):
        origin = constant_web_origin(address)
        if origin and origin not in known:
            message = f"goes to {origin}, which is another host than base_url's"
            compiler.problem(key_path, message, f'where that is right, add origins = ["{origin}"]')


def _requests(section: BaseModel, key_path: KeyPath = ()) -> Iterator[tuple[KeyPath, RequestSection]]:
    """Every request of a connector file, with its key path."""
    if isinstance(section, RequestSection):
        yield key_path, section
    for name, field in type(section).model_fields.items():
        for path, inner in _models_in(getattr(section, name), (*key_path, field.alias or name)):
            yield from _requests(inner, path)


def _models_in(value: object, key_path: KeyPath) -> Iterator[tuple[KeyPath, BaseModel]]:
    if isinstance(value, BaseModel):
        yield key_path, value
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _models_in(item, (*key_path, number))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _models_in(item, (*key_path, name))


def shipped_connectors() -> dict[str, Path]:
    """The connector files that come with callbridge, by name."""
    folder = Path(__file__).parents[1] / "connectors"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_connector(name: str, problem_at: Callable[[str, str], Problem]) -> Connector:
    """Load a shipped connector by the name that a mapping gives.

    Raises:
        ConfigError: no connector has that name (`problem_at` puts it at the mapping's line), or it is broken.
    """
    shipped = shipped_connectors()
    if name not in shipped:
        raise ConfigError([problem_at(f'there is no connector "{name}"', did_you_mean(name, shipped))])
    return Connector(load_toml(shipped[name]))
