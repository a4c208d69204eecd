"""Every metric by its name, labels and sentence; the numbers are the ledger's own."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bridge.admin.status import StatusLedger
from bridge.ledger.accounts import KeptBudget
from bridge.ledger.queries import LedgerCounts, ListStanding


class LedgerMetrics:
    """The ledger's counts as metrics, read when they are asked for."""

    def __init__(self, ledger: StatusLedger, answers: Callable[[], Mapping[tuple[str, int], int]]) -> None:
        self._ledger = ledger
        self._answers = answers

    def collect(self) -> Iterator[Metric]:
        """All metrics of one moment."""
        counts = self._ledger.counts()
        yield _gauge("callbridge_calls", "Calls in the ledger.", ["source"], _flat(counts.calls))
        yield _gauge(
            "callbridge_receipts", "Arrivals of records by verdict.", ["verdict"], _flat(counts.receipts)
        )
        yield _gauge(
            "callbridge_quarantined",
            "Records that wait for a person.",
            ["reason"],
            _flat(counts.quarantined),
        )
        deliveries: dict[tuple[str, ...], int] = {
            (destination, str(state)): count
            for destination, states in counts.deliveries.items()
            for state, count in states.items()
        }
        labels = ["destination", "state"]
        yield _gauge("callbridge_deliveries", "Deliveries by state.", labels, deliveries)
        taken = "Calls that a destination takes; what has no delivery yet waits for its verdict."
        yield _gauge("callbridge_destination_calls", taken, ["destination"], _flat(counts.taken))
        yield from _delivering(counts)
        yield from _lists(counts.lists)
        yield from _accounts(self._ledger.load_budgets())
        answered = CounterMetricFamily(
            "callbridge_callback_answers",
            "Answers given at the door since the start; the source is empty where the address names none.",
            labels=["source", "status"],
        )
        for (source, status), count in sorted(self._answers().items()):
            answered.add_metric([source, str(status)], count)
        yield answered


def _lists(lists: Mapping[str, ListStanding]) -> Iterator[Metric]:
    """How the sources stand with their platforms' lists."""

    def by_source(value: Callable[[ListStanding], float | None]) -> dict[tuple[str, ...], float]:
        found = {(name,): value(one) for name, one in lists.items()}
        return {name: each for name, each in found.items() if each is not None}

    def seconds(at: datetime | None) -> float | None:
        return None if at is None else at.timestamp()

    for name, text, values in (
        (
            "callbridge_covered_until_timestamp_seconds",
            "Until when a source's list has been walked without a hole.",
            by_source(lambda one: seconds(one.covered_until)),
        ),
        (
            "callbridge_last_reconciliation_timestamp_seconds",
            "When the last reconciliation ended, however it ended.",
            by_source(lambda one: seconds(one.last.ended_at) if one.last else None),
        ),
        (
            "callbridge_last_reconciliation_complete",
            "1 where the last reconciliation was complete.",
            by_source(lambda one: float(bool(one.last.complete)) if one.last else None),
        ),
        (
            "callbridge_gaps",
            "Calls of the last day covered that only the list has told of.",
            by_source(lambda one: float(one.gaps.only_listed) if one.gaps else None),
        ),
        (
            "callbridge_gap_rate",
            "The share that these are of all calls of that day.",
            by_source(lambda one: one.gaps.rate if one.gaps else None),
        ),
    ):
        yield _gauge(name, text, ["source"], values)


def _delivering(counts: LedgerCounts) -> Iterator[Metric]:
    owed: dict[tuple[str, ...], float] = {
        (name, lane): count for name, each in counts.owed.items() for lane, count in each.lanes.items()
    }
    yield _gauge("callbridge_owed", "Deliveries due or on their way.", ["destination", "lane"], owed)
    failed: dict[tuple[str, ...], float] = {
        (group.destination, group.state, group.cause or ""): group.count
        for group in (*counts.parked, *counts.retrying)
    }
    labels = ["destination", "state", "cause"]
    yield _gauge("callbridge_failures", "Deliveries parked or tried again, by cause.", labels, failed)
    attempts = CounterMetricFamily(
        "callbridge_delivery_attempts", "Attempts that have ended.", labels=["destination", "outcome"]
    )
    for name, outcomes in sorted(counts.attempts.items()):
        for outcome, count in sorted(outcomes.items()):
            attempts.add_metric([name, outcome], count)
    yield attempts


def _accounts(budgets: Mapping[str, KeptBudget]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "callbridge_requests", "Requests sent to a CRM account, by limit.", labels=["account", "limit"]
    )
    learned: dict[tuple[str, ...], float] = {}
    for name, kept in budgets.items():
        for limit, each in kept.saved["classes"].items():
            requests.add_metric([name, limit], each["requests"])
            if rate := each.get("learned_rate"):
                learned[name, limit] = rate
    yield requests
    open_ones: dict[tuple[str, ...], float] = {
        (name,): float(kept.saved["breaker"]["open_until"] is not None) for name, kept in budgets.items()
    }
    yield _gauge("callbridge_account_paused", "1 while an account's breaker is open.", ["account"], open_ones)
    text = "Requests a second that a limit was learned down to, where the CRM refused more."
    yield _gauge("callbridge_account_learned_rate", text, ["account", "limit"], learned)


def _flat(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(name,): count for name, count in counts.items()}


def _gauge(
    name: str, text: str, labels: list[str], values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for label, value in sorted(values.items()):
        gauge.add_metric([str(part) for part in label], value)
    return gauge
