"""The application of the operators' listener: health and metrics, for this program's own names only."""

import hmac
from collections.abc import Callable, Collection, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bridge.admin.metrics import LedgerMetrics
from bridge.admin.status import StatusLedger
from bridge.lib.addresses import IpNetwork, is_among, is_own_name, parse_address
from bridge.lib.errors import LedgerError


class OwnNames:
    """Answers only requests for this program's own names, whatever they ask for; others get `421`.

    A page in an operator's browser could otherwise read everything here under a name of its own, once that
    name's DNS has been turned to this address.
    """

    def __init__(self, app: Starlette, names: Collection[str]) -> None:
        self.app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        if all(is_own_name(host.decode("latin-1"), self._names) for host in hosts):
            await self.app(scope, receive, send)
            return
        text = "this host's name is not among admin.hosts\n"
        await PlainTextResponse(text, 421)(scope, receive, send)


def admin_app(
    ledger: StatusLedger,
    *,
    accepting: Callable[[], bool],
    answers: Callable[[], Mapping[tuple[str, int], int]],
    hosts: Collection[str] = (),
    metrics_token: str | None = None,
    trusted_proxies: Sequence[IpNetwork] = (),
) -> OwnNames:
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


_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host", "via")


def may_look(request: Request, token: str | None, trusted: Sequence[IpNetwork]) -> bool:
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
