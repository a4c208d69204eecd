"""What an operator types from memory: beginnings of ids, words of a reason, names that are wrong."""

import json
import shlex
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.cli import cli
from bridge.cli.follow_job import follow
from bridge.cli.output import unused_default
from bridge.config.load import load_config
from bridge.ledger import Ledger
from bridge.ledger.sqlite import OwnerLock, SqliteLedger
from bridge.model.calls import Quarantined
from bridge.model.deliveries import DeliveryState, ParkKind, Settlement
from bridge.model.failures import AGAIN, NO_LONGER_THERE
from bridge.model.jobs import JobState
from bridge.reconcile.reconciler import NOT_KNOWN, refuse_walk
from tests.fixtures.daemon_process import environment, write_config
from tests.fixtures.ledger_calls import (
    ALWAYS,
    NOW,
    TO_CRM,
    arrival,
    call_of,
    filed_all,
    judge_all,
    leased,
    news,
    settle,
    stray,
    uuid,
)

LONG = "object contact: too_long grade"


class Desk:
    """A configuration, the ledger that it names, and a person."""

    def __init__(self, folder: Path) -> None:
        self.config = write_config(folder, "http://127.0.0.1:9")
        self.ledger: Ledger = SqliteLedger(folder / "ledger.db", create=True)
        self.ledger.start_destinations(TO_CRM, NOW)

    def ask(self, *args: str) -> Result:
        return CliRunner(env=environment()).invoke(cli, [*args, "-c", str(self.config)])

    def parked(self, key: str, cause: str, reason: str, kind: ParkKind = ParkKind.FAILED) -> None:
        news(self.ledger, key)
        remedy = f"Mend it, {AGAIN}"
        settlement = Settlement(DeliveryState.PARKED, reason, cause, remedy=remedy, park_kind=kind)
        settle(self.ledger, leased(self.ledger), settlement, NOW, NOW)


def said(result: Result) -> Any:
    """The document that a command prints last; here its log stands on the same stream."""
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.ledger.close()


def test_unique_beginning_of_an_id_is_enough(desk: Desk) -> None:
    for number in (0xABCD0001, 0xABCE0002):
        news(desk.ledger, uuid(number))
    shown = desk.ask("calls", "show", "ABCD", "--json")
    assert said(shown)["key"] == uuid(0xABCD0001)
    listed = said(desk.ask("calls", "list", "abc", "abce", "--json"))["calls"]
    assert [call["key"] for call in listed] == [uuid(0xABCE0002)]
    for word, message in (("abc", "no call is named abc"), ("abcd-", "no call"), ("%", "no call")):
        refused = desk.ask("calls", "show", word)
        assert refused.exit_code == 2
        assert message in refused.stderr
    news(desk.ledger, uuid(0xABCD0009))
    several = desk.ask("calls", "show", "abcd")
    assert several.exit_code == 2
    assert "several calls match abcd" in several.stderr


def test_call_of_two_sources_is_chosen_by_source(desk: Desk) -> None:
    for source in ("main", "east"):
        call_of(desk.ledger, arrival(uuid(7), source=source))
        judge_all(desk.ledger, NOW, TO_CRM)
    refused = desk.ask("calls", "show", uuid(7))
    assert refused.exit_code == 2
    assert "takes --source east or --source main" in refused.stderr
    for source in ("main", "east"):
        assert said(desk.ask("calls", "show", uuid(7), "--source", source, "--json"))["source"] == source
    assert "no call of source west" in desk.ask("calls", "show", uuid(7), "--source", "west").stderr


def test_whole_id_is_not_taken_for_the_beginning_of_another(desk: Desk) -> None:
    news(desk.ledger, "abcd")
    news(desk.ledger, "abcdef")
    assert said(desk.ask("calls", "show", "abcd", "--json"))["key"] == "abcd"


def test_unknown_destination_is_a_usage_error(desk: Desk) -> None:
    desk.parked("a", LONG, "why")
    assert desk.ask("deliveries", "list", "--destination", "crm").exit_code == 0
    refused = desk.ask("deliveries", "list", "--destination", "nosuch")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert 'there is no destination "nosuch"' in refused.stderr


def test_deliveries_are_retried_by_words_of_their_shown_reason(desk: Desk) -> None:
    desk.parked("a", LONG, 'the grade "very good" of 100% is longer than 4 characters')
    desk.parked("b", LONG, "the grade of b is longer than 4 characters")
    desk.parked("c", "in doubt: object call", 'nobody knows of "very good"', ParkKind.IN_DOUBT)
    found = said(desk.ask("deliveries", "list", "--cause", "VERY good", "--json"))
    assert [row["key"] for row in found["deliveries"]] == ["c", "a"]
    assert {group["cause"] for group in found["causes"]} == {LONG, "in doubt: object call"}
    assert [group.count for group in desk.ledger.retriable(cause="very good")] == [1]
    assert desk.ledger.retriable(cause="very_good") == []
    assert [group.count for group in desk.ledger.retriable(cause="100%")] == [1]
    assert desk.ledger.retriable(cause="100%%") == []
    assert said(desk.ask("deliveries", "retry", "--cause", "very good", "--json"))["retried"] == 1
    assert [row.key for row in desk.ledger.list_deliveries("parked", None, 9)] == ["c", "b"]


def test_whole_cause_selects_no_other_that_contains_its_words(desk: Desk) -> None:
    desk.parked("a", "short", "why")
    desk.parked("b", LONG, "it is too short")
    assert [group.cause for group in desk.ledger.retriable(cause="short")] == ["short"]


@pytest.mark.parametrize("command", [("status",), ("deliveries", "list")])
def test_remedy_names_the_whole_command(desk: Desk, command: tuple[str, ...]) -> None:
    cause = 'object contact: the field "grade" isn\'t known'
    desk.parked("a", cause, "why")
    told = desk.ask(*command).stdout
    [line] = [line for line in told.splitlines() if "callbridge deliveries retry" in line]
    words = shlex.split(line.partition("callbridge ")[2])
    assert words == ["deliveries", "retry", "--cause", cause, "--destination", "crm"]
    assert "…" not in line
    assert desk.ask(*words, "--dry-run").stdout.endswith("1 deliveries would be due now\n")


def test_record_left_in_quarantine_says_why(desk: Desk) -> None:
    filed_all(desk.ledger, [stray(Quarantined.UNIDENTIFIED, b'{"phone": ""}')])
    filed_all(desk.ledger, [stray(Quarantined.UNIDENTIFIED, b'{"name": ""}', source="gone")])
    found = said(desk.ask("quarantine", "retry", "--all", "--json"))
    assert (found["released"], found["waiting"]) == (0, 2)
    assert found["reasons"] == [
        {"id": 1, "reason": "unidentified", "detail": "because unidentified"},
        {
            "id": 2,
            "reason": "unidentified",
            "detail": "there is no source gone in the daemon's configuration",
        },
    ]
    told = desk.ask("quarantine", "retry", "1")
    assert told.exit_code == 0
    assert "    1: unidentified: because unidentified" in told.stdout


def test_forced_replay_takes_lost_objects_but_no_other_parked_ones(desk: Desk) -> None:
    desk.parked("a", f"object contact: {NO_LONGER_THERE}", "7 is no longer in the CRM", ParkKind.GONE)
    desk.parked("b", LONG, "why")
    ids = [row.id for row in desk.ledger.list_deliveries("parked", "crm", 9)]
    gone = {stored.key: stored.gone for stored in desk.ledger.page_of_calls("crm", "main", ALWAYS, None, 9)}
    assert gone == {"a": True, "b": False}
    assert desk.ledger.replay(ids, "account", NOW, forget=False) == 0
    assert desk.ledger.replay(ids, "account", NOW, forget=True) == 1
    assert [row.key for row in desk.ledger.list_deliveries("due", "crm", 9)] == ["a"]


def test_reconcile_of_a_source_unknown_to_the_daemon_says_what_to_do(desk: Desk) -> None:
    run = desk.ledger.request_job("reconcile", {"source": "main"}, NOW)
    now = datetime.now(UTC)
    assert refuse_walk(desk.ledger, now)
    assert not refuse_walk(desk.ledger, now)
    assert desk.ledger.job(run).state == "failed"
    assert desk.ledger.job(run).result == {"error": NOT_KNOWN}
    # It is told under the name of the source that was asked for.
    lists = desk.ledger.counts().lists
    assert {name: one.last and one.last.error for name, one in lists.items()} == {"main": NOT_KNOWN}
    ended_at = desk.ledger.job(run).ended_at
    assert ended_at is not None
    assert ended_at > NOW


def test_output_says_which_of_two_configurations_is_used(tmp_path: Path) -> None:
    here, installed = tmp_path / "config.toml", tmp_path / "etc" / "config.toml"
    installed.parent.mkdir()
    assert unused_default(here, installed) == ""
    here.touch()
    assert unused_default(here, installed) == ""
    installed.touch()
    assert unused_default(here, installed) == f"{here} is taken, not {installed}: --config says which"
    here.unlink()
    here.symlink_to(installed)
    assert unused_default(here, installed) == ""


def test_command_says_that_the_daemon_has_not_started_its_job(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    results: list[dict[str, Any]] = []
    config, heard = load_config(desk.config, {}), ""
    with OwnerLock(desk.config.parent / "ledger.db"):
        waiting = threading.Thread(target=lambda: results.append(follow(config, "prune", {}, warn_after=0.0)))
        waiting.start()
        until = datetime.now(UTC) + timedelta(seconds=30)
        while "has not begun run 1 yet" not in (heard := heard + capsys.readouterr().err):
            assert datetime.now(UTC) < until
            waiting.join(0.01)
        run = desk.ledger.take_job(NOW)
        assert run is not None
        desk.ledger.end_job(run.id, JobState.DONE, {"removed": {}}, NOW)
        waiting.join()
    assert (results, heard.count("not begun")) == ([{"removed": {}}], 1)
