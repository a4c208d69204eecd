"""The HTTP client of one CRM account: gets the token, renders a request, sends it, judges the answer.

Begin at `Crm.ask()`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httpx

from bridge.crm.account import Account
from bridge.crm.answer_errors import AnswerErrors
from bridge.crm.connection import Connection, Transport, no_answer
from bridge.crm.connector import Connector
from bridge.crm.connector.answer import Answer
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.outcome import Meaning
from bridge.crm.connector.request import Rendered, Request
from bridge.crm.gate import OpenGate
from bridge.crm.rendering import Renderer
from bridge.crm.tokens import Tokens
from bridge.lib.errors import DeliveryError, InDoubt, Permanent, Transient
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.http.client import UnacceptableAnswer
from bridge.lib.http.connection_errors import connection_remedy
from bridge.lib.masking import LONGEST_MESSAGE

# httpx takes longer to parse a URL than to send it, and most requests go to the same few addresses.
_url = lru_cache(maxsize=256)(httpx.URL)
_DIRECT = Transport(OpenGate())


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer, and what it means by the connector's rules."""

    answer: Answer
    meaning: Meaning
    description: str
    """Request and status for messages: "create contact: POST /contacts answered 201"."""


class Crm:
    """Sends the requests of a connector to one account; every failure is a `DeliveryError`."""

    def __init__(
        self,
        connector: Connector,
        account: Account,
        tokens: Tokens,
        clock: Callable[[], datetime],
        transport: Transport = _DIRECT,
    ) -> None:
        """Make a client with a connection of its own; `tokens` are shared by all clients of the account."""
        self.connector = connector
        self.account = account
        self._tokens = tokens
        self._clock = clock
        self._connection = Connection(connector, account, tokens.latest, clock, transport)
        self._renderer = Renderer(connector)
        self._errors = AnswerErrors(self._connection.masked)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, request: Request, names: Values, what: str) -> Answer:
        """Send a request and return its answer, if that is a success; a refused token is renewed once.

        `names` are the variables of its texts, `what` names the request in messages.

        Raises:
            DeliveryError: there is no answer, or it is no success.
        """
        judged = self._answer(request, names, what)
        self.raise_for_meaning(judged.meaning, request, judged.description, _ids_in(names))
        return judged.answer

    def answer(self, request: Request, names: Values, what: str) -> JudgedAnswer:
        """Send a request and return its answer with its meaning, whatever that is.

        Raises:
            DeliveryError: there is no answer.
        """
        judged = self._answer(request, names, what)
        return JudgedAnswer(judged.answer, judged.meaning, self.masked(judged.description))

    def log_in(self, what: str) -> None:
        """Get the token that requests need, unless there is one that is still valid.

        Raises:
            DeliveryError: no token can be got.
        """
        self._log_in(what)

    def raise_for_meaning(
        self, meaning: Meaning, request: Request, description: str, ids: Sequence[str] = ()
    ) -> None:
        """Raise the error that an answer means, unless it is a success; its message may show the `ids`."""
        error = self._errors.of(meaning, description, ids, idempotent=request.idempotent)
        if error is not None:
            raise error

    def raise_for_item(self, request: Request, answer: Answer, item: Any, what: str) -> None:
        """Judge one item of a batch's answer like an answer of its own.

        Raises:
            DeliveryError: the item is no success.
        """
        self.raise_for_meaning(
            self._meaning(request, answer.part(item)), request, f"{what}: answered {answer.status}"
        )

    def render(self, request: Request, names: Values) -> Rendered:
        """The request with its authentication, as it would be sent.

        Raises:
            ExpressionError: an expression fails on these names.
        """
        return self._renderer.render(request, self._connection.names(), names)

    def common(self) -> Values:
        """The variables that every request has."""
        return self._connection.names()

    def masked(self, text: str, longest: int | None = None) -> str:
        """A text without secrets and whole phone numbers, then cut to `longest` characters."""
        return self._connection.masked(text, longest)

    def _answer(self, request: Request, names: Values, what: str) -> JudgedAnswer:
        version = self._log_in(what)
        judged = self._once(request, names, what)
        if judged.meaning.result == "refresh" and self._tokens.needed:
            self._tokens.refuse(version)
            self._log_in(what)
            judged = self._once(request, names, what)
        return judged

    def _log_in(self, what: str) -> int:
        """Get the token that requests need, and return its version; 0 where none is needed."""
        if not self._tokens.needed:
            return 0
        try:
            outputs, version = self._tokens.current(self._connection)
        except DeliveryError as error:
            error.args = (self.masked(f"{what}: {error}", 2 * LONGEST_MESSAGE),)
            error.cause = self.masked(error.cause, LONGEST_MESSAGE)
            raise
        except (ExpressionError, TypeError, ValueError) as error:
            raise Permanent(
                self.masked(f"{what}: no token: the exchange cannot be written: {error}"),
                cause="the request for a token cannot be written",
            ) from error
        self._connection.use_token(outputs)
        return version

    def _once(self, request: Request, names: Values, what: str) -> JudgedAnswer:
        with self._connection.passing(request.limit, what) as passage:
            answer, description = self._exchange(request, names, what)
            passage.headers = answer.headers
        return JudgedAnswer(answer, self._meaning(request, answer), f"{description} answered {answer.status}")

    def _meaning(self, request: Request, answer: Answer) -> Meaning:
        return self.connector.classifier.meaning_of(answer, request.rules, self._clock(), request.expects)

    def _exchange(self, request: Request, names: Values, what: str) -> tuple[Answer, str]:
        """The answer to a request, and the request in words for messages."""
        rendered, url, content = self._rendered(request, names, what)
        # Masked only where an error quotes it: masking costs more than the rest, and nearly every request
        # succeeds.
        description = f"{what}: {rendered.method} {unquote(url.path)}"
        try:
            return self._connection.send(rendered, url, content), description
        except DeliveryError as error:
            # Nothing was sent; whoever refused does not know which request it was.
            error.args = (self.masked(f"{what}: {error}", 2 * LONGEST_MESSAGE),)
            raise
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            unreached = Transient(
                self.masked(f"{description}: cannot reach the CRM: {error}"),
                cause="the CRM cannot be reached",
                blame="account",
            )
            unreached.says = connection_remedy(error)
            raise unreached from error
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Permanent(
                self.masked(
                    f"{description}: cannot be sent: {error}. Check base_url, secrets and the connector"
                ),
                cause=f"{what}: cannot be sent",
            ) from error
        except httpx.HTTPError as error:
            message = self.masked(f"{description}: {no_answer(error)}").rstrip()
            unacceptable = isinstance(error, UnacceptableAnswer)
            cause = "the CRM's answer cannot be taken" if unacceptable else "the CRM did not answer"
            if request.idempotent:
                raise Transient(message, cause=cause, blame="account", doubtful=True) from error
            raise InDoubt(message, cause=cause, blame="account") from error

    def _rendered(self, request: Request, names: Values, what: str) -> tuple[Rendered, httpx.URL, bytes]:
        """Render a request; also its URL and the bytes of its body.

        Raises:
            Permanent: the connector cannot render it with these names.
        """
        try:
            rendered = self.render(request, names)
            self._connection.hide(rendered.hidden)
            return rendered, _url(rendered.path), rendered.content()
        # A value that a body cannot carry is a TypeError or a ValueError of its encoder.
        except (ExpressionError, TypeError, ValueError, httpx.InvalidURL) as error:
            raise Permanent(
                self.masked(f"{what}: the connector {self.connector.name} cannot write the request: {error}"),
                cause=f"{what}: the connector cannot write the request",
            ) from error


def _ids_in(names: Values) -> list[str]:
    """The CRM's ids of a request's records; not one that is the key, which may be a phone."""
    key, to = names.get("key") or {}, names.get("to") or {}
    given = [(names.get("id"), key), (to.get("id"), to.get("key") or {})]
    return [
        as_text(record_id)
        for record_id, key_of_it in given
        if record_id and record_id not in key_of_it.values()
    ]
