"""One CRM account: its address, its secrets and its settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """One account at a CRM, as the configuration has it."""

    name: str
    """Destinations with the same name share the account's token, limits and key locks."""
    base_url: str
    secrets: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, str]
    """The values of the connector's `[settings]`."""
    timeout: float
    """Seconds that each part of a request may take: connecting, sending, reading."""
