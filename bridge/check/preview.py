"""What a call would cause in a CRM, request by request. Nothing is asked and nothing is sent.

The requests are those of `PlanSync` itself, which is told of a CRM that holds nothing, then of
one that holds every object: what is shown here and what is sent there cannot part.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import Enum
from itertools import takewhile
from typing import Any

from bridge.check.redact import Shown, Unwritable, Writer
from bridge.crm.account import Account
from bridge.crm.connector import Connector, ObjectType
from bridge.crm.connector.compiling import Answer, Condition, Pick, Values
from bridge.crm.connector.request import Request
from bridge.crm.connector.request_schema import StepSection
from bridge.crm.connector.schema import ObjectSection
from bridge.crm.connector.steps import Poll, Step
from bridge.delivery.crm_requests import send_one_by_one
from bridge.delivery.plan_sync import PlanSync
from bridge.lib.errors import DeliveryError, Gone, Permanent
from bridge.lib.expression import Template
from bridge.mapping import CompiledMapping, MappingFault
from bridge.model.calls import Via
from bridge.model.crm_objects import KnownObject
from bridge.model.field_policies import POLICIES
from bridge.model.plan import Plan, PlannedObject, Skip
from bridge.model.sync_progress import SyncProgress
from bridge.record.arrival import arrival_of
from bridge.record.call import Call
from bridge.record.origin import Origin

_LOOKS = ("find", "read")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what it is for, and on what it depends."""

    what: str
    """`find`, `read`, `create`, `update`, `upsert` or `link NAME`; behind it the step's name, if several.

    `create poll` and the like ask for the job that such a step begins.
    """
    request: Shown
    only_if: str | None = None
    """The condition of its step, where only an answer can tell whether it holds."""


@dataclass(frozen=True, slots=True)
class ObjectPreview:
    """One object's requests, in order."""

    planned: PlannedObject
    line: tuple[str, str, str]
    look_up: Sequence[Asked]
    look_up_known: Sequence[Asked] | None
    """What is looked up instead once an earlier delivery has noted the object's id; None: the same."""
    either_way: Sequence[Asked] | None
    """What is sent whether it is there or not; else `if_new` and `if_there` differ."""
    if_new: Sequence[Asked]
    if_there: Sequence[Asked]
    links: Sequence[Asked]

    def document(self) -> dict[str, Any]:
        """It as one JSON object."""
        planned = self.planned
        ways = {"look_up": self.look_up, "look_up_known": self.look_up_known, "links": self.links}
        if self.either_way is None:
            ways |= {"if_new": self.if_new, "if_there": self.if_there}
        else:
            ways |= {"either_way": self.either_way}
        return {
            "name": planned.name,
            "type": planned.type,
            "key": dict(planned.key),
            "shared": planned.shared,
            "line": dict(zip(("account", "type", "key"), self.line, strict=True)),
            "fields": {
                name: {"value": each.value, "write": each.write, "written": POLICIES[each.write].written}
                for name, each in planned.fields.items()
            },
            "absent": dict(planned.absent),
            "links_to": dict(planned.links),
            "on_deleted": planned.on_deleted,
            **{name: [asdict(each) for each in asked] for name, asked in ways.items() if asked is not None},
        }


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of a call: `delivered`, `skipped`, `parked` or `quarantined`, and how."""

    call: str
    outcome: str
    reason: str = ""
    token: Sequence[Shown] = ()
    objects: Sequence[ObjectPreview] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """It as one JSON object."""
        return {
            "call": self.call,
            "outcome": self.outcome,
            "reason": self.reason,
            "token": [asdict(each) for each in self.token],
            "objects": [each.document() for each in self.objects],
            "left_out": dict(self.left_out),
        }


def key_of(body: bytes, origin: Origin, now: datetime) -> tuple[str, str]:
    """The key that the ledger would give a first record, and why it would give none.

    Raises:
        NotAnObject: the body holds no JSON object.
    """
    arrival = arrival_of(origin, Via.CALLBACK, body, now)
    if arrival.trouble is not None:
        return "", f"{arrival.trouble}: {arrival.detail}"
    if arrival.names:
        return arrival.names[0], ""
    if arrival.sn is None or not arrival.local_time:
        return "", "unidentified: no uuid, no base_info, and no sn or time"
    return f"{arrival.sn}@{arrival.local_time}", ""


def preview(
    mapping: CompiledMapping,
    connector: Connector,
    account: Account,
    call: Call,
    now: datetime,
) -> Preview:
    """What a mapping and a connector make of a call, for a CRM about which nothing is known."""
    try:
        plan = mapping.plan(call)
    except MappingFault as fault:
        return Preview(call.key, "parked", f"mapping: {fault}")
    if isinstance(plan, Skip):
        return Preview(call.key, "skipped", plan.rule)
    writer = Writer(connector, account, now)
    scenes = {scene: _Rehearsal(scene, connector, writer, now) for scene in _Scene}
    faults = [told for one in scenes.values() if (told := one.run(plan))]
    objects = list(_objects(plan, account, {scene: one.asked for scene, one in scenes.items()}))
    token: list[Shown] = []
    try:
        token = writer.tokens()
    except Unwritable as error:
        faults.insert(0, f"no token: the connector {connector.name} cannot write the exchange: {error}")
    outcome, reason = ("parked", faults[0]) if faults else ("delivered", "")
    if plan.shadow and not faults:
        outcome, reason = "skipped", "shadow: nothing is sent"
    return Preview(call.key, outcome, reason, token, objects, plan.left_out)


class _Scene(Enum):
    """What the CRM is taken to hold."""

    NEW = "nothing"
    THERE = "every object, found by its key"
    KNOWN = "every object, with the id that an earlier delivery noted"


def _objects(
    plan: Plan, account: Account, scenes: Mapping[_Scene, Mapping[str, Sequence[Asked]]]
) -> Iterator[ObjectPreview]:
    for planned in plan.objects:
        asked = {scene: list(found.get(planned.name, ())) for scene, found in scenes.items()}
        looks = {
            scene: list(takewhile(lambda one: one.what in _LOOKS, found)) for scene, found in asked.items()
        }
        sent = {
            scene: [one for one in found[len(looks[scene]) :] if not one.what.startswith("link ")]
            for scene, found in asked.items()
        }
        new, there = sent[_Scene.NEW], sent[_Scene.THERE]
        known = looks[_Scene.KNOWN]
        yield ObjectPreview(
            planned,
            (account.name, planned.type, planned.key_text),
            looks[_Scene.NEW],
            None if known == looks[_Scene.NEW] else known,
            new if new == there else None,
            new,
            there,
            [one for one in asked[_Scene.NEW] if one.what.startswith("link ")],
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """Which of a connector's requests one is."""

    what: str
    step: str = ""
    only_if: str | None = None
    captures: Sequence[str] = ()


class _Rehearsal:
    """Plays the CRM and the ledger for one `PlanSync`, and writes down what it asks."""

    def __init__(self, scene: _Scene, connector: Connector, writer: Writer, now: datetime) -> None:
        self.asked: dict[str, list[Asked]] = {}
        self._connector = copy.copy(connector)
        self._connector.objects = {
            name: _stripped(kind, connector.file.objects[name]) for name, kind in connector.objects.items()
        }
        self._scene = scene
        self._writer = writer
        self._now = now
        self._parts = {
            id(request): part
            for name, kind in connector.objects.items()
            for request, part in _parts(kind, connector.file.objects[name])
        }
        self._planned: PlannedObject | None = None
        self._made = False

    def run(self, plan: Plan) -> str | None:
        """Take the whole way; the fault that ends it before."""
        try:
            send_one_by_one(PlanSync(self._connector, self, "", lambda: self._now).run(plan), self.ask)
        except DeliveryError as error:
            return str(error)
        return None

    # -- as the ledger ---------------------------------------------------------------
    def recall(self, planned: PlannedObject) -> KnownObject | None:
        """The object as it was last left; called first for each object."""
        self._planned, self._made = planned, False
        self.asked[planned.name] = []
        return KnownObject(self._id()) if self._scene is _Scene.KNOWN else None

    def progress(self, name: str) -> SyncProgress:
        """Nothing was begun."""
        del name
        return SyncProgress()

    def note(self, name: str, progress: SyncProgress, *, durable: bool) -> None:
        """Nothing is kept."""

    def note_possible(self, planned: PlannedObject, known: KnownObject) -> None:
        """Nothing is kept."""

    # -- as the CRM ------------------------------------------------------------------
    def ask(self, request: Request, names: Values, what: str) -> Answer:
        """Write a request down, and answer it by what the CRM is taken to hold."""
        part = self._parts[id(request)]
        assert self._planned is not None  # noqa: S101 -- the ledger is asked before the CRM
        try:
            shown = self._writer.write(request, names)
        except Unwritable as error:
            name = self._connector.name
            raise Permanent(f"{what}: the connector {name} cannot write the request: {error}") from error
        named = f"{part.what} step {part.step}" if part.step else part.what
        self.asked[self._planned.name].append(Asked(named, shown, part.only_if))
        there = self._scene is not _Scene.NEW or self._made
        if part.what == "read" and not there:
            raise Gone(f"{what}: it is not there")
        self._made = self._made or part.what in ("create", "upsert")
        hit = {"id": self._id(), "fields": {}}
        captured = {name: self._writer.stand_in(f"captured.{name}") for name in part.captures}
        return Answer(200, {}, "", {**hit, "hits": [hit] if there else [], "captured": captured})

    def _id(self) -> str:
        assert self._planned is not None  # noqa: S101 -- as above
        return self._writer.stand_in(f"id of {self._planned.name}")


def _parts(kind: ObjectType, section: ObjectSection) -> Iterator[tuple[Request, _Part]]:
    """Every request of an object, and what it is."""
    yield from ((find.request, _Part("find")) for find in kind.find)
    if kind.read is not None:
        yield kind.read.request, _Part("read")
    ways = (
        ("upsert", kind.upsert, section.upsert),
        ("create", kind.create, section.create),
        ("update", kind.update, section.update),
    )
    for way, steps, written in ways:
        for step, text in zip(steps, written, strict=True):
            named = step.name if len(steps) > 1 else ""
            yield step.request, _Part(way, named, _unknown(text), tuple(step.capture))
            if step.poll is not None:
                yield step.poll.request, _Part(f"{way} poll", named, None, tuple(step.poll.capture))
    for name, link in kind.link.items():
        if link.request is not None:
            yield link.request, _Part(f"link {name}")


def _unknown(section: StepSection) -> str | None:
    """A step's condition, where it depends on an answer."""
    return section.when if section.when is not None and "captured" in section.when else None


def _stripped(kind: ObjectType, section: ObjectSection) -> ObjectType:
    """The same object for a CRM that answers all in one form."""
    made = Pick("id", None)
    return replace(
        kind,
        upsert=_steps(kind.upsert, section.upsert),
        create=_steps(kind.create, section.create),
        update=_steps(kind.update, section.update),
        find=tuple(
            replace(find, hits=Pick("hits", None), id=made, fields=Pick("fields", None), where=None)
            for find in kind.find
        ),
        read=kind.read and replace(kind.read, id=kind.read.id and made, fields=Pick("fields", None)),
    )


def _steps(steps: Sequence[Step], sections: Sequence[StepSection]) -> tuple[Step, ...]:
    return tuple(
        replace(
            step,
            id=step.id and Pick("id", None),
            fields=step.fields and Pick("fields", None),
            capture={name: Pick(f"captured.{name}", None) for name in step.capture},
            when=None if _unknown(section) else step.when,
            poll=step.poll and _ended(step.poll),
        )
        for step, section in zip(steps, sections, strict=True)
    )


def _ended(poll: Poll) -> Poll:
    """The same job for a CRM that has ended it when it is first asked."""
    return replace(
        poll,
        until=Condition(lambda _names: [True], Template("true", constant=True)),
        failed=None,
        id=poll.id and Pick("id", None),
        capture={name: Pick(f"captured.{name}", None) for name in poll.capture},
    )
