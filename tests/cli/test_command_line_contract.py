"""The commands, arguments and options that scripts use: more may be added, none of these goes."""

from collections.abc import Mapping

import click
import pytest

from bridge.cli import cli

SOURCE_AND_TIMES = "--source --since --until"
USED: Mapping[str, str] = {
    # The words of a command → its arguments in order, then its options.
    "run": "",
    "init": "directory",
    "demo": "--once --spoil --count",
    "check": "--online --destination",
    "schema": "kind",
    "status": "",
    "reconcile": f"{SOURCE_AND_TIMES} --dry-run --on-interrupt",
    "audit": f"{SOURCE_AND_TIMES} --local --on-interrupt",
    "replay": f"{SOURCE_AND_TIMES} --destination --force --dry-run",
    "calls list": "words --limit",
    "calls show": "word --source",
    "deliveries list": "--state --destination --cause --limit",
    "deliveries retry": "ids --all --cause --destination --dry-run",
    "deliveries park": "ids --reason",
    "deliveries skip": "ids --reason",
    "quarantine list": "--state --limit",
    "quarantine show": "entry",
    "quarantine retry": "ids --all",
    "quarantine drop": "ids",
    "map test": "mapping",
    "map preview": "mapping record --connector --destination --zone --country",
    "map plan": "mapping --destination --since --until",
    "backup": "file",
    "prune": "",
    "simulate platform": "--port --url --token-file --rate --seed",
    "simulate crm": "--port --token --token-file --no-upserts --lag --token-uses --lose --fail --limit",
}


@pytest.mark.parametrize("words", USED)
def test_command_accepts_the_options_it_has_always_accepted(words: str) -> None:
    command: click.Command = cli
    for word in words.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
    used = USED[words].split()
    arguments = [each.name for each in command.params if isinstance(each, click.Argument)]
    options = {name for each in command.params if isinstance(each, click.Option) for name in each.opts}
    assert arguments == [name for name in used if not name.startswith("-")]
    assert {*(name for name in used if name.startswith("-")), "-c", "--config", "--json"} <= options
