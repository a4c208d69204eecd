"""A platform that answers at random from a hundred odd answers: runs end, and what it showed is here."""

import random
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.odd_list import LOST, TAKEN, Odd, OddList, OddListBench, odd_list_bench
from tests.fixtures.reconciliation_bench import HOUR
from tests.fixtures.served_platform import NOW, made

SINCE = "2026-11-22T00:00:00Z"
MOST_REQUESTS = 6_000
"""Of one run: 64 pages that fail for good, each asked for 16 times by two requests, as is one beside it."""
ODD: dict[str, Odd] = LOST | TAKEN


def run(world: OddListBench, listed: OddList) -> str:
    """One run to its end; how it ended."""
    before = len(listed.asked)
    job_id = world.ledger.request_job("reconcile", {"source": "main", "since": SINCE}, world.clock())
    assert world.reconciler().carry_out()
    world.judge()
    ended = world.ledger.job(job_id)
    assert ended.state in ("done", "failed")
    assert "fault in callbridge" not in str(ended.result)
    assert len(listed.asked) - before <= MOST_REQUESTS
    if ended.state == "failed":
        return "failed"
    return "complete" if ended.result["complete"] else "incomplete"


def known(world: OddListBench) -> set[str]:
    found = world.ledger.calls_between("main", NOW - 24 * HOUR, NOW + HOUR)
    return {call.key for call in world.ledger.unlisted(sorted(found), ())}


def hold(path: Path, odd: dict[str, Odd], often: float, seed: int, rounds: int) -> tuple[OddList, list[str]]:
    """Runs against such a list, then one against a good one."""
    records = made(30, seed)
    with odd_list_bench(path, records) as (world, listed):
        world.rules = replace(world.rules, page_size=8)
        listed.odd, listed.often = odd, often
        listed.chance = random.Random(seed)  # noqa: S311 -- picks answers
        ends = []
        for _ in range(rounds):
            ends.append(run(world, listed))
            assert listed.shown <= known(world)
        listed.often = 0.0
        assert run(world, listed) == "complete"
        assert known(world) >= {record["uuid"] for record in records}
        world.assert_agrees()
        audit = world.audit(since=SINCE)
        assert (audit["platform_only"], audit["complete"]) == (0, True)
        assert audit["ledger"] == len(records)
    return listed, ends


def test_random_answers_lose_no_row_that_was_shown(tmp_path: Path) -> None:
    happened, ends = set[str](), set[str]()
    for seed, often in enumerate((0.3, 0.8)):
        listed, ended = hold(tmp_path / f"{seed}.db", ODD, often, seed, rounds=3)
        happened |= listed.happened.keys()
        ends |= set(ended)
    assert len(ODD) >= 100
    assert len(happened) > 50
    assert ends >= {"complete", "failed"}


@pytest.mark.long
@pytest.mark.parametrize("name", TAKEN)
def test_readable_odd_page_loses_no_row(tmp_path: Path, name: str) -> None:
    listed, ends = hold(tmp_path / "ledger.db", {name: TAKEN[name]}, 1.0, 3, rounds=1)
    assert ends in (["complete"], ["incomplete"])
    assert len(listed.shown) == 30


@pytest.mark.long
@pytest.mark.parametrize("name", LOST)
def test_run_ends_whatever_the_list_always_answers(tmp_path: Path, name: str) -> None:
    _, ends = hold(tmp_path / "ledger.db", {name: LOST[name]}, 1.0, 3, rounds=2)
    assert "complete" not in ends or name in ("status 201", "no data")


@pytest.mark.slow
def test_long_random_answers_lose_no_row_that_was_shown(tmp_path: Path) -> None:
    peaks = []
    for seed in range(100):
        hold(tmp_path / f"{seed}.db", ODD, 0.05 * (seed % 20), seed, rounds=10)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[-1] < peaks[20] + 60 * 1024
