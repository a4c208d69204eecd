"""The gate that every request to a CRM passes before it is sent: rate limits and pauses stand behind it."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Passage:
    """One request that has passed the gate."""

    headers: Mapping[str, str] | None = None
    """The headers of its answer, once there is one: they may say how many requests are left."""


class RequestGate(Protocol):
    """Keeps requests within what the CRM account allows."""

    def passing(self, limit: str, what: str) -> AbstractContextManager[Passage]:
        """Wait until one request of the class `limit` may be sent; the context lasts while it is under way.

        `what` names the request in messages.

        Raises:
            Unsent: the wait would be too long.
        """


class OpenGate:
    """Lets every request pass at once: for the few requests of `check --online`."""

    @contextmanager
    def passing(self, limit: str, what: str) -> Iterator[Passage]:
        """Let the request pass without a wait."""
        del limit, what
        yield Passage()
