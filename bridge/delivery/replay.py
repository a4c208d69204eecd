"""Replay: what a mapping makes of the ledger's calls, beside what was last sent; and sending what differs.

The walk goes page by page, so that a ledger of any size fits.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

from bridge.crm.connector import ObjectType
from bridge.delivery.field_selection import sent_digest
from bridge.ledger import DeliveryLedger, OperatorLedger, Swept, Told, Window
from bridge.lib.errors import LedgerBusy
from bridge.lib.phone import mask_phones_in
from bridge.mapping import CompiledMapping, MappingFault
from bridge.model.crm_objects import KnownObject
from bridge.model.deliveries import DeliveryState
from bridge.model.failures import generalised
from bridge.model.field_digests import as_sent, sent_last
from bridge.model.key_claims import Claim, Conflict, claims_applied
from bridge.model.plan import Plan, PlannedObject, Skip
from bridge.record.call import Call
from bridge.record.origin import Origin

PAGE = 200
EXAMPLES = 5
BY_SHADOW = "shadow: nothing is sent"


@dataclass(frozen=True, slots=True)
class Target:
    """A destination as far as comparing goes: nothing is sent here."""

    name: str
    mapping: CompiledMapping
    objects: Mapping[str, ObjectType]
    """The connector's."""
    account: str
    sources: Sequence[str]
    together: Sequence[str] = ()
    """The destinations of the same account, this one among them."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One call, and what a delivery of it would change now.

    `verdict`: `same`; `changed`, `released` (it was skipped) or `new`, which would be delivered;
    `skipped` (now by a rule); `faulty` (the mapping cannot be applied); or what a replay leaves
    alone: `parked`, `under_way`, `held`, `unreadable`.
    """

    swept: Swept
    verdict: str
    reason: str = ""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Object → why, and its fields as far as it is known that they differ."""

    @property
    def goes(self) -> bool:
        """Whether a replay makes it due."""
        return self.verdict in ("changed", "released", "skipped") and self.swept.delivery_id is not None


class ReplayLedger(DeliveryLedger, OperatorLedger, Protocol):
    """What a replay asks of a ledger."""


def compared(
    ledger: ReplayLedger,
    target: Target,
    origins: Mapping[str, Origin],
    window: Window,
    go_on: Callable[[], bool] = lambda: True,
    look: Callable[[Swept, Plan | Skip | None], None] | None = None,
) -> Iterator[list[Compared]]:
    """All calls of a destination's sources, page by page; `look` sees each call's plan.

    Raises:
        LedgerBusy: it shall not go on.
    """
    for source in target.sources:
        after: tuple[int, int] | None = None
        while True:
            if not go_on():
                raise LedgerBusy("callbridge stops, and this was not done yet: ask for it again")
            page = ledger.sweep(target.name, source, window, after, PAGE)
            if page:
                yield _page(ledger, target, origins[source], page, look)
                after = page[-1].place
            if len(page) < PAGE:
                break


def _page(
    ledger: ReplayLedger,
    target: Target,
    origin: Origin,
    page: Sequence[Swept],
    look: Callable[[Swept, Plan | Skip | None], None] | None,
) -> list[Compared]:
    claims = ledger.key_claims([swept.call_id for swept in page], target.together or (target.name,))
    planned = [
        (swept, *_claimed(claims.get(swept.call_id, ()), *_planned(target, origin, swept))) for swept in page
    ]
    wanted = [
        (swept.delivery_id or 0, swept.key, plan.objects)
        for swept, plan, _ in planned
        if isinstance(plan, Plan)
    ]
    known = iter(ledger.recall(target.account, wanted)) if wanted else iter(())
    found = []
    for swept, plan, fault in planned:
        if look is not None:
            look(swept, plan)
        left = next(known) if isinstance(plan, Plan) else {}
        found.append(_compared(target, swept, plan, fault, left))
    return found


def _planned(target: Target, origin: Origin, swept: Swept) -> tuple[Plan | Skip | None, str]:
    """The plan, or why there is none."""
    if swept.values is None:
        return None, "unreadable"
    try:
        return target.mapping.plan(Call.of(swept.values, swept.key, origin)), ""
    except MappingFault as fault:
        return None, generalised(mask_phones_in(fault.cause))


def _claimed(claims: Sequence[Claim], plan: Plan | Skip | None, fault: str) -> tuple[Plan | Skip | None, str]:
    """The same beside other sources' claims on the call's key."""
    verdict = None if plan is None else claims_applied(claims, plan)
    return (None, verdict.cause) if isinstance(verdict, Conflict) else (verdict, fault)


# What a replay leaves as it is.
_LEFT_ALONE: Mapping[str, str] = {
    DeliveryState.DUE: "under_way",
    DeliveryState.LEASED: "under_way",
    DeliveryState.PARKED: "parked",
}


def _compared(
    target: Target,
    swept: Swept,
    plan: Plan | Skip | None,
    fault: str,
    known: Mapping[str, KnownObject],
) -> Compared:
    if plan is None:
        return Compared(swept, "unreadable" if swept.values is None else "faulty", fault)
    alone = "held" if swept.held else _LEFT_ALONE.get(swept.state or "")
    if alone is not None:
        return Compared(swept, alone, swept.reason)
    rule = plan.rule if isinstance(plan, Skip) else BY_SHADOW if plan.shadow else None
    if rule is not None:
        settled = swept.state == DeliveryState.SKIPPED and swept.reason == rule
        return Compared(swept, "same" if settled else "skipped", rule)
    assert isinstance(plan, Plan)  # noqa: S101 -- for the type checker
    changes = dict(_changes(target, swept, plan, known))
    verdicts: dict[str | None, str] = {None: "new", DeliveryState.SKIPPED: "released"}
    settled_as = "changed" if changes else "same"
    return Compared(swept, verdicts.get(swept.state, settled_as), swept.reason, changes)


def _changes(
    target: Target, swept: Swept, plan: Plan, known: Mapping[str, KnownObject]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects that would be told something else than last time."""
    objects = {planned.name: planned for planned in plan.objects}
    for planned in plan.objects:
        kind, left = target.objects[planned.type], known.get(planned.name)
        ids = {link: known[name].crm_id if name in known else None for link, name in planned.links.items()}
        inline = {
            link: {"id": ids[link], "key": dict(objects[name].key)}
            for link, name in planned.links.items()
            if kind.link[link].request is None
        }
        why = _why(planned, swept.told.get(planned.name), left, sent_digest(planned, inline))
        if not why and left is not None:
            unlinked = [link for link in ids if link not in inline and left.links.get(link) != ids[link]]
            why = f"link {unlinked[0]}" if unlinked else ""
        if why:
            yield planned.name, {"why": why, "fields": _fields(planned, left)}


def _why(planned: PlannedObject, told: Told | None, left: KnownObject | None, digest: bytes) -> str:
    if told is None:
        return "not sent before"
    if (told.type, told.key) != (planned.type, planned.key_text):
        return "another key"
    if left is None or not left.crm_id:
        return "not known any more"
    return "" if told.digest == digest else "other values"


def _fields(planned: PlannedObject, left: KnownObject | None) -> dict[str, dict[str, Any]]:
    """Fields with their new value, and the old one's digest where it is known; equal ones are left out."""
    last_writes = left.last_writes if left is not None else {}
    found = {}
    for name, each in planned.fields.items():
        last_write = last_writes.get(name)
        if last_write is None or not sent_last(last_write.digest, each.value):
            before = (
                as_sent(last_write.digest).hex() if last_write is not None and last_write.digest else None
            )
            found[name] = {"before": before, "value": each.value}
    return found


@dataclass(slots=True)
class Summary:
    """What came of comparing, small whatever the ledger's size."""

    calls: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    released: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def take(self, page: Sequence[Compared]) -> None:
        """One more page."""
        for one in page:
            self.calls += 1
            self.verdicts[one.verdict] += 1
            if one.verdict == "faulty":
                self.faults[one.reason] += 1
            elif one.verdict == "released":
                self.released[one.reason] += 1
            elif one.reason and one.verdict in ("skipped", "same"):
                self.rules[one.reason] += 1
            self.objects.update(one.changes.keys())
        shown = (one for one in page if one.changes)
        self.examples += [_example(one) for one in islice(shown, EXAMPLES - len(self.examples))]

    def document(self) -> dict[str, Any]:
        """It as one JSON object."""
        return {
            "calls": self.calls,
            **{name: self.verdicts[name] for name in VERDICTS},
            "released_from": dict(self.released.most_common()),
            "rules": dict(self.rules.most_common()),
            "faults": dict(self.faults.most_common(20)),
            "objects": dict(self.objects.most_common()),
            "examples": self.examples,
        }


VERDICTS = (
    "same",
    "changed",
    "released",
    "new",
    "skipped",
    "faulty",
    "parked",
    "under_way",
    "held",
    "unreadable",
)


def _example(one: Compared) -> dict[str, Any]:
    return {
        "call": one.swept.key,
        "delivery": one.swept.delivery_id,
        "verdict": one.verdict,
        "changes": {name: dict(change) for name, change in one.changes.items()},
    }


def replay(
    ledger: ReplayLedger,
    target: Target,
    origins: Mapping[str, Origin],
    window: Window,
    now: datetime,
    *,
    force: bool = False,
    dry_run: bool = False,
    go_on: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Make due again what differs from what was last sent.

    With `force` also what does not, sent whole, and what is parked because it is no longer in the CRM.
    """
    summary, due = Summary(), 0
    for page in compared(ledger, target, origins, window, go_on):
        summary.take(page)
        going = [one for one in page if one.goes or (force and (_sent(one) or one.swept.gone))]
        due += len(going) if dry_run else _send(ledger, target, going, now, force=force)
    return {"due": due, **summary.document()}


def _send(
    ledger: ReplayLedger, target: Target, going: Sequence[Compared], now: datetime, *, force: bool
) -> int:
    # Of what a rule leaves out now nothing is sent, so nothing is forgotten either.
    ids: dict[bool, list[int]] = {False: [], True: []}
    for one in going:
        if one.swept.delivery_id is not None:
            ids[force and one.verdict != "skipped"].append(one.swept.delivery_id)
    return sum(
        ledger.replay(some, target.account, now, forget=forget) for forget, some in ids.items() if some
    )


def _sent(one: Compared) -> bool:
    """Whether something of it was sent that can be sent again."""
    return one.verdict == "same" and one.swept.state == DeliveryState.DELIVERED
