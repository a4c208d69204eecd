"""The way out of quarantine: `quarantine list/show/retry/drop`, with a daemon and without one."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from click.testing import CliRunner, Result

from bridge.cli import cli
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger.sqlite import SqliteLedger
from bridge.model.calls import Quarantined, Via
from bridge.record.arrival import arrival_of, garbage
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import DaemonProcess, callbridge, wait_until, write_config
from tests.fixtures.ledger_calls import TO_CRM, call_of, filed_all, stray, uuid
from tests.fixtures.origins import named

pytestmark = pytest.mark.long

ZONE = ZoneInfo("Asia/Shanghai")
EARLY, LATE, CREATED = "2026-11-22 09:00:00", "2026-11-22 10:30:00", "2026-11-22 08:59:00"

# Two calls of one dialling list; of the second nobody knows yet when it started.
FIRST = {"uuid": uuid(1), "sn": "s1", "started_at": EARLY, "created_at": CREATED}
SECOND = {"uuid": uuid(2), "sn": "s1", "created_at": CREATED}
AMBIGUOUS = {"sn": "s1", "started_at": EARLY, "created_at": CREATED, "name": "张"}
LEARNT = SECOND | {"started_at": LATE}
UNIDENTIFIED = {"phone": "15899770637"}
GARBAGE = b"garbage \x1b[31m"


def counts(document: dict[str, Any]) -> dict[str, int]:
    """What `quarantine retry` counts, without the reasons of what waits on."""
    return {name: value for name, value in document.items() if name != "reasons"}


@dataclass(frozen=True)
class Desk:
    """An operator's place: a configuration, and what stands in the ledger's file."""

    folder: Path

    def says(self, *args: str | int) -> Any:
        """The one document on stdout of `quarantine …`, by a process of its own."""
        done = callbridge("quarantine", *map(str, args), "--json", cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def asks(self, *args: str | int) -> Any:
        """The same in this process, where the daemon's does the work."""
        done = self.runs(*args, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def runs(self, *args: str | int) -> Result:
        """`quarantine …` in this process."""
        config = str(self.folder / "config.toml")
        return CliRunner().invoke(cli, ["quarantine", *map(str, args), "--config", config])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.folder / 'ledger.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    @property
    def states(self) -> dict[str, tuple[str, int]]:
        """State and arrivals by reason."""
        found = self.rows("SELECT reason, state, arrivals FROM quarantine")
        return {reason: (state, arrivals) for reason, state, arrivals in found}

    def receipts(self, key: str) -> list[str | None]:
        """The verdicts on a call's receipts."""
        sql = "SELECT key, verdict FROM receipts r JOIN calls c ON c.id = call_id ORDER BY r.id"
        return [verdict for name, verdict in self.rows(sql) if name == key]


@pytest.fixture
def crm() -> Iterator[tuple[SandboxCrm, str]]:
    crm = SandboxCrm()
    with LocalServer(crm.app) as server:
        yield crm, server.url


def test_quarantined_record_is_released_beside_a_daemon(tmp_path: Path, crm: tuple[SandboxCrm, str]) -> None:
    daemon, desk = DaemonProcess(write_config(tmp_path, crm[1])), Desk(tmp_path)
    try:
        for record in (FIRST, SECOND, AMBIGUOUS, UNIDENTIFIED):
            assert httpx.post(daemon.callback_url, json=record).content == b"SUCCESS"
        assert httpx.post(daemon.callback_url, content=GARBAGE).status_code == 400
        found = desk.says("list")["quarantine"]
        assert [row["reason"] for row in found] == ["not_an_object", "unidentified", "ambiguous"]
        garbage, _, ambiguous = (row["id"] for row in found)
        shown = desk.asks("show", ambiguous)
        assert json.loads(shown["body"]) == AMBIGUOUS
        assert (shown["state"], shown["arrivals"]) == ("waiting", 1)
        assert all(uuid(number) in shown["detail"] for number in (1, 2))

        # By the calls of now nothing has changed: all wait on.
        assert counts(desk.says("retry", "--all")) == {"released": 0, "waiting": 3}
        assert set(desk.states.values()) == {("waiting", 1)}
        assert desk.asks("drop", garbage) == {"dropped": 1}
        assert json.loads(desk.runs("drop", garbage, "--json").stdout) == {"dropped": 0}
        assert httpx.post(daemon.callback_url, content=GARBAGE).status_code == 400
        assert desk.states["not_an_object"] == ("dropped", 2)

        assert httpx.post(daemon.callback_url, json=LEARNT).content == b"SUCCESS"
        assert desk.asks("retry", ambiguous, garbage)["released"] == 1
        wait_until(lambda: desk.receipts(uuid(1)) == ["new", "revision"], "it counts for the first call")
        assert desk.states["ambiguous"] == ("released", 1)
        assert desk.states["not_an_object"] == ("dropped", 2)

        # Released once: neither asking again nor the same body again brings it back.
        assert json.loads(desk.runs("retry", ambiguous, "--json").stdout)["released"] == 0
        assert httpx.post(daemon.callback_url, json=AMBIGUOUS).content == b"SUCCESS"
        wait_until(lambda: desk.receipts(uuid(1)) == ["new", "revision", "duplicate"], "a duplicate")
        assert desk.states["ambiguous"] == ("released", 1)
        assert [row["id"] for row in desk.asks("list", "--state", "released")["quarantine"]] == [ambiguous]
        wait_until(
            lambda: {call["call_key"] for call in crm[0].contents()["calls"]} == {uuid(1), uuid(2)},
            "both calls are in the CRM",
        )
        assert desk.rows("SELECT kind, state FROM runs WHERE kind <> 'prune' AND state <> 'done'") == []
        assert daemon.stop() == 0
    finally:
        daemon.kill()


def prepared(folder: Path) -> Desk:
    """A ledger that nobody owns, with one record of every kind that can wait."""
    now = datetime.now(UTC)

    def said(record: dict[str, Any], source: str = "main") -> Any:
        return arrival_of(named(source), Via.CALLBACK, json.dumps(record).encode(), now)

    ledger = SqliteLedger(folder / "ledger.db", create=True)
    rules = {source: SourceRules(named(source), ("crm",)) for source in ("main", "branch")}
    judge = Judge(ledger, rules, destinations_since={})
    try:
        ledger.start_destinations(TO_CRM, now)
        filed_all(ledger, [said(record) for record in (FIRST, SECOND, AMBIGUOUS, UNIDENTIFIED)])
        filed_all(ledger, [stray(Quarantined.NOT_AN_OBJECT, GARBAGE, at=now)])
        # Of a source that has left the configuration.
        branch = [FIRST | {"uuid": uuid(11)}, FIRST | {"uuid": uuid(12)}, AMBIGUOUS]
        filed_all(ledger, [said(record, "branch") for record in branch])
        assert judge.judge_waiting(now) == 4
        # A program of yesterday could not read this one.
        call_of(ledger, said({"uuid": uuid(3), "name": "王"}))
        ledger.set_aside(ledger.waiting(1)[0], "the record cannot be read: why", TO_CRM, now)
        filed_all(ledger, [said(LEARNT)])
        assert judge.judge_waiting(now) == 1
    finally:
        ledger.close()
    return Desk(folder)


def test_quarantined_record_is_released_without_a_daemon(tmp_path: Path, crm: tuple[SandboxCrm, str]) -> None:
    config, desk = write_config(tmp_path, crm[1]), prepared(tmp_path)
    by = {
        (source, reason): entry
        for entry, source, reason in desk.rows("SELECT id, source, reason FROM quarantine")
    }
    assert len(by) == 5
    assert counts(desk.says("retry", "--all")) == {"released": 2, "waiting": 3}
    waiting = set(desk.rows("SELECT source, reason FROM quarantine WHERE state = 'waiting'"))
    assert waiting == {("main", "unidentified"), ("main", "not_an_object"), ("branch", "ambiguous")}
    assert len(desk.rows("SELECT 1 FROM quarantine WHERE state = 'released'")) == 2
    # Acknowledged anew, they wait for the daemon's verdict.
    assert (desk.receipts(uuid(1)), desk.receipts(uuid(3))) == (["new", None], ["quarantined", None])
    assert desk.says("drop", by["main", "unidentified"], by["main", "not_an_object"]) == {"dropped": 2}
    assert counts(desk.says("retry", "--all")) == {"released": 0, "waiting": 1}
    assert desk.receipts(uuid(3)) == ["quarantined", None]

    daemon = DaemonProcess(config)
    try:
        wait_until(lambda: uuid(3) in {call["call_key"] for call in crm[0].contents()["calls"]}, "delivered")
        assert desk.receipts(uuid(3)) == ["quarantined", "new"]
        wait_until(lambda: desk.receipts(uuid(1)) == ["new", "revision"], "the other one is judged too")
        assert daemon.stop() == 0
    finally:
        daemon.kill()


def test_wrong_usage_and_failures_have_their_exit_codes(tmp_path: Path) -> None:
    write_config(tmp_path, "http://127.0.0.1:9")
    missing = callbridge("quarantine", "retry", "--all", "--json", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "there is no ledger" in missing.stderr
    assert not (tmp_path / "ledger.db").exists()

    desk = prepared(tmp_path)
    for args in (("retry",), ("retry", "1", "--all"), ("drop",), ("show", "999"), ("drop", "x")):
        wrong = desk.runs(*args, "--json")
        assert (wrong.exit_code, wrong.stdout) == (2, ""), args


def test_shown_body_cannot_move_the_cursor(tmp_path: Path) -> None:
    write_config(tmp_path, "http://127.0.0.1:9")
    desk = prepared(tmp_path)
    [(entry,)] = desk.rows("SELECT id FROM quarantine WHERE reason = 'not_an_object'")
    shown = desk.runs("show", entry)
    assert (shown.exit_code, "garbage" in shown.stdout) == (0, True)
    assert "\x1b" not in shown.stdout


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_entry_that_is_not_waiting_is_reported(tmp_path: Path, command: str) -> None:
    write_config(tmp_path, "http://127.0.0.1:9")
    prepared(tmp_path)
    done = callbridge("quarantine", command, "999", cwd=tmp_path)
    assert done.returncode == 3, done.stdout
    assert "quarantine list" in done.stderr


def test_quarantined_body_of_several_records_is_split(tmp_path: Path) -> None:
    """A release that could not take it apart has kept it whole."""
    write_config(tmp_path, "http://127.0.0.1:9")
    body = json.dumps([FIRST, UNIDENTIFIED, 7, SECOND]).encode()
    with closing(SqliteLedger(tmp_path / "ledger.db", create=True)) as ledger:
        now = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
        filed_all(ledger, [garbage("main", Via.CALLBACK, body, "the body is not a JSON object", now)])
    desk = Desk(tmp_path)
    assert desk.says("retry", "--all")["released"] == 1
    assert [key for (key,) in desk.rows("SELECT key FROM calls ORDER BY id")] == [uuid(1), uuid(2)]
    found = desk.rows("SELECT reason, state FROM quarantine ORDER BY id")
    assert found == [("not_an_object", "released"), ("unidentified", "waiting"), ("not_an_object", "waiting")]
