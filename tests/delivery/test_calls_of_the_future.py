"""A call dated far in the future pins no contact; what one did under an earlier release can be put right."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.daemon.operator_jobs import OperatorJobs
from bridge.ledger.queries import CallsAhead
from bridge.model.call_order import event_text
from bridge.model.calls import Quarantined, Via
from bridge.record.arrival import arrival_of
from tests.fixtures.delivery_simulation import PHONES, ZONE, DeliverySimulation, body_of
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN

SEEN = datetime(2026, 11, 22, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
FAR = ("2099-01-01 00:00:00", "9999-12-31 23:59:59", "2026-11-23 16:10:00", 4_070_908_800)
"""Times that no call of the world's day can have."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DeliverySimulation]:
    with closing(DeliverySimulation(tmp_path)) as made:
        yield made


def tell(world: DeliverySimulation, number: int, grade: str, via: Via = Via.CALLBACK, **fields: Any) -> None:
    """A call of the same customer, delivered at once, a minute after the one before."""
    world.clock.pass_by(60)
    body = body_of(number, number, PHONES[0], status=grade, mark=grade, talktimes=1, source="t")
    world.record(body | {"started_at": local(world.clock.now), "updated_at": None} | fields, via)
    world.drain()


def local(at: datetime) -> str:
    return f"{at.astimezone(ZONE):%Y-%m-%d %H:%M:%S}"


def graded(world: DeliverySimulation) -> tuple[str, str]:
    contact = world.contact_of(f"+86{PHONES[0]}")
    assert contact is not None
    return contact["grade"], contact["remark"]


def flags_of(world: DeliverySimulation, call_id: int) -> list[str | None]:
    return [receipt.flags for receipt in world.ledger.show_call(call_id).receipts]


@pytest.mark.parametrize(
    ("far", "via"), [*((far, Via.CALLBACK) for far in FAR), (FAR[0], Via.LIST), (FAR[2], Via.LIST)]
)
def test_call_dated_in_the_future_blocks_no_later_update(
    world: DeliverySimulation, far: object, via: Via
) -> None:
    tell(world, 1, "A", via, started_at=far)
    assert graded(world) == ("A", "A")
    assert flags_of(world, 1) == ["started_ahead"]
    assert world.ledger.counts().ahead == CallsAhead(1, [world.ledger.show_call(1).key])
    tell(world, 2, "B", via)
    assert graded(world) == ("B", "B")
    assert flags_of(world, 2) == [None]
    # Filled late: it was before both.
    tell(world, 3, "C", via, started_at=local(world.clock.now - HOUR))
    assert graded(world) == ("B", "B")


def test_revision_of_a_future_call_keeps_the_order_of_its_first_receipt(
    world: DeliverySimulation,
) -> None:
    tell(world, 1, "A", started_at=None, created_at=FAR[0])
    tell(world, 2, "B")
    tell(world, 1, "C", started_at=FAR[0], created_at=FAR[0], updated_at=local(world.clock.now))
    assert graded(world) == ("B", "B")
    assert flags_of(world, 1) == ["created_ahead", "started_ahead created_ahead"]
    # Mended by the platform: the call is as new as it says.
    world.clock.pass_by(120)
    tell(world, 1, "A", started_at=local(world.clock.now), updated_at=local(world.clock.now))
    assert graded(world) == ("A", "A")
    assert world.ledger.counts().ahead == CallsAhead(0, [])


def test_calls_without_a_time_or_of_the_epoch_are_the_oldest(world: DeliverySimulation) -> None:
    tell(world, 2, "B")
    for number, odd in enumerate(("1970-01-01 08:00:00", "0000-00-00 00:00:00", "-0001-11-30", ""), 3):
        tell(world, number, "C", started_at=odd, created_at=odd)
    assert graded(world) == ("B", "B")
    assert world.ledger.counts().ahead.count == 0


def test_released_record_of_the_future_is_ordered_by_its_arrival(world: DeliverySimulation) -> None:
    body = body_of(1, 1, PHONES[0], status="A", mark="A", talktimes=1) | {"started_at": FAR[0]}
    arrival = arrival_of(MAIN, Via.CALLBACK, json.dumps(body).encode(), world.clock())
    waiting = msgspec.structs.replace(arrival, trouble=Quarantined.UNIDENTIFIED, detail="for now")
    filed_all(world.ledger, [waiting])
    tell(world, 2, "B")
    world.clock.pass_by(3600)
    operator = OperatorJobs(world.ledger, {}, None, {"main": MAIN}, dict, print, print)  # type: ignore[arg-type]
    assert operator.quarantine_retry({"ids": []}, world.clock())["released"] == 1
    world.drain()
    assert graded(world) == ("B", "B")
    assert flags_of(world, 2) == ["started_ahead"]


# -- what an earlier release believed --------------------------------------------------
def believe(folder: Path, event: str) -> None:
    """Every mark of the ledger is of this event, as an earlier release would have written it."""
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        rows = connection.execute("SELECT key, memory FROM crm_objects WHERE memory IS NOT NULL").fetchall()
        for key, memory in rows:
            links, events = msgspec.msgpack.decode(memory, strict=False)
            told = {field: digest for fields in events.values() for field, digest in fields.items()}
            packed = msgspec.msgpack.encode([links, {event: told}])
            connection.execute("UPDATE crm_objects SET memory = ? WHERE key = ?", (packed, key))
        connection.commit()


def test_mark_in_the_future_gives_way_to_every_later_call(world: DeliverySimulation) -> None:
    tell(world, 1, "A", started_at=FAR[0])
    key = world.ledger.show_call(1).key
    believe(world.folder, event_text(datetime(2098, 12, 31, 16, tzinfo=UTC), key))
    tell(world, 3, "C", started_at=local(world.clock.now - HOUR))
    assert graded(world) == ("A", "A"), "the call of the future came after this one was"
    tell(world, 2, "B")
    assert graded(world) == ("B", "B")


def test_mark_in_the_future_of_an_unknown_call_gives_way_to_all(world: DeliverySimulation) -> None:
    tell(world, 1, "A")
    believe(world.folder, event_text(datetime(2098, 12, 31, 16, tzinfo=UTC), "unknown"))
    tell(world, 2, "B")
    assert graded(world) == ("B", "B")


def test_replay_restores_values_that_a_future_call_kept_out(world: DeliverySimulation) -> None:
    tell(world, 1, "A", started_at=FAR[0])
    tell(world, 2, "B")
    key = world.ledger.show_call(1).key
    # As if the call of today had been delivered, and had changed nothing.
    contact = world.contact_of(f"+86{PHONES[0]}")
    assert contact is not None
    world.crm.carry_out("PATCH", ["contacts", contact["id"]], {}, {"grade": "A", "remark": "A"})
    believe(world.folder, event_text(datetime(2098, 12, 31, 16, tzinfo=UTC), key))
    world.replay(force=True)
    world.drain()
    assert graded(world)[0] == "B"


def test_marks_hold_while_the_clock_is_behind(world: DeliverySimulation) -> None:
    tell(world, 1, "A")
    world.clock.now -= timedelta(days=400)
    tell(world, 2, "B", started_at=local(SEEN - HOUR))
    assert graded(world) == ("A", "A")
