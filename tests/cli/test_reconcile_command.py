"""`callbridge reconcile` from outside: with a daemon and without one, killed, and against a hostile list."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from bridge.ledger import open_ledger
from bridge.sandbox.platform import ACCESS_SECRET
from bridge.sandbox.platform_faults import Disturbances
from bridge.sandbox.records import PLATFORM_ZONE, later_edit
from tests.fixtures.daemon_process import DaemonProcess, wait_until, write_config
from tests.fixtures.deployment import Deployment, deployed, empty_ledger, made

pytestmark = pytest.mark.long

EVERY = (
    *(
        "session_dies_every",
        "bad_gateways",
        "cut_connections",
        "page_cap",
        "empty_pages",
        "total",
    ),
    *("rows_inserted", "rows_deleted"),
    *("dialogue_as_text", "types_as_text", "fields_missing", "unknown_fields"),
)
SECOND = timedelta(seconds=1)
Window = tuple[datetime, datetime]

HOSTILE = Disturbances(
    session_dies_every=3,
    bad_gateways=0.05,
    cut_connections=0.04,
    page_cap=120,
    total="text",
    unlisted=0.02,
    empty_pages=0.03,
    dialogue_as_text=0.4,
    types_as_text=0.4,
    fields_missing=0.03,
    unknown_fields=0.3,
    rows_move=0.2,
    order="newest",
    end="inclusive",
)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path) as both:
        yield both


def test_command_works_by_itself_without_a_daemon(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.add(made(60))
    dry = both.reconcile("--dry-run")
    assert (dry["missing"], dry["filled"], dry["complete"]) == (60, 0, True)
    first = both.reconcile()
    assert {name: first[name] for name in ("seen", "missing", "filled", "conflicting")} == {
        "seen": 60,
        "missing": 60,
        "filled": 60,
        "conflicting": 0,
    }
    assert first["sources"]["main"]["filled"] == 60
    both.assert_agrees()
    again = both.reconcile()
    assert (again["matched"], again["missing"], again["filled"]) == (60, 0, 0)


def test_daemon_takes_the_job_within_a_second(both: Deployment) -> None:
    daemon = both.daemon()
    try:
        both.platform.callback_url = daemon.callback_url
        both.platform.push_batch(40, lost=0.25)
        edited = both.platform.edit(0.1)
        result = both.reconcile()
        assert (result["missing"], result["filled"], result["complete"]) == (10, 10, True)
        lost = set(result["sources"]["main"]["ids"]["missing"])
        assert result["revised"] == len(set(edited) - lost)
        wait_until(
            lambda: not daemon.count("SELECT count(*) FROM receipts WHERE verdict IS NULL"), "verdicts"
        )
        both.assert_agrees()
        settled = "SELECT count(*) FROM deliveries WHERE state IN ('due', 'leased')"
        wait_until(lambda: not daemon.count(settled), "all are delivered")
        before = both.requests_at_crm()
        again = both.reconcile()
        assert (again["matched"], again["filled"], again["revised"]) == (40, 0, 0)
        assert both.requests_at_crm() == before
    finally:
        daemon.stop()


def test_unreachable_platform_exits_3(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.list.disturbances = Disturbances(down=True)
    done = both.run("reconcile", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert "answers 503" in done.stderr
    assert ACCESS_SECRET not in done.stderr


def test_conflicting_rows_exit_1(both: Deployment) -> None:
    empty_ledger(both)
    first, second = made(2)
    both.platform.add([first, second | {"base_info": first["uuid"] + "out"}])
    found = both.reconcile(code=1)
    assert (found["missing"], found["conflicting"], found["complete"]) == (1, 1, True)


def test_source_without_a_list_is_a_usage_error(both: Deployment) -> None:
    write_config(both.folder, both.crm_url)
    done = both.run("reconcile")
    assert done.returncode == 2
    assert "[sources.main.api]" in done.stderr
    assert both.run("reconcile", "--source", "nobody").returncode == 2


def test_window_that_ends_before_it_begins_is_a_usage_error(both: Deployment) -> None:
    empty_ledger(both)
    for command in ("reconcile", "audit", "replay"):
        done = both.run(command, "--since", "2026-11-21", "--until", "2026-11-20")
        assert (done.returncode, "is not before --until" in done.stderr) == (2, True), done.stderr
    assert not both.asked()


def begun(both: Deployment, *args: str) -> subprocess.Popen[str]:
    """A command that is under way, at a list that takes its time."""
    before = len(both.asked())
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "reconcile", "--since", "1d", "--json", *args],
        cwd=both.folder,
        env=both.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(both.asked()) > before + 8, "it is under way")
    return process


@pytest.mark.parametrize(("choice", "state"), [("leave", "requested"), ("cancel", "cancelled")])
def test_ctrl_c_leaves_or_cancels_the_run_as_chosen(both: Deployment, choice: str, state: str) -> None:
    empty_ledger(both)
    both.platform.add(made(3000))
    both.platform.list.disturbances = Disturbances(page_cap=60)
    process = begun(both, "--on-interrupt", choice)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (3, "")
    said = {"leave": "run 1 is left", "cancel": "run 1 is cancelled; what was filed stays"}[choice]
    assert said in stderr
    finished = windows_of(both.folder) if choice == "leave" else []
    before = len(both.asked())
    result = both.reconcile()
    assert (result["seen"], result["complete"]) == (3000, True)
    assert asked_again(both, before, finished) == []
    ledger = open_ledger(both.folder / "ledger.db", read_only=True)
    first = ledger.job(1).state
    ledger.close()
    assert first == {"requested": "done"}.get(state, state)
    assert_all_there_once(both)


def test_second_command_waits_for_the_first_and_says_so(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.add(made(3000))
    both.platform.list.disturbances = Disturbances(page_cap=15)
    first = begun(both)
    second = both.run("reconcile", "--since", "2d", "--json")
    stdout, _ = first.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "source main: run 1 (reconcile, asked for at " in second.stderr
    assert "comes first" in second.stderr
    assert json.loads(stdout)["filled"] == 3000
    assert (json.loads(second.stdout)["filled"], json.loads(second.stdout)["matched"]) == (0, 3000)


def test_command_killed_twice_resumes_without_repeating_windows(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.add(made(3000))
    both.platform.list.disturbances = Disturbances(page_cap=60)
    command = [sys.executable, "-m", "bridge", "reconcile", "--since", "1d", "--json"]
    finished: list[Window] = []
    for _ in range(2):
        before = len(both.asked())
        process = subprocess.Popen(
            command,
            cwd=both.folder,
            env=both.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda before=before: len(both.asked()) > before + 14, "it is under way")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = went_on(both, before, finished)
    before = len(both.asked())
    third = both.reconcile()
    assert asked_again(both, before, finished) == []
    assert third["complete"]
    assert third["seen"] == third["filled"] == 3000
    assert_all_there_once(both)


def test_daemon_killed_twice_resumes_without_duplicates(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.add(made(3000))
    both.platform.list.disturbances = Disturbances(page_cap=60)
    finished: list[Window] = []
    for _ in range(2):
        before = len(both.asked())
        daemon = DaemonProcess(both.config, both.secrets)
        wait_until(lambda before=before: len(both.asked()) > before + 14, "it is under way")  # type: ignore[misc]
        daemon.kill()
        finished = went_on(both, before, finished)
    before = len(both.asked())
    daemon = both.daemon()
    try:
        assert asked_again(both, before, finished) == []
        assert daemon.count("SELECT count(*) FROM runs") == 1, "the third goes on with the first one's run"
        assert daemon.count("SELECT json_extract(result, '$.filled') FROM runs") == 3000
        judged = "SELECT count(*) FROM receipts WHERE verdict IS NULL"
        wait_until(lambda: not daemon.count(judged), "verdicts")
    finally:
        daemon.stop()
    assert_all_there_once(both)


@pytest.mark.parametrize("kill", [True, False])
def test_restarted_daemon_takes_the_run_over_from_the_command(both: Deployment, kill: bool) -> None:
    empty_ledger(both)
    daemon = both.daemon()
    both.platform.add(made(3000))
    both.platform.list.disturbances = Disturbances(page_cap=8)
    with begun(both) as command:
        if kill:
            daemon.kill()
        else:
            assert daemon.stop() == 0
        before = len(both.asked())
        wait_until(lambda: len(both.asked()) > before + 8, "the command goes on by itself")
        daemon = DaemonProcess(both.config, both.secrets)
        try:
            assert command.poll() is None
            told, _ = command.communicate(timeout=60)
            judged = "SELECT count(*) FROM receipts WHERE verdict IS NULL"
            wait_until(lambda: not daemon.count(judged), "verdicts")
        finally:
            assert daemon.stop() == 0
    assert (command.returncode, json.loads(told)["seen"], json.loads(told)["complete"]) == (0, 3000, True)
    assert_all_there_once(both)


def went_on(both: Deployment, before: int, finished: Sequence[Window]) -> list[Window]:
    """The windows that are finished now: more than before, and none was asked for twice."""
    assert asked_again(both, before, finished) == []
    more = windows_of(both.folder)
    assert len(more) > len(finished)
    return more


def asked_again(both: Deployment, before: int, finished: Sequence[Window]) -> list[Window]:
    """What was asked for since, by the platform's log, and reaches into a window that was finished."""
    asked = [
        (local(one["start"]) + SECOND, local(one["end"]) - SECOND)
        for one in both.asked()[before:]
        if "start" in one
    ]
    assert asked
    return [
        (since, until)
        for since, until in asked
        if any(since < end and start < until for start, end in finished)
    ]


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PLATFORM_ZONE)


def windows_of(folder: Path) -> list[Window]:
    """The finished windows of the one run there is."""
    ledger = open_ledger(folder / "ledger.db", read_only=True)
    found = [(since, until) for since, until, _ in ledger.finished_windows(1)]
    ledger.close()
    return found


def assert_all_there_once(both: Deployment) -> None:
    both.assert_agrees()
    ledger = open_ledger(both.folder / "ledger.db", read_only=True)
    assert ledger.counts().receipts == {"new": 3000}
    assert ledger.counts().calls == {"main": 3000}
    ledger.close()


def hostile_round(both: Deployment, count: int, page_cap: int) -> None:
    daemon = both.daemon()
    try:
        both.platform.callback_url = daemon.callback_url
        both.platform.push_batch(count, seed=5, lost=0.15)
        known = {one["uuid"] for one in both.platform.records()["records"] if one["acknowledged"]}
        chance = random.Random(3)  # noqa: S311 -- sample data
        listed = both.platform.list.records()
        edited = chance.sample(sorted(listed), count // 20)
        now = datetime.now(UTC)
        both.platform.add(later_edit(listed[uuid], chance, now) for uuid in edited)
        both.platform.list.disturbances = msgspec.structs.replace(HOSTILE, page_cap=page_cap)
        result = both.reconcile()
        happened = both.platform.list.happened
        # What the list never shows, it does not show at the second time either.
        both.platform.list.disturbances = Disturbances(fields_missing=HOSTILE.fields_missing)
        wait_until(
            lambda: not daemon.count("SELECT count(*) FROM receipts WHERE verdict IS NULL"), "verdicts"
        )
        assert not both.assert_agrees()
        assert result["complete"], result["sources"]["main"]["reasons"]
        assert result["revised"] == len(known & set(edited))
        assert result["missing"] >= count - len(known)
        assert (result["conflicting"], result["stale"]) == (0, 0)
        assert not [name for name in EVERY if not happened[name]]
        settled = "SELECT count(*) FROM deliveries WHERE state IN ('due', 'leased')"
        wait_until(lambda: not daemon.count(settled), "all are delivered", within=600)
        before = both.requests_at_crm()
        again = both.reconcile()
        assert {name: again[name] for name in ("missing", "revised", "stale", "conflicting", "filled")} == {
            "missing": 0,
            "revised": 0,
            "stale": 0,
            "conflicting": 0,
            "filled": 0,
        }
        assert both.requests_at_crm() == before
        # Rows that the platform made up while it was asked for them are deleted again as it pleases.
        balance = both.audit()
        main = balance["sources"]["main"]
        assert main["platform"] == len(both.platform.list.records())
        assert main["ledger_only"] == main["ledger"] - main["platform"]
        assert both.requests_at_crm() == before
    finally:
        daemon.stop()


def test_hostile_list_is_reconciled_in_one_run(both: Deployment) -> None:
    hostile_round(both, 400, page_cap=8)


@pytest.mark.slow
def test_hostile_list_of_20000_is_reconciled(both: Deployment) -> None:
    hostile_round(both, 20_000, page_cap=120)
