"""`prune`: removes what is older than `[retention]` keeps it."""

from pathlib import Path

import click

from bridge.cli.follow_job import follow
from bridge.cli.output import config_option, json_option, read_config, show


@click.command()
@config_option
@json_option
def prune(config_path: Path | None, as_json: bool) -> None:
    """Remove what is older than `[retention]` keeps it; the daemon does so daily by itself."""
    result = follow(read_config(config_path), "prune", {})
    show(result, as_json, [f"{name}: {count} removed" for name, count in result["removed"].items()])
