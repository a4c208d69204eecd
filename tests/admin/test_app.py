"""The operators' listener: whom it answers, and under which names."""

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from bridge.admin.app import OwnNames, admin_app
from bridge.intake.answer_log import AnswerLog
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.addresses import is_own_name
from tests.fixtures.door import TLS, Listening

HOSTS = ("calls.example.com",)
ROUTES = ("/", "/healthz", "/readyz", "/metrics", "/metrics/", "/nothing")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(Path(tmp_path_factory.mktemp("console")) / "ledger.db", create=True)
    yield ledger
    ledger.close()


@pytest.fixture(scope="module")
def served(ledger: SqliteLedger) -> Iterator[Listening]:
    counts = AnswerLog({"main": (200, 503), "": (404,)}).counts
    app = admin_app(
        ledger, accepting=lambda: True, answers=lambda: counts, hosts=HOSTS, metrics_token="metrics-token"
    )
    with Listening(app) as listening:
        yield listening


def paths_of(app: OwnNames) -> set[str]:
    return {route.path for route in app.app.routes if isinstance(route, Route)}


@pytest.fixture(scope="module")
def client(served: Listening) -> Iterator[httpx.Client]:
    with httpx.Client(verify=TLS, base_url=served.url) as client:
        yield client


@pytest.mark.parametrize("path", ROUTES)
def test_unknown_host_is_answered_421_on_every_route(client: httpx.Client, path: str) -> None:
    for host in (
        "evil.example",
        "evil.example:8481",
        "localhost.evil.example",
        "calls.example.com.evil",
        "2130706433",
    ):
        answer = client.get(path, headers={"host": host})
        assert (answer.status_code, "evil" in answer.text) == (421, False)
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8481",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8481",
        "192.0.2.7",
        "calls.example.com",
        "Calls.Example.Com:443",
        "calls.example.com.",
    ],
)
def test_own_host_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).text == "alive\n"


@pytest.mark.parametrize(
    "host", ["", "a b", "localhost:80:80", "localhost@evil.example", "[::1", "::1:x", "127.1"]
)
def test_odd_host_names_are_refused(host: str) -> None:
    assert not is_own_name(host, HOSTS)


def test_nothing_is_redirected(client: httpx.Client) -> None:
    for path in ("/metrics/", "/healthz/", "//metrics", "/metrics//"):
        assert client.get(path).status_code == 404


def test_metrics_are_open_to_local_clients(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    # Series that exist before their first event, so that a rise is seen as one.
    for line in (
        'callbridge_callback_answers_total{source="main",status="503"} 0.0',
        'callbridge_callback_answers_total{source="",status="404"} 0.0',
    ):
        assert line in answer.text


def test_every_path_is_tried_under_names_that_are_not_ours(ledger: SqliteLedger) -> None:
    assert paths_of(admin_app(ledger, accepting=lambda: True, answers=dict)) <= set(ROUTES)


def test_whoever_has_no_token_is_shown_nothing_but_health(ledger: SqliteLedger, client: httpx.Client) -> None:
    paths = paths_of(admin_app(ledger, accepting=lambda: True, answers=dict))
    answers = {path: client.get(path, headers=FORWARDED[0]).status_code for path in paths}
    assert answers == dict.fromkeys(paths, 401) | {"/healthz": 200, "/readyz": 200}


FORWARDED = [{"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}, {"x-real-ip": "127.0.0.1"}]


@pytest.mark.parametrize("headers", FORWARDED, ids=lambda headers: str(next(iter(headers))))
def test_forwarded_request_is_not_local(client: httpx.Client, headers: dict[str, str]) -> None:
    assert client.get("/metrics", headers=headers).status_code == 401
    for token, status in (("metrics-token", 200), ("metrics-toke", 401), ("x", 401), ("文", 401)):
        carried = httpx.Headers(headers | {"authorization": f"Bearer {token}"}, encoding="utf-8")
        assert client.get("/metrics", headers=carried).status_code == status
    assert client.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("metrics-token", 200)])
def test_metrics_behind_a_trusted_proxy_require_a_token(
    ledger: SqliteLedger, token: str | None, status: int
) -> None:
    app = admin_app(
        ledger,
        accepting=lambda: True,
        answers=dict,
        metrics_token=token,
        trusted_proxies=[ip_network("127.0.0.0/8")],
    )
    with Listening(app, trusted=["127.0.0.0/8"]) as listening, httpx.Client(verify=TLS) as client:
        assert client.get(f"{listening.url}/metrics").status_code == 401
        headers = {"authorization": "Bearer metrics-token"}
        assert client.get(f"{listening.url}/metrics", headers=headers).status_code == status
        assert client.get(f"{listening.url}/readyz").status_code == 200
