"""Sends many requests of one kind as one HTTP request, and in halves where that is refused as a whole."""

from collections.abc import Callable, Sequence
from typing import Any

from bridge.crm.client import Crm
from bridge.crm.connector.answer import Answer
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.request import Batch, Request
from bridge.delivery.batch_answer import BatchAnswer, must_be_sent_alone
from bridge.delivery.crm_requests import CrmReply, CrmRequest, CrmResult
from bridge.lib.errors import DeliveryError, Duplicate, Permanent
from bridge.lib.expression import ExpressionError

Send = Callable[[Request, Values, str], Answer]
# The body, the address or the head is too large for the server: nothing was done.
_TOO_LARGE = (413, 414, 431)


def batch_of(request: CrmRequest) -> Batch | None:
    """The batch in which a request is sent with others of its kind; None: it is sent alone."""
    return request.operation.batch


class BatchSender:
    """Sends requests alone or together; `send` is `Crm.ask`, or what stands before it."""

    def __init__(self, crm: Crm, send: Send) -> None:
        self._crm = crm
        self._send = send

    def send_alone(self, request: CrmRequest) -> CrmResult:
        """Send one request; its reply, or how it failed."""
        try:
            return CrmReply(self._send(request.request, request.names, request.label))
        except DeliveryError as error:
            return error

    def send_together(self, requests: Sequence[CrmRequest]) -> list[CrmResult]:
        """Send at most `batch.max` requests of one kind as one; a result for each, in their order.

        A batch that is refused as a whole is halved until the bad item stands alone, so that it spoils
        nothing for the rest; that one is sent by its own request.
        """
        batch = batch_of(requests[0])
        assert batch is not None  # noqa: S101 -- the caller has looked
        try:
            items = self._items(batch, requests)
        except ExpressionError:
            return self._send_halves(requests)
        label = f"{requests[0].label} (batch of {len(requests)})"
        # A read asks for every field that any of them needs.
        fields = list(dict.fromkeys(name for each in requests for name in each.names.get("fields", ())))
        try:
            answer = self._send(batch.request, {"items": items, "fields": fields}, label)
        except DeliveryError as error:
            is_theirs = isinstance(error, Permanent | Duplicate) and error.blame == "record"
            if is_theirs or error.status in _TOO_LARGE:
                return self._send_halves(requests)
            error.together = len(requests)
            return [error] * len(requests)
        if batch.complete is not None and not batch.complete.holds(answer.names):
            return self._send_halves(requests)
        results = BatchAnswer(self._crm, batch, requests, items, answer).results()
        if results is None:
            return self._send_halves(requests)
        return [
            self.send_alone(request) if must_be_sent_alone(result) else result
            for request, result in zip(requests, results, strict=True)
        ]

    def _items(self, batch: Batch, requests: Sequence[CrmRequest]) -> list[Any]:
        """The items of a batch; `now` is the same in all of them, a random number is each item's own."""
        common, has_random = self._crm.common(), batch.item.mentions("random")
        return [
            batch.item.fill(
                {**(self._crm.common() if has_random else common), **request.names, "index": index}
            )
            for index, request in enumerate(requests)
        ]

    def _send_halves(self, requests: Sequence[CrmRequest]) -> list[CrmResult]:
        half = len(requests) // 2
        return [
            result
            for part in (requests[:half], requests[half:])
            if part
            for result in ([self.send_alone(part[0])] if len(part) == 1 else self.send_together(part))
        ]
