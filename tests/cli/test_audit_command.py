"""`callbridge audit` from outside: with a daemon and without one, and where the platform cannot be asked."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.ledger import open_ledger
from bridge.sandbox.platform import ACCESS_ID, ACCESS_SECRET
from bridge.sandbox.platform_faults import Disturbances
from tests.fixtures.daemon_process import ROOT, wait_until, write_config
from tests.fixtures.deployment import Deployment, deployed, empty_ledger, made

pytestmark = pytest.mark.long

KEYS = {"platform", "ledger", "quarantined", "erased", "platform_only", "ledger_only", "ids"}


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path) as both:
        yield both


def test_command_asks_the_platform_itself_without_a_daemon(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.add(made(60))
    before = both.audit(code=1)
    assert before["sources"]["main"].keys() >= KEYS
    assert before["sources"]["main"]["platform_only"] == 60
    assert len(before["sources"]["main"]["ids"]["platform_only"]) == 60
    both.reconcile()
    after = both.audit()
    counts = {
        name: count for name, count in after["sources"]["main"].items() if name in KEYS - {"ids"} and count
    }
    assert counts == {"platform": 60, "ledger": 60}
    crm = after["destinations"]["crm"]
    assert (crm["ledger"], crm["under_way"]) == (60, 60)
    local = json.loads(both.run("audit", "--local", "--json").stdout)
    assert local["balanced"]
    assert [local["sources"]["main"][name] for name in ("platform", "platform_only", "ledger_only")] == [
        None
    ] * 3


def test_daemon_audits_while_callbacks_arrive(both: Deployment) -> None:
    daemon = both.daemon()
    try:
        both.platform.callback_url = daemon.callback_url
        both.platform.push_batch(60, lost=0.1)
        found = both.audit(code=1)
        assert found["sources"]["main"]["platform_only"] == 6
        both.reconcile()
        # The tries of this one come while the list is walked.
        pushing = subprocess.Popen(
            [sys.executable, "-c", PUSH, daemon.callback_url], cwd=ROOT, env=both.environment
        )
        for _ in range(3):
            balance = both.audit()
            assert balance["destinations"]["crm"]["ledger"] == balance["sources"]["main"]["ledger"]
        assert pushing.wait(60) == 0
        runs = "SELECT count(*) FROM runs WHERE kind = 'audit' AND state = 'done'"
        assert daemon.count(runs) == 4
        assert "event=audit.ended" in "\n".join(daemon.log)
    finally:
        daemon.stop()


PUSH = """
import sys, json, httpx
from tests.fixtures.deployment import made
with httpx.Client() as client:
    for record in made(60, seed=9):
        client.post(sys.argv[1], content=json.dumps(record))
"""


def test_unreachable_platform_exits_3(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.list.disturbances = Disturbances(down=True)
    done = both.run("audit", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert "source main" in done.stderr
    assert "answers 503" in done.stderr
    assert ACCESS_SECRET not in done.stderr
    assert both.run("audit", "--local").returncode == 0


def test_status_and_metrics_show_the_lists_coverage(both: Deployment) -> None:
    daemon = both.daemon()
    try:
        both.platform.callback_url = daemon.callback_url
        both.platform.push_batch(40, lost=0.25)
        both.reconcile()
        status = json.loads(both.run("status", "--json").stdout)
        last = status["last_reconciliation"]["main"]
        assert (last["state"], last["complete"], last["missing"]) == ("done", True, 10)
        assert status["covered_until"]["main"]
        gaps = status["gaps"]["main"]
        assert gaps["only_listed"] <= 10
        assert 0 < gaps["rate"] < 0.5
        metrics = httpx.get(f"{daemon.admin_url}/metrics").text
        assert f'callbridge_gaps{{source="main"}} {float(gaps["only_listed"])}' in metrics
        assert 'callbridge_last_reconciliation_complete{source="main"} 1.0' in metrics
        words = both.run("status").stdout
        assert "list of main: covered until " in words
        assert "10 missing, " in words
        assert "gap rate: " in words
    finally:
        daemon.stop()


def test_check_online_asks_the_platform_too(both: Deployment) -> None:
    def checked(code: int) -> dict[str, Any]:
        done = both.run("check", "--online", "--json")
        assert done.returncode == code, done.stderr + done.stdout
        assert ACCESS_SECRET not in done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert checked(0)["problems"] == []
    assert [one["path"] for one in both.platform.list.log] == ["/api/login", "/api/crmList"]
    right = both.config.read_text()
    both.config.write_text(right.replace(f'access_id = "{ACCESS_ID}"', 'access_id = "nobody"'))
    (problem,) = checked(2)["problems"]
    assert problem["key"] == "sources.main.api"
    assert "source main" in problem["message"]
    assert "code 1001 sign error. Check access_id" in problem["message"]
    both.config.write_text(right)
    both.platform.list.disturbances = Disturbances(down=True)
    found = checked(3)
    assert "/api/login answers 503" in found["unreachable"][0]["message"]


def test_balance_is_printed_in_words(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.add(made(3))
    done = both.run("audit", "--since", "1d")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    said = "source main: platform 3, ledger 0, quarantined 0, erased 0, platform_only 3, ledger_only 0"
    assert said in lines
    assert lines[-1] == "NOT balanced"
    assert sum("callbridge reconcile files it" in line for line in lines) == 3


def test_sources_without_a_list_are_counted_only(both: Deployment) -> None:
    empty_ledger(both)
    with both.config.open("a") as config:
        config.write('[sources.other]\ncallback_token = { env = "TOKEN" }\n')
    both.platform.add(made(5))
    both.reconcile()
    balance = both.audit()
    assert balance["sources"]["other"]["platform"] is None
    assert balance["sources"]["main"]["platform"] == 5
    assert both.run("audit", "--source", "other").returncode == 2


def test_audit_without_any_list_is_a_usage_error_that_suggests_local(both: Deployment) -> None:
    write_config(both.folder, both.crm_url)
    done = both.run("audit")
    assert done.returncode == 2
    assert "--local" in done.stderr
    assert both.run("audit", "--source", "nobody").returncode == 2


def test_killed_audit_begins_again(both: Deployment) -> None:
    empty_ledger(both)
    both.platform.add(made(2000))
    both.platform.list.disturbances = Disturbances(page_cap=60)
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "audit", "--since", "1d", "--json"],
        cwd=both.folder,
        env=both.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(both.asked()) > 8, "it is under way")
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = both.audit(code=1)
    assert found["sources"]["main"]["platform_only"] == 2000
    ledger = open_ledger(both.folder / "ledger.db", read_only=True)
    assert ledger.job(1).state == "done", "the same run was taken up again"
    ledger.close()
