"""Compares what a mapping makes of the ledger's calls now with what was last sent for each. Nothing is sent.

Calls are read page by page, 200 at a time, so that a ledger of any size fits into memory.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any, Protocol

from bridge.crm.connector import ObjectType
from bridge.delivery.field_selection import sent_digest
from bridge.ledger import DeliveryLedger, OperatorLedger, PlannedDelivery, SentObject, StoredCall, Window
from bridge.lib.errors import LedgerBusy
from bridge.lib.phone import mask_phones_in
from bridge.mapping import CompiledMapping, MappingFault
from bridge.model.crm_objects import KnownObject
from bridge.model.deliveries import DeliveryState
from bridge.model.failures import generalised
from bridge.model.field_digests import as_sent, sent_last
from bridge.model.key_claims import Claim, Conflict, claims_applied
from bridge.model.plan import Plan, PlannedObject, Skip
from bridge.model.skip_reasons import SHADOW
from bridge.record.call import Call
from bridge.record.origin import Origin

PAGE = 200
"""Calls that are read and mapped at once: at about 60 KB each, 12 MB."""
EXAMPLE_CHANGES = 5
_MOST_FAULTS = 20
"""Kinds of mapping faults that a summary tells, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """What comparing a destination's calls needs to know of the destination."""

    name: str
    mapping: CompiledMapping
    objects: Mapping[str, ObjectType]
    """The connector's object types, by name."""
    account: str
    sources: Sequence[str]
    together: Sequence[str] = ()
    """The destinations of the same account, this one among them."""


class ReplayVerdict(StrEnum):
    """What a replay would do with a call. The words are keys of `--json`, in this order."""

    SAME = "same"
    """The CRM was sent the same."""
    CHANGED = "changed"
    """Something else would be sent."""
    RELEASED = "released"
    """It was skipped, and would be delivered."""
    NEW = "new"
    """It has no delivery yet."""
    SKIPPED = "skipped"
    """A rule of the mapping skips it now."""
    FAULTY = "faulty"
    """The mapping cannot be applied to it."""
    PARKED = "parked"
    UNDER_WAY = "under_way"
    HELD = "held"
    """A person holds it back."""
    UNREADABLE = "unreadable"
    """Its stored record is damaged."""


_MAKES_DUE = {ReplayVerdict.CHANGED, ReplayVerdict.RELEASED, ReplayVerdict.SKIPPED}
_LEFT_ALONE: Mapping[str, ReplayVerdict] = {
    DeliveryState.DUE: ReplayVerdict.UNDER_WAY,
    DeliveryState.LEASED: ReplayVerdict.UNDER_WAY,
    DeliveryState.PARKED: ReplayVerdict.PARKED,
}


@dataclass(frozen=True, slots=True)
class CallComparison:
    """One call, and what a delivery of it would change now."""

    stored: StoredCall
    verdict: ReplayVerdict
    reason: str = ""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Object → why it is sent, and its fields as far as it is known that they differ."""

    @property
    def makes_due(self) -> bool:
        """Whether a replay makes its delivery due."""
        return self.verdict in _MAKES_DUE and self.stored.delivery_id is not None

    @property
    def was_sent(self) -> bool:
        """Whether the same was delivered already: only a forced replay sends it again."""
        return self.verdict is ReplayVerdict.SAME and self.stored.state == DeliveryState.DELIVERED


class ReplayLedger(DeliveryLedger, OperatorLedger, Protocol):
    """What a replay asks of a ledger."""


def compare_calls(
    ledger: ReplayLedger,
    target: ReplayTarget,
    origins: Mapping[str, Origin],
    window: Window,
    go_on: Callable[[], bool] = lambda: True,
    look: Callable[[StoredCall, Plan | Skip | None], None] | None = None,
) -> Iterator[list[CallComparison]]:
    """Compare all calls of a destination's sources, page by page; `look` sees each call's plan.

    Raises:
        LedgerBusy: `go_on` says that callbridge stops.
    """
    for source in target.sources:
        after: tuple[int, int] | None = None
        while True:
            if not go_on():
                raise LedgerBusy("callbridge stops, and this was not done yet: ask for it again")
            page = ledger.page_of_calls(target.name, source, window, after, PAGE)
            if page:
                yield _compare_page(ledger, target, origins[source], page, look)
                after = page[-1].cursor
            if len(page) < PAGE:
                break


def _compare_page(
    ledger: ReplayLedger,
    target: ReplayTarget,
    origin: Origin,
    page: Sequence[StoredCall],
    look: Callable[[StoredCall, Plan | Skip | None], None] | None,
) -> list[CallComparison]:
    claims = ledger.key_claims([stored.call_id for stored in page], target.together or (target.name,))
    planned = [
        (stored, *_claimed(claims.get(stored.call_id, ()), *_planned(target, origin, stored)))
        for stored in page
    ]
    wanted = [
        PlannedDelivery(stored.delivery_id or 0, stored.key, plan.objects)
        for stored, plan, _ in planned
        if isinstance(plan, Plan)
    ]
    known = iter(ledger.recall(target.account, wanted)) if wanted else iter(())
    found = []
    for stored, plan, fault in planned:
        if look is not None:
            look(stored, plan)
        known_objects = next(known) if isinstance(plan, Plan) else {}
        found.append(_compared(target, stored, plan, fault, known_objects))
    return found


def _planned(target: ReplayTarget, origin: Origin, stored: StoredCall) -> tuple[Plan | Skip | None, str]:
    """The plan, or why there is none."""
    if stored.values is None:
        return None, "unreadable"
    try:
        return target.mapping.plan(Call.of(stored.values, stored.key, origin)), ""
    except MappingFault as fault:
        return None, generalised(mask_phones_in(fault.cause))


def _claimed(claims: Sequence[Claim], plan: Plan | Skip | None, fault: str) -> tuple[Plan | Skip | None, str]:
    """The plan, or why there is none, once other sources' claims on the call's key are considered."""
    verdict = None if plan is None else claims_applied(claims, plan)
    return (None, verdict.cause) if isinstance(verdict, Conflict) else (verdict, fault)


def _compared(
    target: ReplayTarget,
    stored: StoredCall,
    plan: Plan | Skip | None,
    fault: str,
    known: Mapping[str, KnownObject],
) -> CallComparison:
    if plan is None:
        verdict = ReplayVerdict.UNREADABLE if stored.values is None else ReplayVerdict.FAULTY
        return CallComparison(stored, verdict, fault)
    alone = ReplayVerdict.HELD if stored.held else _LEFT_ALONE.get(stored.state or "")
    if alone is not None:
        return CallComparison(stored, alone, stored.reason)
    if isinstance(plan, Skip) or plan.shadow:
        rule = plan.rule if isinstance(plan, Skip) else SHADOW
        is_skipped = stored.state == DeliveryState.SKIPPED and stored.reason == rule
        return CallComparison(stored, ReplayVerdict.SAME if is_skipped else ReplayVerdict.SKIPPED, rule)
    changes = dict(_changes(target, stored, plan, known))
    if stored.state is None:
        verdict = ReplayVerdict.NEW
    elif stored.state == DeliveryState.SKIPPED:
        verdict = ReplayVerdict.RELEASED
    else:
        verdict = ReplayVerdict.CHANGED if changes else ReplayVerdict.SAME
    return CallComparison(stored, verdict, stored.reason, changes)


def _changes(
    target: ReplayTarget, stored: StoredCall, plan: Plan, known: Mapping[str, KnownObject]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects to which something else would be sent than last time: why, and which fields."""
    objects = {planned.name: planned for planned in plan.objects}
    for planned in plan.objects:
        kind, left = target.objects[planned.type], known.get(planned.name)
        ids = {link: known[name].crm_id if name in known else None for link, name in planned.links.items()}
        inline = {
            link: {"id": ids[link], "key": dict(objects[name].key)}
            for link, name in planned.links.items()
            if kind.link[link].request is None
        }
        why = _why(planned, stored.sent.get(planned.name), left, sent_digest(planned, inline))
        if not why and left is not None:
            unlinked = [link for link in ids if link not in inline and left.links.get(link) != ids[link]]
            why = f"link {unlinked[0]}" if unlinked else ""
        if why:
            yield planned.name, {"why": why, "fields": _fields(planned, left)}


def _why(planned: PlannedObject, sent: SentObject | None, known: KnownObject | None, digest: bytes) -> str:
    if sent is None:
        return "not sent before"
    if (sent.type, sent.key) != (planned.type, planned.key_text):
        return "another key"
    if known is None or not known.crm_id:
        return "not known any more"
    return "" if sent.digest == digest else "other values"


def _fields(planned: PlannedObject, known: KnownObject | None) -> dict[str, dict[str, Any]]:
    """Fields with their new value, and the old one's digest where it is known; equal ones are left out."""
    last_writes = known.last_writes if known is not None else {}
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
class ComparisonSummary:
    """The comparison of many calls: counts, and at most 5 examples."""

    calls: int = 0
    verdicts: Counter[ReplayVerdict] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    released: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, page: Sequence[CallComparison]) -> None:
        """Count one more page."""
        for one in page:
            self.calls += 1
            self.verdicts[one.verdict] += 1
            if one.verdict is ReplayVerdict.FAULTY:
                self.faults[one.reason] += 1
            elif one.verdict is ReplayVerdict.RELEASED:
                self.released[one.reason] += 1
            elif one.reason and one.verdict in (ReplayVerdict.SKIPPED, ReplayVerdict.SAME):
                self.rules[one.reason] += 1
            self.objects.update(one.changes.keys())
        shown = (one for one in page if one.changes)
        self.examples += [_example(one) for one in islice(shown, EXAMPLE_CHANGES - len(self.examples))]

    def document(self) -> dict[str, Any]:
        """The summary as one JSON object, in the form of `replay --json`."""
        return {
            "calls": self.calls,
            **{verdict.value: self.verdicts[verdict] for verdict in ReplayVerdict},
            "released_from": dict(self.released.most_common()),
            "rules": dict(self.rules.most_common()),
            "faults": dict(self.faults.most_common(_MOST_FAULTS)),
            "objects": dict(self.objects.most_common()),
            "examples": self.examples,
        }


def _example(one: CallComparison) -> dict[str, Any]:
    return {
        "call": one.stored.key,
        "delivery": one.stored.delivery_id,
        "verdict": one.verdict.value,
        "changes": {name: dict(change) for name, change in one.changes.items()},
    }
