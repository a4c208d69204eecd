"""The status of a whole callbridge as one document: what `status --json` prints and what a page may show."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime

from bridge.ledger import Ledger, Row
from bridge.lib.iso_times import moment, stamp
from bridge.lib.stored_times import LONGEST_PAUSE, bounded
from bridge.model.deliveries import DeliveryState
from bridge.model.failures import OF_THIS_CAUSE


def status_document(ledger: Ledger, listed_sources: Sequence[str], now: datetime) -> Row:
    """Counts by state, how far behind, and what needs a person; the keys are those of `status --json`.

    `listed_sources`: those whose list can be asked, which are told of even before the first walk.
    """
    counts = ledger.counts()
    parked = sum(states[DeliveryState.PARKED] for states in counts["deliveries"].values())
    quarantined = sum(counts["quarantined"].values())
    losses = [loss for loss in ledger.losses() if loss["open"]]
    owed = counts.pop("oldest_owed_at")
    lag = max(0.0, (now - moment(owed)).total_seconds()) if owed else 0.0
    for name in ("retrying", "parked"):
        counts[name] = [with_retry_command(group) for group in counts[name]]
    return counts | {
        "lag_seconds": round(lag, 3),
        **_lists(listed_sources, counts.pop("lists")),
        "accounts": accounts_now(ledger.load_budgets(), now),
        "losses": losses,
        "needs_person": parked + quarantined + len(losses),
        "space": ledger.space(),
    }


def _lists(listed_sources: Sequence[str], lists: Mapping[str, Row]) -> Row:
    """How the sources stand with their lists; one that was never walked is there all the same."""
    known = {name: lists.get(name, {}) for name in dict.fromkeys([*listed_sources, *lists])}
    return {
        "last_reconciliation": {name: one.get("last") for name, one in known.items()},
        "covered_until": {name: one.get("covered_until") for name, one in known.items()},
        "gaps": {name: one.get("gaps") for name, one in known.items()},
    }


def with_retry_command(group: Row) -> Row:
    """The same cause, its remedy with the whole command that tries these deliveries again."""
    whole = f"--cause {shlex.quote(group['cause'] or '')} --destination {shlex.quote(group['destination'])}"
    return group | {"remedy": (group["remedy"] or "").replace(OF_THIS_CAUSE, whole) or None}


def accounts_now(budgets: Mapping[str, Row], now: datetime) -> list[Row]:
    """What CRM accounts allow: which are paused, why and until when; rates as they were learned."""
    found = []
    for name, kept in budgets.items():
        breaker, limits = kept["breaker"], []
        for limit, each in kept["classes"].items():
            paused = each["paused_until"]
            left = None if each["daily"] is None else max(0, each["daily"] - each["spent"])
            limits.append(
                {
                    "limit": limit,
                    "rates": each["rates"],
                    "learned_rate": each.get("learned_rate"),
                    "requests": each["requests"],
                }
                | {"daily_left": left, "day_ends_at": each["day_ends_at"]}
                | {"paused_until": paused if paused and _goes_on(moment(paused), now) else None}
            )
        open_until = breaker["open_until"]
        # Its time may be over: then the next delivery finds out.
        if open_until and bounded(moment(open_until), now, LONGEST_PAUSE) is None:
            # A clock that stood wrong has told this time.
            open_until = stamp(now)
        paused = {"until": open_until, "why": breaker["why"]} if open_until else None
        found.append({"account": name, "as_of": kept["at"], "paused": paused, "limits": limits})
    return found


def _goes_on(at: datetime, now: datetime) -> bool:
    """Whether a pause goes on; one of longer than any wait is over."""
    return at > now and bounded(at, now) is not None
