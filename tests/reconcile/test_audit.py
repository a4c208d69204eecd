"""The balance: every call under exactly one heading, here, at the platform and at the CRM."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.lib.iso_times import stamp
from bridge.reconcile.counts import SHORT_LISTS_FROM
from bridge.sandbox.platform_faults import Disturbances
from bridge.source import Page
from tests.fixtures.list_walk import row, spread
from tests.fixtures.reconciliation_bench import (
    HOUR,
    RULES,
    ReconciliationBench,
    calls,
    edited_later,
    reconciliation_bench,
)
from tests.fixtures.served_platform import NOW

SINCE = stamp(NOW - 4 * HOUR)


@pytest.fixture
def world(ledger_path: Path) -> Iterator[ReconciliationBench]:
    with reconciliation_bench(ledger_path) as world:
        yield world


def counted(balance: dict[str, Any]) -> dict[str, int]:
    names = ("platform", "ledger", "quarantined", "erased", "platform_only", "ledger_only")
    return {name: balance[name] for name in names if balance[name]}


def test_call_only_on_the_platform_unbalances_until_filed(world: ReconciliationBench) -> None:
    records = calls(30)
    world.push(*records[:20])
    world.list_now(*records)
    before = world.receipts()
    found = world.audit(since=SINCE)
    assert counted(found) == {"platform": 30, "ledger": 20, "platform_only": 10}
    assert not found["balanced"]
    assert sorted(found["ids"]["platform_only"]) == sorted(one["uuid"] for one in records[20:])
    assert all("reconcile" in found["explanations"][key] for key in found["ids"]["platform_only"])
    assert world.receipts() == before
    assert world.covered() is None
    world.reconcile()
    found = world.audit(since=SINCE)
    assert counted(found) == {"platform": 30, "ledger": 30}
    assert found["balanced"]


def test_audit_covers_from_the_first_call_until_settle_before_now(world: ReconciliationBench) -> None:
    world.rules = replace(RULES, settle=HOUR)
    inside, young = row(1, NOW - 5 * HOUR), row(2, NOW - HOUR / 2)
    before = row(3, NOW - 9 * HOUR)
    world.push(inside, young)
    world.list_now(inside, young, before)
    found = world.audit()
    assert (found["since"], found["until"]) == (stamp(NOW - 5 * HOUR), stamp(NOW - HOUR))
    assert counted(found) == {"platform": 1, "ledger": 1}
    assert found["balanced"]
    assert counted(world.audit(until=stamp(NOW)))["platform"] == 2
    assert counted(world.audit(since=stamp(NOW - HOUR))) == {}


def test_audit_of_an_empty_ledger_covers_a_first_runs_window(world: ReconciliationBench) -> None:
    world.list_now(row(1, NOW - HOUR), row(2, NOW - 9 * HOUR))
    found = world.audit()
    assert counted(found) == {"platform": 1, "platform_only": 1}
    assert found["since"] == stamp(NOW - 3 * HOUR)


def test_call_only_in_the_ledger_is_explained(world: ReconciliationBench) -> None:
    records = calls(30)
    gone, redialled, deleted, timeless = records[:4]
    world.push(
        redialled,
        *records[4:],
        gone,
        deleted | {"is_deleted": "1"},
        timeless | {"created_at": "", "is_deleted": 0},
    )
    world.list_now(*records[4:])
    again = calls(1, seed=9)[0] | {"sn": redialled["sn"]}
    world.push(again)
    world.list_now(again)
    found = world.audit(since=SINCE, until=stamp(NOW + HOUR))
    assert found["balanced"]
    assert counted(found) == {"platform": 27, "ledger": 31, "ledger_only": 4}
    assert found["explanations"].pop(timeless["uuid"]).startswith("when it was created is not known here")
    assert found["explanations"] == {
        gone["uuid"]: "not listed",
        redialled["uuid"]: f"redialled: its sn now belongs to call {again['uuid']}",
        deleted["uuid"]: "deleted there",
    }


def test_call_without_creation_counts_in_the_window_that_lists_it(world: ReconciliationBench) -> None:
    first, timeless = row(1, NOW - 3 * HOUR), row(2, NOW - 2 * HOUR)
    world.push(first, timeless | {"created_at": None})
    world.list_now(first, timeless)
    found = world.audit(until=stamp(NOW - HOUR))
    assert counted(found) == {"platform": 2, "ledger": 2}
    assert found["balanced"]


def list_strangely(world: ReconciliationBench, **records: dict[str, Any]) -> None:
    """Rows that have no UUID to be kept by."""
    for key, record in records.items():
        world.platform._rows.by_uuid[key] = record
        world.platform._rows.order.append((record["created_at"], key))
    world.platform._rows.order.sort()


def test_listed_calls_in_quarantine_are_counted_as_quarantined(world: ReconciliationBench) -> None:
    first, second, third = calls(3)
    world.push(first, second)
    nobody = third | {"uuid": "", "base_info": None, "sn": ""}
    world.list_now(first, second)
    list_strangely(
        world, both=third | {"uuid": first["uuid"], "base_info": second["uuid"] + "out"}, nobody=nobody
    )
    assert counted(world.audit(since=SINCE)) == {"platform": 4, "ledger": 2, "platform_only": 2}
    world.reconcile()
    # Edited there since: it is the same call that waits here.
    world.platform._rows.by_uuid["nobody"] = edited_later(nobody)
    found = world.audit(since=SINCE)
    assert counted(found) == {"platform": 4, "ledger": 2, "quarantined": 2}
    assert found["balanced"]
    (dropped,) = [
        one.id for one in world.ledger.list_quarantine("waiting", 9) if one.reason == "unidentified"
    ]
    world.ledger.drop([dropped])
    found = world.audit(since=SINCE)
    assert counted(found) == {"platform": 4, "ledger": 2, "quarantined": 1, "platform_only": 1}
    assert "dropped" in found["explanations"][found["ids"]["platform_only"][0]]


def test_callbacks_during_an_audit_do_not_unbalance_it(world: ReconciliationBench) -> None:
    listed, unlisted, known = row(1, NOW - 2 * HOUR), row(2, NOW - 2 * HOUR), row(3, NOW - 3 * HOUR)
    world.push(known)
    world.clock.now = NOW + HOUR
    world.list_now(known, listed)

    def push_once(page: Page) -> None:
        if any(listed["uuid"].encode() in one for one in page.rows):
            world.clock.now += HOUR / 3600
            world.push(listed, unlisted)

    world.meanwhile = push_once
    found = world.audit()
    assert counted(found) == {"platform": 2, "ledger": 3, "ledger_only": 1}
    assert found["balanced"]
    assert "while the list was walked" in found["explanations"][unlisted["uuid"]]


@pytest.mark.parametrize(
    "faults",
    [
        Disturbances(rows_move=0.4, page_cap=30, order="newest"),
        Disturbances(unlisted=0.1, total="text", empty_pages=0.1),
        Disturbances(dialogue_as_text=0.5, types_as_text=0.5, unknown_fields=0.5, end="inclusive"),
        Disturbances(total="absent", start="exclusive", end="exclusive", order="newest"),
    ],
    ids=["moves", "totals", "spelling", "ends"],
)
def test_a_hostile_list_balances_once_it_is_reconciled(
    world: ReconciliationBench, faults: Disturbances
) -> None:
    records = calls(120)
    world.push(*records[:100])
    world.list_now(*records)
    world.platform.disturbances = faults
    world.reconcile(since=SINCE)
    # What moves by itself is for the next reconciliation.
    world.platform.disturbances = msgspec.structs.replace(faults, rows_move=0.0)
    late = {uuid for uuid in world.platform.records() if not world.ledger.list_calls([uuid], 1)}
    found = world.audit(since=SINCE, until=stamp(NOW))
    assert set(found["ids"]["platform_only"]) == late
    assert found["balanced"] is not bool(late)


def test_audit_of_a_list_that_keeps_changing_is_incomplete(world: ReconciliationBench) -> None:
    records = spread(200, HOUR / 4)
    world.push(*records)
    world.list_now(*records)
    world.platform.disturbances = Disturbances(short_pages=1.0, order="any", total_moves=1.0)
    found = world.audit(since=SINCE)
    assert not found["complete"]
    assert not found["balanced"]
    assert "passes" in found["reasons"][0]


def test_audit_of_a_suddenly_short_list_is_not_balanced(world: ReconciliationBench) -> None:
    records = calls(2 * SHORT_LISTS_FROM)
    world.push(*records)
    world.list_now(*records[: SHORT_LISTS_FROM - 1])
    found = world.audit(until=stamp(NOW))
    assert (found["platform_only"], found["balanced"]) == (0, False)
    assert f"{SHORT_LISTS_FROM - 1} of the {2 * SHORT_LISTS_FROM}" in found["reasons"][0]


@pytest.mark.parametrize(("left", "share"), [(4, ""), (5, "94%"), (2 * SHORT_LISTS_FROM, "50%")])
def test_balanced_list_that_lacks_many_calls_is_warned_about(
    world: ReconciliationBench, left: int, share: str
) -> None:
    records = calls(4 * SHORT_LISTS_FROM)
    world.push(*records)
    world.list_now(*records[left:])
    found = world.audit(until=stamp(NOW))
    assert found["balanced"]
    assert sum(found["ledger_only_because"].values()) == left
    told = f"the list shows {4 * SHORT_LISTS_FROM - left} of the {4 * SHORT_LISTS_FROM} calls here ({share})"
    assert found.get("warnings", []) == ([told] if share else [])


def test_users_listed_by_no_login_are_named(ledger_path: Path) -> None:
    ours, theirs = spread(10, HOUR), spread(5, HOUR, seed=3, user="branch", start=100)
    with reconciliation_bench(ledger_path, [*ours, *theirs]) as world:
        world.push(*ours, *theirs)
        found = world.audit()
        assert found["users_unlisted"] == ["SYSUSER|branch"]
        assert found["balanced"]
        world.users = ("demo", "branch")
        assert counted(world.audit()) == {"platform": 15, "ledger": 15}
