"""Sending within what an account allows: each request on the wire takes its turn, whatever it is for."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from bridge.crm.connector.request import Request
from bridge.crm.connector.schema import LimitSection
from bridge.delivery.account_gate import AccountGate
from bridge.delivery.breaker import FAULTS_IN_A_ROW
from bridge.delivery.budget import Budget
from bridge.delivery.request_sender import RequestSender
from bridge.lib.errors import DeliveryError, Permanent, Transient, Unsent
from bridge.model.deliveries import Lane
from tests.fixtures.small_crm import Clock, Seen, Server, ServerAnswer, connector_of, crm_of

CONNECTOR = """
name = "own"
secrets = ["token"]
[auth]
headers = { Authorization = "Bearer {{ token.access_token }}" }
[auth.token]
url = "/token"
json = { token = "{{ secrets.token }}" }
TOKEN
[limits.default]
LIMIT
[limits.login]
rate = "1/h"
[objects.thing]
key = ["key"]
create = { path = "/things", json = "{{ fields }}" }
"""
NAMES = {"key": {"key": "a"}, "fields": {"n": 1}}


class Desk:
    """Takes the newest token only; tells how many requests the budget knew to be under way at each."""

    def __init__(self, server: Server, limit: str, token: str = "") -> None:
        server.log.clear()
        server.answer = self.answer
        self.server = server
        self.tokens = 0
        self.scripted: list[ServerAnswer] = []
        self.at_once: list[int] = []
        self.clock = Clock()
        connector = connector_of(CONNECTOR.replace("LIMIT", limit).replace("TOKEN", token))
        self.budget = Budget(connector.file.limits, self.clock)
        stop = threading.Event()
        # What would be waited for gives way at once.
        stop.set()
        gate = AccountGate(self.budget, stop)
        self.crm = crm_of(connector, server.url, {"token": "s3cret-token"}, clock=self.clock, gate=gate)
        self.sender = RequestSender(self.crm, gate, random.Random(1), stop)  # noqa: S311 -- spreads retries
        self.request: Request = connector.objects["thing"].create[0].request

    def answer(self, seen: Seen) -> ServerAnswer:
        self.at_once.append(sum(each.under_way for each in self.budget._classes.values()))
        if seen.path == "/token":
            self.tokens += 1
            return 200, {"access_token": f"token-{self.tokens}", "expires_in": 3600}, {}
        if self.scripted:
            return self.scripted.pop(0)
        fresh = seen.headers["authorization"] == f"Bearer token-{self.tokens}"
        return (200 if fresh else 401), {}, {}

    def ask(self) -> None:
        self.sender.ask(self.request, NAMES, "object thing, create")

    def expire(self) -> None:
        self.tokens += 1

    def spent(self, name: str = "default") -> int:
        spent: int = self.budget.state()["classes"][name]["spent"]
        return spent


Makes = Callable[..., Desk]


@pytest.fixture
def make(server: Server) -> Iterator[Makes]:
    made: list[Desk] = []

    def desk(limit: str, token: str = "") -> Desk:
        made.append(Desk(server, limit, token))
        return made[-1]

    yield desk
    for one in made:
        with closing(one.crm):
            pass


def test_request_repeated_with_a_new_token_counts_against_the_budget(make: Makes) -> None:
    desk = make("daily = 4\nconcurrency = 1")
    desk.ask()
    desk.expire()
    desk.ask()
    things = [seen for seen in desk.server.log if seen.path == "/things"]
    assert (len(things), desk.spent()) == (3, 3)
    assert desk.at_once == [0, 1, 1, 0, 1]
    desk.expire()
    with pytest.raises(Unsent):
        desk.ask()
    assert [seen.path for seen in desk.server.log[-2:]] == ["/things", "/token"], "four were allowed"


def test_rate_limit_holds_for_a_repeated_request(make: Makes) -> None:
    desk = make('rate = "2/m"')
    desk.ask()
    desk.expire()
    with pytest.raises(Unsent) as caught:
        desk.ask()
    assert caught.value.retry_after == 60
    desk.clock.tick(60)
    desk.ask()
    assert sum(seen.path == "/things" for seen in desk.server.log) == 3


def test_token_request_counts_in_its_own_limit_class(make: Makes) -> None:
    desk = make("concurrency = 1", 'limit = "login"')
    desk.ask()
    assert (desk.spent("login"), desk.spent()) == (1, 1)
    assert desk.at_once == [1, 1], "neither waits for the other, also where one at a time may go"
    desk.expire()
    with pytest.raises(Unsent):
        desk.ask()
    assert desk.tokens == 2, "one an hour"


def test_token_request_may_count_in_the_default_limit_class(make: Makes) -> None:
    desk = make("daily = 2\nconcurrency = 1", 'limit = "default"')
    desk.ask()
    assert (desk.spent(), desk.at_once) == (2, [1, 1])
    with pytest.raises(Unsent):
        desk.ask()


def test_unknown_limit_class_is_refused_at_load() -> None:
    with pytest.raises(Exception, match='there is no limit "logins"'):
        connector_of(CONNECTOR.replace("LIMIT", "").replace("TOKEN", 'limit = "logins"'))


def test_request_that_was_not_sent_does_not_close_the_breaker(make: Makes) -> None:
    desk = make("daily = 9")
    desk.ask()
    desk.scripted = [(503, None, {})] * FAULTS_IN_A_ROW
    for _ in range(FAULTS_IN_A_ROW):
        with pytest.raises(DeliveryError):
            desk.ask()
    assert desk.budget.paused_for(desk.clock()) > 0
    with pytest.raises(Permanent):
        desk.sender.ask(desk.request, {**NAMES, "fields": {"n": object()}}, "object thing, create")
    desk.budget.refused("default", 60, quota=True)
    with pytest.raises(Transient):
        desk.ask()
    assert desk.budget.paused_for(desk.clock()) > 0
    assert desk.budget.state()["breaker"]["open_until"] is not None


def test_requests_within_a_long_window_count_after_a_restart() -> None:
    clock = Clock()
    limits = {"default": LimitSection(rate=("10/h", "5/s"))}
    before = Budget(limits, clock)
    for _ in range(10):
        clock.tick(1.0)
        assert before.reserve("default", Lane.LIVE) == 0
    saved = json.loads(json.dumps(before.state()))
    clock.tick(60.0)
    after = Budget(limits, clock, saved)
    waits = [budget.reserve("default", Lane.LIVE) for budget in (before, after)]
    assert waits[0] == pytest.approx(3600 - 69)
    # As if all of a minute had gone at its end.
    assert waits[0] <= waits[1] <= waits[0] + 60
    clock.tick(waits[1] + 11)
    for _ in range(5):
        assert after.reserve("default", Lane.LIVE) == 0
    # What was kept under another rate says nothing of this one.
    assert Budget({"default": LimitSection(rate=("20/h",))}, clock, saved).reserve("default", Lane.LIVE) == 0


@pytest.mark.parametrize(
    ("left", "after", "seconds"),
    [("0", "7", 7), ("-1", "7", 7), ("1", "7", 0), ("none", "7", 0), ("nan", "7", 0), ("0", "soon", 1),
     ("0", "nan", 1), ("0", "inf", 1), ("0", "-5", 0), ("0", "1e300", 86_400), ("0", "1795334400", 86_400)],
)  # fmt: skip
def test_remaining_quota_headers_pause_for_a_day_at_most(left: str, after: str, seconds: float) -> None:
    limit = LimitSection(remaining="X-Left", reset_after="X-After")
    budget = Budget({"default": limit}, Clock())
    assert budget.reserve("default", Lane.LIVE) == 0
    budget.finish("default", {"x-left": left, "x-after": after})
    assert budget.reserve("default", Lane.LIVE) == seconds
