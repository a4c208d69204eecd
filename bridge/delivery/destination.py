"""Where calls are delivered: destinations, and what all workers share of each CRM account."""

from dataclasses import dataclass, field

from bridge.crm.connector import Connector
from bridge.crm.rendering import Account
from bridge.crm.tokens import Tokens
from bridge.delivery.batch_gate import BatchGate
from bridge.delivery.budget import Budget
from bridge.delivery.poison_records import Successes
from bridge.mapping import CompiledMapping


@dataclass(frozen=True, slots=True)
class Destination:
    """One CRM account with the mapping for it, ready to be delivered to."""

    name: str
    mapping: CompiledMapping
    connector: Connector
    account: Account


@dataclass(frozen=True, slots=True)
class SharedAccount:
    """What all workers share of one CRM account."""

    tokens: Tokens
    budget: Budget
    gate: BatchGate = field(default_factory=BatchGate)
    successes: Successes = field(default_factory=Successes)
