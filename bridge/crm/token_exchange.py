"""Exchanges secrets for a token: renders and signs the request, sends it, reads its answer.

Begin at `exchange()`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx

from bridge.crm.connection import Connection, no_answer
from bridge.crm.connector.answer import Answer, dig
from bridge.crm.connector.auth import REFRESH_TOKEN, TokenRequest
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.outcome import Meaning
from bridge.crm.connector.request import Rendered
from bridge.crm.gate import OpenGate
from bridge.crm.rendering import Outputs
from bridge.lib.errors import Permanent, Transient
from bridge.lib.expression import as_text
from bridge.lib.http.connection_errors import connection_remedy
from bridge.lib.masking import LONGEST_MASKED

LONGEST_LIFE = timedelta(days=3650)
"""A longer life would leave the calendar."""
_UNLIMITED = OpenGate()


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """What a token request has given."""

    outputs: Outputs
    life: timedelta | None
    """How long the token is valid; None: until it is refused."""


def exchange(connection: Connection, request: TokenRequest, outputs: Outputs, now: datetime) -> TokenGrant:
    """Exchange secrets for a token; `outputs` are those of earlier token requests.

    Raises:
        DeliveryError: no token can be got; the message does not say for which request it was.
        ExpressionError, TypeError, ValueError: the request cannot be rendered.
    """
    names = connection.names(outputs)
    rendered = request.render({**names, "assertion": _assertion(request, names, now)})
    answer = _send(connection, rendered, request)
    meaning = connection.connector.classifier.meaning_of(answer, request.rules, connection.clock())
    _refuse(meaning, answer)
    return TokenGrant(_outputs(request, answer, meaning), _life(request, answer))


def _send(connection: Connection, rendered: Rendered, request: TokenRequest) -> Answer:
    if "://" not in rendered.path:
        rendered.path = f"{connection.account.base_url}/{rendered.path.lstrip('/')}"
    limit = request.section.limit
    gate = _UNLIMITED if limit is None else connection
    try:
        with gate.passing(limit or "", "no token") as passage:
            answer = connection.send(rendered, httpx.URL(rendered.path), rendered.content())
            passage.headers = answer.headers
            return answer
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
        raise Permanent(
            f"no token: it cannot be asked for: {error}. Check base_url and the connector",
            cause="the request for a token cannot be sent",
        ) from error
    except httpx.HTTPError as error:
        missed = Transient(f"no token: {no_answer(error)}", cause="the CRM gives no token", blame="account")
        missed.says = connection_remedy(error)
        raise missed from error


def _assertion(request: TokenRequest, names: Values, now: datetime) -> str | None:
    """The signed JWT of a `jwt_bearer` grant; None for other grants."""
    if request.assertion is None:
        return None
    import jwt  # noqa: PLC0415 -- takes 8 MB, and few CRMs need it

    section = request.assertion.section
    times = {"iat": int(now.timestamp()), "exp": int((now + section.lifetime).timestamp())}
    try:
        return jwt.encode(
            {**times, **request.assertion.claims.fill(names)},
            names["secrets"].get(section.key, ""),
            algorithm=section.algorithm,
        )
    except (TypeError, ValueError, jwt.PyJWTError) as error:
        raise Permanent(
            f"no token: the secret {section.key} is no key for {section.algorithm}: {type(error).__name__}."
            " Give a private key in PEM",
            cause="the private key cannot sign",
        ) from error


def _outputs(request: TokenRequest, answer: Answer, meaning: Meaning) -> Outputs:
    """The outputs in an answer; only a new refresh token may be absent, then the old one stays.

    Raises:
        Transient: another output is absent.
    """
    outputs: Outputs = {}
    for name, pick in request.outputs.items():
        value = pick.of_answer(answer)
        if value not in (None, ""):
            outputs[name] = value
        elif name != REFRESH_TOKEN:
            raise Transient(
                f"no token: the CRM answered {_quoted(meaning, answer)}, and nothing at {pick.text!r}"
                f" for {name}. {meaning.says or 'Check the secrets and the connector'}",
                cause="no token in the token's answer",
                blame="credentials",
            )
    return outputs


def _life(request: TokenRequest, answer: Answer) -> timedelta | None:
    """How long the token is valid: as the answer says, else the connector's `lifetime`."""
    if request.expires_in is not None:
        try:
            life = timedelta(seconds=float(request.expires_in.of_answer(answer)))
        except (TypeError, ValueError, OverflowError):
            return request.section.lifetime
        if life > timedelta(0):
            return min(life, LONGEST_LIFE)
    return request.section.lifetime


def _quoted(meaning: Meaning, answer: Answer) -> str:
    """Status, code and message of an answer; never the whole answer, which may hold a token."""
    said = [as_text(dig(answer.body, name)) for name in ("error", "error_description")]
    own = [meaning.code, meaning.message if meaning.named else ""]
    parts = dict.fromkeys(part for part in (as_text(answer.status), *own, *said) if part)
    # Nor the text of a page: it may be a form that holds the login.
    return " ".join(parts)[:LONGEST_MASKED] + (
        ", which is not the CRM's own answer" if meaning.foreign else ""
    )


def _refuse(meaning: Meaning, answer: Answer) -> None:
    """Raise the error that an answer means, unless it may carry a token.

    Raises:
        Transient: it carries none.
    """
    # Where no rule fits, `_outputs` looks whether the token is there.
    if meaning.result in ("ok", "done") or (meaning.unknown and answer.body is not None):
        return
    message = f"no token: the CRM answered {_quoted(meaning, answer)}"
    if meaning.result in ("unprocessed", "transient", "quota", "in_doubt"):
        raise Transient(message, cause="the CRM gives no token", retry_after=meaning.wait, blame="account")
    raise Transient(
        f"{message}. {meaning.says or 'Check the secrets of the destination'}",
        cause="the CRM refuses our credentials",
        blame="credentials",
    )
