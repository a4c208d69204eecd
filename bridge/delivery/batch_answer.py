"""Takes the answer to a batch apart: a result for each request, as if that had been sent alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.crm.client import Crm
from bridge.crm.connector.answer import Answer
from bridge.crm.connector.compiling import Pick, Values
from bridge.crm.connector.request import Batch, Find, Read
from bridge.crm.key_matching import has_key, object_id
from bridge.delivery.crm_requests import CrmReply, CrmRequest, CrmResult
from bridge.lib.errors import DeliveryError, Duplicate, Gone, InDoubt, Permanent, Transient
from bridge.lib.expression import as_text
from bridge.lib.masking import LONGEST_MESSAGE


class _NotShown(Gone):
    """A read whose object the answer does not show."""


def must_be_sent_alone(result: CrmResult) -> bool:
    """Whether a request must be sent again alone to know its result.

    So it is with a duplicate, whose record only its own answer names, and with an object that is not shown:
    the answer may be cut at some number of records, or show a merged one under its new id.
    """
    return isinstance(result, _NotShown) or (isinstance(result, Duplicate) and result.crm_id is None)


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to requests that were sent together; `items` are what was sent for each."""

    crm: Crm
    batch: Batch
    requests: Sequence[CrmRequest]
    items: Sequence[Any]
    answer: Answer

    def results(self) -> list[CrmResult] | None:
        """A result for each request; None: they are to be sent again, in smaller batches."""
        listed = _listed(self.batch, self.answer)
        if listed is None or (self.batch.match is None and not _in_order(self.requests, listed)):
            # Nothing tells which result belongs to which request.
            if self.batch.request.idempotent:
                return None
            listed = []
        if self.batch.match is None:
            found, failed = {index: [result] for index, result in enumerate(listed)}, {}
        else:
            matches = _Matches(self.batch.match, self.items, {"settings": self.crm.common()["settings"]})
            found, failed = matches.results(listed), matches.failures(self.batch, self.answer)
        results = [
            self._result(index, found.get(index, []), failed.get(index))
            for index in range(len(self.requests))
        ]
        if self.batch.atomic and any(isinstance(each, Permanent | Duplicate) for each in results):
            # The CRM refuses the whole batch, so the good items were not carried out either.
            return None
        return results

    def _result(self, index: int, results: Sequence[Any], failure: Any) -> CrmResult:
        request = self.requests[index]
        label = f"{request.label} (item {index + 1} of {len(self.requests)})"
        try:
            if failure is not None:
                self.crm.raise_for_item(request.request, self.answer, failure, label)
                quoted = self.crm.masked(json.dumps(failure, ensure_ascii=False), LONGEST_MESSAGE)
                return Permanent(f"{self.crm.masked(label)}: refused: {quoted}")
            if isinstance(request.operation, Find):
                return CrmReply(self.answer, hits=_hits(results))
            if not results:
                return self._silent(request, label)
            if isinstance(request.operation, Read):
                return CrmReply(self.answer, fields=_fields(request.operation, results[0]))
            self.crm.raise_for_item(request.request, self.answer, results[0], label)
        except DeliveryError as error:
            return error
        return self._reply(results[0])

    def _silent(self, request: CrmRequest, label: str) -> DeliveryError:
        """The failure of an item that the answer does not mention."""
        if isinstance(request.operation, Read):
            return _NotShown(f"{label}: the CRM no longer has it")
        kind = Transient if self.batch.request.idempotent else InDoubt
        return kind(
            f"{label}: the answer says nothing of it", cause="a batch's answer says nothing of an item"
        )

    def _reply(self, result: Any) -> CrmReply:
        answer = Answer(self.answer.status, self.answer.headers, "", result)
        if self.batch.id is None:
            return CrmReply(answer)
        crm_id = self.batch.id.of(result, {**answer.names, "result": result, "item": None})
        return CrmReply(answer, id=object_id(crm_id))


def _listed(batch: Batch, answer: Answer) -> list[Any] | None:
    """The results; None where the answer holds none, which is not the same as an empty list."""
    listed = batch.results.of_answer(answer)
    if isinstance(listed, list):
        return listed
    has_none = answer.empty or batch.results.is_null(answer)
    return [] if has_none or (batch.errors is not None and batch.errors.of_answer(answer)) else None


def _in_order(requests: Sequence[CrmRequest], results: Sequence[Any]) -> bool:
    """Whether results may be in the order of the requests: one for each, none with the key of another."""
    if len(results) != len(requests):
        return False
    keys = [each.names.get("key") or {} for each in requests]
    others = (
        result
        for key, result in zip(keys, results, strict=True)
        if isinstance(result, Mapping) and has_key(key, result) is False
    )
    # A CRM that writes keys in a form of its own shows nobody's.
    return not any(has_key(key, result) for result in others for key in keys)


class _Matches:
    """Finds the item of a result: both sides of `match` have equal values, or lists with a common value."""

    def __init__(self, match: tuple[Pick, Pick], items: Sequence[Any], common: Values) -> None:
        self._theirs = match[1]
        self._common = common
        self._indexes: dict[str, list[int]] = {}
        for index, item in enumerate(items):
            matched = match[0].of(item, {**common, "item": item, "result": None})
            for each in dict.fromkeys(map(as_text, _several(matched))):
                self._indexes.setdefault(each, []).append(index)

    def results(self, results: Sequence[Any]) -> dict[int, list[Any]]:
        """The results of each item."""
        found: dict[int, list[Any]] = {}
        for result in results:
            for index in self._of(self._theirs, result):
                found.setdefault(index, []).append(result)
        return found

    def failures(self, batch: Batch, answer: Answer) -> dict[int, Any]:
        """What the list of failed items says of each."""
        listed = batch.errors.of_answer(answer) if batch.errors is not None else None
        if not isinstance(listed, list) or batch.error_match is None:
            return {}
        return {index: failure for failure in listed for index in self._of(batch.error_match, failure)}

    def _of(self, pick: Pick, result: Any) -> list[int]:
        matched = pick.of(result, {**self._common, "item": None, "result": result})
        indexes = (index for each in _several(matched) for index in self._indexes.get(as_text(each), ()))
        return list(dict.fromkeys(indexes))


def _several(value: Any) -> list[Any]:
    """A value as a list without nulls: null is not equal to another null."""
    return [each for each in (value if isinstance(value, list) else [value]) if each not in (None, "")]


def _hits(results: Sequence[Any]) -> list[Any]:
    """Hits of one key: a result is a hit, or a list of them, or null for none."""
    hits: list[Any] = []
    for result in results:
        hits += result if isinstance(result, list) else [] if result is None else [result]
    return hits


def _fields(read: Read, result: Any) -> Mapping[str, Any]:
    fields = read.fields.of(result, {"body": result})
    return fields if isinstance(fields, Mapping) else {}
