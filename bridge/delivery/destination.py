"""Where calls are delivered: destinations, and what all workers share of each CRM account."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.crm.tokens import Tokens
from bridge.delivery.budget import Budget
from bridge.delivery.poison_records import Successes
from bridge.mapping import CompiledMapping
from bridge.record.origin import Origin


@dataclass(frozen=True, slots=True)
class Destination:
    """One CRM account with the mapping for it, ready to be delivered to."""

    name: str
    mapping: CompiledMapping
    connector: Connector
    account: Account

    @property
    def takes_batches(self) -> bool:
        """Whether deliveries to it can share a request."""
        return self.connector.together > 1

    @property
    def settles_within(self) -> timedelta:
        """How long its slowest look-up may not show what was sent."""
        return max(kind.settles_within for kind in self.connector.objects.values())


@dataclass(frozen=True, slots=True)
class SharedAccount:
    """What all workers share of one CRM account."""

    tokens: Tokens
    budget: Budget
    successes: Successes = field(default_factory=Successes)


@dataclass(frozen=True, slots=True)
class Routes:
    """From which sources to which destinations a worker delivers."""

    origins: Mapping[str, Origin]
    """By source."""
    destinations: Mapping[str, Destination]
    """By destination."""
    accounts: Mapping[str, SharedAccount]
    """By the name of the CRM account, which several destinations may share."""

    def account_of(self, destination: str) -> SharedAccount:
        """What is shared of a destination's CRM account."""
        return self.accounts[self.destinations[destination].account.name]

    def destinations_like(self, destination: str) -> list[str]:
        """All destinations of the same CRM account, this one among them."""
        account = self.destinations[destination].account.name
        return [name for name, each in self.destinations.items() if each.account.name == account]
