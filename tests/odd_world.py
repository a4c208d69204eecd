"""One source, one destination and a CRM in memory whose answers a test replaces one by one.

Everything is real but the network: the ledger is a file, the worker is the daemon's. One thread, and a
clock that only the test moves.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx

from bridge.crm.tokens import Tokens
from bridge.delivery.budget import Budget
from bridge.delivery.locks import Lines
from bridge.delivery.worker import SharedAccount, Worker
from bridge.intake.judge import Judge, SourceRules
from bridge.ledger.sqlite import SqliteLedger
from bridge.model.calls import Via
from bridge.record.arrival import arrival_of
from bridge.sandbox.crm_state import Refusal
from bridge.sandbox.plain import PlainState
from tests.delivery_world import DATA, ORIGIN, SCHEDULE, ZONE, body_of, destination_of
from tests.servers.clock import Clock, Waiting

Answering = Callable[[httpx.Request], httpx.Response | None]
"""What answers in the CRM's place; None: the CRM itself."""
AUTH = """[auth]
headers = { Authorization = "Bearer {{ token.access_token }}" }

[auth.token]
url = "/token"
json = { token = "{{ secrets.token }}" }
rate = "1000/m"
"""


def plain_connector(more: str = "", *, batches: bool = False) -> str:
    """The connector of `PlainState` with a fixed token, and what a test adds."""
    text = (DATA / "connector.toml").read_text("utf-8")
    assert AUTH in text
    text = text.replace(AUTH, '[auth]\nheaders = { Authorization = "Bearer {{ secrets.token }}" }\n')
    return text + ((DATA / "batches.toml").read_text("utf-8") if batches else "") + more


class _Network(httpx.BaseTransport):
    def __init__(self, world: "OddWorld") -> None:
        self._world = world

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._world.exchange(request)


class OddWorld:
    """Calls go in by `feed`, and out by `deliver` or `drain`."""

    def __init__(self, folder: Path, connector: str, *, mapping: Callable[[str], str] = str) -> None:
        self.clock = Clock()
        self.crm = PlainState(self.clock)
        self.answer: Answering = lambda _request: None
        self.requests: list[tuple[str, str]] = []
        self.tries: list[int] = []
        """How many requests each step of the worker sent."""
        text = mapping((DATA / "mapping.toml").read_text("utf-8"))
        self.destination = destination_of(folder / "files", connector, text)
        self.ledger = SqliteLedger(folder / "ledger.db", create=True)
        self.ledger.start_destinations({"main": ["crm"]}, self.clock())
        rules = SourceRules(ZONE, "CN", ("crm",), self.destination.mapping.reads)
        self._judge = Judge(self.ledger, {"main": rules}, destinations_since=self.ledger.skipped_before())
        account = self.destination.account
        tokens = Tokens(
            account.name, self.destination.connector.auth.tokens, account.secrets, self.ledger, self.clock
        )
        self.budget = Budget(self.destination.connector.file.limits, self.clock)
        self.worker = Worker(
            self.ledger,
            {"crm": self.destination},
            {"main": ORIGIN},
            SCHEDULE,
            Lines(),
            {account.name: SharedAccount(tokens, self.budget)},
            clock=self.clock,
            chance=random.Random(1),  # noqa: S311 -- spreads retries, guards nothing
            stop=Waiting(self.clock),
            network=lambda: _Network(self),
        )

    def close(self) -> None:
        """No daemon any more."""
        self.worker.close()
        self.ledger.close()

    def exchange(self, request: httpx.Request) -> httpx.Response:
        """One request, answered by the test or by the CRM."""
        self.requests.append((request.method, unquote(request.url.raw_path.decode())))
        told = self.answer(request)
        return self.effect(request) if told is None else told

    def effect(self, request: httpx.Request) -> httpx.Response:
        """What the CRM itself does and answers."""
        segments = [unquote(part) for part in request.url.raw_path.decode().split("?")[0].split("/")[1:]]
        content = json.loads(request.content) if request.content else None
        try:
            status, answer = self.crm.carry_out(
                request.method, segments, dict(request.url.params.items()), content
            )
        except Refusal as refusal:
            error = {"code": refusal.code, "message": refusal.message, "field": refusal.field}
            return httpx.Response(refusal.status, json={"error": error})
        return httpx.Response(status, json=answer)

    def feed(self, number: int, phone: str, stamp: int = 1, **more: Any) -> None:
        """The platform tells of a call."""
        body = body_of(number, stamp, phone, **{"status": "A", "mark": "x", "talktimes": 1, **more})
        self.ledger.record([arrival_of("main", Via.CALLBACK, json.dumps(body).encode(), self.clock(), ZONE)])
        while self._judge.judge_waiting(self.clock()):
            pass

    def deliver(self, times: int = 1) -> None:
        """So many steps of the worker."""
        for _ in range(times):
            before = len(self.requests)
            self.worker.deliver_one(self.clock())
            self.tries.append(len(self.requests) - before)

    def drain(self, *, longest: timedelta = timedelta(days=6), rounds: int = 10_000) -> None:
        """Until nothing is due any more, or so much time has passed."""
        end = self.clock.now + longest
        for _ in range(rounds):
            self.deliver()
            if self.tries[-1]:
                continue
            due = [each["due_at"] for each in self.rows() if each["state"] == "due"]
            if not due or self.clock.now >= end:
                return
            wait = (min(map(datetime.fromisoformat, due)) - self.clock.now).total_seconds()
            self.clock.pass_by(max(wait, self.budget.closed_for(self.clock.now), 1.0))
        raise AssertionError(f"still under way after {rounds} steps: {self.rows()[:3]}")

    def rows(self) -> list[dict[str, Any]]:
        """All deliveries as they stand."""
        return [dict(row) for row in self.ledger.list_deliveries(None, None, 100_000)]

    def row(self, number: int) -> dict[str, Any]:
        """The delivery of one call."""
        return next(row for row in self.rows() if row["key"].startswith(f"{number:08x}"))

    def contents(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """What the CRM holds."""
        return self.crm.contents()


@contextmanager
def odd_world(folder: Path, connector: str, **more: Any) -> Iterator[OddWorld]:
    """A world that is closed at the end."""
    world = OddWorld(folder, connector, **more)
    try:
        yield world
    finally:
        world.close()
