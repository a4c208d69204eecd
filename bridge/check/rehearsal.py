"""Rehearses a delivery: stands in for ledger and CRM, and records the requests of `PlanSync`.

Begin at `Rehearsal.run()`.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, StrEnum

from bridge.check.redact import RedactedRequest, RedactingRenderer, Unwritable
from bridge.crm.connector import Connector, ObjectType
from bridge.crm.connector.answer import Answer
from bridge.crm.connector.compiling import Condition, Pick, Values
from bridge.crm.connector.request import Request
from bridge.crm.connector.request_schema import StepSection
from bridge.crm.connector.schema import ObjectTypeSection
from bridge.crm.connector.steps import Poll, Step
from bridge.delivery.crm_requests import send_one_by_one
from bridge.delivery.plan_sync import PlanSync
from bridge.lib.errors import DeliveryError, Gone, Permanent
from bridge.lib.expression import Template
from bridge.model.crm_objects import KnownObject
from bridge.model.plan import Plan, PlannedObject
from bridge.model.sync_progress import SyncMethod, SyncProgress


class Scene(Enum):
    """What the CRM is assumed to hold."""

    NEW = "nothing"
    THERE = "every object, found by its key"
    KNOWN = "every object, with the id that an earlier delivery noted"


class Purpose(StrEnum):
    """What a request is for."""

    FIND = "find"
    READ = "read"
    WRITE = "write"
    POLL = "poll"
    LINK = "link"

    @property
    def looks_up(self) -> bool:
        """Whether the request only reads."""
        return self in (Purpose.FIND, Purpose.READ)


@dataclass(frozen=True, slots=True)
class PreviewedRequest:
    """One recorded request: what it is for, and its condition."""

    purpose: Purpose
    what: str
    """`find`, `read`, `create`, `update`, `upsert` or `link NAME`; behind it the step's name, if several.

    `create poll` and the like poll the job that such a step begins.
    """
    request: RedactedRequest
    only_if: str | None = None
    """The condition of its step, where only an answer can tell whether it holds."""


@dataclass(frozen=True, slots=True)
class _Role:
    """What one of a connector's requests is for."""

    purpose: Purpose
    what: str
    method: SyncMethod | None = None
    only_if: str | None = None
    captures: Sequence[str] = ()


class Rehearsal:
    """Stands in for ledger and CRM while one `PlanSync` runs; `asked` are its requests by object name."""

    def __init__(self, scene: Scene, connector: Connector, writer: RedactingRenderer, now: datetime) -> None:
        """Rehearse in one scene; `writer` renders the requests without secrets."""
        self.asked: dict[str, list[PreviewedRequest]] = {}
        self._connector = copy.copy(connector)
        self._connector.objects = {
            name: _stripped(kind, connector.file.objects[name]) for name, kind in connector.objects.items()
        }
        self._scene = scene
        self._writer = writer
        self._now = now
        self._roles = {
            id(request): role
            for name, kind in connector.objects.items()
            for request, role in _roles(kind, connector.file.objects[name])
        }
        self._planned: PlannedObject | None = None
        self._made = False

    def run(self, plan: Plan) -> str | None:
        """Rehearse the whole plan; the failure that ends it early, or None."""
        try:
            send_one_by_one(PlanSync(self._connector, self, "", lambda: self._now).run(plan), self.ask)
        except DeliveryError as error:
            return str(error)
        return None

    # -- as the ledger ---------------------------------------------------------------
    def recall(self, planned: PlannedObject) -> KnownObject | None:
        """What was last sent to an object; `PlanSync` asks this first for each object."""
        self._planned, self._made = planned, False
        self.asked[planned.name] = []
        return KnownObject(self._id()) if self._scene is Scene.KNOWN else None

    def progress(self, name: str) -> SyncProgress:
        """No progress: nothing was begun."""
        del name
        return SyncProgress()

    def note(self, name: str, progress: SyncProgress, *, durable: bool) -> None:
        """Keep nothing."""

    def note_possible(self, planned: PlannedObject, known: KnownObject) -> None:
        """Keep nothing."""

    # -- as the CRM ------------------------------------------------------------------
    def ask(self, request: Request, names: Values, what: str) -> Answer:
        """Record a request, and answer it as a CRM of this scene would.

        Raises:
            Permanent: the connector cannot render the request.
            Gone: an object is read that is not there.
        """
        role = self._roles[id(request)]
        assert self._planned is not None  # noqa: S101 -- the ledger is asked before the CRM
        try:
            shown = self._writer.write(request, names)
        except Unwritable as error:
            name = self._connector.name
            raise Permanent(f"{what}: the connector {name} cannot write the request: {error}") from error
        previewed = PreviewedRequest(role.purpose, role.what, shown, role.only_if)
        self.asked[self._planned.name].append(previewed)
        there = self._scene is not Scene.NEW or self._made
        if role.purpose is Purpose.READ and not there:
            raise Gone(f"{what}: it is not there")
        makes = role.purpose is Purpose.WRITE and role.method is not SyncMethod.UPDATE
        self._made = self._made or makes
        hit = {"id": self._id(), "fields": {}}
        captured = {name: self._writer.stand_in(f"captured.{name}") for name in role.captures}
        return Answer(200, {}, "", {**hit, "hits": [hit] if there else [], "captured": captured})

    def _id(self) -> str:
        assert self._planned is not None  # noqa: S101 -- as above
        return self._writer.stand_in(f"id of {self._planned.name}")


def _roles(kind: ObjectType, section: ObjectTypeSection) -> Iterator[tuple[Request, _Role]]:
    """Every request of an object type with its role."""
    yield from ((find.request, _Role(Purpose.FIND, "find")) for find in kind.find)
    if kind.read is not None:
        yield kind.read.request, _Role(Purpose.READ, "read")
    methods = (
        (SyncMethod.UPSERT, kind.upsert, section.upsert),
        (SyncMethod.CREATE, kind.create, section.create),
        (SyncMethod.UPDATE, kind.update, section.update),
    )
    for method, steps, written in methods:
        for step, text in zip(steps, written, strict=True):
            named = f" step {step.name}" if len(steps) > 1 else ""
            yield (
                step.request,
                _Role(
                    Purpose.WRITE, f"{method}{named}", method, _unknown_condition(text), tuple(step.capture)
                ),
            )
            if step.poll is not None:
                what, captures = f"{method} poll{named}", tuple(step.poll.capture)
                yield step.poll.request, _Role(Purpose.POLL, what, method, captures=captures)
    for name, link in kind.link.items():
        if link.request is not None:
            yield link.request, _Role(Purpose.LINK, f"link {name}")


def _unknown_condition(section: StepSection) -> str | None:
    """A step's condition, where only an answer tells whether it holds."""
    return section.when if section.when is not None and "captured" in section.when else None


def _stripped(kind: ObjectType, section: ObjectTypeSection) -> ObjectType:
    """The same object type for the rehearsal's CRM, whose answers all have one form."""
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
            when=None if _unknown_condition(section) else step.when,
            poll=step.poll and _ended(step.poll),
        )
        for step, section in zip(steps, sections, strict=True)
    )


def _ended(poll: Poll) -> Poll:
    """The same poll for a CRM whose jobs have ended by the first poll."""
    return replace(
        poll,
        until=Condition(lambda _names: [True], Template("true", constant=True)),
        failed=None,
        id=poll.id and Pick("id", None),
        capture={name: Pick(f"captured.{name}", None) for name in poll.capture},
    )
