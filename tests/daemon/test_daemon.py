"""The daemon as its users meet it: a process, its sockets, its ledger file, its CRM."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from bridge.cli import cli
from bridge.ledger.sqlite import SqliteLedger
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.demo import Demo
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import (
    EXAMPLE,
    DaemonProcess,
    callbridge,
    callbridge_json,
    environment,
    wait_until,
    write_config,
)


@pytest.fixture
def crm() -> Iterator[tuple[SandboxCrm, str]]:
    crm = SandboxCrm()
    with LocalServer(crm.app) as server:
        yield crm, server.url


@pytest.fixture
def daemon(tmp_path: Path, crm: tuple[SandboxCrm, str]) -> Iterator[DaemonProcess]:
    process = DaemonProcess(write_config(tmp_path, crm[1]))
    try:
        yield process
    finally:
        process.kill()


def test_example_call_reaches_the_crm_once_and_is_updated_later(
    daemon: DaemonProcess, crm: tuple[SandboxCrm, str]
) -> None:
    body = EXAMPLE.read_bytes()
    answer = httpx.post(daemon.callback_url, content=body)
    assert (answer.status_code, answer.content) == (200, b"SUCCESS")
    wait_until(lambda: crm[0].contents()["calls"] != [], "the call is in the CRM")
    wait_until(lambda: daemon.count("SELECT count(*) FROM attempts") == 1, "the attempt is settled")

    [contact], [call] = crm[0].contents()["contacts"], crm[0].contents()["calls"]
    assert contact["phone"] == "+8615899770637"
    assert contact["grade"] == "B"
    assert "转人工时间:2025-04-14 10:20:17" in contact["tags"]
    assert call["call_key"] == "db57f262-18d6-11f0-88c8-2f2b0aba51d7"
    assert call["contact_id"] == contact["id"]
    assert call["connected_at"] == "2025-04-14T02:19:21Z"
    assert call["ended_at"] == "2025-04-14T02:20:48Z"
    assert len(call["transcript"].splitlines()) == 17

    before = crm[0].requests()
    for _ in range(10):
        assert httpx.post(daemon.callback_url, content=body).content == b"SUCCESS"
    verdicts = "SELECT count(*) FROM receipts WHERE verdict = 'duplicate'"
    wait_until(lambda: daemon.count(verdicts) == 10, "ten duplicates")
    assert daemon.count("SELECT count(*) FROM deliveries WHERE state = 'delivered'") == 1
    assert crm[0].requests() == before

    record = json.loads(body)
    later = record | {"status_manual": "A", "updated_at": "2025-04-15 09:00:00"}
    httpx.post(daemon.callback_url, json=later)
    wait_until(lambda: [c.get("grade") for c in crm[0].contents()["calls"]] == ["A"], "the revision arrived")
    assert len(crm[0].contents()["contacts"]) == 1
    httpx.post(daemon.callback_url, json=record | {"mark": "stale", "status": "F"})
    stale = "SELECT count(*) FROM receipts WHERE verdict = 'stale'"
    wait_until(lambda: daemon.count(stale) == 1, "the older state is stale")
    assert crm[0].contents()["calls"][0]["grade"] == "A"


@pytest.mark.long
def test_phone_in_a_refusal_reaches_no_log_unmasked(
    daemon: DaemonProcess, crm: tuple[SandboxCrm, str], tmp_path: Path
) -> None:
    crm[0].add_fault(status=422, path="/contacts")
    httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes())
    wait_until(lambda: daemon.count("SELECT count(*) FROM deliveries WHERE state = 'parked'") == 1, "parked")
    status = callbridge("status", cwd=tmp_path)
    assert status.returncode == 1
    assert "object contact" in status.stdout
    shown = callbridge("deliveries", "list", "--state", "parked", cwd=tmp_path).stdout
    assert "destination crm, object contact, upsert: PUT" in shown
    for text in (*daemon.log, status.stdout, shown):
        assert "15899770637" not in text
        assert "callback-token-of-the-tests" not in text

    retried = callbridge("deliveries", "retry", "--all", "--json", cwd=tmp_path)
    assert (retried.returncode, json.loads(retried.stdout)) == (0, {"retried": 1, "in_doubt": 0})
    wait_until(lambda: crm[0].contents()["calls"] != [], "delivered after the retry")


@pytest.mark.long
def test_no_success_while_another_process_holds_the_write_lock(daemon: DaemonProcess) -> None:
    other = sqlite3.connect(daemon.ledger, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes(), timeout=30)
    assert answer.status_code == 503
    assert b"SUCCESS" not in answer.content
    assert httpx.get(f"{daemon.admin_url}/readyz", timeout=30).status_code == 503
    other.execute("COMMIT")
    other.close()
    assert httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes()).content == b"SUCCESS"
    assert daemon.count("SELECT count(*) FROM receipts") == 1


def test_running_daemon_serves_health_metrics_and_commands(daemon: DaemonProcess, tmp_path: Path) -> None:
    assert httpx.get(f"{daemon.admin_url}/healthz").status_code == 200
    assert httpx.get(f"{daemon.admin_url}/readyz").status_code == 200
    httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes())
    delivered = 'callbridge_deliveries{destination="crm",state="delivered"} 1.0'
    wait_until(lambda: delivered in httpx.get(f"{daemon.admin_url}/metrics").text, "counted")
    check_found(tmp_path)
    second = callbridge("run", cwd=tmp_path)
    assert second.returncode == 3
    assert "owns" in second.stderr
    (tmp_path / "other-name.db").symlink_to(daemon.ledger)
    third = callbridge(
        "run", cwd=tmp_path, env=environment() | {"CALLBRIDGE_LEDGER__URL": "sqlite:///other-name.db"}
    )
    assert (third.returncode, "owns" in third.stderr) == (3, True), third.stderr
    assert httpx.get(f"{daemon.url}/metrics").status_code == 404


def check_found(folder: Path) -> None:
    """The example call is found by whatever names it, from beside the daemon."""
    key = "db57f262-18d6-11f0-88c8-2f2b0aba51d7"
    config, runner = str(folder / "config.toml"), CliRunner(env=environment())
    for word in (
        key,
        key.upper(),
        "15899770637",
        "+8615899770637",
        "account|4216aedbab119baf899c6533e444605b",
    ):
        shown = runner.invoke(cli, ["calls", "show", word, "--json", "-c", config])
        found = json.loads(shown.stdout)
        assert found["key"] == key
        assert found["deliveries"][0]["state"] == "delivered"
        assert {entry["object"] for entry in found["crm_objects"]} == {"contact", "call"}
    assert runner.invoke(cli, ["calls", "show", "nobody", "-c", config]).exit_code == 2


def test_sigterm_finishes_work_under_way_and_exits_0(
    daemon: DaemonProcess, crm: tuple[SandboxCrm, str], tmp_path: Path
) -> None:
    crm[0].add_fault(delay=0.5, times=1)
    httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes())
    leased = "SELECT count(*) FROM deliveries WHERE state = 'leased'"
    wait_until(lambda: daemon.count(leased) == 1, "the delivery is under way")
    assert daemon.stop() == 0
    assert daemon.count("SELECT count(*) FROM deliveries WHERE state = 'leased'") == 0
    assert "daemon.stopped" in daemon.log[-1]
    balance = callbridge_json("audit", "--local", cwd=tmp_path)
    assert balance["balanced"] is True
    assert balance["destinations"]["crm"]["ledger"] == 1


def test_daemons_own_connection_is_durable() -> None:
    with Demo() as running:
        assert isinstance(running.ledger, SqliteLedger)
        pragmas = ("PRAGMA synchronous", "PRAGMA journal_mode")
        writer = running.ledger._write()
        found = [writer.run(lambda c, sql=sql: c.execute(sql).fetchone()[0]) for sql in pragmas]  # type: ignore[misc]
    assert found == [2, "wal"]
