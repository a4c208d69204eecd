"""`simulate platform` and `simulate crm`: a platform and a CRM to try things on, on loopback."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from bridge.cli.output import config_option, json_option, say, say_json

PORT = click.IntRange(0, 65535)
SHARE = click.FloatRange(0.0, 1.0)
TOKEN_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("platform")
@click.option("--port", type=PORT, default=8470, show_default=True, help="Where it listens on 127.0.0.1.")
@click.option("--url", default="", help="The callback URL to push calls to.")
@click.option("--token-file", type=TOKEN_FILE, help="A file with the token that the URL lacks.")
@click.option("--rate", default=1.0, show_default=True, help="Calls a second to push; 0: only on demand.")
@click.option("--seed", default=1, show_default=True, help="Which calls it makes up.")
@config_option
@json_option
def simulate_platform(
    port: int,
    url: str,
    token_file: Path | None,
    rate: float,
    seed: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """A call platform that pushes varied records, with its three tries."""
    from bridge.sandbox.foreground import serve_platform  # noqa: PLC0415

    del config_path  # accepted everywhere; a sandbox needs none
    if token_file is not None:
        url = f"{url.rstrip('/')}/{_token_in(token_file)}"
    serve_platform(port, url, rate, seed, partial(_announce, as_json))


@click.command("crm")
@click.option("--port", type=PORT, default=8490, show_default=True, help="Where it listens on 127.0.0.1.")
@click.option("--token", help="The only bearer token that is taken (default: any).")
@click.option("--token-file", type=TOKEN_FILE, help="A file with that token.")
@click.option("--no-upserts", is_flag=True, help="Only search, create, update, link; tokens from /token.")
@click.option("--lag", default=0.0, help="With --no-upserts: seconds until the search sees what is new (0).")
@click.option("--token-uses", default=0, help="With --no-upserts: a token is good for so many requests.")
@click.option("--lose", type=SHARE, default=0.0, help="The share of answers that are lost (0).")
@click.option("--fail", type=SHARE, default=0.0, help="The share of requests that are answered 5xx (0).")
@click.option("--limit", type=SHARE, default=0.0, help="The share of requests that are answered 429 (0).")
@config_option
@json_option
def simulate_crm(port: int, token: str | None, token_file: Path | None, **options: Any) -> None:
    """A CRM in memory, with idempotent upserts (or without) and faults on demand."""
    from bridge.sandbox.crm import SandboxCrm  # noqa: PLC0415
    from bridge.sandbox.faults import Rates  # noqa: PLC0415
    from bridge.sandbox.foreground import serve_crm  # noqa: PLC0415

    if token_file is not None:
        token = _token_in(token_file)
    crm = SandboxCrm(
        token,
        upserts=not options["no_upserts"],
        lag=options["lag"],
        token_uses=options["token_uses"],
        rates=Rates(lost=options["lose"], errors=options["fail"], limited=options["limit"]),
    )
    serve_crm(port, crm, partial(_announce, options["as_json"]))


def _token_in(file: Path) -> str:
    """Read a token from a file: every user of the machine can see a command line."""
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} cannot be read: {error}", param_hint="--token-file") from error


def _announce(as_json: bool, url: str, line: str) -> None:
    if as_json:
        say_json(json.dumps({"url": url}))
    say(line, err=True)
