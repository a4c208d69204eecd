"""What is learned of a CRM account's limits, in the form in which ledgers keep it as JSON.

Releases read one another's ledgers, so no key may change its meaning. A key that earlier releases did not
write may be missing. Times are texts of ISO 8601.
"""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict


class KeptRate(TypedDict):
    """A rate that was learned from refusals."""

    rate: float
    """Requests a second."""
    since: float
    """When it was set, in seconds since the epoch."""
    share: float
    """Refusals for each accepted request before it was set."""


class KeptBreaker(TypedDict):
    """The circuit breaker of an account."""

    open_until: str | None
    """None: it is closed."""
    why: str
    pause: float
    """How long the next pause will be, in seconds."""


class KeptLimit(TypedDict):
    """What is known of one limit: an entry of the connector's `[limits]`."""

    rates: Sequence[str]
    """As declared, such as `100/10s`."""
    learned: NotRequired[KeptRate | None]
    learned_rate: NotRequired[float | None]
    """The learned rate in requests a second, rounded for people."""
    factor: float
    """Always 1.0: what the release before `learned` reads in its place."""
    spent: int
    """Requests of this day."""
    daily: int | None
    """As many as a day allows; None: it has no bound."""
    day_ends_at: str | None
    paused_until: str | None
    requests: int
    """All that were ever sent."""
    went: Sequence[Sequence[Sequence[int]]]
    """For each of `rates` what counts yet: part of its window, and how many went in it."""


class KeptLimits(TypedDict):
    """All that is kept of an account."""

    breaker: KeptBreaker
    classes: Mapping[str, KeptLimit]
    """Limit → what is known of it."""
