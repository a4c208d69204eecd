"""A platform that nobody has seen: other names, dates only, pages from 1, no totals; from TOML alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.config.load import load_config
from bridge.daemon.reconcile_wiring import reconciler_here
from bridge.ledger import open_ledger
from bridge.reconcile.balance import whole_balance
from bridge.sandbox.records import PLATFORM_ZONE
from bridge.sandbox.server import LocalServer
from bridge.source.outcall.windows import resolution, window_texts
from tests.fixtures.daemon_process import environment, write_config
from tests.fixtures.list_walk import row
from tests.fixtures.reconciliation_bench import HOUR
from tests.fixtures.served_platform import NOW, Clock

CAP = 7
API = """
[sources.main.api]
base_url = "{url}/v2"
access_id = "unseen"
access_secret = {{ env = "TOKEN" }}
page_size = 100
login_path = "/session"
list_path = "/customers"
first_page = 1
time_format = "{time_format}"
requests_per_second = 1000
filters = {{ status = "A,B" }}
[sources.main.api.names]
page_index = "page"
page_size = "per_page"
start = "from"
end = "to"
user_sn = "operator"
api_key = "ticket"
api_key_expire = "until"
code = "errno"
message = "why"
data = "result"
list = "items"
total = "count"
[sources.main.reconcile]
settle = "0s"
"""


@dataclass
class Unseen:
    """Its whole truth, and what it was asked."""

    rows: list[dict[str, Any]]
    inclusive: bool
    asked: list[dict[str, Any]] = field(default_factory=list)

    def routes(self) -> list[Route]:
        return [
            Route("/v2/session", self.log_in, methods=["POST"]),
            Route("/v2/customers", self.list, methods=["POST"]),
        ]

    async def log_in(self, request: Request) -> Response:
        asked = await request.json()
        secret = environment()["TOKEN"]
        sign = md5(f"unseen{secret}{asked['timestamp']}".encode()).hexdigest()  # noqa: S324 -- the platform's
        if asked["sign"] != sign:
            return JSONResponse({"errno": "7", "why": "no"})
        ends = str(int((NOW + HOUR).timestamp() * 1000))
        return JSONResponse({"errno": "0", "result": {"operator": 12, "ticket": "t", "until": ends}})

    async def list(self, request: Request) -> Response:
        asked = await request.json()
        self.asked.append(asked)
        if asked["ticket"] != "t" or str(asked["operator"]) != "12":
            return JSONResponse({"errno": "0", "why": "log in"})
        dated = len(asked["from"]) == 10
        created = [(one["created_at"][:10] if dated else one["created_at"], one) for one in self.rows]
        found = [
            one
            for at, one in created
            if asked["from"] <= at and (at <= asked["to"] if self.inclusive else at < asked["to"])
        ]
        start = (int(asked["page"]) - 1) * CAP
        shown = {str(place): one for place, one in enumerate(found[start : start + CAP], 3)}
        # A page beyond the last is an empty list; the others are objects, as PHP writes what has gaps.
        return JSONResponse({"errno": "0", "result": {"items": shown or []}})


@contextmanager
def site(folder: Path, platform: Unseen, time_format: str) -> Iterator[Any]:
    """What a command has: a configuration, and a ledger without a daemon."""
    with LocalServer(Starlette(routes=list(platform.routes()))) as server:
        config = load_config(
            write_config(folder, "http://127.0.0.1:9", API.format(url=server.url, time_format=time_format)),
            {},
        )
        ledger = open_ledger(folder / "ledger.db", create=True)
        try:
            clock, stop = Clock(), threading.Event()
            yield ledger, reconciler_here(config, "main", environment(), ledger, clock, stop)
        finally:
            ledger.close()


@pytest.mark.parametrize("inclusive", [True, False], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize(
    "time_format",
    [
        pytest.param("%Y-%m-%d", marks=pytest.mark.long),
        pytest.param("%Y-%m-%d %H:%M", marks=pytest.mark.long),
        "%Y-%m-%d %H:%M:%S",
    ],
)
def test_unseen_platform_is_reconciled_and_audited(
    tmp_path: Path, time_format: str, *, inclusive: bool
) -> None:
    # At midnight there, too, and at the very first second of the time that is looked at.
    moments = [NOW - timedelta(minutes=21 * number) for number in range(1, 100)]
    midnight = datetime(2026, 11, 22, tzinfo=PLATFORM_ZONE).astimezone(UTC)
    rows = [
        row(number, at) | {"talktimes": str(number), "id": str(number)}
        for number, at in enumerate([*moments, midnight, midnight - HOUR / 3600, NOW - 36 * HOUR])
    ]
    platform = Unseen([one | {"is_deleted": "0"} for one in rows], inclusive)
    since = (NOW - 36 * HOUR).isoformat()
    with site(tmp_path, platform, time_format) as (ledger, reconciler):

        def go(kind: str) -> dict[str, Any]:
            job_id = ledger.request_job(kind, {"source": "main", "since": since}, NOW)
            assert reconciler.carry_out()
            run = ledger.job(job_id)
            assert run.state == "done", run.result
            result: dict[str, Any] = dict(run.result)
            return result

        first = go("reconcile")
        assert (first["missing"], first["filled"], first["complete"]) == (102, 102, True)
        assert ledger.coverage("main", NOW, NOW).covered_until == NOW
        again = go("reconcile")
        assert (again["matched"], again["filled"], again["complete"]) == (102, 0, True)
        balance = whole_balance({"main": go("audit")}, {}, None)
        assert balance["sources"]["main"]["platform"] == 102
        assert balance["balanced"]
    assert min(asked["page"] for asked in platform.asked) == 1
    assert {asked["status"] for asked in platform.asked} == {"A,B"}
    assert len(platform.asked) < 900, "whole days cannot be cut"


@pytest.mark.parametrize(
    ("time_format", "unit", "texts"),
    [
        ("%Y-%m-%d %H:%M:%S", timedelta(seconds=1), ("2026-11-22 14:59:59", "2026-11-22 16:00:01")),
        ("%Y/%m/%d %H:%M", timedelta(minutes=1), ("2026/11/22 14:59", "2026/11/22 16:01")),
        ("%Y-%m-%d", timedelta(days=1), ("2026-11-22", "2026-11-23")),
    ],
)
def test_window_bounds_are_rounded_outwards(
    time_format: str, unit: timedelta, texts: tuple[str, str]
) -> None:
    assert resolution(time_format) == unit
    assert window_texts(NOW - HOUR, NOW, PLATFORM_ZONE, time_format) == texts
