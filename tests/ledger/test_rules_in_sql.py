"""Where one statement changes or counts many deliveries, it does what the pure rules say, in every state."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from bridge.ledger import Window
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.call_finding import calls_by_sn_and_time
from bridge.ledger.sqlite.connection import connect
from bridge.ledger.sqlite.delivery_rows import (
    DeliveryRow,
    add_deliveries,
    change_deliveries,
    deliveries_by_id,
    read_deliveries,
)
from bridge.ledger.sqlite.times import micros
from bridge.lib.iso_times import stamp
from bridge.model.calls import Arrival, Via
from bridge.model.deliveries import Delivery, DeliveryState, Heading, Lane, ParkKind
from bridge.model.delivery_rules import (
    RetryScope,
    before_destination,
    heading,
    is_overdue,
    leased,
    may_retry,
    retried,
)
from bridge.model.key_claims import CallIdentity, same_call
from bridge.record.call_match import KnownCall
from tests.fixtures.ledger_calls import NOW, TO_CRM

HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STATES = [
    (state, kind)
    for state in DeliveryState
    for kind in (ParkKind if state is DeliveryState.PARKED else (None,))
]
ALL = [
    Delivery(
        state,
        wanted,
        NOW - 2 * HOUR,
        owed_at=owed_at,
        due_at=NOW - HOUR if state is DeliveryState.DUE else None,
        tries=2,
        reason="too long",
        cause=cause,
        park_kind=kind,
        held_as=held_as,
        lane=lane,
        called_at=NOW - 9 * HOUR,
    )
    for (state, kind), wanted, owed_at, cause, held_as, lane in itertools.product(
        STATES,
        (0, 2),
        (NOW - 3 * HOUR, NOW - HOUR),
        (None, "answered 422", "answered 422 too_long"),
        (None, DeliveryState.SKIPPED, DeliveryState.PARKED),
        Lane,
    )
]


class Rows:
    """A ledger whose deliveries are those of `ALL`, each of a call of its own."""

    def __init__(self, folder: Path, deliveries: Sequence[Delivery] = ALL) -> None:
        path = folder / "ledger.db"
        self.ledger = SqliteLedger(path, create=True)
        self.connection = connect(path)
        self.connection.execute("BEGIN")
        self.connection.executemany(
            "INSERT INTO calls (id, source, key, revision, first_seen_at) VALUES (?, 'main', ?, 2, 0)",
            [(number, f"call {number}") for number in range(1, len(deliveries) + 1)],
        )
        add_deliveries(self.connection, [(number, "crm", one) for number, one in enumerate(deliveries, 1)])
        self.connection.execute("COMMIT")

    def now(self) -> dict[int, Delivery]:
        """The deliveries as they are, by id."""
        return {row.id: row.delivery for row in read_deliveries(self.connection, "1 = 1")}

    def close(self) -> None:
        self.connection.close()
        self.ledger.close()


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    with closing(Rows(tmp_path)) as made:
        yield made


def test_every_delivery_column_is_read_back_as_inserted_and_as_updated(rows: Rows) -> None:
    ids = range(1, len(ALL) + 1)
    found = deliveries_by_id(rows.connection, ids)
    assert [row.delivery for row in found] == ALL
    other = [
        DeliveryRow(row.id, replace(ALL[-row.id], changed_at=NOW, delivered=1), b"\x93\xa3hub\x80\x90")
        for row in found
    ]
    change_deliveries(rows.connection, other)
    assert deliveries_by_id(rows.connection, ids) == other


def meant(rows: Rows, scope: RetryScope) -> set[int]:
    return {number for number, one in rows.now().items() if may_retry(one, scope)}


def test_retry_of_all_selects_what_the_rule_allows(rows: Rows) -> None:
    taken, before = meant(rows, RetryScope.ALL), rows.now()
    assert rows.ledger.retry([], NOW) == len(taken) > 0
    assert rows.now() == {
        number: retried(one, NOW) if number in taken else one for number, one in before.items()
    }


def test_retry_by_id_selects_what_the_rule_allows(rows: Rows) -> None:
    taken, before = meant(rows, RetryScope.ID), rows.now()
    assert rows.ledger.retry(list(before), NOW) == len(taken) > 0
    assert rows.now() == {
        number: retried(one, NOW) if number in taken else one for number, one in before.items()
    }


@pytest.mark.parametrize(
    ("cause", "whole"), [("answered 422", True), ("TOO_long", False), ("too long", False)]
)
def test_retry_by_cause_selects_what_the_rule_allows(rows: Rows, cause: str, whole: bool) -> None:
    """The reason of all holds the last words; what was tried again since has no cause any more."""
    scope = RetryScope.CAUSE if whole else RetryScope.WORDS
    taken = [
        one
        for one in rows.now().values()
        if may_retry(one, scope)
        and one.cause is not None
        and (one.cause == cause if whole else cause == "too long" or "too_long" in one.cause)
    ]
    groups = rows.ledger.retriable((), cause)
    assert sum(group.count for group in groups) == len(taken) > 0
    assert rows.ledger.retry([], NOW, cause=cause) == len(taken)


def test_lease_in_sql_counts_a_try_like_the_rule(tmp_path: Path) -> None:
    due = [one for one in ALL if one.state is DeliveryState.DUE and one.wanted]
    with closing(Rows(tmp_path, due)) as rows:
        before = rows.now()
        assert len(rows.ledger.lease(["crm"], ["main"], NOW, 10_000)) == len(due)
        assert rows.now() == {number: leased(one, NOW) for number, one in before.items()}


def test_demotion_selects_what_the_rule_calls_overdue(rows: Rows) -> None:
    before = rows.now()
    overdue = {number for number, one in before.items() if is_overdue(one, NOW - 2 * HOUR)}
    assert rows.ledger.demote(["crm"], NOW - 2 * HOUR) == len(overdue) > 0
    assert rows.now() == {
        number: replace(one, lane=Lane.RETRY) if number in overdue else one for number, one in before.items()
    }


def test_balance_in_sql_counts_like_the_rule(tmp_path: Path) -> None:
    states: list[DeliveryState | None] = [*DeliveryState, None]
    every = dict(enumerate(itertools.product(states, (False, True)), 1))
    with closing(Rows(tmp_path, [])) as rows:
        rows.connection.execute("BEGIN")
        for number, (state, unjudged) in every.items():
            rows.connection.execute(
                "INSERT INTO calls (id, source, key, revision, first_seen_at) VALUES (?, 'main', ?, 2, ?)",
                (number, f"call {number}", micros(NOW + number * HOUR)),
            )
            if unjudged:
                rows.connection.execute(
                    "INSERT INTO receipts (call_id, via, received_at) VALUES (?, 'list', 0)", (number,)
                )
            if state is not None:
                add_deliveries(rows.connection, [(number, "crm", Delivery(state, 2, NOW))])
        rows.connection.execute("COMMIT")
        for number, (state, unjudged) in every.items():
            window = Window(NOW + number * HOUR, NOW + (number + 1) * HOUR)
            counted = {**{str(one): 0 for one in Heading}, heading(state, unjudged=unjudged): 1}
            assert asdict(rows.ledger.balance("crm", ["main"], window)) == {"ledger": 1, **counted}


def test_older_calls_are_skipped_for_a_new_destination_like_the_rule(tmp_path: Path) -> None:
    columns = "INSERT INTO calls (id, source, key, revision, first_seen_at, started_at, created_at)"
    day, far = 86_400_000_000, 200_000_000_000
    with closing(Rows(tmp_path, [])) as rows:
        calls: dict[int, tuple[int | None, ...]] = {
            1: (day, day + 5_000_000, None),
            2: (day, None, day + 7_000_000),
            3: (day, None, None),
            4: (day, day + far, None),
        }
        rows.connection.execute("BEGIN")
        for number, times in calls.items():
            values = (number, f"call {number}", number, *times)
            rows.connection.execute(f"{columns} VALUES (?, 'main', ?, ?, ?, ?, ?)", values)
        rows.connection.execute(f"{columns} VALUES (5, 'main', 'unjudged', 0, 0, NULL, NULL)")
        rows.connection.execute("INSERT INTO receipts (call_id, via, received_at) VALUES (5, 'list', 0)")
        rows.connection.execute("COMMIT")
        rows.ledger.start_destinations(TO_CRM, NOW)
        called = [EPOCH + timedelta(days=1, seconds=5), EPOCH + timedelta(days=1, seconds=7), None]
        assert sorted(rows.now().values(), key=lambda one: one.wanted) == [
            before_destination(number, at, NOW)
            for number, at in enumerate([*called, EPOCH + timedelta(days=1)], 1)
        ]


def test_calls_of_one_sn_and_time_are_matched_like_the_rule(tmp_path: Path) -> None:
    """`created_at` counts only where one of the two lacks `started_at`."""
    sns, times = ("s1", "another s1", None), (None, NOW, NOW + HOUR)
    every = list(itertools.product(sns, times, times))
    with closing(Rows(tmp_path, [])) as rows:
        rows.connection.execute("BEGIN")
        rows.connection.executemany(
            "INSERT INTO calls (id, source, key, revision, first_seen_at, sn, started_at, created_at)"
            " VALUES (?, 'main', ?, 2, 0, ?, ?, ?)",
            [
                (number, f"call {number}", sn, micros(started_at), micros(created_at))
                for number, (sn, started_at, created_at) in enumerate(every, 1)
            ],
        )
        rows.connection.execute("COMMIT")
        for sn, started_at, created_at in every:
            arrival = Arrival(
                "main",
                Via.LIST,
                NOW,
                b"{}",
                sn=sn,
                started_at=None if started_at is None else stamp(started_at),
                created_at=None if created_at is None else stamp(created_at),
            )
            own = CallIdentity("main", "", sn, started_at, created_at)
            same = [
                KnownCall(number, f"call {number}")
                for number, other in enumerate(every, 1)
                if same_call(own, CallIdentity("main", "", *other))
            ]
            assert calls_by_sn_and_time(rows.connection, arrival, nameless=False) == same
            assert calls_by_sn_and_time(rows.connection, arrival, nameless=True) == []
