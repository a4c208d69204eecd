"""Commands that the program's own messages tell people to type: they exist, with their options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bridge.cli import cli

PACKAGE = Path(__file__).parents[2] / "bridge"
ADVICE = re.compile(r"\bcallbridge ([a-z]+)((?: [a-z-]+\b)*)")


def advised() -> Iterator[tuple[str, ...]]:
    """The words of every command in a text of the package; a docstring may mean a group of commands."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for first, others in ADVICE.findall(node.value):
                    if first in cli.commands:
                        yield (first, *others.split())


@pytest.mark.parametrize("words", sorted(set(advised())), ids=" ".join)
def test_every_command_named_in_a_message_exists(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    others = list(words)
    while isinstance(command, click.Group):
        if not others:
            return
        assert others[0] in command.commands
        command = command.commands[others.pop(0)]
    options = {name for each in command.params for name in each.opts}
    assert {word for word in others if word.startswith("--")} <= options


def test_messages_name_commands() -> None:
    assert len(set(advised())) >= 12
