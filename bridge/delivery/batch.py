"""Many requests of one kind as one: written, sent, and the answer taken apart item by item."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.crm.client import Crm
from bridge.crm.connector.compiling import Answer, Pick, Values
from bridge.crm.connector.request import Batch, Find, Link, Read
from bridge.crm.connector.steps import Poll, Step
from bridge.crm.key_matching import has_key, object_id
from bridge.delivery.crm_requests import CrmReply, CrmRequest
from bridge.lib.errors import DeliveryError, Duplicate, Gone, InDoubt, Permanent, Transient
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.masking import LONGEST_MESSAGE

Result = CrmReply | DeliveryError
"""What one item came to, as if it had been asked alone."""

Send = Callable[..., Answer]
# Body, address or head are larger than whoever answers takes, so nothing was done.
_TOO_LARGE = (413, 414, 431)


def batch_of(ask: CrmRequest) -> Batch | None:
    """How an ask goes together with others of its kind, where it can."""
    return ask.operation.batch


def ask_together(crm: Crm, asks: Sequence[CrmRequest], send: Send | None = None) -> list[Result]:
    """Ask at most `batch.max` of one kind as one request; a result for each, in their order.

    A batch that is refused as a whole is halved until the bad item stands alone, so that it
    spoils nothing for the rest; that one is asked by its own request. `send` is `Crm.ask`,
    or what stands before it.
    """
    batch = asks[0].operation.batch
    assert batch is not None  # noqa: S101 -- the caller has looked
    try:
        items = _items(crm, batch, asks)
    except ExpressionError:
        return _halved(crm, asks, send)
    what = f"{asks[0].label} (batch of {len(asks)})"
    # Of what is read, the fields that any of them wants.
    fields = list(dict.fromkeys(name for ask in asks for name in ask.names.get("fields", ())))
    try:
        answer = (send or crm.ask)(batch.request, {"items": items, "fields": fields}, what)
    except DeliveryError as error:
        is_theirs = isinstance(error, Permanent | Duplicate) and error.blame == "record"
        if is_theirs or error.status in _TOO_LARGE:
            return _halved(crm, asks, send)
        error.together = len(asks)
        return [error] * len(asks)
    if batch.complete is not None and not batch.complete.holds(answer.names):
        return _halved(crm, asks, send)
    return _taken_apart(crm, batch, asks, items, answer, send)


def _items(crm: Crm, batch: Batch, asks: Sequence[CrmRequest]) -> list[Any]:
    """The items of a batch; each has a chance of its own, all have one moment."""
    common, own = crm.common(), batch.item.mentions("random")
    return [
        batch.item.fill({**(crm.common() if own else common), **ask.names, "index": place})
        for place, ask in enumerate(asks)
    ]


def _halved(crm: Crm, asks: Sequence[CrmRequest], send: Send | None) -> list[Result]:
    half = len(asks) // 2
    return [
        result
        for part in (asks[:half], asks[half:])
        if part
        for result in ([_alone(crm, part[0], send)] if len(part) == 1 else ask_together(crm, part, send))
    ]


def _alone(crm: Crm, ask: CrmRequest, send: Send | None) -> Result:
    try:
        return CrmReply((send or crm.ask)(ask.request, ask.names, ask.label))
    except DeliveryError as error:
        return error


def _listed(batch: Batch, answer: Answer) -> list[Any] | None:
    """The results; None where the answer does not carry them, which is no empty list."""
    listed = batch.results.of_answer(answer)
    if isinstance(listed, list):
        return listed
    has_none = answer.empty or batch.results.is_null(answer)
    return [] if has_none or (batch.errors is not None and batch.errors.of_answer(answer)) else None


def _taken_apart(
    crm: Crm,
    batch: Batch,
    asks: Sequence[CrmRequest],
    items: Sequence[Any],
    answer: Answer,
    send: Send | None,
) -> list[Result]:
    results = _listed(batch, answer)
    if results is None or (batch.match is None and not _in_order(asks, results)):
        # It cannot be told apart: what may be asked again is asked by itself.
        if batch.request.idempotent:
            return _halved(crm, asks, send)
        results = []
    if batch.match is None:
        found, bad = {place: [result] for place, result in enumerate(results)}, {}
    else:
        pairs = _Pairs(batch.match, items, {"settings": crm.common()["settings"]})
        found, bad = pairs.results(results), pairs.failures(batch, answer)
    taken = _Taken(crm, batch, answer)
    whats = [f"{ask.label} (item {place + 1} of {len(asks)})" for place, ask in enumerate(asks)]
    told = [
        taken.item(ask, found.get(place, []), bad.get(place), whats[place]) for place, ask in enumerate(asks)
    ]
    if batch.atomic and any(isinstance(each, Permanent | Duplicate) for each in told):
        # The good ones were not carried out either.
        return _halved(crm, asks, send)
    return [
        _alone(crm, ask, send) if _wants_more(each) else each for ask, each in zip(asks, told, strict=True)
    ]


def _wants_more(told: Result) -> bool:
    """Whether only the single request tells: what a duplicate is of, and whether what is not shown is gone.

    An answer may be cut at some number of records, or show one that was merged under its new id.
    """
    return isinstance(told, _NotShown) or (isinstance(told, Duplicate) and told.crm_id is None)


class _NotShown(Gone):
    """Of a read: the answer says nothing of it."""


def _in_order(asks: Sequence[CrmRequest], results: Sequence[Any]) -> bool:
    """Whether results may stand in the order of the asks: one for each, and none shows the key of another."""
    if len(results) != len(asks):
        return False
    keys = [ask.names.get("key") or {} for ask in asks]
    others = (
        result
        for key, result in zip(keys, results, strict=True)
        if isinstance(result, Mapping) and has_key(key, result) is False
    )
    # A CRM that writes keys in a form of its own shows nobody's.
    return not any(has_key(key, result) for result in others for key in keys)


class _Pairs:
    """Which item a result belongs to: both sides of `match` tell the same, or lists that share something."""

    def __init__(self, match: tuple[Pick, Pick], items: Sequence[Any], common: Values) -> None:
        self._theirs = match[1]
        self._common = common
        self._places: dict[str, list[int]] = {}
        for place, item in enumerate(items):
            told = match[0].of(item, {**common, "item": item, "result": None})
            for each in dict.fromkeys(map(as_text, _several(told))):
                self._places.setdefault(each, []).append(place)

    def results(self, results: Sequence[Any]) -> dict[int, list[Any]]:
        """The results of each item."""
        found: dict[int, list[Any]] = {}
        for result in results:
            for place in self._of(self._theirs, result):
                found.setdefault(place, []).append(result)
        return found

    def failures(self, batch: Batch, answer: Answer) -> dict[int, Any]:
        """What the list of failed items says of each."""
        listed = batch.errors.of_answer(answer) if batch.errors is not None else None
        if not isinstance(listed, list) or batch.error_match is None:
            return {}
        return {place: failure for failure in listed for place in self._of(batch.error_match, failure)}

    def _of(self, pick: Pick, result: Any) -> list[int]:
        told = pick.of(result, {**self._common, "item": None, "result": result})
        places = (place for each in _several(told) for place in self._places.get(as_text(each), ()))
        return list(dict.fromkeys(places))


def _several(told: Any) -> list[Any]:
    """What was told, without nothing: null is equal to no other null."""
    return [each for each in (told if isinstance(told, list) else [told]) if each not in (None, "")]


class _Taken:
    """A batch's answer, being taken apart."""

    def __init__(self, crm: Crm, batch: Batch, answer: Answer) -> None:
        self._crm = crm
        self._batch = batch
        self._answer = answer

    def item(self, ask: CrmRequest, results: Sequence[Any], failure: Any, what: str) -> Result:
        """What one item came to."""
        try:
            if failure is not None:
                self._crm.judge_item(ask.request, self._answer, failure, what)
                told = self._crm.masked(json.dumps(failure, ensure_ascii=False), LONGEST_MESSAGE)
                return Permanent(f"{self._crm.masked(what)}: refused: {told}")
            if isinstance(ask.operation, Find):
                return CrmReply(self._answer, hits=_hits(results))
            if not results:
                return self._silent(ask.operation, what)
            if isinstance(ask.operation, Read):
                return CrmReply(self._answer, fields=_fields(ask.operation, results[0]))
            self._crm.judge_item(ask.request, self._answer, results[0], what)
        except DeliveryError as error:
            return error
        return self._reply(results[0])

    def _silent(self, of: Step | Poll | Find | Read | Link, what: str) -> DeliveryError:
        """The answer says nothing of an item."""
        if isinstance(of, Read):
            return _NotShown(f"{what}: the CRM no longer has it")
        kind = Transient if self._batch.request.idempotent else InDoubt
        return kind(
            f"{what}: the answer says nothing of it", cause="a batch's answer says nothing of an item"
        )

    def _reply(self, result: Any) -> CrmReply:
        answer = Answer(self._answer.status, self._answer.headers, "", result)
        if self._batch.id is None:
            return CrmReply(answer)
        told = self._batch.id.of(result, {**answer.names, "result": result, "item": None})
        return CrmReply(answer, id=object_id(told))


def _hits(results: Sequence[Any]) -> list[Any]:
    """Hits of one key: a result is a hit, or a list of them, or null for none."""
    hits: list[Any] = []
    for result in results:
        hits += result if isinstance(result, list) else [] if result is None else [result]
    return hits


def _fields(read: Read, result: Any) -> Mapping[str, Any]:
    fields = read.fields.of(result, {"body": result})
    return fields if isinstance(fields, Mapping) else {}
