"""One CRM account over HTTP, as a connector describes it; a worker has its own.

A pool that many workers share is ten times slower and leaks its slots on cancellation,
so nothing is shared and nothing is cancelled.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httpx

from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.crm.connector.addresses import OtherOrigin, check_address
from bridge.crm.connector.answer_text import read_answer
from bridge.crm.connector.auth import TokenRequest
from bridge.crm.connector.compiling import Answer, Values
from bridge.crm.connector.outcome import Meaning
from bridge.crm.connector.request import Rendered, Request, flat
from bridge.crm.gate import OpenGate, RequestGate
from bridge.crm.rendering import common_names, headers_of, origins_of, render
from bridge.crm.tokens import Exchange, Outputs, Tokens
from bridge.lib.errors import Blame, DeliveryError, Duplicate, Gone, InDoubt, Permanent, Transient
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.http.client import HttpClient, UnacceptableAnswer
from bridge.lib.http.connection_errors import connection_remedy
from bridge.lib.masking import LONGEST_MESSAGE, LONGEST_READ, Masking
from bridge.lib.phone import mask_phones_in, of_crm
from bridge.model.failures import generalised

# Shorter outputs of a token, such as "1", would blot out whole messages.
_SHORTEST_SECRET = 6
_OF_DOTS = (
    "Correct what stands in the path where it comes from: the record's id in the CRM, the mapping's key, or"
    " the connector; then retry"
)
_OF_HEADERS = "Check the destination's secrets, and what the connector puts there"
# Which of several items it was groups nothing.
_PLACES = re.compile(r"\[\d+\]")
_CODE = re.compile(r"(?=(?:\D*\d){0,7}\D*$)[\w.:-]{1,40}", re.ASCII)


# Reading one takes longer than sending it; most requests go to the same few places.
_url = lru_cache(maxsize=256)(httpx.URL)

_OPEN = OpenGate()


class Crm:
    """Sends what a connector can say; every fault is a `DeliveryError`."""

    def __init__(
        self,
        connector: Connector,
        account: Account,
        tokens: Tokens,
        clock: Callable[[], datetime],
        transport: httpx.BaseTransport | None = None,
        gate: RequestGate = _OPEN,
    ) -> None:
        """Every request passes `gate`: also one repeated with a new token, and the one for that token."""
        self.connector = connector
        self._account = account
        self._tokens = tokens
        self._clock = clock
        self._outputs: Outputs = {}
        self._hidden: tuple[str, ...] = ()
        self._gate = gate
        self._http = HttpClient(account.timeout, transport)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def ask(self, request: Request, names: Values, what: str) -> Answer:
        """Send a request and judge its answer; a token that is refused is renewed once.

        Raises:
            DeliveryError: anything but a yes.
        """
        answer, meaning, shown = self._answer(request, names, what)
        self.judge(meaning, request, shown, _ids_in(names))
        return answer

    def answer(self, request: Request, names: Values, what: str) -> tuple[Answer, Meaning, str]:
        """Send a request; its answer, what that means, and how the request is named.

        Raises:
            DeliveryError: there is no answer.
        """
        answer, meaning, shown = self._answer(request, names, what)
        return answer, meaning, self.masked(shown)

    def _answer(self, request: Request, names: Values, what: str) -> tuple[Answer, Meaning, str]:
        version = self._log_in(what)
        answer, meaning, shown = self._once(request, names, what)
        if meaning.result == "refresh" and self._tokens.needed:
            self._tokens.refuse(version)
            self._log_in(what)
            answer, meaning, shown = self._once(request, names, what)
        return answer, meaning, shown

    def log_in(self, what: str) -> None:
        """Get the token that requests need, where there is none that lives.

        Raises:
            DeliveryError: there is none to be had.
        """
        self._log_in(what)

    def judge_item(self, request: Request, answer: Answer, item: Any, what: str) -> None:
        """Judge one item of a batch's answer as if it were an answer of its own.

        Raises:
            DeliveryError: anything but a yes.
        """
        alone = answer.part(item)
        meaning = self.connector.classifier.judge(alone, request.rules, self._clock(), request.expects)
        self.judge(meaning, request, f"{what}: answered {answer.status}")

    def render(self, request: Request, names: Values) -> Rendered:
        """The request as it would be sent, with its authentication."""
        return render(self.connector, request, self._names(self._outputs), names)

    def common(self) -> Values:
        """The names that every request has, whatever it is about."""
        return self._names(self._outputs)

    def masked(self, text: str, longest: int | None = None) -> str:
        """A text without secrets and whole phone numbers, and then no longer than `longest`."""
        outputs = [*_texts_in(self._outputs), *_texts_in(self._tokens.outputs), *self._hidden]
        secrets = (*self._account.secrets.values(), *(each for each in outputs if _is_long(each)))
        return Masking(secrets).masked(text, longest)

    def _log_in(self, what: str) -> int:
        if not self._tokens.needed:
            return 0
        exchange = Exchange(self._send_for_token, self._judge_token, self._names)
        try:
            self._outputs, version = self._tokens.current(exchange)
        except DeliveryError as error:
            error.args = (self.masked(f"{what}: {error}", 2 * LONGEST_MESSAGE),)
            error.cause = self.masked(error.cause, LONGEST_MESSAGE)
            raise
        except (ExpressionError, TypeError, ValueError) as error:
            raise Permanent(
                self.masked(f"{what}: no token: the exchange cannot be written: {error}"),
                cause="the request for a token cannot be written",
            ) from error
        return version

    def _send_for_token(self, rendered: Rendered, request: TokenRequest) -> Answer:
        if "://" not in rendered.path:
            rendered.path = f"{self._account.base_url}/{rendered.path.lstrip('/')}"
        limit = request.section.limit
        gate = _OPEN if limit is None else self._gate
        try:
            with gate.passing(limit or "", "no token") as passage:
                answer = self._send(rendered, _url(rendered.path), rendered.content())
                passage.headers = answer.headers
                return answer
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Permanent(
                f"no token: it cannot be asked for: {error}. Check base_url and the connector",
                cause="the request for a token cannot be sent",
            ) from error
        except httpx.HTTPError as error:
            missed = Transient(
                f"no token: {_what_came(error)}", cause="the CRM gives no token", blame="account"
            )
            missed.says = connection_remedy(error)
            raise missed from error

    def _judge_token(self, answer: Answer, request: TokenRequest) -> Meaning:
        return self.connector.classifier.judge(answer, request.rules, self._clock())

    def _names(self, outputs: Outputs) -> Values:
        return common_names(self._account, outputs, self._clock(), uuid.uuid4)

    def _once(self, request: Request, names: Values, what: str) -> tuple[Answer, Meaning, str]:
        with self._gate.passing(request.limit, what) as passage:
            answer, shown = self._exchanged(request, names, what)
            passage.headers = answer.headers
        meaning = self.connector.classifier.judge(answer, request.rules, self._clock(), request.expects)
        return answer, meaning, f"{shown} answered {answer.status}"

    def _exchanged(self, request: Request, names: Values, what: str) -> tuple[Answer, str]:
        try:
            rendered = self.render(request, names)
            self._hidden = rendered.hidden
            url, content = _url(rendered.path), rendered.content()
        # What a body cannot carry is told by its encoder, as a TypeError or a ValueError.
        except (ExpressionError, TypeError, ValueError, httpx.InvalidURL) as error:
            raise Permanent(
                self.masked(f"{what}: the connector {self.connector.name} cannot write the request: {error}"),
                cause=f"{what}: the connector cannot write the request",
            ) from error
        # It is masked where it is said: that costs more than the rest, and nearly every answer is a yes.
        shown = f"{what}: {rendered.method} {unquote(url.path)}"
        try:
            return self._send(rendered, url, content), shown
        except DeliveryError as error:
            # Nothing was sent, and what refused it does not know for what it was.
            error.args = (self.masked(f"{what}: {error}", 2 * LONGEST_MESSAGE),)
            raise
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            unreached = Transient(
                self.masked(f"{shown}: cannot reach the CRM: {error}"),
                cause="the CRM cannot be reached",
                blame="account",
            )
            unreached.says = connection_remedy(error)
            raise unreached from error
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Permanent(
                self.masked(f"{shown}: cannot be sent: {error}. Check base_url, secrets and the connector"),
                cause=f"{what}: cannot be sent",
            ) from error
        except httpx.HTTPError as error:
            message = self.masked(f"{shown}: {_what_came(error)}").rstrip()
            unacceptable = isinstance(error, UnacceptableAnswer)
            cause = "the CRM's answer cannot be taken" if unacceptable else "the CRM did not answer"
            if request.idempotent:
                raise Transient(message, cause=cause, blame="account", doubtful=True) from error
            raise InDoubt(message, cause=cause, blame="account") from error

    def _check_address(self, address: str) -> None:
        """Refuse an address that leads to a host which nobody has named, or upwards in its path."""
        account, connector = self._account, self.connector
        try:
            check_address(
                address,
                account.base_url,
                lambda: origins_of(connector, account, self._names(self._outputs)),
            )
        except OtherOrigin as error:
            refused = Transient(
                self.masked(f"nothing was sent: the connector {connector.name} leads to {error}"),
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

    def _send(self, rendered: Rendered, url: httpx.URL, content: bytes) -> Answer:
        self._check_address(rendered.path)
        headers = headers_of(rendered)
        for name, value in headers.items():
            # The client's own complaint would quote the secret.
            if not (value.isascii() and value.isprintable()):
                raise Permanent(
                    f"the header {name} cannot be sent: it has a line break or a character that is not"
                    f" ASCII. {_OF_HEADERS}",
                    cause=f"the header {name} cannot be sent",
                )
        if rendered.query:
            # As `params`, they would replace what the path says itself.
            url = url.copy_merge_params(flat(rendered.query))
        received = self._http.send(
            rendered.method, url, headers, content if rendered.kind != "none" else None
        )
        return read_answer(received.status, received.headers, received.body, received.charset)

    def judge(self, meaning: Meaning, request: Request, shown: str, ids: Sequence[str] = ()) -> None:
        """Raise what an answer means, unless that is a yes; `ids` of records are shown in it."""
        if meaning.result in ("ok", "done"):
            return
        error = self._error(meaning, request, shown, [*ids, *([meaning.id] if meaning.id else [])])
        error.status = meaning.status
        error.says = self.masked(meaning.says)
        raise error

    def _error(self, meaning: Meaning, request: Request, shown: str, ids: Sequence[str]) -> DeliveryError:
        message = self._message(meaning, shown, ids)
        cause = self._cause(meaning, shown)
        result = meaning.result
        if result == "duplicate":
            return Duplicate(message, cause=cause, crm_id=meaning.id)
        if result == "gone":
            return Gone(message, cause=cause)
        if result == "refresh":
            message += ". Check the destination's secrets and the rights of its user"
            return Transient(message, cause=cause, blame="credentials")
        if result in ("unprocessed", "quota") or (result == "transient" and request.idempotent):
            return Transient(
                message,
                cause=cause,
                retry_after=meaning.wait,
                blame=_blame(meaning),
                doubtful=result == "transient",
            )
        if result == "transient" or (result == "in_doubt" and not request.idempotent):
            return InDoubt(message, cause=cause, blame=_blame(meaning))
        if result == "in_doubt":
            message += ". Nothing in the connector says what this answer means"
        return Permanent(message, cause=cause)

    def _message(self, meaning: Meaning, shown: str, ids: Sequence[str]) -> str:
        if meaning.foreign:
            told = self._named(ids, meaning.message)
            about = f"{self.masked(shown)} {told}: not the CRM's own answer. {self.masked(meaning.says)}"
            return about.rstrip()
        parts = [self._named(ids, part) for part in (meaning.code, meaning.message) if part]
        told = ": ".join(parts)
        about = f" (field {self._named(ids, meaning.field)})" if meaning.field else ""
        says = f". {self.masked(meaning.says)}" if meaning.says else ""
        return f"{self._named(ids, shown)}{': ' + told if told else ''}{about}{says}"

    def _named(self, ids: Sequence[str], text: str) -> str:
        """What a CRM says without secrets and phone numbers, but with the ids of its records."""
        text = text[:LONGEST_READ]
        for each in ids:
            if each in text and mask_phones_in(each) != each:
                # An id may hold a backslash, which `re.sub` would read as a group.
                named = of_crm(each).replace("\\", r"\\")
                text = re.sub(rf"(?<!\w){re.escape(each)}(?!\w)", named, text)
        return self.masked(text, LONGEST_MESSAGE)

    def _cause(self, meaning: Meaning, shown: str) -> str:
        what = shown.split(":", 1)[0]
        status = shown.rpartition(" ")[2]
        if meaning.foreign:
            return self.masked(f"{what}: answered {status}, not by the CRM itself")
        # A number is what groups refusals where every status is 200; an id, which is longer, groups nothing.
        told = self.masked(meaning.code or (meaning.message if meaning.field else ""))
        told = told if meaning.code and _CODE.fullmatch(told) else generalised(told)[:80]
        # Each alone: together a status and a code look like a phone number.
        parts = (f"{what}: answered {status}", told, _PLACES.sub("[]", meaning.field[:LONGEST_READ]))
        return " ".join(self.masked(part, LONGEST_MESSAGE) for part in parts if part)


def _ids_in(names: Values) -> list[str]:
    """The CRM's ids of the records that a request is about; one that is our key itself may be a phone."""
    key, to = names.get("key") or {}, names.get("to") or {}
    given = [(names.get("id"), key), (to.get("id"), to.get("key") or {})]
    return [as_text(each) for each, mine in given if each and each not in mine.values()]


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(each)


def _is_long(text: str) -> bool:
    return len(text) >= _SHORTEST_SECRET


def _what_came(error: httpx.HTTPError) -> str:
    """In place of an answer that can be read."""
    if isinstance(error, UnacceptableAnswer):
        return f"{error}. No CRM answers so: check base_url, and what stands between here and the CRM"
    return f"no answer: {type(error).__name__} {error}"


def _blame(meaning: Meaning) -> Blame:
    """Whose fault an answer is that asks for patience."""
    if meaning.result == "quota":
        return "quota"
    if meaning.result == "transient":
        return "account"
    if meaning.wait is not None or meaning.status == 429:
        return "limit"
    # What is refused without a wait may be one record that is locked; 503 says that nobody is served.
    return "account" if meaning.status == 503 else "record"
