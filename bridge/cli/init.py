"""`init`: writes a commented configuration, a mapping to start from and new secrets."""

from pathlib import Path

import click

from bridge.cli.output import config_option, json_option, show
from bridge.config import starters


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=".")
@config_option
@json_option
def init(directory: Path, config_path: Path | None, as_json: bool) -> None:
    """Write a commented configuration, a starting mapping and generated secrets."""
    if config_path is not None:
        raise click.UsageError("init makes a configuration: name the directory instead")
    written = starters.write_all(directory)
    token = (directory / starters.CALLBACK_TOKEN).read_text("ascii").strip()
    lines = [
        *(f"wrote {path}" for path in written),
        "",
        "Next:",
        "  callbridge simulate crm &                       # or set base_url and token of your CRM",
        f"  callbridge check -c {directory / 'config.toml'}",
        f"  callbridge run -c {directory / 'config.toml'}",
        f"The callback URL to give to the platform ends in: /callback/main/{token}",
    ]
    show({"written": [str(path) for path in written]}, as_json, lines)
