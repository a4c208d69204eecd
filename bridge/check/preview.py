"""Shows the requests that a call would cause in a CRM. Nothing is asked and nothing is sent.

The requests come from `PlanSync`, which also delivers: it is run against a CRM that holds nothing, then
against one that holds every object, so that a preview cannot differ from a delivery. Begin at `preview()`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Any

from bridge.check.redact import RedactedRequest, RedactingRenderer, Unwritable
from bridge.check.rehearsal import PreviewedRequest, Purpose, Rehearsal, Scene
from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.mapping import CompiledMapping, MappingFault
from bridge.model.calls import Via
from bridge.model.field_policies import POLICIES
from bridge.model.plan import Plan, PlannedObject, Skip
from bridge.model.skip_reasons import SHADOW
from bridge.record.arrival import arrival_of
from bridge.record.call import Call
from bridge.record.origin import Origin


@dataclass(frozen=True, slots=True)
class ObjectPreview:
    """The requests of one object, in order."""

    planned: PlannedObject
    line: tuple[str, str, str]
    look_up: Sequence[PreviewedRequest]
    look_up_known: Sequence[PreviewedRequest] | None
    """The look-up once an earlier delivery has noted the object's id; None: the same as `look_up`."""
    either_way: Sequence[PreviewedRequest] | None
    """The writes where `if_new` and `if_there` are the same, such as an upsert; else None."""
    if_new: Sequence[PreviewedRequest]
    if_there: Sequence[PreviewedRequest]
    links: Sequence[PreviewedRequest]

    def document(self) -> dict[str, Any]:
        """The preview of this object as a JSON document."""
        planned = self.planned
        requests = {"look_up": self.look_up, "look_up_known": self.look_up_known, "links": self.links}
        if self.either_way is None:
            requests |= {"if_new": self.if_new, "if_there": self.if_there}
        else:
            requests |= {"either_way": self.either_way}
        return {
            "name": planned.name,
            "type": planned.type,
            "key": dict(planned.key),
            "shared": planned.shared,
            "line": dict(zip(("account", "type", "key"), self.line, strict=True)),
            "fields": {
                name: {"value": item.value, "write": item.write, "written": POLICIES[item.write].written}
                for name, item in planned.fields.items()
            },
            "absent": dict(planned.absent),
            "links_to": dict(planned.links),
            "on_deleted": planned.on_deleted,
            **{
                name: [_document(item) for item in asked]
                for name, asked in requests.items()
                if asked is not None
            },
        }


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of a call: `outcome` is `delivered`, `skipped`, `parked` or `quarantined`."""

    call: str
    outcome: str
    reason: str = ""
    token: Sequence[RedactedRequest] = ()
    objects: Sequence[ObjectPreview] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The preview as a JSON document."""
        return {
            "call": self.call,
            "outcome": self.outcome,
            "reason": self.reason,
            "token": [asdict(item) for item in self.token],
            "objects": [item.document() for item in self.objects],
            "left_out": dict(self.left_out),
        }


def key_of(body: bytes, origin: Origin, now: datetime) -> tuple[str, str]:
    """The key that the ledger would give a call with this first record, or why it would give none.

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
    """Preview a call for a CRM about which nothing is known."""
    try:
        plan = mapping.plan(call)
    except MappingFault as fault:
        return Preview(call.key, "parked", f"mapping: {fault}")
    if isinstance(plan, Skip):
        return Preview(call.key, "skipped", plan.rule)
    writer = RedactingRenderer(connector, account, now)
    scenes = {scene: Rehearsal(scene, connector, writer, now) for scene in Scene}
    faults = [failure for rehearsal in scenes.values() if (failure := rehearsal.run(plan))]
    objects = list(_objects(plan, account, {scene: rehearsal.asked for scene, rehearsal in scenes.items()}))
    token: list[RedactedRequest] = []
    try:
        token = writer.tokens()
    except Unwritable as error:
        faults.insert(0, f"no token: the connector {connector.name} cannot write the exchange: {error}")
    outcome, reason = ("parked", faults[0]) if faults else ("delivered", "")
    if plan.shadow and not faults:
        outcome, reason = "skipped", SHADOW
    return Preview(call.key, outcome, reason, token, objects, plan.left_out)


def _document(request: PreviewedRequest) -> dict[str, Any]:
    return {"what": request.what, "request": asdict(request.request), "only_if": request.only_if}


def _objects(
    plan: Plan, account: Account, scenes: Mapping[Scene, Mapping[str, Sequence[PreviewedRequest]]]
) -> Iterator[ObjectPreview]:
    for planned in plan.objects:
        asked = {scene: list(requests.get(planned.name, ())) for scene, requests in scenes.items()}
        looks = {
            scene: list(takewhile(lambda request: request.purpose.looks_up, requests))
            for scene, requests in asked.items()
        }
        sent = {
            scene: [
                request for request in requests[len(looks[scene]) :] if request.purpose is not Purpose.LINK
            ]
            for scene, requests in asked.items()
        }
        new, there = sent[Scene.NEW], sent[Scene.THERE]
        known = looks[Scene.KNOWN]
        yield ObjectPreview(
            planned,
            (account.name, planned.type, planned.key_text),
            looks[Scene.NEW],
            None if known == looks[Scene.NEW] else known,
            new if new == there else None,
            new,
            there,
            [request for request in asked[Scene.NEW] if request.purpose is Purpose.LINK],
        )
