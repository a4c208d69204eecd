"""One poisonous record does not pause an account for ever: what only it suffers is its own fault."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.delivery.breaker import FAULTS_IN_A_ROW
from bridge.delivery.poison_records import (
    FAULTS,
    FAULTS_TO_BLAME,
    LOST_ANSWERS_TO_BLAME,
    FaultCount,
    Successes,
    count_fault,
    faults_of,
    is_to_blame,
    room_for,
)
from bridge.lib.errors import DeliveryError, InDoubt, Transient
from bridge.model.sync_progress import Running, SyncMethod, SyncProgress, to_stored
from tests.fixtures.scripted_crm import ScriptedCrmBench, plain_connector

POISON = "15899770600"
Answer = Callable[[], httpx.Response]
ANSWERS: dict[str, Answer] = {
    "500": lambda: httpx.Response(500),
    "502 page": lambda: httpx.Response(502, text="<html>Bad Gateway</html>"),
    "403 page": lambda: httpx.Response(403, text="<html>blocked: SELECT</html>"),
    "413 page": lambda: httpx.Response(413, text="<html>Request Entity Too Large</html>"),
    "200 page": lambda: httpx.Response(200, text="<b>Fatal error</b>"),
}


@pytest.fixture(params=[False, True], ids=["alone", "batches"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ScriptedCrmBench]:
    with closing(ScriptedCrmBench(tmp_path, plain_connector(batches=request.param))) as made:
        yield made


def poisonous(answer: Answer, method: str = "POST") -> Callable[[httpx.Request], httpx.Response | None]:
    def told(request: httpx.Request) -> httpx.Response | None:
        holds = POISON in request.content.decode() or POISON in str(request.url)
        creates = request.method == method and not request.url.path.endswith("search")
        return answer() if holds and creates else None

    return told


def flow(world: ScriptedCrmBench, first: int, last: int, seconds: float = 20) -> None:
    """Good calls keep coming, and time passes."""
    for number in range(first, last):
        world.feed(number, f"158997{number:05}")
        for _ in range(30):
            world.deliver()
            if not world.tries[-1]:
                break
        world.clock.pass_by(seconds)


@pytest.mark.parametrize("name", ANSWERS)
def test_record_that_alone_causes_faults_is_parked(world: ScriptedCrmBench, name: str) -> None:
    world.answer = poisonous(ANSWERS[name])
    world.feed(0, POISON)
    flow(world, 1, 16)
    states = {row["key"][:8]: row["state"] for row in world.rows()}
    assert states.pop("00000000") == "parked"
    assert set(states.values()) == {"delivered"}
    row = world.row(0)
    assert "3 times, while others were delivered in between: this record is to blame" in row["reason"]
    assert "fails at this one: look into its log" in row["reason"]
    assert row["cause"].endswith("of this record only")
    asked = len([1 for method, path in world.requests if method == "POST" and path == "/contacts"])
    assert asked < 16 + 25, "a few tries, not hundreds"


def test_internal_fault_after_a_request_parks_without_resending(world: ScriptedCrmBench) -> None:
    secret = world.destination.account.secrets["token"]

    def trip(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST" and not request.url.path.endswith("search"):
            raise RuntimeError(f"planted, after Bearer {secret} was sent")
        return None

    world.answer = trip
    world.feed(1, POISON)
    world.drain()
    row = world.row(1)
    assert (row["state"], row["cause"]) == ("parked", "a fault in callbridge")
    assert "planted" in row["reason"]
    assert secret not in row["reason"]
    assert len([path for method, path in world.requests if method == "POST" and "search" not in path]) == 1


def test_nothing_is_parked_while_the_account_is_down(world: ScriptedCrmBench) -> None:
    world.answer = lambda _request: httpx.Response(500)
    for number in range(8):
        world.feed(number, f"158997{number:05}")
    for _ in range(60):
        world.deliver()
        world.clock.pass_by(200)
    assert {row["state"] for row in world.rows()} == {"due"}
    world.answer = lambda _request: None
    world.drain()
    assert {row["state"] for row in world.rows()} == {"delivered"}


def test_corrected_record_is_delivered_and_so_is_a_retried_one(world: ScriptedCrmBench) -> None:
    world.answer = poisonous(ANSWERS["500"])
    world.feed(0, POISON)
    flow(world, 1, 16)
    assert world.row(0)["state"] == "parked"
    world.ledger.retry([world.row(0)["id"]], world.clock())
    flow(world, 40, 42)
    assert world.row(0)["state"] == "due", "it is really tried again, and not parked at its first failure"
    world.answer = lambda _request: None
    flow(world, 42, 50, seconds=400)
    assert world.row(0)["state"] == "delivered"
    assert len({one["phone"] for one in world.contents()["contacts"]}) == 26
    assert len(world.contents()["contacts"]) == 26


def test_poisonous_record_does_not_pause_the_account(tmp_path: Path) -> None:
    with closing(ScriptedCrmBench(tmp_path, plain_connector())) as world:
        world.answer = poisonous(ANSWERS["500"])
        flow(world, 1, 3)
        world.feed(0, POISON)
        paused = 0
        for number in range(3, 14):
            flow(world, number, number + 1, seconds=10)
            paused += world.budget.paused_for(world.clock.now) > 0
        assert world.row(0)["state"] == "parked"
        assert paused == 0


def test_many_poisonous_records_are_parked_and_good_ones_delivered(world: ScriptedCrmBench) -> None:
    def told(request: httpx.Request) -> httpx.Response | None:
        bad = any(f"9977{each:04}" in request.content.decode() for each in range(0, 20, 4))
        return httpx.Response(500) if bad and request.method == "POST" else None

    world.answer = told
    for number in range(20):
        world.feed(number, f"1589977{number:04}")
    # Others must succeed in between: they keep coming.
    for number in range(20, 60):
        flow(world, number, number + 1, seconds=60)
        if not [row for row in world.rows() if row["state"] == "due"]:
            break
    by_state: dict[str, list[int]] = {}
    for row in world.rows():
        by_state.setdefault(row["state"], []).append(int(row["key"][:8], 16))
    assert sorted(by_state["parked"]) == list(range(0, 20, 4)), by_state
    assert set(by_state) == {"parked", "delivered"}


def test_counted_faults_survive_a_restart(tmp_path: Path) -> None:
    with closing(ScriptedCrmBench(tmp_path, plain_connector())) as world:
        world.answer = poisonous(ANSWERS["500"])
        world.feed(0, POISON)
        flow(world, 1, 3, seconds=40)
        (lease,) = [row for row in world.rows() if row["state"] == "due"]
        (kept,) = world.ledger.lease(["crm"], ["main"], world.clock.now.replace(year=2027), 1)
        assert kept.delivery_id == lease["id"]
        found = faults_of(kept.progress, kept.revision)
        assert found is not None
        assert found.count == 2
        assert faults_of(kept.progress, kept.revision + 1) is None, "a newer revision may be without fault"


# The rule


def fault(status: int = 500, together: int = 1, **more: Any) -> DeliveryError:
    error = Transient("x", blame="account", **more)
    error.status, error.together = status, together
    return error


def test_a_fault_counts_only_while_others_are_delivered() -> None:
    successes = Successes()
    faults = None
    for _ in range(10):
        faults = count_fault(faults, fault(), "c", 1, successes)
    assert faults is not None
    assert faults.count == 1
    for expected in (2, 3):
        successes.note()
        faults = count_fault(faults, fault(), "c", 1, successes)
        assert faults is not None
        assert faults.count == expected
    assert is_to_blame(faults, fault())
    assert not is_to_blame(faults, fault(together=3)), "in a batch it may be another"
    again = count_fault(faults, fault(), "another", 1, successes)
    assert again is not None
    assert again.count == 1, "another fault begins anew"


def test_fault_does_not_count_while_others_also_need_retries() -> None:
    successes = Successes()
    faults = count_fault(None, fault(), "c", 1, successes)
    for recovered, expected in ((True, 1), (False, 2), (True, 2)):
        for _ in range(3):
            successes.note()
        successes.note(recovered=recovered)
        successes.note(recovered=recovered)
        faults = count_fault(faults, fault(), "c", 1, successes)
        assert faults is not None
        assert faults.count == expected


@pytest.mark.long
def test_account_failing_every_second_request_parks_nothing(world: ScriptedCrmBench) -> None:
    chance = random.Random(3)  # noqa: S311 -- a test's dice

    def ill(_request: httpx.Request) -> httpx.Response | None:
        world.clock.pass_by(0.05)
        return httpx.Response(500, json={"error": {"code": "ill"}}) if chance.random() < 0.5 else None

    world.answer = ill
    for number in range(1, 61):
        world.feed(number, f"158{number:08}")
        world.deliver(4)
        world.clock.pass_by(1)
    assert not [row for row in world.rows() if row["state"] == "parked"]
    world.answer = lambda _request: None
    world.drain()
    assert {row["state"] for row in world.rows()} == {"delivered"}


def test_deliveries_after_a_restart_count_as_successes() -> None:
    faults = count_fault(None, fault(), "c", 1, Successes())
    after = Successes()
    assert count_fault(faults, fault(), "c", 1, after) == faults
    after.note()
    counted = count_fault(faults, fault(), "c", 1, after)
    assert counted is not None
    assert counted.count == 2


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (fault(500), FAULTS_TO_BLAME),
        (fault(0), 0),
        (fault(0, doubtful=True), LOST_ANSWERS_TO_BLAME),
        (InDoubt("x", blame="account"), LOST_ANSWERS_TO_BLAME),
        (Transient("x", blame="limit"), 0),
        (Transient("x", blame="credentials"), 0),
        (Transient("x"), 0),
    ],
)
def test_which_faults_can_be_blamed_on_a_record(error: DeliveryError, most: int) -> None:
    successes, faults = Successes(), None
    for number in range(1, 10):
        successes.note()
        faults = count_fault(faults, error, "c", 1, successes)
        expected = 0 < most <= number
        assert is_to_blame(faults, error) is expected
        if expected:
            break


def test_record_that_spoiled_a_batch_is_sent_with_few_then_alone() -> None:
    successes, faults = Successes(), None
    rooms = [room_for(faults, 100)]
    for _ in range(3):
        faults = count_fault(faults, fault(together=50), "c", 1, successes)
        rooms.append(room_for(faults, 100))
    assert rooms == [100, 10, 1, 1]


def test_counted_faults_are_kept_as_progress() -> None:
    faults = FaultCount("c", 3, "p", count=2, seen=7, together=1, reason="why")
    kept = {FAULTS: faults.kept(), "contact": SyncProgress(Running(SyncMethod.CREATE))}
    json.dumps(dict(to_stored(kept[FAULTS]).captured))
    assert faults_of(kept, 3) == faults
    assert faults_of(kept, 4) is None
    assert faults_of({}, 3) is None
    assert FAULTS_IN_A_ROW > FAULTS_TO_BLAME
