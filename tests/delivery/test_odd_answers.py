"""The law: a CRM that answers at random; nothing is lost, doubled or endless, and each delivery says why."""

import resource
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from bridge.delivery.attempt import MOST_QUESTIONS
from bridge.delivery.request_sender import QUICK_TRIES
from tests.fixtures.odd_answers import ODD, Odd
from tests.fixtures.scripted_crm import ScriptedCrmBench, plain_connector

RULES = """
[[outcomes]]
status = 409
then = "duplicate"
id = "id"
[[outcomes]]
when = "{{ status == 200 and body.error }}"
then = "permanent"
says = "The CRM says no with 200: its message says why"
"""
# Two objects; each question is sent at most three times.
MOST_REQUESTS = MOST_QUESTIONS * 2 * QUICK_TRIES
SEED = 20261129


class Chaos:
    """Answers for a CRM: now and then oddly, and never with a lie."""

    def __init__(self, world: ScriptedCrmBench, seed: int, share: float) -> None:
        self.world, self.share = world, share
        self.chance = Random(seed)  # noqa: S311 -- a test's dice
        self.given: Counter[str] = Counter()

    def __call__(self, request: httpx.Request) -> httpx.Response | None:
        if self.chance.random() >= self.share:
            return None
        reads = request.method == "GET" or request.url.path.endswith("/search")
        fitting = [each for each in ODD if fits(each, request, reads=reads)]
        odd = self.chance.choice(fitting)
        self.given[odd.name] += 1
        if odd.takes:
            self.world.effect(request)
        return odd.make(request, self.chance)


def fits(odd: Odd, request: httpx.Request, *, reads: bool) -> bool:
    if reads:
        return odd.reads
    makes = request.method == "POST"
    # A change that is answered with any 2xx was made.
    return odd.creates if makes else odd.writes and (odd.takes or not odd.name.startswith(("202", "page 2")))


class Rows:
    """What the ledger's file holds, asked beside the worker."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True)

    def close(self) -> None:
        self._connection.close()

    def states(self) -> Mapping[str, int]:
        rows = self._connection.execute("SELECT state, count(*) FROM deliveries GROUP BY state")
        return dict(rows.fetchall())

    def next_due(self) -> datetime | None:
        (at,) = self._connection.execute("SELECT min(due_at) FROM deliveries WHERE state = 'due'").fetchone()
        return None if at is None else datetime.fromtimestamp(at / 1e6, UTC)

    def all(self, sql: str) -> list[Any]:
        return self._connection.execute(sql).fetchall()


def phone_of(number: int) -> str:
    return f"158{number // 3:08}"


def run(
    folder: Path, calls: int, *, seed: int = SEED, share: float = 0.3, batches: bool = False
) -> Counter[str]:
    """Deliver so many calls of a third as many people; what each of them came to."""
    connector = plain_connector(RULES, batches=batches)

    def recreated(text: str) -> str:
        return text.replace('on_deleted = "park"', 'on_deleted = "recreate"')

    with (
        closing(ScriptedCrmBench(folder, connector, mapping=recreated)) as world,
        closing(Rows(folder)) as rows,
    ):
        chaos = Chaos(world, seed, share)
        world.answer = chaos
        world.requests = Bounded()
        grown = 0
        for start in range(0, calls, 50):
            for number in range(start, min(start + 50, calls)):
                world.feed(number, phone_of(number))
            go_on(world, rows, 3600.0)
            world.tries[:] = [max(world.tries)]
            if start == calls // 100 * 25:
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        world.answer = lambda _request: None
        go_on(world, rows, 6 * 86400.0)
        check(world, rows, calls, batches=batches)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert not grown or after - grown < 80_000, f"memory grew from {grown} to {after} KiB"
        return Counter({**rows.states(), "requests a try": max(world.tries), "odd answers": len(chaos.given)})


class Bounded(list[tuple[str, str]]):
    """Counts what was asked, and forgets it: a test of memory keeps nothing itself."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def append(self, _asked: tuple[str, str]) -> None:
        """One more."""
        self._asked += 1

    def __len__(self) -> int:
        return self._asked


def go_on(world: ScriptedCrmBench, rows: Rows, seconds: float) -> None:
    """Until nothing is due, or so much time has passed."""
    end = world.clock.now.timestamp() + seconds
    while True:
        world.deliver()
        if world.tries[-1]:
            continue
        due = rows.next_due()
        if due is None or world.clock.now.timestamp() >= end:
            return
        wait = (due - world.clock.now).total_seconds()
        world.clock.pass_by(max(wait, world.budget.paused_for(world.clock.now), 1.0))


def check(world: ScriptedCrmBench, rows: Rows, calls: int, *, batches: bool) -> None:
    """Nothing lost, nothing doubled, nothing endless, and a cause and a remedy for whatever is not there."""
    states = rows.states()
    assert sum(states.values()) == calls
    assert set(states) <= {"delivered", "parked"}, states
    if not batches:
        assert max(world.tries) <= MOST_REQUESTS
    held = world.contents()
    contacts = {one["id"]: one["phone"] for one in held["contacts"]}
    several = {phone: count for phone, count in Counter(contacts.values()).items() if count > 1}
    assert not several, f"contacts that are there more than once: {several}"
    linked = {one["call_key"]: contacts.get(one["contact_id"]) for one in held["calls"]}
    assert len(linked) == len(held["calls"]), "a call is there twice"
    for state, key, phone in rows.all(
        "SELECT d.state, c.key, c.phone FROM deliveries d JOIN calls c ON c.id = d.call_id"
    ):
        if state == "delivered":
            assert linked.get(key, "missing") == f"+86{str(phone)[-11:]}", (
                f"{key} of {phone}: {linked.get(key)}"
            )
    bare = rows.all("SELECT count(*) FROM deliveries WHERE state = 'parked' AND (reason = '' OR cause = '')")
    assert bare == [(0,)]
    causes = rows.all("SELECT DISTINCT cause FROM deliveries WHERE state = 'parked'")
    remedies = {cause: remedy for _, cause, remedy in rows.all("SELECT * FROM causes")}
    for (cause,) in causes:
        assert "a fault in callbridge" not in cause
        assert remedies.get(cause), f"no remedy for {cause!r}"


def test_there_are_more_than_a_hundred_odd_answers() -> None:
    assert len({each.name for each in ODD}) == len(ODD) > 100


@pytest.mark.parametrize("batches", [False, True], ids=["alone", "batches"])
def test_few_calls_survive_odd_answers(tmp_path: Path, batches: bool) -> None:
    found = run(tmp_path, 12, batches=batches)
    assert found["delivered"] > 3, found


@pytest.mark.long
@pytest.mark.parametrize(("calls", "batches"), [(1400, False), (600, True)], ids=["alone", "batches"])
def test_two_thousand_calls_survive_odd_answers(tmp_path: Path, calls: int, batches: bool) -> None:
    found = run(tmp_path, calls, batches=batches)
    assert found["delivered"] > calls // 2, found
    assert found["odd answers"] > 100, found


@pytest.mark.slow
def test_hundred_thousand_calls_survive_odd_answers(tmp_path: Path) -> None:
    found = run(tmp_path, 100_000)
    print(dict(found))
