"""`run`: starts the daemon and runs it until a signal ends it."""

import os
from pathlib import Path

import click

from bridge.cli.output import config_option, json_option, ledger_path, read_config, say
from bridge.config.load import Config
from bridge.config.problems import find_problems
from bridge.config.secrets import resolve_secrets
from bridge.lib.errors import ConfigError, Problem
from bridge.lib.log import configure


@click.command()
@config_option
@json_option
def run(config_path: Path | None, as_json: bool) -> None:
    """The daemon: takes callbacks, delivers calls, until SIGTERM (with --json its log is JSON)."""
    # Imported here, because the other commands need no web server.
    from bridge.daemon.app import run_daemon  # noqa: PLC0415
    from bridge.daemon.signals import on_signals  # noqa: PLC0415
    from bridge.ledger import check_user  # noqa: PLC0415

    config = _config_or_all_problems(config_path)
    path = ledger_path(config)
    # Before the other problems: the wrong user cannot read the secrets either, and would see only those.
    check_user(path)
    warnings = _refuse_problems(config_path)
    secrets = resolve_secrets(config, os.environ)
    configure(config.log.level, "json" if as_json else config.log.format)
    for warning in warnings:
        say(f"warning: {warning}", err=True)
    run_daemon(config, secrets, path, on_signals)


def _config_or_all_problems(config_path: Path | None) -> Config:
    try:
        return read_config(config_path)
    except ConfigError:
        _refuse_problems(config_path)
        raise


def _refuse_problems(config_path: Path | None) -> list[Problem]:
    """Refuse a configuration with problems before anything is opened; return the warnings.

    Raises:
        ConfigError: all problems, as `check` prints them.
    """
    findings = find_problems(config_path, os.environ)
    if findings.problems:
        raise ConfigError(findings.problems)
    # A short token is only warned of: a daemon that does not start loses callbacks, which is worse.
    return [*findings.short_tokens, *findings.warnings]
