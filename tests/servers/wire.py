"""Requests and answers of the vendors' servers, as plain values; and answers that never come, or drip."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.sandbox.server import HANG_UP


@dataclass(slots=True)
class Logged:
    """One request that arrived: `body` is decoded JSON or form fields, `status` None when nobody answered."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int | None = None
    kind: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a body of bytes or text as it is, None as nothing, all else as JSON."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """For Starlette."""
        headers = dict(self.headers)
        if self.body is None or isinstance(self.body, (bytes, str)):
            return Response(self.body or b"", self.status, headers)
        headers.setdefault("content-type", "application/json;charset=UTF-8")
        return Response(json.dumps(self.body, ensure_ascii=False).encode(), self.status, headers)


class Refused(Exception):
    """Ends what is being carried out with an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; `segments` of the path were split first and decoded then; header names are lower case."""

    method: str
    raw_path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.raw_path)

    @property
    def segments(self) -> tuple[str, ...]:
        """Its parts; a value that held a slash is one part."""
        return tuple(unquote(part) for part in self.raw_path.split("/")[1:])

    def param(self, name: str) -> str | None:
        """A query parameter; the last, if there are several."""
        return dict(self.query).get(name)

    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def token(self, scheme: str) -> str | None:
        """The token after exactly this scheme; None without one."""
        given, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if given == scheme else None

    def logged(self, kind: str) -> Logged:
        """For the log."""
        is_form = self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        body = self.form() if is_form else self.json()
        if body is None and self.body:
            body = self.body.decode("utf-8", "replace")
        return Logged(self.method, self.path, dict(self.query), body, None, kind, dict(self.headers))


async def read_request(request: Request) -> Asked:
    """The whole request."""
    raw: bytes = request.scope["raw_path"]
    query = request.scope["query_string"].decode("ascii", "replace")
    return Asked(
        request.method,
        raw.decode("ascii", "replace"),
        parse_qsl(query, keep_blank_values=True),
        dict(request.headers),
        await request.body(),
    )


class HungUp(Response):
    """No answer: the connection is dropped."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        scope["extensions"][HANG_UP]()
        while (await receive())["type"] != "http.disconnect":
            pass


class Dripped(Response):
    """An answer that comes a byte at a time, until it is whole or the client has had enough."""

    def __init__(self, answer: Answer, pause: float) -> None:
        whole = answer.response()
        super().__init__(whole.body, whole.status_code)
        self.raw_headers = whole.raw_headers
        self._pause = pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        gone = asyncio.ensure_future(receive())
        for byte in bytes(self.body):
            done, _ = await asyncio.wait({gone}, timeout=self._pause)
            if done:
                return
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        gone.cancel()
        await send({"type": "http.response.body", "body": b""})
