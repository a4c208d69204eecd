"""The operators' listener: health and metrics."""

import hmac
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.ledger import Ledger
from bridge.lib.addresses import Network, is_among, is_own_name, parse_address
from bridge.lib.errors import LedgerError
from bridge.lib.iso_times import moment


class LedgerMetrics:
    """The ledger's counts as metrics, read when they are asked for."""

    def __init__(self, ledger: Ledger, answers: Callable[[], Mapping[tuple[str, int], int]]) -> None:
        self._ledger = ledger
        self._answers = answers

    def collect(self) -> Iterator[Metric]:
        """All metrics of one moment."""
        counts = self._ledger.counts()
        yield _gauge("callbridge_calls", "Calls in the ledger.", ["source"], _flat(counts["calls"]))
        yield _gauge(
            "callbridge_receipts", "Arrivals of records by verdict.", ["verdict"], _flat(counts["receipts"])
        )
        yield _gauge(
            "callbridge_quarantined",
            "Records that wait for a person.",
            ["reason"],
            _flat(counts["quarantined"]),
        )
        deliveries: dict[tuple[str, ...], int] = {
            (destination, str(state)): count
            for destination, states in counts["deliveries"].items()
            for state, count in states.items()
        }
        labels = ["destination", "state"]
        yield _gauge("callbridge_deliveries", "Deliveries by state.", labels, deliveries)
        taken = "Calls that a destination takes; what has no delivery yet waits for its verdict."
        yield _gauge("callbridge_destination_calls", taken, ["destination"], _flat(counts["taken"]))
        yield from _delivering(counts)
        yield from _lists(counts["lists"])
        yield from _accounts(self._ledger.load_budgets())
        answered = CounterMetricFamily(
            "callbridge_callback_answers",
            "Answers given at the door since the start; the source is empty where the address names none.",
            labels=["source", "status"],
        )
        for (source, status), count in sorted(self._answers().items()):
            answered.add_metric([source, str(status)], count)
        yield answered


def _lists(lists: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """How the sources stand with their platforms' lists."""

    def by_source(part: str, value: Callable[[Any], float]) -> dict[tuple[str, ...], float]:
        return {(name,): value(one[part]) for name, one in lists.items() if one[part]}

    def seconds(at: str) -> float:
        return moment(at).timestamp()

    for name, text, values in (
        (
            "callbridge_covered_until_timestamp_seconds",
            "Until when a source's list has been walked without a hole.",
            by_source("covered_until", seconds),
        ),
        (
            "callbridge_last_reconciliation_timestamp_seconds",
            "When the last reconciliation ended, however it ended.",
            by_source("last", lambda last: seconds(last["ended_at"])),
        ),
        (
            "callbridge_last_reconciliation_complete",
            "1 where the last reconciliation was complete.",
            by_source("last", lambda last: float(bool(last["complete"]))),
        ),
        (
            "callbridge_gaps",
            "Calls of the last day covered that only the list has told of.",
            by_source("gaps", lambda gaps: float(gaps["only_listed"])),
        ),
        (
            "callbridge_gap_rate",
            "The share that these are of all calls of that day.",
            by_source("gaps", lambda gaps: float(gaps["rate"])),
        ),
    ):
        yield _gauge(name, text, ["source"], values)


def _delivering(counts: Mapping[str, Any]) -> Iterator[Metric]:
    owed: dict[tuple[str, ...], float] = {
        (name, lane): count for name, each in counts["owed"].items() for lane, count in each["lanes"].items()
    }
    yield _gauge("callbridge_owed", "Deliveries due or on their way.", ["destination", "lane"], owed)
    failed: dict[tuple[str, ...], float] = {
        (group["destination"], group["state"], group["cause"] or ""): group["count"]
        for group in (*counts["parked"], *counts["retrying"])
    }
    labels = ["destination", "state", "cause"]
    yield _gauge("callbridge_failures", "Deliveries parked or tried again, by cause.", labels, failed)
    attempts = CounterMetricFamily(
        "callbridge_delivery_attempts", "Attempts that have ended.", labels=["destination", "outcome"]
    )
    for name, outcomes in sorted(counts["attempts"].items()):
        for outcome, count in sorted(outcomes.items()):
            attempts.add_metric([name, outcome], count)
    yield attempts


def _accounts(budgets: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "callbridge_requests", "Requests sent to a CRM account, by limit.", labels=["account", "limit"]
    )
    learned: dict[tuple[str, ...], float] = {}
    for name, kept in budgets.items():
        for limit, each in kept["classes"].items():
            requests.add_metric([name, limit], each["requests"])
            if each.get("learned_rate"):
                learned[name, limit] = each["learned_rate"]
    yield requests
    open_ones: dict[tuple[str, ...], float] = {
        (name,): float(kept["breaker"]["open_until"] is not None) for name, kept in budgets.items()
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


def admin_app(
    ledger: Ledger,
    *,
    accepting: Callable[[], bool],
    answers: Callable[[], Mapping[tuple[str, int], int]],
    hosts: Collection[str] = (),
    metrics_token: str | None = None,
    trusted_proxies: Sequence[Network] = (),
) -> ASGIApp:
    """The ASGI application of the admin listener; `accepting` says whether callbacks are taken."""
    registry = CollectorRegistry()
    # Registering asks a collector for its metrics once, which is one look at the ledger.
    registry.register(LedgerMetrics(ledger, answers))

    def healthz(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        if not accepting():
            return PlainTextResponse("callbacks are not accepted\n", 503)
        if not await run_in_threadpool(ledger.writable):
            return PlainTextResponse("the ledger cannot be written\n", 503)
        return PlainTextResponse("ready\n")

    async def metrics(request: Request) -> Response:
        if not may_look(request, metrics_token, trusted_proxies):
            return PlainTextResponse(
                "admin.metrics_token is needed as a bearer token\n", 401, {"WWW-Authenticate": "Bearer"}
            )
        try:
            text = await run_in_threadpool(generate_latest, registry)
        except LedgerError as error:
            return PlainTextResponse(f"{error}\n", 503)
        return Response(text, media_type="text/plain; version=0.0.4")

    app = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
    # Starlette would redirect /metrics/ to whatever host the request names.
    app.router.redirect_slashes = False
    return OwnNames(app, hosts)


class OwnNames:
    """Answers only requests for this program's own names, whatever they ask for; others get `421`.

    A page in an operator's browser could otherwise read everything here under a name of its own, once that
    name's DNS has been turned to this address.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        if all(is_own_name(host.decode("latin-1"), self._names) for host in hosts):
            await self._app(scope, receive, send)
            return
        text = "this host's name is not among admin.hosts\n"
        await PlainTextResponse(text, 421)(scope, receive, send)


_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host", "via")


def may_look(request: Request, token: str | None, trusted: Sequence[Network]) -> bool:
    """Whoever asks from this machine itself, not through a proxy; else who carries the metrics token."""
    peer = parse_address(request.client.host) if request.client else None
    proxied = is_among(peer, trusted) or any(name in request.headers for name in _FORWARDED)
    if peer is not None and peer.is_loopback and not proxied:
        return True
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return (
        bool(token)
        and scheme.lower() == "bearer"
        and hmac.compare_digest(given.strip().encode(), (token or "").encode())
    )
