"""Renders requests with secrets blanked. The real secrets are never read here, so none can leak.

Each request is rendered twice, with two made-up values for every secret; where the two differ, `***` is
shown. Begin at `RedactingRenderer.write()`.
"""

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
from bridge.crm.rendering import Renderer, common_names, headers_of

HIDDEN = "***"
# Two made-up values of every secret. Where the two requests differ elsewhere, something was computed of a
# secret. With two digits between they are valid Base64 too, as some keys must be.
_SPELLINGS = ("Zqx", "Ypw")
_MARKS = tuple(re.compile(f"{spelling}[0-9][0-9]+{spelling}") for spelling in _SPELLINGS)
# A signature or an encoded secret consists of these: the whole word around a difference is blanked.
_WORD = f"{ascii_letters}{digits}+/_%-"
_BASE_URL = "https://base-url.invalid"
# Stand-ins for ids are numbers: no escape changes digits, and filters for numeric ids take them.
_FIRST_STAND_IN = 7_200_000_000_000_000_000
_RANDOM = uuid.UUID("7ca11b1d-9e00-4000-8000-0000000000ff")


@dataclass(frozen=True, slots=True)
class RedactedRequest:
    """One rendered request without secrets; `body` is JSON data, the form's table or the text."""

    method: str
    url: str
    query: Mapping[str, Any]
    headers: Mapping[str, str]
    body: Any


class Unwritable(Exception):
    """The connector cannot render a request."""


class RedactingRenderer:
    """Renders the requests of one account without its secrets."""

    def __init__(self, connector: Connector, account: Account, now: datetime) -> None:
        """Render for an account whose secrets may be absent; `now` is the time in all requests."""
        self._connector = connector
        self._labels = {_BASE_URL: "<base_url>", str(_RANDOM): "<random>", _RANDOM.hex: "<random>"}
        # A required setting that is not given is shown as unknown; an optional one is empty, as it will be.
        settings = {
            name: account.settings.get(name, "")
            if written.default is not None or account.settings.get(name)
            else self.stand_in(f"settings.{name}")
            for name, written in connector.file.settings.items()
        }
        address = replace(account, base_url=account.base_url or _BASE_URL, settings=settings)
        self._names = [_names(connector, address, now, spelling) for spelling in _SPELLINGS]

    def stand_in(self, label: str) -> str:
        """A stand-in for a value that only an answer will give; the preview shows `<label>`."""
        label_text = f"<{label}>"
        for known, its_label in self._labels.items():
            if its_label == label_text:
                return known
        number = str(_FIRST_STAND_IN + len(self._labels))
        self._labels[number] = label_text
        return number

    def write(self, request: Request, names: Values) -> RedactedRequest:
        """Render a request.

        Raises:
            Unwritable: an expression fails on these names, or its value cannot be sent.
        """
        try:
            first, second = (
                Renderer(self._connector).render(request, common, names) for common in self._names
            )
            return self._shown(first, second)
        except (TypeError, ValueError) as error:
            raise Unwritable(str(error)) from error

    def tokens(self) -> list[RedactedRequest]:
        """The requests that get a token where none is kept.

        Raises:
            Unwritable: an expression fails, or its value cannot be sent.
        """
        try:
            return [self._token(request) for request in self._connector.auth.tokens]
        except (TypeError, ValueError) as error:
            raise Unwritable(str(error)) from error

    def _token(self, request: TokenRequest) -> RedactedRequest:
        first, second = (request.render(common) for common in self._names)
        for rendered, common in zip((first, second), self._names, strict=True):
            if "://" not in rendered.path:
                rendered.path = f"{common['base_url']}/{rendered.path.lstrip('/')}"
        return self._shown(first, second)

    def _shown(self, first: Rendered, second: Rendered) -> RedactedRequest:
        # Raises TypeError or ValueError for a value that JSON cannot carry.
        first.content()
        headers = self._merged(headers_of(first), headers_of(second))
        return RedactedRequest(
            first.method,
            self._merged(first.path, second.path),
            self._merged(first.query, second.query),
            headers,
            self._merged(first.body, second.body) if first.kind != "none" else None,
        )

    def _merged(self, first: Any, second: Any) -> Any:
        """What the two renderings have in common; `***` for the rest."""
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            return {str(name): self._merged(value, second.get(name)) for name, value in first.items()}
        if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
            return [self._merged(*pair) for pair in zip(first, second, strict=True)]
        if isinstance(first, str) and isinstance(second, str):
            return self._text(first, second)
        if first != second:
            return HIDDEN
        return self._labels.get(str(first), first) if isinstance(first, int) else first

    def _text(self, first: str, second: str) -> str:
        text, again = _MARKS[0].sub(HIDDEN, first), _MARKS[1].sub(HIDDEN, second)
        if text != again:
            text = _common(text, again)
        for known, label in self._labels.items():
            text = text.replace(known, label)
        return text


def _names(connector: Connector, account: Account, now: datetime, spelling: str) -> Values:
    """The variables of a request, with this spelling as the value of every secret."""
    outputs = [output for token in connector.auth.tokens for output in token.outputs]
    hidden = [*connector.secrets, *outputs, "assertion"]
    spelt = [f"{spelling}{number:02}{spelling}" for number in range(len(hidden))]
    secrets = dict(zip(connector.secrets, spelt, strict=False))
    token = dict(zip(outputs, spelt[len(connector.secrets) :], strict=False))
    names = common_names(replace(account, secrets=secrets), token, now, lambda: _RANDOM)
    return {**names, "assertion": spelt[-1]}


def _common(first: str, second: str) -> str:
    """The words that two texts begin and end with; `***` stands for the rest."""
    start = first[: _common_prefix_length(first, second)].rstrip(_WORD)
    left, right = first[len(start) :], second[len(start) :]
    length = _common_prefix_length(left[::-1], right[::-1])
    return start + HIDDEN + left[len(left) - length :].lstrip(f"{_WORD}=")


def _common_prefix_length(first: str, second: str) -> int:
    """The length of the common beginning of two texts."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(first), len(second)))
