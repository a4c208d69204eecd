"""What has happened already is told the ledger until it is written."""

import threading

import pytest

from bridge.ledger.retrying import until_answered
from bridge.lib.errors import LedgerBusy


class Ledger:
    """Busy for so many questions."""

    def __init__(self, busy_for: int) -> None:
        self.asked = 0
        self._busy_for = busy_for

    def ask(self) -> str:
        self.asked += 1
        if self.asked <= self._busy_for:
            raise LedgerBusy(f"disk full {self.asked}")
        return "written"


def test_busy_ledger_is_retried_until_it_answers() -> None:
    ledger, refusals = Ledger(2), list[str]()
    answer = until_answered(
        ledger.ask, threading.Event(), busy=lambda error: refusals.append(str(error)), every=0.0
    )
    assert (answer, ledger.asked, refusals) == ("written", 3, ["disk full 1", "disk full 2"])


def test_stopping_daemon_tries_once_more_and_gives_up() -> None:
    ledger, refusals, stop = Ledger(2), list[str](), threading.Event()
    stop.set()
    with pytest.raises(LedgerBusy, match="disk full 1"):
        until_answered(ledger.ask, stop, busy=lambda error: refusals.append(str(error)))
    assert (ledger.asked, refusals) == (1, ["disk full 1"])


def test_other_error_is_passed_on() -> None:
    def ask() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        until_answered(ask, threading.Event(), busy=lambda _: None)
