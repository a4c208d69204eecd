"""Maintenance packs records small while nothing presses at the door, and a little even while it does."""

import threading
from contextlib import closing
from pathlib import Path

from bridge.daemon.maintenance import Maintenance
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.quickly_packed import ROWS_IN_STEP
from tests.fixtures.ledger_calls import NOW, arrival, filed_all, uuid
from tests.fixtures.ledger_rows import rows


class PressedDoor:
    """Callbacks press for so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def pressed(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


def packed(path: Path) -> int:
    return int(rows(path, "SELECT count FROM counters WHERE kind = 'packed'")[0][0])


def test_packing_waits_between_its_steps_until_no_callback_presses(ledger_path: Path) -> None:
    count, door = ROWS_IN_STEP + 1, PressedDoor(3)
    with closing(SqliteLedger(ledger_path, create=True)) as ledger:
        filed_all(ledger, [arrival(uuid(number)) for number in range(count)])
        Maintenance(ledger, pressed=door.pressed).maintain(NOW)
    assert door.looks < 0
    assert packed(ledger_path) == count


def test_packing_ends_when_the_daemon_stops(ledger_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with closing(SqliteLedger(ledger_path, create=True)) as ledger:
        filed_all(ledger, [arrival(uuid(1))])
        Maintenance(ledger, stop=stop).maintain(NOW)
    assert packed(ledger_path) == 0
