"""An account that is ill is asked by one delivery at a time; one that asks nothing finds out nothing."""

from pathlib import Path
from typing import Any

import pytest

from tests.crm.conformance.bench import OTHER_PHONE, bench_of
from tests.crm.conformance.cases import ESPOCRM


@pytest.mark.parametrize(
    ("changes", "state"),
    [({"call_from_type": 3}, "skipped"), ({"mark": "x"}, "delivered")],
    ids=["that is skipped", "that asks"],
)
def test_first_delivery_after_an_outage_lets_the_others_go(
    tmp_path: Path, changes: dict[str, Any], state: str
) -> None:
    with bench_of(tmp_path, ESPOCRM) as one:
        one.server.cut_next(100)
        for number in range(1, 6):
            one.feed(number)
            one.attempt()
        one.feed(6)
        one.attempt()
        assert len(one.server.log()) == 5, "the account is left alone"
        one.server.heal()
        one.clock.pass_by(3600)
        # A live call goes before those that were tried: it is the one that finds out.
        one.feed(6, **changes)
        one.drain()
        assert [one.state(number) for number in range(1, 7)] == [*["delivered"] * 5, state]


def test_delivery_blocked_by_a_lock_does_not_count_as_the_probe(tmp_path: Path) -> None:
    with bench_of(tmp_path, ESPOCRM) as one:
        one.server.lose_next_answer(1)
        one.feed(1)
        one.attempt()
        assert one.state() == "due", "in doubt, it holds the line of its contact"
        one.server.cut_next(100)
        for number in range(2, 6):
            one.feed(number, phone=OTHER_PHONE)
            one.attempt()
        assert one.state() == "due"
        one.feed(6)
        one.attempt()
        one.server.heal()
        one.clock.pass_by(3600)
        one.drain()
        assert {one.state(number) for number in range(1, 7)} == {"delivered"}
        assert len(one.server.contacts()) == 2
