"""Reconciliation: what the list has and the ledger lacks is filed, once, and nothing else happens."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from bridge.ledger import Window
from bridge.lib.documents import document_of
from bridge.lib.errors import SourceRefused
from bridge.lib.iso_times import stamp
from bridge.reconcile.counts import SHORT_LISTS_FROM
from bridge.reconcile.reconciler import NOT_KNOWN, Interrupted
from bridge.sandbox.platform_faults import Disturbances
from bridge.sandbox.records import Record
from bridge.source import Page
from tests.fixtures.list_walk import ListedSource, row, spread
from tests.fixtures.reconciliation_bench import (
    HOUR,
    NOTHING,
    RULES,
    ReconciliationBench,
    calls,
    edited_later,
    reconciliation_bench,
)
from tests.fixtures.served_platform import NOW

MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(ledger_path: Path) -> Iterator[ReconciliationBench]:
    with reconciliation_bench(ledger_path) as world:
        yield world


def shown(result: dict[str, object], *names: str) -> dict[str, object]:
    return {name: result[name] for name in names}


def gap_rate(world: ReconciliationBench) -> float:
    gaps = world.ledger.counts().lists["main"].gaps
    assert gaps is not None
    return gaps.rate


def put_as(world: ReconciliationBench, key: str, record: Record) -> None:
    """A row of the list that is known to the list by another key than its uuid."""
    world.platform._rows.by_uuid[key] = record
    world.platform._rows.order.append((record["created_at"], key))
    world.platform._rows.order.sort()


# -- the outcomes ---------------------------------------------------------------------
def test_missing_call_is_filed_and_edited_call_is_revised(world: ReconciliationBench) -> None:
    records = calls(60)
    pushed, lost, edited = records[:50], records[50:], records[:3]
    world.push(*pushed)
    world.list_now(*records)
    world.list_now(*(edited_later(one) for one in edited))
    result = world.reconcile()
    assert {name: result[name] for name in ("seen", *NOTHING)} == NOTHING | {
        "seen": 60,
        "missing": 10,
        "revised": 3,
        "filled": 10,
    }
    assert result["complete"]
    assert sorted(result["ids"]["missing"]) == sorted(one["uuid"] for one in lost)
    assert sorted(result["ids"]["revised"]) == sorted(one["uuid"] for one in edited)
    world.assert_agrees()
    assert world.ledger.balance("crm", ["main"], Window()).under_way == 60


def test_a_second_run_finds_nothing_and_files_nothing(world: ReconciliationBench) -> None:
    records = calls(40)
    world.push(*records[:30])
    world.list_now(*records)
    world.reconcile()
    before = world.receipts()
    again = world.reconcile()
    assert shown(again, *NOTHING) == NOTHING
    assert again["matched"] == 40
    assert world.receipts() == before


def test_record_in_another_spelling_is_matched(world: ReconciliationBench) -> None:
    records = calls(40)
    world.push(*records)
    world.list_now(*records)
    world.platform.disturbances = Disturbances(
        dialogue_as_text=0.7, types_as_text=0.7, fields_missing=0.1, unknown_fields=0.5
    )
    first = world.reconcile()
    assert shown(first, *NOTHING) == NOTHING
    assert first["matched"] == 40
    assert world.receipts().get("revision", 0) == 0
    assert min(world.platform.happened[name] for name in ("dialogue_as_text", "types_as_text")) > 5


def test_list_behind_the_callbacks_is_stale_and_changes_nothing(world: ReconciliationBench) -> None:
    (record,) = calls(1)
    world.list_now(record)
    world.push(record, edited_later(record))
    for _ in range(2):
        result = world.reconcile()
        assert shown(result, *NOTHING) == NOTHING | {"stale": 1}
    assert world.state(record["uuid"])["mark"] != record["mark"]
    assert "stale" not in world.receipts()


def test_a_newer_stamp_on_the_same_state_is_kept(world: ReconciliationBench) -> None:
    (record,) = calls(1)
    world.push(record)
    later = record | {"updated_at": "2026-11-22 15:59:59"}
    world.list_now(later)
    assert world.reconcile()["matched"] == 1
    assert world.receipts() == {"new": 1, "duplicate": 1}
    between = record | {"updated_at": "2026-11-22 15:59:57", "mark": "too late"}
    world.push(between)
    assert world.receipts() == {"new": 1, "duplicate": 1, "stale": 1}
    assert world.reconcile()["matched"] == 1


def test_list_wins_over_callbacks_at_equal_stamps(world: ReconciliationBench) -> None:
    (record,) = calls(1)
    world.push(record)
    world.list_now(record | {"mark": "as the list says"})
    assert world.reconcile()["revised"] == 1
    assert world.state(record["uuid"])["mark"] == "as the list says"
    world.push(record)
    assert world.state(record["uuid"])["mark"] == "as the list says"
    assert world.reconcile()["matched"] == 1


def test_rows_of_no_single_call_are_conflicts_and_kept_once(world: ReconciliationBench) -> None:
    first, second, third = calls(3)
    world.push(first, second)
    both = third | {"uuid": first["uuid"], "base_info": second["uuid"] + "out"}
    nobody = third | {"uuid": "", "base_info": None, "sn": ""}
    world.list_now(first, second)
    put_as(world, "both", both)
    put_as(world, "nobody", nobody)
    world.platform.disturbances = Disturbances(types_as_text=0.8)
    for _ in range(3):
        result = world.reconcile()
        assert shown(result, "matched", "conflicting", "filled") == {
            "matched": 2,
            "conflicting": 2,
            "filled": 0,
        }
        assert len(result["ids"]["conflicting"]) == 2
        assert all(result["explanations"][key] for key in result["ids"]["conflicting"])
    waiting = world.ledger.list_quarantine("waiting", 10)
    assert sorted(one.reason for one in waiting) == ["identity_conflict", "unidentified"]
    assert {one.arrivals for one in waiting} == {1}


def test_row_with_names_of_two_calls_belongs_to_neither(world: ReconciliationBench) -> None:
    first, second, third = calls(3)
    second |= {"base_info": "a code of its own"}
    world.push(first, second)
    world.list_now(first, second)
    both = third | {"uuid": first["uuid"], "base_info": second["base_info"]}
    put_as(world, "both", both)
    for _ in range(2):
        result = world.reconcile()
        assert shown(result, "seen", "matched", "conflicting") == {"seen": 3, "matched": 2, "conflicting": 1}
        found = world.audit(since=stamp(NOW - 4 * HOUR))
        assert (found["platform"], found["ledger"], found["quarantined"]) == (3, 2, 1)
        assert found["balanced"]
    (waiting,) = world.ledger.list_quarantine("waiting", 10)
    assert waiting.arrivals == 1


def test_ambiguous_row_is_kept_once_however_it_is_spelt(world: ReconciliationBench) -> None:
    first, second = calls(2)
    second |= {name: first[name] for name in ("sn", "started_at", "created_at")}
    world.push(first, second)
    world.list_now(first, second)
    put_as(world, "either", first | {"uuid": "", "base_info": "", "id": 77})
    world.platform.disturbances = Disturbances(types_as_text=0.8, unknown_fields=0.5)
    for _ in range(4):
        result = world.reconcile()
        assert shown(result, "matched", "conflicting", "filled") == {
            "matched": 2,
            "conflicting": 1,
            "filled": 0,
        }
    (waiting,) = world.ledger.list_quarantine("waiting", 10)
    assert (waiting.reason, waiting.arrivals) == ("ambiguous", 1)


def test_second_row_of_a_call_without_names_is_no_news(world: ReconciliationBench) -> None:
    (record,) = calls(1)
    world.list_now(record)
    put_as(world, "twin", record | {"uuid": "", "base_info": ""})
    world.reconcile()
    for _ in range(2):
        assert shown(world.reconcile(), *NOTHING) == NOTHING
    assert world.state(record["uuid"])["uuid"] == record["uuid"]


def test_row_without_creation_time_is_counted_once(world: ReconciliationBench) -> None:
    first, last, undated = calls(3)
    undated |= {"created_at": None}
    world.rules = replace(RULES, page_size=1)
    world.list_now(first, last)

    class Always(ListedSource):
        def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
            page = super().page(since, until, index, size)
            if index or page.total is None:
                return page
            return Page([*page.rows, msgspec.json.encode(undated)], page.total + 1)

    world.log_in = lambda: [Always(world.platform)]  # type: ignore[method-assign]
    for _ in range(2):
        assert world.reconcile()["seen"] == 3


def test_conflict_caused_by_a_page_does_not_affect_the_healthy_calls(world: ReconciliationBench) -> None:
    first, second, third = calls(3)
    second |= {"base_info": "a code of its own"}
    world.list_now(first, second)
    put_as(world, "both", third | {"uuid": first["uuid"], "base_info": second["base_info"]})
    result = world.reconcile()
    assert shown(result, "seen", "missing", "filled", "conflicting") == {
        "seen": 3,
        "missing": 2,
        "filled": 2,
        "conflicting": 1,
    }
    assert set(result["ids"]["missing"]) == {first["uuid"], second["uuid"]}


def test_nameless_call_gets_its_name_from_the_list(world: ReconciliationBench) -> None:
    (record,) = calls(1)
    world.push(record | {"uuid": "", "base_info": ""})
    world.list_now(record)
    result = world.reconcile()
    assert shown(result, "missing", "revised") == {"missing": 0, "revised": 1}
    assert len(world.ledger.list_calls([record["uuid"]], 5)) == 1
    assert world.reconcile()["matched"] == 1


def test_dry_run_reports_the_same_and_changes_nothing(world: ReconciliationBench) -> None:
    records = calls(30)
    world.push(*records[:20])
    world.list_now(*records, edited_later(records[0]))
    before = world.receipts()
    dry = world.reconcile(dry_run=True)
    assert shown(dry, "missing", "revised", "matched", "filled") == {
        "missing": 10,
        "revised": 1,
        "matched": 19,
        "filled": 0,
    }
    assert world.receipts() == before
    assert world.covered() is None
    wet = world.reconcile()
    assert shown(wet, "missing", "revised", "matched") == shown(dry, "missing", "revised", "matched")


# -- what happens meanwhile ---------------------------------------------------------------
def test_call_changed_since_the_page_request_waits_for_the_next_run(world: ReconciliationBench) -> None:
    (record, other) = calls(2)
    world.push(record, other)
    world.list_now(record | {"mark": "old"}, other)
    newer = record | {"mark": "newest"}

    def push_once(page: Page) -> None:
        if page.rows:
            world.push(newer)

    world.meanwhile = push_once
    result = world.reconcile()
    assert shown(result, "deferred", "revised", "matched") == {"deferred": 1, "revised": 0, "matched": 1}
    assert world.state(record["uuid"])["mark"] == "newest"
    world.meanwhile = lambda _page: None
    world.list_now(newer)
    assert shown(world.reconcile(), *NOTHING) == NOTHING


def test_missing_call_whose_callback_arrives_meanwhile_is_filed_once(world: ReconciliationBench) -> None:
    (record,) = calls(1)
    world.list_now(record)

    def push_once(page: Page) -> None:
        if page.rows:
            world.push(record)

    world.meanwhile = push_once
    result = world.reconcile()
    assert shown(result, "deferred", "missing", "filled") == {"deferred": 1, "missing": 0, "filled": 0}
    assert world.receipts()["new"] == 1


# -- gaps ---------------------------------------------------------------------------------
def test_late_callback_takes_its_call_out_of_the_gaps(world: ReconciliationBench) -> None:
    records = calls(10)
    world.push(*records[:6])
    world.list_now(*records)
    world.reconcile()
    assert world.gaps() == 4
    world.push(records[7])
    assert world.gaps() == 3
    coverage = world.ledger.coverage("main", NOW - 24 * HOUR, NOW)
    assert (coverage.calls, coverage.gaps) == (10, 3)


def test_counts_include_the_coverage_of_each_list(world: ReconciliationBench) -> None:
    assert world.ledger.counts().lists == {}
    records = spread(10, HOUR)
    world.push(*records[:6])
    world.list_now(*records)
    world.audit()
    world.reconcile(dry_run=True)
    assert world.ledger.counts().lists == {}, "what files nothing is no reconciliation"
    world.reconcile()
    world.audit()
    (main,) = world.ledger.counts().lists.values()
    assert main.covered_until == NOW
    assert main.last is not None
    assert main.last.ended_at == NOW
    assert shown(document_of(main.last), "state", "complete", "missing", "error") == {
        "state": "done",
        "complete": True,
        "missing": 4,
        "error": None,
    }
    assert shown(document_of(main.gaps), "calls", "only_listed", "rate") == {
        "calls": 10,
        "only_listed": 4,
        "rate": 0.4,
    }
    world.push(records[7])
    assert gap_rate(world) == 0.3
    world.clock.now = NOW + 30 * HOUR
    world.reconcile(trigger="short")
    assert gap_rate(world) == 0.0, "that was another day"


def test_failed_run_is_the_last_run_and_adds_no_coverage(world: ReconciliationBench) -> None:
    def refuse(_page: Page) -> None:
        raise SourceRefused("it says no")

    world.meanwhile = refuse
    world.ledger.request_job("reconcile", {"source": "main"}, NOW)
    assert world.reconciler().carry_out()
    (main,) = world.ledger.counts().lists.values()
    assert shown(document_of(main.last), "state", "error", "complete") == {
        "state": "failed",
        "error": "it says no",
        "complete": None,
    }
    assert (main.covered_until, main.gaps) == (None, None)


# -- guard and incompleteness ---------------------------------------------------------------
def test_suddenly_short_list_fills_gaps_but_adds_no_coverage(world: ReconciliationBench) -> None:
    records = calls(4 * SHORT_LISTS_FROM)
    world.push(*records[: 3 * SHORT_LISTS_FROM])
    listed = records[2 * SHORT_LISTS_FROM + SHORT_LISTS_FROM // 2 :]
    world.list_now(*listed)
    result = world.reconcile()
    assert shown(result, "missing", "filled", "complete") == {
        "missing": SHORT_LISTS_FROM,
        "filled": SHORT_LISTS_FROM,
        "complete": False,
    }
    assert f"of the {3 * SHORT_LISTS_FROM} calls that the ledger has" in result["reasons"][0]
    assert world.covered() is None
    assert result["ours_only"] == 2 * SHORT_LISTS_FROM + SHORT_LISTS_FROM // 2


def test_small_difference_is_accepted_and_explained(world: ReconciliationBench) -> None:
    records = calls(30)
    gone, redialled, deleted = records[:3]
    world.push(*(records[1:2] + records[3:]), gone, deleted | {"is_deleted": "1"})
    world.list_now(*records[3:])
    again = calls(1, seed=9)[0] | {"sn": redialled["sn"]}
    world.list_now(again)
    result = world.reconcile()
    assert result["complete"]
    assert {key: result["explanations"][key] for key in result["ids"]["ours_only"]} == {
        gone["uuid"]: "not listed",
        redialled["uuid"]: f"redialled: its sn now belongs to call {again['uuid']}",
        deleted["uuid"]: "deleted there",
    }


def test_users_listed_by_no_login_are_named(ledger_path: Path) -> None:
    ours = spread(10, HOUR, user="demo")
    theirs = spread(5, HOUR, seed=3, user="branch", start=100)
    with reconciliation_bench(ledger_path, [*ours, *theirs]) as world:
        world.push(*ours, *theirs)
        result = world.reconcile()
        assert result["users_unlisted"] == ["SYSUSER|branch"]
        assert set(result["explanations"].values()) == {
            "belongs to user SYSUSER|branch, whom no login's list shows"
        }
        world.users = ("demo", "branch")
        result = world.reconcile()
        assert (result["users_unlisted"], result["ours_only"], result["matched"]) == ([], 0, 15)


def test_window_that_keeps_changing_adds_no_coverage(world: ReconciliationBench) -> None:
    world.list_now(*spread(400, HOUR))
    world.platform.disturbances = Disturbances(short_pages=1.0, order="any", total_moves=1.0)
    result = world.reconcile()
    assert not result["complete"]
    assert "passes" in result["reasons"][0]
    assert world.covered() is None
    world.platform.disturbances = Disturbances()
    assert world.reconcile()["complete"]
    assert world.covered() == NOW


# -- what is covered afterwards --------------------------------------------------------------
def test_next_run_covers_five_hours_without_the_platform(world: ReconciliationBench) -> None:
    assert world.reconcile()["complete"]
    assert world.covered() == NOW
    world.clock.now = NOW + 5 * HOUR
    lost = [row(number, NOW + number * 10 * MINUTE) for number in range(1, 29)]
    world.list_now(*lost)
    result = world.reconcile(trigger="short")
    assert (result["missing"], result["complete"]) == (28, True)
    assert world.covered() == NOW + 5 * HOUR


def test_coverage_never_goes_back(world: ReconciliationBench) -> None:
    world.reconcile()
    result = world.reconcile(since=stamp(NOW - 20 * HOUR), until=stamp(NOW - 10 * HOUR))
    assert result["complete"]
    assert world.covered() == NOW


# -- interruptions ----------------------------------------------------------------------------
def test_interrupted_run_resumes_after_its_last_finished_window(ledger_path: Path) -> None:
    records = spread(600, 3 * HOUR, bursts=False)
    with reconciliation_bench(ledger_path, records) as world:
        job_id = world.ledger.request_job("reconcile", {"source": "main"}, NOW)
        finished: set[tuple[str, str]] = set()
        for most in (6, 12, None):
            pages = iter(range(10_000))

            def stop(_: Page, most: int | None = most, pages: Iterator[int] = pages) -> None:
                if next(pages) == most:
                    world.stop.set()

            world.meanwhile = stop
            carried_out = world.reconciler().carry_out()
            asked = {(stamp(one.since), stamp(one.until)) for one in world.asked()}
            assert not asked & finished
            finished |= {
                (stamp(since), stamp(until)) for since, until, _ in world.ledger.finished_windows(job_id)
            }
            assert carried_out is (most is None)
            world.stop.clear()
            world.ledger.release_leases()
        world.judge()
        result = world.ledger.job(job_id).result
        # What was filed of a window before it was interrupted matches when that is walked again.
        assert (result["seen"], result["missing"] + result["matched"], result["complete"]) == (600, 600, True)
        assert result["filled"] == result["missing"] > 400
        assert world.receipts() == {"new": 600}
        assert world.receipts() == {"new": 600}
        assert not world.ledger.finished_windows(job_id)
        world.assert_agrees()


def test_run_killed_while_filing_files_nothing_twice(ledger_path: Path) -> None:
    records = spread(30, HOUR, bursts=False)
    with reconciliation_bench(ledger_path, records) as world:
        job_id = world.ledger.request_job("reconcile", {"source": "main"}, NOW)

        def die() -> None:
            raise Interrupted

        assert not world.reconciler(filed=die).carry_out()
        assert not any(result["seen"] for *_, result in world.ledger.finished_windows(job_id))
        world.judge()
        assert world.receipts() == {"new": 30}
        world.ledger.release_leases()
        assert world.reconciler().carry_out()
        world.judge()
        assert world.receipts() == {"new": 30}
        world.assert_agrees()


def test_a_cancelled_run_ends_between_two_pages(world: ReconciliationBench) -> None:
    world.list_now(*spread(300, 3 * HOUR))
    job_id = world.ledger.request_job("reconcile", {"source": "main"}, NOW)
    world.meanwhile = lambda _page: world.ledger.cancel_job(job_id, NOW)
    assert world.reconciler().carry_out()
    run = world.ledger.job(job_id)
    assert (run.state, len(world.asked())) == ("cancelled", 1)
    assert world.covered() is None
    waiting = world.ledger.request_job("reconcile", {"source": "main"}, NOW)
    world.ledger.cancel_job(waiting, NOW)
    assert world.ledger.job(waiting).state == "cancelled"
    assert not world.reconciler().carry_out()


def test_run_for_an_unknown_source_fails_at_once(world: ReconciliationBench) -> None:
    for args in ({"source": "nobody"}, {}, ["no", "object"]):
        job_id = world.ledger.request_job("reconcile", args, NOW)  # type: ignore[arg-type]
        assert world.reconciler().carry_out()
        run = world.ledger.job(job_id)
        assert (run.state, run.result["error"]) == ("failed", NOT_KNOWN)
