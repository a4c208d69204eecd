"""What is asked often of a large ledger scans no table: looked up in SQLite's own query plans."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridge.ledger import Window
from bridge.ledger.sqlite import (
    SqliteLedger,
    balances,
    call_history,
    leasing,
    quarantine,
    status_counts,
)
from bridge.ledger.sqlite.filing import file_arrivals
from bridge.ledger.sqlite.payloads import Payloads
from bridge.lib.iso_times import stamp
from bridge.model.calls import Arrival, Quarantined, Via
from bridge.model.deliveries import DeliveryState
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    arrival,
    filed_all,
    stray,
)


class Noting(sqlite3.Connection):
    """Remembers what it was asked."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.asked: list[tuple[str, Any]] = []

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        self.asked.append((sql, values))
        return super().execute(sql, values)


def plans(path: Path, look: Callable[[sqlite3.Connection], object]) -> list[str]:
    """How SQLite goes about a look."""
    with closing(sqlite3.connect(path, factory=Noting)) as connection:
        connection.row_factory = sqlite3.Row
        look(connection)
        return [
            row[3]
            for sql, values in list(connection.asked)
            for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        ]


WHOLE = re.compile(
    r"SCAN (calls|call_names|receipts|payloads|deliveries|quarantine|attempts|[cdr])\b(?!.*INDEX)"
)
OPEN = [state for state in DeliveryState if state is not DeliveryState.DELIVERED]


def whole_tables(path: Path, look: Callable[[sqlite3.Connection], object]) -> list[str]:
    found = plans(path, look)
    assert found
    return [line for line in found if WHOLE.match(line)]


def of_state(state: DeliveryState) -> Callable[[sqlite3.Connection], object]:
    return lambda c: call_history.list_deliveries(c, state, None, 50)


def counted(connection: sqlite3.Connection) -> object:
    return status_counts.counts(connection, NOW)


WINDOW = Window(NOW, NOW + MINUTE)
LOOKS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "counts": counted,
    "calls list": lambda c: call_history.list_calls(c, [], 50),
    "calls list WORD": lambda c: call_history.list_calls(c, ["a", "+8613800000000"], 50),
    "quarantine list": lambda c: quarantine.list_quarantine(c, "waiting", 50),
    "the first call": lambda c: balances.first_call_at(c, None),
    "a window of a source": lambda c: balances.source_counts(c, "main", WINDOW),
    "release_leases": leasing.release_leases,
} | {f"deliveries list --state {state}": of_state(state) for state in OPEN}


@pytest.mark.parametrize("name", LOOKS)
def test_no_query_scans_a_whole_table(ledger: SqliteLedger, ledger_path: Path, name: str) -> None:
    filed_all(ledger, [arrival("a", at=NOW), stray(Quarantined.AMBIGUOUS, b"x")])
    assert whole_tables(ledger_path, LOOKS[name]) == []


def test_call_is_found_through_the_index_on_the_end_of_its_sn(
    ledger: SqliteLedger, ledger_path: Path
) -> None:
    filed_all(ledger, [arrival("a", at=NOW)])
    nameless = Arrival("main", Via.CALLBACK, NOW, b"{}", sn="account|4216aedb", started_at=stamp(NOW))

    def file(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        file_arrivals(connection, Payloads(), [nameless])
        connection.execute("ROLLBACK")

    for look in (file, LOOKS["calls list WORD"]):
        assert any("calls_sn (sn_end=?)" in line for line in plans(ledger_path, look))


def test_calls_are_listed_without_sorting_them_all(ledger: SqliteLedger, ledger_path: Path) -> None:
    filed_all(ledger, [arrival("a", at=NOW)])
    newest = plans(ledger_path, LOOKS["calls list"]) + plans(ledger_path, LOOKS["quarantine list"])
    assert [line for line in newest if "ORDER BY" in line] == []


def test_balance_of_a_short_window_scans_no_table(ledger: SqliteLedger, ledger_path: Path) -> None:
    filed_all(ledger, [arrival("a", at=NOW - MINUTE), arrival("b", at=NOW)])

    def look(window: Window) -> Callable[[sqlite3.Connection], object]:
        return lambda c: balances.balance(c, "crm", ["main"], window)

    assert whole_tables(ledger_path, look(WINDOW)) == []
    # One that concerns every call goes through them in the table's order.
    for window in (Window(), Window(NOW - MINUTE)):
        assert whole_tables(ledger_path, look(window)) == ["SCAN c"]
        with closing(sqlite3.connect(ledger_path)) as connection:
            connection.row_factory = sqlite3.Row
            assert balances.balance(connection, "crm", ["main"], window).under_way == 2
