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
    """How the CRM is asked which fields an object has."""

    section: DescribeSection
    request: Request
    fields: Pick
    read_only: Condition | None


@dataclass(frozen=True, slots=True)
class Probe:
    """One question of `check --online`."""

    section: ProbeSection
    request: Request
    expect: Condition | None
    writes: Condition | None


@dataclass(frozen=True, slots=True)
class ObjectType:
    """What the CRM can do with one type of object."""

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
    """What makes of a field as the CRM shows it what the mapping would send; `*`: of all others."""

    @property
    def index_lag(self) -> timedelta:
        """How long a new object may stay unseen by `find`."""
        return max((each.section.index_lag for each in self.find), default=timedelta(0))

    @property
    def settles_within(self) -> timedelta:
        """How long after a request nobody can tell what became of it, unless an answer does."""
        polls = [step.poll for step in (*self.upsert, *self.create, *self.update) if step.poll is not None]
        return max([self.index_lag, *(poll.longest + self.index_lag for poll in polls)])

    @property
    def batches(self) -> list[int]:
        """The sizes of what can go together."""
        ways: list[Step | Find | Read | Link] = [*self.upsert, *self.create, *self.update, *self.find]
        ways += [*self.link.values(), *([self.read] if self.read is not None else [])]
        return [each.batch.max for each in ways if each.batch is not None]

    @property
    def reads_json(self) -> bool:
        """Whether any answer about it is read as JSON."""
        ways: list[Step | Find | Read] = [*self.upsert, *self.create, *self.update, *self.find]
        ways += [] if self.read is None else [self.read]
        return any(each.request.expects == "json" for each in ways)

    def steps_of(self, way: str) -> Sequence[Step]:
        """The steps of `create`, `update` or `upsert`."""
        return {"create": self.create, "update": self.update}.get(way, self.upsert)

    def shows(self, way: str, number: int) -> bool:
        """Whether a look-up tells if a step was processed: the first, which makes the object."""
        if number > 0 or way == "update":
            return False
        return bool(self.find) or (way == "upsert" and self.read is not None)

    @property
    def look_again_after(self) -> float:
        """In how many seconds a look-up may show what it does not show now."""
        return max(self.index_lag.total_seconds(), 1.0)

    @property
    def readable(self) -> bool:
        """Whether its present fields can be read: what most write policies need."""
        return self.read is not None or bool(self.find)


class Connector:
    """A compiled connector."""

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
        self.together = max((each for kind in self.objects.values() for each in kind.batches), default=1)
        """How many deliveries are worth sending together."""
        self.probes = tuple(
            _probe(compiler, ("probe", number), each) for number, each in enumerate(section.probe)
        )
        self.origins: Tree = compiler.tree(compiler.language({}), ("origins",), section.origins)
        """Where requests may go beside base_url and what the token's answer names."""
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
            api=any(each.reads_json for each in self.objects.values()),
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


def _object(compiler: Compiler, place: KeyPath, name: str, section: ObjectTypeSection) -> ObjectType:
    key: Names = {"key": frozenset(section.key)}
    # What is read may be limited to the fields that the mapping writes.
    looked: Names = {**key, "fields": None}
    inline = frozenset(link for link, each in section.link.items() if each.inline)
    whole: Names = {**key, "fields": None, "links": inline}
    _check_ways(compiler, place, section)
    return ObjectType(
        name=name,
        key=section.key,
        upsert=compile_steps(compiler, (*place, "upsert"), section.upsert, whole),
        find=tuple(
            compile_find(compiler, (*place, "find", number), each, looked)
            for number, each in enumerate(section.find)
        ),
        create=compile_steps(compiler, (*place, "create"), section.create, whole),
        update=compile_steps(compiler, (*place, "update"), section.update, {**whole, "id": None}),
        read=compile_read(compiler, (*place, "read"), section.read, {**looked, "id": None}),
        link={
            link: Link(None)
            if each.inline
            else compile_link(compiler, (*place, "link", link), each, {**key, "id": None})
            for link, each in section.link.items()
        },
        describe=_describe(compiler, (*place, "describe"), section.describe),
        whole=section.whole,
        read_as={
            field: compiler.tree(
                compiler.language({"value": None, "name": None}, common=False),
                (*place, "read_as", field),
                text,
            )
            for field, text in section.read_as.items()
        },
    )


def _check_ways(compiler: Compiler, place: KeyPath, section: ObjectTypeSection) -> None:
    """There must be one way to make an object, and what it needs."""
    if section.upsert and section.create:
        compiler.problem((*place, "create"), "stands beside an upsert", "keep one of them")
    if not section.upsert and not section.create:
        compiler.problem(
            place, "can be neither created nor upserted", "add upsert, or find, create and update"
        )
    if section.create and section.update and not section.find:
        compiler.problem((*place, "update"), "needs a find, or nothing tells what to update", "add find")
    for way, steps in (("create", section.create), ("upsert", section.upsert)):
        for number, step in enumerate(steps):
            if step.reread and not section.find:
                compiler.problem(
                    (*place, way, number, "reread"), "needs a find, or nothing tells the id", "add find"
                )
    if section.whole and not section.find and section.read is None:
        compiler.problem(
            (*place, "whole"), "needs the object's present fields, or an update would empty them", "add read"
        )


def _describe(compiler: Compiler, place: KeyPath, section: DescribeSection | None) -> Describe | None:
    if section is None:
        return None
    fields = compiler.pick((*place, "fields"), section.fields)
    assert fields is not None  # noqa: S101 -- it is required
    about = compiler.language({"field": None}, common=False)
    return Describe(
        section,
        compile_request(compiler, place, section, {}),
        fields,
        compiler.condition(about, (*place, "read_only"), section.read_only),
    )


def _probe(compiler: Compiler, place: KeyPath, section: ProbeSection) -> Probe:
    expect = compiler.condition(compiler.language(ANSWER), (*place, "expect"), section.expect)
    about = compiler.language({**ANSWER, "field": None})
    writes = compiler.condition(about, (*place, "writes"), section.writes)
    return Probe(section, compile_request(compiler, place, section, {}), expect, writes)


def _check_probes(compiler: Compiler, section: ConnectorFile) -> None:
    before: list[str] = []
    for number, each in enumerate(section.probe):
        place: KeyPath = ("probe", number)
        if each.object is not None and each.object not in section.objects:
            message = f'there is no object "{each.object}"'
            compiler.problem((*place, "object"), message, did_you_mean(each.object, section.objects))
        if each.writes is not None and each.object is None:
            compiler.problem((*place, "writes"), "of which object's fields?", 'add object = "…"')
        if each.after is not None and each.after not in before:
            message = f'there is no probe "{each.after}" before it'
            compiler.problem((*place, "after"), message, did_you_mean(each.after, before))
        before.append(each.name)


def _check_limits(compiler: Compiler, section: ConnectorFile) -> None:
    known = {"default", "poll", *section.limits}
    named: list[tuple[KeyPath, str | None]] = [(place, each.limit) for place, each in _requests(section)]
    named += [(("auth", "token", number), each.limit) for number, each in enumerate(section.auth.token)]
    for place, limit in named:
        if limit is not None and limit not in known:
            message = f'there is no limit "{limit}"'
            compiler.problem((*place, "limit"), message, did_you_mean(limit, known))


def _check_origins(compiler: Compiler, section: ConnectorFile) -> None:
    """Warns of the other hosts to which a connector of the operator's own may send secrets."""
    for number, origin in enumerate(section.origins):
        if "{{" not in origin and not constant_web_origin(origin):
            compiler.problem(("origins", number), "is no address", "write it like https://login.example.com")
    known = {web_origin_of(section.base_url), *map(constant_web_origin, section.origins)}
    for place, address in (*compiler.addresses, (("root",), section.root)):
        origin = constant_web_origin(address)
        if origin and origin not in known:
            message = f"goes to {origin}, which is another host than base_url's"
            compiler.problem(place, message, f'where that is right, add origins = ["{origin}"]')


def _requests(section: BaseModel, place: KeyPath = ()) -> Iterator[tuple[KeyPath, RequestSection]]:
    """Every request of a file, with its place."""
    if isinstance(section, RequestSection):
        yield place, section
    for name, field in type(section).model_fields.items():
        for where, inner in _inside(getattr(section, name), (*place, field.alias or name)):
            yield from _requests(inner, where)


def _inside(value: object, place: KeyPath) -> Iterator[tuple[KeyPath, BaseModel]]:
    if isinstance(value, BaseModel):
        yield place, value
    elif isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from _inside(each, (*place, number))
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _inside(each, (*place, name))


def shipped_connectors() -> dict[str, Path]:
    """The connectors of the package, by name."""
    folder = Path(__file__).parents[1] / "connectors"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_connector(name: str, problem_at: Callable[[str, str], Problem]) -> Connector:
    """A connector by the name that a mapping gives.

    Raises:
        ConfigError: there is none of that name (said where the mapping names it), or it is broken.
    """
    shipped = shipped_connectors()
    if name not in shipped:
        raise ConfigError([problem_at(f'there is no connector "{name}"', did_you_mean(name, shipped))])
    return Connector(load_toml(shipped[name]))
