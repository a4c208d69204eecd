"""What every request to a CRM passes before it is sent, a request for a token included."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Passage:
    """One request that was let out."""

    headers: Mapping[str, str] | None = None
    """Of its answer, once that came: they may tell what the account's limits leave."""


class RequestGate(Protocol):
    """Keeps requests within what the CRM account allows."""

    def passing(self, limit: str, what: str) -> AbstractContextManager[Passage]:
        """Wait until one request of the class `limit` may go; the context lasts while it is under way.

        `what` names the request in messages.

        Raises:
            Unsent: the wait would be too long.
        """


class OpenGate:
    """Lets every request out at once: for a few questions beside a daemon."""

    @contextmanager
    def passing(self, limit: str, what: str) -> Iterator[Passage]:
        """No wait."""
        del limit, what
        yield Passage()
