"""`check`: validates configuration, connectors and mappings; with `--online` it asks CRMs and platforms."""

import os
import sys
from pathlib import Path

import click

from bridge.check.crm import OnlineFindings
from bridge.check.online import ask_online, ask_platforms
from bridge.cli.output import ExitCode, config_option, json_option, read_config, say, show
from bridge.config.load import Config
from bridge.config.problems import find_problems
from bridge.config.secrets import resolve_secrets
from bridge.lib.clocks import now_utc
from bridge.lib.errors import Problem


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
        for online_findings in _asked(read_config(config_path), destination):
            problems += online_findings.problems
            warnings += online_findings.warnings
            unreachable += online_findings.unreachable
    elif online:
        say("platforms and CRMs are not asked until this is mended", err=True)
    document = {"problems": problems, "warnings": warnings} | ({"unreachable": unreachable} if online else {})
    documents = {name: [_document(problem) for problem in some] for name, some in document.items()}
    lines = [*map(str, [*problems, *unreachable]), *(f"warning: {warning}" for warning in warnings)]
    show(documents, as_json, lines or ["no problems"])
    sys.exit(ExitCode.USAGE if problems else ExitCode.COULD_NOT if unreachable else ExitCode.DONE)


def _asked(config: Config, destination: str | None) -> list[OnlineFindings]:
    """Ask the CRM of one destination, or all CRMs and platforms."""
    if destination is not None and destination not in config.destinations:
        raise click.UsageError(f'there is no destination "{destination}"')
    secrets, clock = resolve_secrets(config, os.environ), now_utc
    online_findings = list(ask_online(config, secrets, destination, clock).values())
    return (
        online_findings
        if destination is not None
        else [*online_findings, *ask_platforms(config, secrets, clock).values()]
    )


def _document(problem: Problem) -> dict[str, str | int | None]:
    return {name: getattr(problem, name) for name in ("file", "line", "key", "message", "remedy")}
