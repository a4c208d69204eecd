"""The options and documents of every command in docs/commands.md, made of the commands themselves.

`python -m tests.docs.command_tables` writes them where the page has a mark for them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from bridge.cli import cli
from tests.fixtures.json_documents import DOCUMENTS
from tests.fixtures.json_shapes import written

COMMANDS = Path(__file__).parents[2] / "docs" / "commands.md"
MARKED = re.compile(r"<!-- command: ([a-z ]+) -->\n.*?<!-- end -->\n", re.DOTALL)
# Every command takes these.
COMMON = {"--config", "--json", "--help"}


def commands(group: click.Group = cli, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its words: `calls show`."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def filled(page: str) -> str:
    """The page with every block that it has a mark for."""
    known = dict(commands())
    return MARKED.sub(lambda found: _block(found[1], known[found[1]]), page)


def _block(words: str, command: click.Command) -> str:
    arguments = "".join(f" {_argument(each)}" for each in command.params if isinstance(each, click.Argument))
    lines = [f"`callbridge {words}{arguments}`"]
    if options := [each for each in command.params if isinstance(each, click.Option)]:
        rows = [_option(each) for each in options if not COMMON & set(each.opts)]
        lines += ["", "| option | meaning |", "| --- | --- |", *rows] if rows else []
    for name, shape in DOCUMENTS.items():
        if name == words or name.startswith(f"{words} --"):
            flags = name.removeprefix(words)
            lines += ["", f"`{flags.strip()} --json`:" if flags else "`--json`:", "", "```text"]
            lines += [written(shape), "```"]
    text = "\n".join(lines)
    return f"<!-- command: {words} -->\n{text}\n<!-- end -->\n"


def _argument(argument: click.Argument) -> str:
    name = (argument.metavar or argument.name or "").upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}{_value_of(option)}`" for name in option.opts)
    words = f"One of: {', '.join(option.type.choices)}." if isinstance(option.type, click.Choice) else ""
    default = f"Default: {option.default}." if option.show_default else ""
    return f"| {names} | {' '.join(each for each in (option.help, words, default) if each)} |"


def _value_of(option: click.Option) -> str:
    return "" if option.is_flag else f" {option.opts[-1].lstrip('-').upper()}"


if __name__ == "__main__":
    COMMANDS.write_text(filled(COMMANDS.read_text("utf-8")), "utf-8")
