"""The retry policy: when a delivery that failed for now is tried again, and when that ends."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# 2**30 times any wait is longer than any maximum, and a timedelta holds it.
_MOST_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff: by default 10 s, 20 s, 40 s … up to 1 h, ±10 % jitter; gives up after 5 days.

    The days count from the moment the delivery came due.
    """

    initial: timedelta
    maximum: timedelta
    give_up_after: timedelta


def next_attempt_at(
    policy: RetryPolicy,
    *,
    owed_at: datetime,
    attempt: int,
    retry_after: float | None,
    now: datetime,
    jitter: float,
    maximum: timedelta | None = None,
) -> datetime | None:
    """When to try again; None: the policy gives up.

    `attempt` counts from 1. `retry_after` is the CRM's own wish in seconds: never earlier than that.
    `jitter` in [0, 1) spreads the wait over 90 to 110 % of it. `maximum` bounds the wait beside the policy's
    own maximum.
    """
    doublings = min(attempt - 1, _MOST_DOUBLINGS)
    # Giving up takes both the time and as many attempts as lead to the longest wait: a system clock that is
    # put forward by a year gives nothing up.
    if now - owed_at >= policy.give_up_after and policy.initial * 2**doublings >= policy.maximum:
        return None
    bound = policy.maximum if maximum is None else min(maximum, policy.maximum)
    wait: timedelta = min(policy.initial * 2**doublings, bound) * (0.9 + 0.2 * jitter)
    asked = timedelta(seconds=retry_after or 0)
    return now + max(wait, asked)
