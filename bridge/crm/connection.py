"""One worker's connection to a CRM account: checks the address, sends the request, reads the answer.

Each worker has a connection of its own, so that no two of them wait for each other. Begin at
`Connection.send()`.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.crm.connector.addresses import OtherOrigin, check_address
from bridge.crm.connector.answer import Answer, read_answer
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.request import Rendered, flat
from bridge.crm.gate import Passage, RequestGate
from bridge.crm.rendering import Outputs, allowed_web_origins, common_names, headers_of
from bridge.lib.errors import Permanent, Transient
from bridge.lib.expression import ExpressionError
from bridge.lib.http.client import HttpClient, UnacceptableAnswer
from bridge.lib.masking import Masking

# An output of a token with fewer than 6 characters, such as "1", is not masked: half a message would be gone.
_SHORTEST_SECRET = 6
_OF_DOTS = (
    "Correct what stands in the path where it comes from: the record's id in the CRM, the mapping's key, or"
    " the connector; then retry"
)
_OF_HEADERS = "Check the destination's secrets, and what the connector puts there"


@dataclass(slots=True)
class LatestToken:
    """The newest token of an account; any worker's message may quote it, so every worker masks it."""

    outputs: Outputs = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transport:
    """How requests go out: through a gate, then over a network."""

    gate: RequestGate
    """Every request passes it, also one repeated with a new token, and the one for that token."""
    network: httpx.BaseTransport | None = None
    """Stands in for the real network; None: requests go out for real."""


class Connection:
    """Sends requests of one worker to one CRM account."""

    def __init__(
        self,
        connector: Connector,
        account: Account,
        latest: LatestToken,
        clock: Callable[[], datetime],
        transport: Transport,
    ) -> None:
        """Make a connection; it opens with the first request."""
        self.connector = connector
        self.account = account
        self.clock = clock
        self._latest = latest
        self._outputs: Outputs = {}
        self._hidden: tuple[str, ...] = ()
        self._gate = transport.gate
        self._http = HttpClient(account.timeout, transport.network)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def use_token(self, outputs: Outputs) -> None:
        """Put this token into all requests from now on."""
        self._outputs = outputs

    def hide(self, secrets: tuple[str, ...]) -> None:
        """Mask what the next request carries of secrets, such as a signature, in messages."""
        self._hidden = secrets

    def names(self, outputs: Outputs | None = None) -> Values:
        """The variables that every request has; `outputs` stand in for the token in use."""
        outputs = self._outputs if outputs is None else outputs
        return common_names(self.account, outputs, self.clock(), uuid.uuid4)

    def masked(self, text: str, longest: int | None = None) -> str:
        """A text without secrets and whole phone numbers, then cut to `longest` characters."""
        outputs = [*_texts_in(self._outputs), *_texts_in(self._latest.outputs), *self._hidden]
        long_enough = (output for output in outputs if len(output) >= _SHORTEST_SECRET)
        return Masking((*self.account.secrets.values(), *long_enough)).masked(text, longest)

    def passing(self, limit: str, what: str) -> AbstractContextManager[Passage]:
        """Wait until a request may go: see `bridge.crm.gate.RequestGate.passing`."""
        return self._gate.passing(limit, what)

    def send(self, rendered: Rendered, url: httpx.URL, content: bytes) -> Answer:
        """Send a request, unless its address or a header is unsafe.

        Raises:
            DeliveryError: nothing was sent, because the address or a header is unsafe.
            httpx.HTTPError: no answer came, or none that can be read.
        """
        self._check_address(rendered.path)
        headers = headers_of(rendered)
        for name, value in headers.items():
            # httpx would quote the secret in its own error.
            if not (value.isascii() and value.isprintable()):
                raise Permanent(
                    f"the header {name} cannot be sent: it has a line break or a character that is not"
                    f" ASCII. {_OF_HEADERS}",
                    cause=f"the header {name} cannot be sent",
                )
        if rendered.query:
            # Given as `params`, they would replace the query that the path has already.
            url = url.copy_merge_params(flat(rendered.query))
        received = self._http.send(
            rendered.method, url, headers, content if rendered.kind != "none" else None
        )
        return read_answer(received.status, received.headers, received.body, received.charset)

    def _check_address(self, address: str) -> None:
        """Refuse an address that leads to a host which nobody has named, or upwards in its path.

        Raises:
            DeliveryError: it does.
        """
        try:
            check_address(
                address,
                self.account.base_url,
                lambda: allowed_web_origins(self.connector, self.account, self.names()),
            )
        except OtherOrigin as error:
            refused = Transient(
                self.masked(f"nothing was sent: the connector {self.connector.name} leads to {error}"),
                cause="a request would go to another host",
                blame="account",
            )
            refused.says = self.masked(
                f"{error} is neither base_url's host nor named by the token's answer. Does it belong to the"
                " CRM: add it to the connector's origins. Else find out who wrote it there"
            )
            raise refused from error
        except ExpressionError as error:
            cause = "a value leads to another place of the CRM"
            upwards = Permanent(self.masked(f"nothing was sent: {error}. {_OF_DOTS}"), cause=cause)
            upwards.says = _OF_DOTS
            raise upwards from error


def no_answer(error: httpx.HTTPError) -> str:
    """A clause for messages that says why there is no answer."""
    if isinstance(error, UnacceptableAnswer):
        return f"{error}. No CRM answers so: check base_url, and what stands between here and the CRM"
    return f"no answer: {type(error).__name__} {error}"


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(inner)
