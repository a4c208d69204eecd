"""The requests that a sync yields, and the replies that it is sent.

A sync is a generator: it yields each `CrmRequest` and is sent its `CrmReply`. So one driver can send requests
one by one, another can batch those of many syncs, and a preview runs the same code as a delivery.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from bridge.crm.connector.answer import Answer
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.request import Find, Link, Read, Request
from bridge.crm.connector.steps import Poll, Step
from bridge.lib.errors import DeliveryError

T = TypeVar("T")
Fields = Mapping[str, Any]
"""An object's fields by name."""


class CrmRequest(msgspec.Struct, frozen=True):
    """One request that a sync waits for; `names` are what the connector's expressions may use."""

    operation: Step | Poll | Find | Read | Link
    names: Values
    label: str
    """What it is for, in messages: `object contact, create`."""

    @property
    def request(self) -> Request:
        """The operation's HTTP request, compiled."""
        assert self.operation.request is not None  # noqa: S101 -- an inline link has none, and is never sent
        return self.operation.request


class CrmReply(msgspec.Struct, frozen=True):
    """A good answer; that of a batch's item comes with its part already taken out."""

    answer: Answer
    id: str | None = None
    hits: Sequence[Any] | None = None
    fields: Fields | None = None


CrmResult = CrmReply | DeliveryError
"""What one request came to."""
RequestFlow = Generator[CrmRequest, CrmReply, T]
"""A generator of requests: it is sent each reply, or has the failure thrown in, and returns a `T`."""


def send_one_by_one(flow: RequestFlow[None], send: Callable[[Request, Values, str], Answer]) -> None:
    """Run a flow to its end, each request by itself.

    Raises:
        DeliveryError: the failure that ended it.
    """
    try:
        wanted = next(flow)
        while True:
            try:
                answer = send(wanted.request, wanted.names, wanted.label)
            except DeliveryError as error:
                wanted = flow.throw(error)
            else:
                wanted = flow.send(CrmReply(answer))
    except StopIteration:
        return
