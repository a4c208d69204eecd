"""`backup`: copies the ledger while the daemon works, and checks the copy."""

from pathlib import Path

import click

from bridge.cli.follow_job import follow
from bridge.cli.output import config_option, json_option, read_config, show


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@json_option
def backup(file: Path, config_path: Path | None, as_json: bool) -> None:
    """A consistent copy of the ledger while all goes on, opened and checked."""
    result = follow(read_config(config_path), "backup", {"file": str(file.absolute())})
    show(result, as_json, [f"{result['file']}: {result['calls']} calls, {result['bytes']} bytes, checked"])
