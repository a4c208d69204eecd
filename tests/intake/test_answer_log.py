"""What the log and the metrics say of what was answered at the door."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from bridge.intake.answer_log import EVERY, AnswerLog


@pytest.fixture
def told() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


class Timer:
    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, delay: float, call: Callable[[], None]) -> None:
        assert delay == EVERY
        self.waiting.append(call)

    def ring(self) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


def test_a_thousand_wrong_tokens_make_two_lines_a_minute(told: list[MutableMapping[str, Any]]) -> None:
    timer = Timer()
    answers = AnswerLog({"main": (200,)}, timer)
    for number in range(1000):
        answers.refused(404, "wrong token", "", f"192.0.2.{number % 4}")
    assert [line["event"] for line in told] == ["callback.refused"]
    timer.ring()
    assert told[1] == {
        "event": "callback.refused",
        "log_level": "warning",
        "status": 404,
        "reason": "wrong token",
        "source": None,
        "address": "192.0.2.1 ×250, 192.0.2.2 ×250, 192.0.2.3 ×250, 192.0.2.0 ×249",
        "more": 999,
    }
    assert timer.waiting == []
    answers.refused(404, "wrong token", "", "192.0.2.9")
    assert (len(told), len(timer.waiting)) == (3, 1)


def test_every_address_of_a_flood_is_counted_but_few_are_remembered(
    told: list[MutableMapping[str, Any]],
) -> None:
    timer = Timer()
    answers = AnswerLog({}, timer)
    for number in range(5000):
        answers.refused(404, f"reason {number}", "", f"2001:db8::{number:x}")
    timer.ring()
    assert told[1]["more"] == 4999
    assert told[1]["address"].endswith(" and 995 more")
    assert len(told[1]["address"]) < 200


def test_an_operator_sees_that_callbacks_arrive(told: list[MutableMapping[str, Any]]) -> None:
    timer = Timer()
    answers = AnswerLog({"main": (200, 503), "": (404,)}, timer)
    for _ in range(3):
        answers.accepted("main", 200, 2)
    answers.left("main")
    answers.left("main")
    timer.ring()
    accepted = {"event": "callback.accepted", "log_level": "info", "source": "main"}
    left = {"event": "callback.left", "log_level": "info", "source": "main"}
    assert told == [
        accepted | {"records": 2},
        left,
        accepted | {"more": 2, "records": 4},
        left | {"more": 1},
    ]
    assert answers.counts == {("main", 200): 3, ("main", 503): 0, ("", 404): 0}
