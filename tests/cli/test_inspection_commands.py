"""What the commands that look take for an answer, and for a question."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import cli
from bridge.ledger.sqlite import SqliteLedger
from bridge.model.crm_alterations import Alteration
from bridge.model.crm_objects import FieldWrite, KnownObject, SyncedObject
from bridge.model.deliveries import DeliveryState, Settlement
from bridge.model.field_digests import digest_of, with_altered
from tests.fixtures.daemon_process import environment, write_config
from tests.fixtures.ledger_calls import NOW, leased, news, settle

BRANCH = '[sources.branch]\ncallback_token = { env = "TOKEN" }\ntimezone = "America/New_York"'


def asked(folder: Path, *args: str) -> Result:
    config = write_config(folder, "http://127.0.0.1:9", BRANCH)
    SqliteLedger(folder / "ledger.db", create=True).close()
    return CliRunner(env=environment()).invoke(cli, [*args, "-c", str(config)])


@pytest.mark.parametrize(
    ("source", "since", "until"),
    [
        ("main", "2025-04-13T16:00:00.000Z", "2025-04-14T02:00:00.000Z"),
        ("branch", "2025-04-14T04:00:00.000Z", "2025-04-14T14:00:00.000Z"),
    ],
)
def test_time_without_an_offset_is_in_the_sources_zone(
    tmp_path: Path, source: str, since: str, until: str
) -> None:
    window = ("--since", "2025-04-14", "--until", "2025-04-14T10:00")
    found = asked(tmp_path, "audit", "--local", "--source", source, *window, "--json")
    assert found.exit_code == 0, found.output
    balance = json.loads(found.stdout)
    assert (balance["since"], balance["until"]) == (since, until)


@pytest.mark.parametrize("limit", ["0", "-1", "99999999999999999999"])
@pytest.mark.parametrize("command", ["calls", "quarantine"])
def test_invalid_limit_is_a_usage_error(tmp_path: Path, command: str, limit: str) -> None:
    found = asked(tmp_path, command, "list", "--limit", limit)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "--limit" in found.stderr


def test_value_altered_by_a_crm_is_shown_with_a_remedy(tmp_path: Path) -> None:
    config = write_config(tmp_path, "http://127.0.0.1:9", BRANCH)
    ledger = SqliteLedger(tmp_path / "ledger.db", create=True)
    call_id = news(ledger, "a")
    mark = FieldWrite("1 a", with_altered(digest_of("a long text"), "a long", Alteration.SHORTENED))
    left = KnownObject("7", b"told", {}, {"lastName": mark})
    done = SyncedObject("contact", "contact", "+86", left, altered={"lastName": "shortened"})
    settle(ledger, leased(ledger), Settlement(DeliveryState.DELIVERED, account="hub", done=(done,)), NOW, NOW)
    key = ledger.show_call(call_id).key
    ledger.close()

    def told(*args: str) -> str:
        found = CliRunner(env=environment()).invoke(cli, [*args, "-c", str(config)])
        assert found.exit_code in (0, 1), found.output
        return found.stdout

    for said in (told("status"), told("calls", "show", key)):
        assert "contact.lastName" in said
        assert "keeps fewer characters than it accepts" in said
    (one,) = json.loads(told("status", "--json"))["altered"]
    assert (one["field"], one["kind"], one["count"]) == ("lastName", "shortened", 1)
    (shown,) = json.loads(told("calls", "show", key, "--json"))["crm_objects"]
    assert shown["altered"] == {"lastName": "shortened"}


def test_failed_command_leaves_no_ledger_open(tmp_path: Path) -> None:
    assert asked(tmp_path, "calls", "show", "nobody").exit_code == 2
    links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert [link for link in links if link.is_relative_to(tmp_path)] == []
