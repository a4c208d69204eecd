"""An app in front of another one that writes down every request as it came over the socket."""

import json
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it arrived."""

    method: str
    path: str
    """Still encoded."""
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    """JSON, where it is some; else text; None where there is none."""


class Recorder:
    """Passes every request on, and keeps it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._sent: list[Sent] = []

    def sent(self) -> list[Sent]:
        """All requests so far."""
        with self._lock:
            return list(self._sent)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._sent.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        raw_path: bytes = scope["raw_path"]
        sent = Sent(
            scope["method"],
            raw_path.decode(),
            dict(parse_qsl(scope["query_string"].decode())),
            {name.decode(): value.decode() for name, value in scope["headers"]},
            _read(body.decode()),
        )
        with self._lock:
            self._sent.append(sent)

        async def again() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, again, send)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text or None
