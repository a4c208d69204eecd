"""What all commands share: their last options, exit codes, and how documents and lines are printed."""

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
"""The type of `--limit`: 1 up to the largest integer of the ledger."""
ROW_ID = click.IntRange(1, 2**63 - 1)
"""The type of an id of a row: 1 up to the largest integer of the ledger."""

F = TypeVar("F", bound=Callable[..., Any])


class ExitCode(IntEnum):
    """The exit codes, which scripts rely on."""

    DONE = 0
    FINDINGS = 1
    USAGE = 2
    COULD_NOT = 3


def config_option(command: F) -> F:
    """Add the option `-c/--config FILE`."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        help="The configuration (default: ./config.toml, then /etc/callbridge/config.toml).",
    )(command)


def json_option(command: F) -> F:
    """Add the option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(command)


def read_config(path: Path | None) -> Config:
    """Load the configuration without its secrets: commands that only read must work without them.

    Raises:
        ConfigError: all its problems.
    """
    if path is None and (notice := unused_default(*DEFAULT_PATHS)):
        click.echo(notice, err=True)
    return load_config(path, os.environ)


def unused_default(here: Path, installed: Path) -> str:
    """A notice where both default configurations exist: the one in this folder may be there by accident."""
    try:
        both = here.is_file() and installed.is_file() and not here.samefile(installed)
    except OSError:
        return ""
    return f"{here.absolute()} is taken, not {installed}: --config says which" if both else ""


def ledger_path(config: Config) -> Path:
    """The path of the ledger's file."""
    return config.ledger.file(config.base_dir)


def open_to_look(config: Config) -> Ledger:
    """Open the ledger read-only; it is closed when the command ends."""
    ledger = open_ledger(ledger_path(config), read_only=True, min_free=config.ledger.min_free)
    command = click.get_current_context(silent=True)
    if command is not None:
        command.call_on_close(ledger.close)
    return ledger


def show(document: Mapping[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    """Print the JSON document, or the lines for a person, on stdout."""
    if as_json:
        say_json(json.dumps(document, ensure_ascii=False, default=_plain))
    else:
        for line in lines:
            say(line)


def say(line: str = "", *, err: bool = False) -> None:
    """Print one line, with characters from outside escaped, so that none of them starts a new line."""
    click.echo(escape_invisible.line(line), err=err)


def say_json(text: str) -> None:
    """Print a JSON document, with invisible characters escaped."""
    click.echo(escape_invisible.in_json(text))


def say_over(line: str) -> None:
    """Overwrite the last line on a terminal's stderr."""
    click.echo(f"\r{escape_invisible.line(line):<70}", nl=False, err=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is no JSON")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterable[str]:
    """The lines of a table with aligned columns; an empty cell is a dash."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [
        max([len(column), *(len(line[index]) for line in cells)]) for index, column in enumerate(columns)
    ]
    for line in [list(columns), *cells]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    text = "-" if value is None or value == "" else str(value)
    # Escaped before the widths are computed, because escapes are longer.
    return escape_invisible.line(text)
