"""What all commands share: the options after the last argument, and how results are shown."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from bridge.config.load import DEFAULT_PATHS, Config, load_config
from bridge.ledger import Ledger, open_ledger
from bridge.lib import escape_invisible

LIMIT = click.IntRange(1, 2**63 - 1)
"""How many rows to show: more than none, and no more than a ledger counts."""

F = TypeVar("F", bound=Callable[..., Any])


class ExitCode(IntEnum):
    """What a script reads."""

    DONE = 0
    FINDINGS = 1
    USAGE = 2
    COULD_NOT = 3


def config_option(command: F) -> F:
    """`-c/--config FILE`."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        help="The configuration (default: ./config.toml, then /etc/callbridge/config.toml).",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(command)


def read_config(path: Path | None) -> Config:
    """The configuration, without its secrets: looking must work without them."""
    if path is None and (told := left_aside(*DEFAULT_PATHS)):
        click.echo(told, err=True)
    return load_config(path, os.environ)


def left_aside(here: Path, installed: Path) -> str:
    """What to say where both default configurations are there: one was perhaps forgotten in a folder."""
    try:
        both = here.is_file() and installed.is_file() and not here.samefile(installed)
    except OSError:
        return ""
    return f"{here.absolute()} is taken, not {installed}: --config says which" if both else ""


def ledger_path(config: Config) -> Path:
    """The ledger's file."""
    return config.ledger.file(config.base_dir)


def open_to_look(config: Config) -> Ledger:
    """The ledger, for looking only; closed with the command, however that ends."""
    ledger = open_ledger(ledger_path(config), read_only=True, min_free=config.ledger.min_free)
    command = click.get_current_context(silent=True)
    if command is not None:
        command.call_on_close(ledger.close)
    return ledger


def show(document: Mapping[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    """One document on stdout, for a program or for a person."""
    if as_json:
        say_json(json.dumps(document, ensure_ascii=False, default=_plain))
    else:
        for line in lines:
            say(line)


def say(line: str = "", *, err: bool = False) -> None:
    """Print one line: the only way in which a command prints, so that nothing from outside makes another."""
    click.echo(escape_invisible.line(line), err=err)


def say_json(text: str) -> None:
    """Print a JSON document of one line or more."""
    click.echo(escape_invisible.in_json(text))


def say_over(line: str) -> None:
    """Write a line over the one before, on a terminal's stderr."""
    click.echo(f"\r{escape_invisible.line(line):<70}", nl=False, err=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is no JSON")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterable[str]:
    """Rows as aligned text; empty cells as a dash."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [
        max([len(column), *(len(line[index]) for line in cells)]) for index, column in enumerate(columns)
    ]
    for line in [list(columns), *cells]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    text = "-" if value is None or value == "" else str(value)
    # Here already, for the width is that of what is shown.
    return escape_invisible.line(text)
