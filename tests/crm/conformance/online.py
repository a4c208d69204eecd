"""What `check --online` says of a starter mapping, asked of the server that stands for its CRM."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bridge.check.crm import Subject, probe
from bridge.crm.client import Crm
from bridge.crm.connector import Connector
from bridge.crm.tokens import Tokens
from bridge.lib.errors import Problem
from bridge.lib.toml_file import KeyPath, load_toml
from bridge.mapping import load_mapping, planned_cases
from tests.crm.conformance.bench import ConnectorCase, account_of
from tests.fixtures.origins import MAIN
from tests.servers.base import VendorServer
from tests.servers.clock import Clock


class Nowhere:
    """Keeps no token."""

    def load_token(self, _account: str) -> Mapping[str, Any] | None:
        """There is none."""
        return None

    def save_token(self, _account: str, _saved: Mapping[str, Any]) -> None:
        """Forget it."""


def found_online(
    case: ConnectorCase, server: VendorServer, clock: Clock, mapping_path: Path | None = None
) -> list[str]:
    """The problems that were found, and why it could not be asked; the servers' clocks stand still."""
    connector = Connector(load_toml(case.connector_path))
    account = account_of(connector, server)
    mapping = load_mapping(mapping_path or case.mapping_path)
    plans = list(planned_cases(mapping, MAIN))

    def problem(_path: KeyPath, message: str, remedy: str) -> Problem:
        return Problem("config.toml", "destinations.crm", message, remedy)

    tokens = Tokens(account.name, connector.auth.tokens, account.secrets, Nowhere(), clock)
    with closing(Crm(connector, account, tokens, clock)) as crm:
        found = probe(Subject("crm", mapping, crm, plans, problem), clock)
    problems = [str(one) for one in (*found.problems, *found.unreachable)]
    return [one for one in problems if "clock is" not in one]
