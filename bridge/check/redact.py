"""Requests as they would be sent, with nothing sent: no secret is known here, so none can be shown."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from string import ascii_letters, digits
from typing import Any

from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.crm.connector.auth import TokenRequest
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.request import Rendered, Request
from bridge.crm.rendering import common_names, headers_of, render

HIDDEN = "***"
# Two spellings of every secret: where a request differs by more than them, a secret was computed with.
# With two digits between they are also Base64, as some keys must be.
_SPELLINGS = ("Zqx", "Ypw")
_MARKS = tuple(re.compile(f"{spelling}[0-9][0-9]+{spelling}") for spelling in _SPELLINGS)
# A signature or an encoding is one word.
_WORD = f"{ascii_letters}{digits}+/_%-"
_BASE_URL = "https://base-url.invalid"
# Digits survive escapes, and the filters that CRMs with numeric ids need.
_FIRST_STAND_IN = 7_200_000_000_000_000_000
_CHANCE = uuid.UUID("7ca11b1d-9e00-4000-8000-0000000000ff")


@dataclass(frozen=True, slots=True)
class RedactedRequest:
    """One request to read; the body is what JSON, a form or a text it is made of."""

    method: str
    url: str
    query: Mapping[str, Any]
    headers: Mapping[str, str]
    body: Any


class Unwritable(Exception):
    """The connector cannot write a request."""


class RedactingRenderer:
    """Writes the requests of one account without its secrets."""

    def __init__(self, connector: Connector, account: Account, now: datetime) -> None:
        self._connector = connector
        self._labels = {_BASE_URL: "<base_url>", str(_CHANCE): "<random>", _CHANCE.hex: "<random>"}
        # Only what must be given, and is not, is unknown; an optional one is as empty as it will be.
        settings = {
            name: account.settings.get(name, "")
            if written.default is not None or account.settings.get(name)
            else self.stand_in(f"settings.{name}")
            for name, written in connector.file.settings.items()
        }
        address = replace(account, base_url=account.base_url or _BASE_URL, settings=settings)
        self._names = [_names(connector, address, now, spelling) for spelling in _SPELLINGS]

    def stand_in(self, label: str) -> str:
        """What stands for a value that only an answer will tell; it is shown as `<label>`."""
        shown = f"<{label}>"
        for known, its_label in self._labels.items():
            if its_label == shown:
                return known
        number = str(_FIRST_STAND_IN + len(self._labels))
        self._labels[number] = shown
        return number

    def write(self, request: Request, names: Values) -> RedactedRequest:
        """A request of the connector.

        Raises:
            Unwritable: an expression fails on these names, or gives what no body can carry.
        """
        try:
            one, other = (render(self._connector, request, common, names) for common in self._names)
            return self._shown(one, other)
        except (TypeError, ValueError) as error:
            raise Unwritable(str(error)) from error

    def tokens(self) -> list[RedactedRequest]:
        """The exchanges that get a token, where none is kept.

        Raises:
            Unwritable: an expression fails, or gives what no body can carry.
        """
        try:
            return [self._token(request) for request in self._connector.auth.tokens]
        except (TypeError, ValueError) as error:
            raise Unwritable(str(error)) from error

    def _token(self, request: TokenRequest) -> RedactedRequest:
        one, other = (request.render(common) for common in self._names)
        for rendered, common in zip((one, other), self._names, strict=True):
            if "://" not in rendered.path:
                rendered.path = f"{common['base_url']}/{rendered.path.lstrip('/')}"
        return self._shown(one, other)

    def _shown(self, one: Rendered, other: Rendered) -> RedactedRequest:
        # What JSON cannot carry is told by its encoder.
        one.content()
        headers = self._merged(headers_of(one), headers_of(other))
        return RedactedRequest(
            one.method,
            self._merged(one.path, other.path),
            self._merged(one.query, other.query),
            headers,
            self._merged(one.body, other.body) if one.kind != "none" else None,
        )

    def _merged(self, one: Any, other: Any) -> Any:
        """What two spellings of a request agree on."""
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            return {str(name): self._merged(value, other.get(name)) for name, value in one.items()}
        if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
            return [self._merged(*pair) for pair in zip(one, other, strict=True)]
        if isinstance(one, str) and isinstance(other, str):
            return self._text(one, other)
        if one != other:
            return HIDDEN
        return self._labels.get(str(one), one) if isinstance(one, int) else one

    def _text(self, one: str, other: str) -> str:
        text, again = _MARKS[0].sub(HIDDEN, one), _MARKS[1].sub(HIDDEN, other)
        if text != again:
            text = _common(text, again)
        for known, label in self._labels.items():
            text = text.replace(known, label)
        return text


def _names(connector: Connector, account: Account, now: datetime, spelling: str) -> Values:
    """The names of a request, in which every secret is spelt so."""
    outputs = [output for token in connector.auth.tokens for output in token.outputs]
    hidden = [*connector.secrets, *outputs, "assertion"]
    spelt = [f"{spelling}{number:02}{spelling}" for number in range(len(hidden))]
    secrets = dict(zip(connector.secrets, spelt, strict=False))
    token = dict(zip(outputs, spelt[len(connector.secrets) :], strict=False))
    names = common_names(replace(account, secrets=secrets), token, now, lambda: _CHANCE)
    return {**names, "assertion": spelt[-1]}


def _common(one: str, other: str) -> str:
    """What two texts begin and end with, in whole words; the rest is hidden."""
    start = one[: _agreement(one, other)].rstrip(_WORD)
    left, right = one[len(start) :], other[len(start) :]
    length = _agreement(left[::-1], right[::-1])
    return start + HIDDEN + left[len(left) - length :].lstrip(f"{_WORD}=")


def _agreement(one: str, other: str) -> int:
    """How many letters two texts begin with together."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
