"""Asks every destination's CRM, and every source's list, for `check --online`. Begin at `ask_online()`."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path

from bridge.check.crm import LedgerTokens, OnlineFindings, Subject, probe
from bridge.config.load import Config
from bridge.config.secrets import Secrets
from bridge.crm.client import Crm
from bridge.crm.tokens import Tokens
from bridge.daemon.wiring import load_destinations, log_in_to, origin_of
from bridge.delivery.destination import Destination
from bridge.ledger import ownership_of
from bridge.lib.errors import LedgerError, Problem, SourceRefused, SourceUnreachable
from bridge.lib.toml_file import KeyPath
from bridge.mapping import planned_cases
from bridge.model.plan import Plan

LIST_WINDOW = timedelta(hours=1)
"""The list is asked for one row of the last hour."""


def ask_online(
    config: Config, secrets: Secrets, wanted: str | None, clock: Callable[[], datetime]
) -> dict[str, OnlineFindings]:
    """Ask the CRM of every destination, or of the one that is `wanted`; nothing is written there."""
    destinations = load_destinations(config, secrets)
    path = config.ledger.file(config.base_dir)
    found: dict[str, OnlineFindings] = {}
    with ExitStack() as held:
        borrowed = ""
        if any(destination.connector.auth.rotates_refresh_token for destination in destinations.values()):
            borrowed = _why_borrowed(path, held)
        for name, destination in destinations.items():
            if wanted in (None, name):
                why = borrowed if destination.connector.auth.rotates_refresh_token else ""
                found[name] = _ask_one(config, destination, LedgerTokens(path), why, clock)
    return found


def ask_platforms(
    config: Config, secrets: Secrets, clock: Callable[[], datetime]
) -> dict[str, OnlineFindings]:
    """Log in to every source's list with each of its logins, and ask for a page of one row."""
    found: dict[str, OnlineFindings] = {}
    for name, settings in config.sources.items():
        if not settings.api:
            continue
        found[name] = OnlineFindings()
        now = clock().replace(microsecond=0)
        for login in log_in_to(config, name, secrets.api[name], clock, threading.Event())():
            with closing(login):
                try:
                    login.page(now - LIST_WINDOW, now, 0, 1)
                except SourceUnreachable as error:
                    found[name].unreachable.append(_of_source(config, name, str(error)))
                except SourceRefused as error:
                    found[name].problems.append(_of_source(config, name, str(error)))
    return found


def _of_source(config: Config, source: str, message: str) -> Problem:
    return config.written(("sources", source, "api"), f"source {source}: {message}")


def _why_borrowed(path: Path, held: ExitStack) -> str:
    """Why a rotating refresh token may not be renewed here; empty where it may, as long as `held` is open."""
    why = "its refresh token changes with each use, and"
    if not path.exists():
        return f"{why} there is no ledger to keep it: start the daemon once"
    try:
        held.enter_context(ownership_of(path, guest=True))
    except LedgerError as error:
        return f"{why} it is the daemon's to renew ({error})"
    return ""


def _ask_one(
    config: Config,
    destination: Destination,
    store: LedgerTokens,
    borrowed: str,
    clock: Callable[[], datetime],
) -> OnlineFindings:
    account, connector, path = destination.account, destination.connector, ("destinations", destination.name)
    tokens = Tokens(account.name, connector.auth.tokens, account.secrets, store, clock, borrowed=borrowed)
    source = next(iter(config.sources_of(destination.name)), None)
    plans: list[tuple[str, Plan]] = []
    if source is not None:
        plans += planned_cases(destination.mapping, origin_of(config, source))

    def problem(key: KeyPath, message: str, remedy: str) -> Problem:
        return config.written((*path, *key), f"destination {destination.name}: {message}", remedy)

    with closing(Crm(connector, account, tokens, clock)) as crm:
        return probe(Subject(destination.name, destination.mapping, crm, plans, problem), clock)
