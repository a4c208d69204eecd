"""Commands that run something: the daemon, the demo, the sandboxes; and those that prepare it."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from bridge.check.crm import Found
from bridge.check.online import ask_online, ask_platforms
from bridge.cli.output import (
    ExitCode,
    config_option,
    json_option,
    ledger_path,
    read_config,
    say,
    say_json,
    show,
)
from bridge.config import starters
from bridge.config.load import Config
from bridge.config.problems import find_problems
from bridge.config.secrets import resolve_secrets
from bridge.lib.clocks import now_utc
from bridge.lib.errors import ConfigError, Problem
from bridge.lib.log import configure

PORT = click.IntRange(0, 65535)
SHARE = click.FloatRange(0.0, 1.0)
TOKEN_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@config_option
@json_option
def run(config_path: Path | None, as_json: bool) -> None:
    """The daemon: takes callbacks, delivers calls, until SIGTERM (with --json its log is JSON)."""
    # Loaded here, because looking at the ledger needs no web server.
    from bridge.daemon.app import Daemon  # noqa: PLC0415
    from bridge.daemon.signals import on_signals  # noqa: PLC0415
    from bridge.ledger import check_user, open_ledger, ownership_of  # noqa: PLC0415

    config = _config_or_all_problems(config_path)
    path = ledger_path(config)
    # Said first: the wrong user cannot read secrets either.
    check_user(path)
    warnings = _refuse_problems(config_path)
    secrets = resolve_secrets(config, os.environ)
    configure(config.log.level, "json" if as_json else config.log.format)
    for warning in warnings:
        say(f"warning: {warning}", err=True)
    with ownership_of(path) as owner:
        ledger = open_ledger(path, create=True, min_free=config.ledger.min_free, owner=owner)
        try:
            Daemon(config, secrets, ledger).run(on_signals)
        finally:
            ledger.close()


def _config_or_all_problems(config_path: Path | None) -> Config:
    try:
        return read_config(config_path)
    except ConfigError:
        _refuse_problems(config_path)
        raise


def _refuse_problems(config_path: Path | None) -> list[Problem]:
    """Before anything is touched, and all of it at once, as `check` says it; what is only warned of."""
    findings = find_problems(config_path, os.environ)
    if findings.problems:
        raise ConfigError(findings.problems)
    # A daemon that does not start loses callbacks, which is worse than a token that could be longer.
    return [*findings.short_tokens, *findings.warnings]


@click.command()
@click.option("--online", is_flag=True, help="Ask platforms and CRMs too: logins, objects, fields, clock.")
@click.option("--destination", help="With --online: only this one's CRM.")
@config_option
@json_option
def check(online: bool, destination: str | None, config_path: Path | None, as_json: bool) -> None:
    """Validate configuration, connectors and mappings: every problem at once (exit 2).

    With --online, where nothing is wrong, platforms and CRMs are asked too; nothing is written there.
    Exit 3 when one cannot be reached.
    """
    if destination is not None and not online:
        raise click.UsageError("--destination says which CRM is asked: add --online")
    findings = find_problems(config_path, os.environ)
    problems, warnings = [*findings.problems, *findings.short_tokens], list(findings.warnings)
    unreachable: list[Problem] = []
    if online and not problems:
        for found in _asked(read_config(config_path), destination):
            problems += found.problems
            warnings += found.warnings
            unreachable += found.unreachable
    elif online:
        say("platforms and CRMs are not asked until this is mended", err=True)
    document = {"problems": problems, "warnings": warnings} | ({"unreachable": unreachable} if online else {})
    shown = {name: [_shown(problem) for problem in some] for name, some in document.items()}
    lines = [*map(str, [*problems, *unreachable]), *(f"warning: {warning}" for warning in warnings)]
    show(shown, as_json, lines or ["no problems"])
    sys.exit(ExitCode.USAGE if problems else ExitCode.COULD_NOT if unreachable else ExitCode.DONE)


def _asked(config: Config, destination: str | None) -> list[Found]:
    """What came of asking the CRMs, and the platforms where not one CRM is meant."""
    if destination is not None and destination not in config.destinations:
        raise click.UsageError(f'there is no destination "{destination}"')
    secrets, clock = resolve_secrets(config, os.environ), now_utc
    found = list(ask_online(config, secrets, destination, clock).values())
    return found if destination is not None else [*found, *ask_platforms(config, secrets, clock).values()]


def _shown(problem: Problem) -> dict[str, str | int | None]:
    return {name: getattr(problem, name) for name in ("file", "line", "key", "message", "remedy")}


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


@click.command()
@click.option("--once", is_flag=True, help="Send one batch, print the balance, and exit (1: not balanced).")
@click.option("--spoil", is_flag=True, help="With --once: delete a call in the CRM before the count.")
@click.option("--count", type=click.IntRange(1, 10_000), default=220, help="Calls in the batch (220).")
@config_option
@json_option
def demo(once: bool, spoil: bool, count: int, config_path: Path | None, as_json: bool) -> None:
    """Platform, CRM and daemon on one screen, with nothing to set up."""
    from bridge.cli.audit import balance_lines  # noqa: PLC0415 -- a demo's start is not in a hurry
    from bridge.sandbox.demo import Demo, watch  # noqa: PLC0415

    del config_path  # accepted everywhere; the demo brings its own
    if as_json and not once:
        raise click.UsageError("without an end there is no document: add --once")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.DONE))
    with Demo() as running:
        if not once:
            watch(running, say)
            return
        balance = running.once(count, spoil=spoil)
    told = (
        f"{balance['pushes']} pushes; {balance['reconciled']} calls were never pushed: the list showed them"
    )
    show(balance, as_json, [told, *balance_lines(balance), *balance["findings"]])
    sys.exit(ExitCode.DONE if balance["balanced"] else ExitCode.FINDINGS)


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
    from bridge.sandbox.serving import serve_platform  # noqa: PLC0415

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
    from bridge.sandbox.serving import serve_crm  # noqa: PLC0415

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
    """A token that stands in a file, because every user of the machine sees a command line."""
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} cannot be read: {error}", param_hint="--token-file") from error


def _announce(as_json: bool, url: str, line: str) -> None:
    if as_json:
        say_json(json.dumps({"url": url}))
    say(line, err=True)
