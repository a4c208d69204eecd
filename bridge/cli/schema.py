"""The JSON Schemas for editors."""

import json
from pathlib import Path

import click

from bridge.cli.output import config_option, json_option, say_json
from bridge.config.json_schemas import FILE_KINDS, schema_of


@click.command()
@click.argument("kind", type=click.Choice(FILE_KINDS))
@config_option
@json_option
def schema(kind: str, config_path: Path | None, as_json: bool) -> None:
    """Print the JSON Schema of a kind of file, for editors: config, connector or mapping."""
    del config_path, as_json  # accepted everywhere; a schema is JSON in any case, and of no one configuration
    say_json(json.dumps(schema_of(kind), indent=2, ensure_ascii=False))
