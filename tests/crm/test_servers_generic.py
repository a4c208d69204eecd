"""The local unseen CRM, the webhook receiver and the real Tryton do what a test relies on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.base import CALL, CONTACT
from tests.servers.clock import Clock
from tests.servers.tryton import PARTY_ONLY, WITH_OPPORTUNITIES, TrytonServer, available, cache_folder
from tests.servers.unseen import UnseenCrm
from tests.servers.webhook import WebhookReceiver, sign

CUSTOMER = {"mobile": "15800000637", "name": "王伟"}
CALLED = {"callNo": "u-1", "mobile": "15800000637", "startTime": "2026-11-22 16:00:00"}

Calling = Callable[..., dict[str, Any]]

WEB = httpx.Client()
"""Shared: a client of one's own for every request would cost more than the request."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unseen(clock: Clock) -> Iterator[UnseenCrm]:
    with UnseenCrm(clock=clock) as server:
        yield server


@pytest.fixture
def ask(unseen: UnseenCrm) -> Iterator[Calling]:
    with httpx.Client(base_url=f"{unseen.url}/api/") as client:

        def post(path: str, **body: Any) -> dict[str, Any]:
            answer = client.post(path, json=known | body)
            assert answer.status_code == 200
            decoded: dict[str, Any] = answer.json()
            return decoded

        known: dict[str, Any] = {}
        keys = {"appKey": unseen.secrets["app_key"], "appSecret": unseen.secrets["app_secret"]}
        got = post("auth", **keys)["data"]
        known = {"token": got["token"], "companyId": got["companyId"]}
        yield post


def test_unseen_server_creates_queries_updates_and_links(unseen: UnseenCrm, ask: Calling) -> None:
    customer = ask("customer/create", data=CUSTOMER)["data"]["id"]
    assert len(customer) == 18
    assert int(float(customer)) != int(customer), "an id that survives a double would hide a mistake"
    call = ask("call/create", data=CALLED)["data"]["id"]
    assert ask("link", callId=call, customerId=customer)["errorCode"] == 0
    assert ask("link", callId=call, customerId=customer)["errorCode"] == 2003
    assert ask("customer/update", id=customer, data={"grade": "HOT", "odd": 1})["data"]["id"] == customer
    rows = ask("customer/query", filter={"mobile": CUSTOMER["mobile"]})["data"]["rows"]
    assert rows == [{"id": customer, **CUSTOMER, "grade": "HOT"}] == unseen.contacts()
    assert unseen.calls() == [{"id": call, **CALLED, "contact_ids": [customer]}]
    assert ask("customer/update", id="730000000000000001", data={})["errorCode"] == 2002


def test_unseen_server_names_no_id_of_a_duplicate(ask: Calling) -> None:
    first = ask("customer/create", data=CUSTOMER)["data"]["id"]
    assert ask("customer/create", data=CUSTOMER) == {
        "errorCode": 2001,
        "errorMessage": "a record with this mobile exists",
    }
    second = ask("customer/create", data=CUSTOMER | {"mobile": "1"})["data"]["id"]
    assert ask("customer/update", id=second, data={"mobile": CUSTOMER["mobile"]})["errorCode"] == 2001
    assert ask("customer/update", id=first, data=CUSTOMER)["errorCode"] == 0


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"remark": "x" * 501}, 3001),
        ({"grade": "LUKEWARM"}, 3002),
        ({"name": ""}, 3003),
        ({"lastCallTime": "2026-11-22T16:00:00Z"}, 3004),
        ({"callCount": "3"}, 3004),
        ({"tags": "a,b"}, 3004),
    ],
)
def test_unseen_server_names_the_field_it_refuses(
    unseen: UnseenCrm, ask: Calling, wrong: dict[str, Any], code: int
) -> None:
    answer = ask("customer/create", data=CUSTOMER | wrong)
    assert answer["errorCode"] == code
    assert f"field {next(iter(wrong))}: " in answer["errorMessage"]
    assert not unseen.contacts()


def test_unseen_server_pages_and_lags(unseen: UnseenCrm, ask: Calling, clock: Clock) -> None:
    for number in range(3):
        ask("customer/create", data=CUSTOMER | {"mobile": str(number)})
    page = ask("customer/query", filter={"name": "王伟"}, page=2, pageSize=2)["data"]
    assert (page["total"], [row["mobile"] for row in page["rows"]]) == (3, ["0"])
    unseen.index_lag = 5
    assert ask("customer/query", filter={})["data"]["total"] == 0
    clock.pass_by(5)
    assert ask("customer/query", filter={})["data"]["total"] == 3
    assert ask("customer/query", filter={}, pageSize=51)["errorCode"] == 1400
    assert ask("customer/query", filter={"grade": "HOT"})["errorCode"] == 1400


def test_unseen_servers_tokens_expire(unseen: UnseenCrm, ask: Calling, clock: Clock) -> None:
    assert ask("customer/query", filter={}, companyId="1")["errorCode"] == 4003
    clock.pass_by(3600)
    assert ask("customer/query", filter={})["errorCode"] == 4001
    assert ask("auth", appKey="x", appSecret="y")["errorCode"] == 4002
    assert unseen.token_requests() == 2


def test_unseen_server_reports_faults_with_http_200(unseen: UnseenCrm, ask: Calling, clock: Clock) -> None:
    unseen.limit_next(wait=1.5)
    assert ask("customer/query", filter={})["retryAfterMs"] == 1500
    unseen.quota_next()
    assert ask("customer/query", filter={})["errorCode"] == 5002
    unseen.fail_next(on="write")
    assert ask("customer/create", data=CUSTOMER)["errorCode"] == 5000
    assert not unseen.contacts()
    unseen.busy_after_commit()
    assert ask("customer/create", data=CUSTOMER)["errorCode"] == 5000
    assert len(unseen.contacts()) == 1
    unseen.drop_field("remark")
    assert ask("call/create", data=CALLED | {"summary": "s"})["errorCode"] == 0
    unseen.requests_a_window = 1
    assert ask("customer/query", filter={})["errorCode"] == 5001
    clock.pass_by(10)
    assert ask("customer/query", filter={})["errorCode"] == 0


def test_unseen_server_can_lose_cut_and_drip_answers(unseen: UnseenCrm, ask: Calling) -> None:
    unseen.lose_next_answer()
    with pytest.raises(httpx.RemoteProtocolError):
        ask("customer/create", data=CUSTOMER)
    assert [one.status for one in unseen.log()][-1] is None
    unseen.cut_next()
    with pytest.raises(httpx.RemoteProtocolError):
        ask("call/create", data=CALLED)
    assert (len(unseen.contacts()), len(unseen.calls())) == (1, 0)
    unseen.drip_next(pause=0.001)
    assert ask("customer/query", filter={})["data"]["total"] == 1
    unseen.delete(CONTACT, unseen.contacts()[0]["id"])
    assert ask("customer/query", filter={})["data"]["total"] == 0


def deliver(server: WebhookReceiver, clock: Clock, identity: str, **body: Any) -> httpx.Response:
    content = json.dumps(body).encode()
    stamp = str(int(clock.now.timestamp()))
    headers = {"webhook-id": identity, "webhook-timestamp": stamp}
    headers["webhook-signature"] = f"v1,bm8= {sign(server.secrets['signing_key'], identity, stamp, content)}"
    return WEB.post(f"{server.url}/hook", content=content, headers=headers)


def test_webhook_server_keeps_each_event_once(clock: Clock) -> None:
    with WebhookReceiver(clock=clock, is_contact=lambda body: "phone" in body) as server:
        assert deliver(server, clock, "u-1", grade="A").status_code == 202
        assert deliver(server, clock, "u-1", grade="B").json() == {"duplicate": True}
        assert deliver(server, clock, "c-1", phone="158").status_code == 202
        assert server.calls() == [{"id": "u-1", "grade": "A", "contact_ids": []}]
        assert server.contacts() == [{"id": "c-1", "phone": "158"}]
        assert server.deliveries == ["u-1", "u-1", "c-1"]
        server.edit(CALL, "u-1", grade="C")
        assert server.calls()[0]["grade"] == "C"


def test_webhook_server_verifies_signatures(clock: Clock) -> None:
    with WebhookReceiver(clock=clock, secret="as it stands") as server:
        assert deliver(server, clock, "u-1", a=1).status_code == 202
        late = Clock()
        late.pass_by(-301)
        assert deliver(server, late, "u-2", a=1).status_code == 401
        unsigned = WEB.post(f"{server.url}/hook", json={"a": 1})
        assert unsigned.status_code == 400
        server.refuse_next(field="a")
        assert deliver(server, clock, "u-3", a=1).status_code == 422
        server.limit_next(wait=2)
        assert deliver(server, clock, "u-3", a=1).headers["retry-after"] == "2"
        server.expire_token()
        assert deliver(server, clock, "u-3", a=1).status_code == 401
        assert len(server.calls()) == 1


def test_webhook_signature_follows_standard_webhooks() -> None:
    # The example of the specification's reference libraries.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    identity, stamp, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    assert sign(secret, identity, stamp, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def serve_tryton(
    request: pytest.FixtureRequest, factory: pytest.TempPathFactory, modules: tuple[str, ...]
) -> TrytonServer:
    if not available(modules):
        pytest.skip("Tryton is not installed; see the dev extra")
    folder: Path = factory.mktemp("tryton")
    return TrytonServer(folder / "data", cache_folder(request.config, folder / "cache"), modules)


@pytest.mark.long
def test_tryton_server_has_parties_notes_and_identifiers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serve_tryton(request, tmp_path_factory, PARTY_ONLY) as server:
        headers = {"authorization": f"Bearer {server.secrets['key']}"}
        with httpx.Client(base_url=f"{server.url}/rest/model/", headers=headers) as rest:
            body = {
                "name": "王伟",
                "contact_mechanisms": [["create", [{"type": "mobile", "value": "+86 158 0000 0637"}]]],
                "identifiers": [["create", [{"type": None, "code": "u-1"}]]],
            }
            party = rest.post("party.party", params={"f": "name"}, json=body).json()["id"]
            note = {"resource": f"party.party,{party}", "message": "通话"}
            assert rest.post("ir.note", json=note).status_code == 200
            (held,) = server.contacts()
            assert (held["name"], held["numbers"], held["codes"]) == ("王伟", ["+8615800000637"], ["u-1"])
            assert server.calls() == [{"id": 1, **note}]
            domain = (("value_compact", "=", "+8615800000637"),)
            (mechanism,) = server.search("party.contact_mechanism", "party", domain=domain)
            assert mechanism["party"] == party
            server.edit("party.party", str(party), name="王")
            assert server.parties()[0]["name"] == "王"
            server.delete("ir.note", "1")
            assert not server.notes()
            assert rest.post("no.model", json={}).status_code == 500
            server.revoke_key()
            refused = rest.get("party.party")
            assert (refused.status_code, refused.headers["content-type"][:9]) == (401, "text/html")


@pytest.mark.slow
def test_tryton_server_has_opportunities(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serve_tryton(request, tmp_path_factory, WITH_OPPORTUNITIES) as server:
        headers = {"authorization": f"Bearer {server.secrets['key']}"}
        headers["x-tryton-context"] = server.settings["context"]
        body = {"party": int(server.seed_contact(name="王伟", phone="+8615800000637")), "description": "AI"}
        made = WEB.post(f"{server.url}/rest/model/sale.opportunity", json=body, headers=headers)
        assert made.status_code == 200
        (held,) = server.opportunities()
        assert (held["party"], held["state"]) == (body["party"], "lead")
