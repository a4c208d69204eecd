"""A plan's way into a CRM: its objects one after the other, each with its links."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from bridge.crm.connector import Connector, ObjectType
from bridge.crm.connector.compiling import Answer, Values
from bridge.crm.connector.request import Request
from bridge.delivery.lookup import CrmReply, CrmRequest, Journal, RequestFlow, Setting, refuse_doubt
from bridge.delivery.object_sync import ObjectSync
from bridge.delivery.write_policy import advanced, sent_digest, settled
from bridge.lib.errors import DeliveryError, Gone, InDoubt
from bridge.model.crm_state import CrmState, Progress, Sign, SyncedObject
from bridge.model.plan import Plan, PlannedObject


class PlanSync:
    """Brings the objects of one plan into the CRM, one after the other."""

    def __init__(
        self, connector: Connector, journal: Journal, event: str, clock: Callable[[], datetime]
    ) -> None:
        self._connector = connector
        self._setting = Setting(journal, event, clock)
        self._done: dict[str, SyncedObject] = {}
        self._ways: dict[str, Callable[[CrmState], ObjectSync]] = {}
        self.cursor = 0
        """How far in its plan it is: an object and then its links, in the plan's order."""

    @property
    def done(self) -> tuple[SyncedObject, ...]:
        """What has been settled so far, also where a later object fails."""
        return tuple(self._done.values())

    def steps(self, plan: Plan) -> RequestFlow[None]:
        """Bring the whole plan about, asking what must be asked.

        Raises:
            DeliveryError: at the first object that fails; `done` holds those before it.
        """
        objects = {planned.name: planned for planned in plan.objects}
        for number, planned in enumerate(plan.objects):
            self.cursor = 2 * number
            yield from self._one(planned, {link: objects[name] for link, name in planned.links.items()})

    def _one(
        self, planned: PlannedObject, targets: Mapping[str, PlannedObject], *, again: bool = False
    ) -> RequestFlow[None]:
        kind = self._connector.objects[planned.type]
        inline: dict[str, dict[str, Any]] = {
            link: {"id": self._id(target), "key": dict(target.key)}
            for link, target in targets.items()
            if kind.link[link].request is None
        }
        remembered = self._setting.journal.recall(planned)
        told = sent_digest(planned, inline)
        progress = self._progress_of(planned)
        self._ways[planned.name] = lambda left: ObjectSync(
            self._setting, kind, planned, inline, left, Progress(appended=self._appended(planned)), told
        )
        altered: Mapping[str, str] = {}
        if (
            remembered is not None
            and remembered.digest == told
            and not progress.way
            and settled(planned, remembered, progress.appended)
        ):
            remembered = advanced(remembered, planned, self._setting.event)
        else:
            way = ObjectSync(self._setting, kind, planned, inline, remembered, progress, told)
            try:
                crm_id, chosen = yield from way.go()
            except Gone:
                # Not the object itself: what it is to be linked to was deleted or merged by a person.
                renewed = False
                for link in inline:
                    renewed = (yield from self._renewed(targets[link])) or renewed
                if again or not renewed:
                    raise
                yield from self._one(planned, targets, again=True)
                return
            links = remembered.links if remembered is not None and remembered.crm_id == crm_id else {}
            links = {**links, **{link: to["id"] for link, to in inline.items()}}
            remembered = CrmState(crm_id, told, links, chosen.last_writes)
            altered = chosen.altered
        self._settled(planned, remembered, altered)
        yield from self._link(kind, planned, targets)

    def _progress_of(self, planned: PlannedObject) -> Progress:
        """How far earlier tries came with an object; a link in doubt is a person's to settle.

        Raises:
            InDoubt: nothing tells whether the link was made.
        """
        progress = self._setting.journal.progress(planned.name)
        if progress.key not in ("", planned.key_text):
            # It came so far with another one, which the call fed before its key changed; and before that
            # perhaps this one.
            progress = progress.moved(planned.key_text)
            self._setting.journal.note(planned.name, progress, durable=False)
        if progress.sent_at is not None and progress.way.startswith("link "):
            refuse_doubt(planned, progress)
            progress = Progress(appended=progress.appended)
            self._setting.journal.note(planned.name, progress, durable=False)
        return progress

    def _link(
        self,
        kind: ObjectType,
        planned: PlannedObject,
        targets: Mapping[str, PlannedObject],
        *,
        again: bool = False,
    ) -> RequestFlow[None]:
        self.cursor |= 1
        for link, target in targets.items():
            left, to_id = self._done[planned.name].state, self._id(target)
            if kind.link[link].request is None or left.links.get(link) == to_id:
                continue
            to = {"id": to_id, "key": dict(target.key)}
            names = {"id": left.crm_id, "key": dict(planned.key), "to": to}
            try:
                yield from self._ask_link(
                    planned, link, CrmRequest(kind.link[link], names, _named(planned, link))
                )
            except Gone:
                # One of the two was deleted or merged by a person since we left it.
                if again:
                    raise
                renewed = (yield from self._renewed(target)) or (yield from self._renewed(planned))
                if not renewed:
                    raise
                yield from self._link(kind, planned, targets, again=True)
                return
            self._settled(
                planned, CrmState(left.crm_id, left.digest, {**left.links, link: to_id}, left.last_writes)
            )

    def _ask_link(self, planned: PlannedObject, link: str, ask: CrmRequest) -> RequestFlow[None]:
        """Ask for a link; one that must not be made twice is noted before."""
        left = self._done[planned.name].state
        if left.links.get(link) is not None:
            links = {name: to for name, to in left.links.items() if name != link}
            self._setting.journal.unsure(planned, CrmState(left.crm_id, left.digest, links, left.last_writes))
        if ask.request.idempotent:
            yield ask
            return
        journal, before = self._setting.journal, Progress(appended=self._appended(planned))
        crm_id, now = self._done[planned.name].state.crm_id, self._setting.clock()
        begun = Progress(f"link {link}", crm_id=crm_id, sent_at=now, appended=before.appended)
        journal.note(planned.name, begun, durable=True)
        try:
            yield ask
        except InDoubt:
            raise
        except DeliveryError:
            journal.note(planned.name, before, durable=False)
            raise
        journal.note(planned.name, before, durable=False)

    def _renewed(self, planned: PlannedObject) -> RequestFlow[bool]:
        """Whether another object stands in the place of one that is gone."""
        left = self._done[planned.name].state
        result = yield from self._ways[planned.name](left).verify()
        if result is None:
            return False
        crm_id, chosen = result
        self._settled(planned, CrmState(crm_id, left.digest, {}, chosen.last_writes), chosen.altered)
        return True

    def _id(self, planned: PlannedObject) -> str:
        return self._done[planned.name].state.crm_id

    def _appended(self, planned: PlannedObject) -> Mapping[str, Sign]:
        return self._setting.journal.progress(planned.name).appended

    def _settled(
        self, planned: PlannedObject, remembered: CrmState, altered: Mapping[str, str] | None = None
    ) -> None:
        before = self._done.get(planned.name)
        told = {**(before.altered if before is not None else {}), **(altered or {})}
        self._done[planned.name] = SyncedObject(
            planned.name, planned.type, planned.key_text, remembered, planned.shared, told
        )


def _named(planned: PlannedObject, link: str) -> str:
    return f"object {planned.name}, link {link}"


def ask_alone(asking: RequestFlow[None], ask: Callable[[Request, Values, str], Answer]) -> None:
    """Drive one effect to its end, each request by itself.

    Raises:
        DeliveryError: the fault that ended it.
    """
    try:
        wanted = next(asking)
        while True:
            try:
                answer = ask(wanted.request, wanted.names, wanted.what)
            except DeliveryError as error:
                wanted = asking.throw(error)
            else:
                wanted = asking.send(CrmReply(answer))
    except StopIteration:
        return
