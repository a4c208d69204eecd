"""What the commands that look take for an answer, and for a question."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import cli
from bridge.ledger.sqlite import SqliteLedger
from tests.running import environment, write_config

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
def test_a_time_without_an_offset_is_in_the_zone_of_the_source(
    tmp_path: Path, source: str, since: str, until: str
) -> None:
    window = ("--since", "2025-04-14", "--until", "2025-04-14T10:00")
    found = asked(tmp_path, "audit", "--local", "--source", source, *window, "--json")
    assert found.exit_code == 0, found.output
    balance = json.loads(found.stdout)
    assert (balance["since"], balance["until"]) == (since, until)


@pytest.mark.parametrize("limit", ["0", "-1", "99999999999999999999"])
@pytest.mark.parametrize("command", ["calls", "quarantine"])
def test_a_limit_that_is_none_is_wrong_usage(tmp_path: Path, command: str, limit: str) -> None:
    found = asked(tmp_path, command, "list", "--limit", limit)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "--limit" in found.stderr
