"""The sandbox platform and CRM over real sockets: what reaches the wire, and what it leaves behind."""

import json
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bridge.lib.errors import CallbridgeError
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.platform import Push, Pushing, SandboxPlatform
from bridge.sandbox.records import PLATFORM_ZONE, Record, generate, later_edit
from bridge.sandbox.server import LocalServer

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
PHONE = "/contacts/%2B8615899770637"
AUTH = {"authorization": "Bearer anything"}


class Receiver:
    """A callback URL that remembers every body and answers as it is told."""

    def __init__(self, answer: Callable[[int, Record], Response]) -> None:
        self.bodies: list[Record] = []
        self.content_types: set[str] = set()
        self.arrived = threading.Condition()
        self._answer = answer
        self._under_way = self.most_at_once = 0
        self.url = ""

    async def receive(self, request: Request) -> Response:
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        record = json.loads(await request.body())
        self.content_types.add(request.headers["content-type"])
        with self.arrived:
            self.bodies.append(record)
            number = sum(body["uuid"] == record["uuid"] for body in self.bodies)
            self.arrived.notify_all()
        self._under_way -= 1
        return self._answer(number, record)

    def wait_for(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.bodies) >= count, timeout=5)


Receiving = Callable[[Callable[[int, Record], Response]], Receiver]


@pytest.fixture(scope="module")
def receiving() -> Iterator[Receiving]:
    receivers: list[Receiver] = []

    async def receive(request: Request) -> Response:
        return await receivers[-1].receive(request)

    with LocalServer(Starlette(routes=[Route("/callback", receive, methods=["POST"])])) as server:

        def begin(answer: Callable[[int, Record], Response]) -> Receiver:
            receivers.append(Receiver(answer))
            receivers[-1].url = f"{server.url}/callback"
            return receivers[-1]

        yield begin


def success(_number: int, _record: Record) -> Response:
    return PlainTextResponse("SUCCESS")


# The server


def test_taken_port_is_reported_and_a_freed_one_can_be_reused() -> None:
    with LocalServer(SandboxCrm().app) as first:
        with pytest.raises(CallbridgeError, match=f"cannot listen on 127.0.0.1:{first.port}: .*in use"):
            LocalServer(SandboxCrm().app, port=first.port)
        assert httpx.get(f"{first.url}/_contents").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first.url}/_contents")
    with LocalServer(SandboxCrm().app, port=first.port) as second:
        assert second.url == first.url
        assert httpx.get(f"{second.url}/_contents").status_code == 200


def test_server_that_never_started_frees_its_port() -> None:
    server = LocalServer(SandboxCrm().app)
    server.stop()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", server.port))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_exits_0_on_a_signal(number: signal.Signals) -> None:
    program = (
        "from bridge.sandbox.server import LocalServer\n"
        "from bridge.sandbox.crm import SandboxCrm\n"
        "server = LocalServer(SandboxCrm().app)\n"
        "print(server.url, flush=True)\n"
        "server.serve_forever()\n"
        "print('over', flush=True)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        # The port is bound before the signals are owned, but an answer comes only after that.
        assert httpx.get(f"{url}/_contents").json() == {"contacts": [], "calls": []}
        process.send_signal(number)
        assert process.wait(timeout=5) == 0
        assert process.stdout.read() == "over\n"
        assert process.stderr.read() == ""


# The records


def test_the_same_seed_and_time_make_the_same_records() -> None:
    assert generate(30, 7, NOW) == generate(30, 7, NOW)
    assert generate(30, 7, NOW) != generate(30, 8, NOW)


def test_records_have_the_full_shape_and_their_own_names() -> None:
    records = generate(300, 1, NOW)
    assert {len(record) for record in records} == {114}
    assert len({frozenset(record) for record in records}) == 1
    for name in ("uuid", "base_info", "sn", "id"):
        assert len({str(record[name]) for record in records}) == 300
    assert all(record["base_info"] == record["uuid"] + "out" for record in records)


def test_records_end_shortly_before_now_in_the_platforms_zone() -> None:
    records = generate(50, 1, NOW)
    local = NOW.astimezone(PLATFORM_ZONE).replace(tzinfo=None)
    created = [datetime.fromisoformat(record["created_at"]) for record in records]
    assert all(earlier <= later for earlier, later in pairwise(created))
    assert timedelta(0) < local - created[-1] < timedelta(minutes=1)
    assert all(record["created_at"] <= record["updated_at"] <= f"{local}" for record in records)
    for record in records:
        if record["talktimes"] and record["connected_at"]:
            assert record["started_at"] < record["connected_at"] < record["disconnected_at"]


@pytest.mark.parametrize("count", [12, 200])
def test_batch_has_every_kind_of_call(count: int) -> None:
    records = generate(count, 3, NOW)
    phones = Counter(record["phone"] for record in records)
    assert phones[""] >= 1
    assert any("****" in phone for phone in phones)
    assert any(phone.startswith("+86") for phone in phones)
    assert any(phone.startswith("0086") for phone in phones)
    assert Counter(phone[-11:] for phone in phones.elements() if phone).most_common(1)[0][1] >= 2
    assert sum(not record["connected_at"] or record["connected_at"][0] == "0" for record in records) >= 1
    assert any(str(record["call_from_type"]) == "3" for record in records)
    assert any(str(record["is_deleted"]) == "1" for record in records)
    assert {record["status"] for record in records} <= set("ABCDEF")
    kinds = {type(record["talk_info"]) for record in records}
    assert kinds == {list, str}


def test_dialogues_come_in_three_encodings_and_tags_as_documented() -> None:
    records = generate(200, 4, NOW)
    texts = [record["talk_info"] for record in records if isinstance(record["talk_info"], str)]
    nested = [json.loads(text) for text in texts if text.startswith("[")]
    marked = [text.split("##") for text in texts if not text.startswith("[")]
    arrays = [record["talk_info"] for record in records if isinstance(record["talk_info"], list)]
    for turns in (*nested, *(turns for turns in arrays if turns)):
        assert [turn["is_answer"] for turn in turns] == [0, 1] * (len(turns) // 2)
    assert nested
    assert {segment.count("#!") for turns in marked for segment in turns[::2]} == {8}
    assert {segment.count("#@") for turns in marked for segment in turns[1::2]} == {1, 3, 5}
    tagged = [record["labelling"] for record in records if record["labelling"]]
    assert all(labelling.startswith(";") for labelling in tagged)
    assert any("转人工时间:20" in labelling for labelling in tagged)
    assert any(isinstance(record["talktimes"], str) and record["talktimes"] for record in records)


def test_later_edit_is_always_newer_and_different() -> None:
    rng = random.Random(1)  # noqa: S311  # sample data, not secrets
    for record in generate(50, 5, NOW):
        before = dict(record)
        once = later_edit(record, rng, NOW)
        again = later_edit(once, rng, NOW - timedelta(days=1))
        assert record == before
        assert record["updated_at"] < once["updated_at"] < again["updated_at"]
        assert record["status_manual"] != once["status_manual"] != again["status_manual"]
        assert once["uuid"] == record["uuid"]


# The platform


def states_on_the_wire(bodies: list[Record]) -> dict[str, list[str]]:
    states = defaultdict(list)
    for body in bodies:
        states[body["uuid"]].append(body["updated_at"])
    return states


def test_batch_is_pushed_with_duplicates_edits_and_reordering(receiving: Receiving) -> None:
    receiver = receiving(success)
    platform = SandboxPlatform(receiver.url, clock=lambda: NOW, pushing=Pushing(workers=3))
    pushes = platform.push_batch(100, seed=9)
    assert len(receiver.bodies) == len(pushes) == 118
    assert receiver.content_types == {"application/json"}
    assert receiver.most_at_once <= 3
    assert Counter(push.reason for push in pushes) == {"new": 100, "duplicate": 8, "edit": 6, "late": 4}
    states = list(states_on_the_wire(receiver.bodies).values())
    assert len(states) == 100
    assert sum(len(times) == 2 and times[0] == times[1] for times in states) == 8
    assert sum(len(times) == 2 and times[0] < times[1] for times in states) == 6
    assert sum(len(times) == 2 and times[0] > times[1] for times in states) == 4
    known = platform.records()
    assert (known["calls"], known["acknowledged"]) == (100, 100)
    newest = {uuid: max(times) for uuid, times in states_on_the_wire(receiver.bodies).items()}
    assert {entry["uuid"]: entry["record"]["updated_at"] for entry in known["records"]} == newest
    assert sum(entry["pushes"] for entry in known["records"]) == 118


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (PlainTextResponse("SUCCESS", 503), "503 SUCCESS"),
        (PlainTextResponse("SUCCESS\n"), "200 SUCCESS"),
        (PlainTextResponse('"SUCCESS"'), '200 "SUCCESS"'),
        (PlainTextResponse("SUCCESS", 302, {"location": "/callback"}), "302 SUCCESS"),
    ],
)
def test_callback_without_success_is_tried_three_times(
    receiving: Receiving, answer: Response, said: str
) -> None:
    receiver = receiving(lambda _number, _record: answer)
    platform = SandboxPlatform(receiver.url, pushing=Pushing(retry_delay=0.001))
    [push, edit] = platform.push_batch(1, seed=2)
    assert push.answers == edit.answers == (said,) * 3
    assert [body["updated_at"] for body in receiver.bodies] == [push.updated_at] * 3 + [edit.updated_at] * 3
    entry = platform.records()["records"][0]
    assert (entry["pushes"], entry["tries"], entry["acknowledged"]) == (2, 6, False)


def test_later_try_can_be_acknowledged(receiving: Receiving) -> None:
    receiver = receiving(
        lambda number, _record: PlainTextResponse(
            "SUCCESS" if number >= 3 else "no", 200 if number != 1 else 500
        )
    )
    platform = SandboxPlatform(receiver.url, pushing=Pushing(retry_delay=0.001))
    first = platform.push_batch(1, seed=2)[0]
    assert first.answers == ("500 no", "200 no", "200 SUCCESS")
    assert first.acknowledged
    assert platform.records()["acknowledged"] == 1


def test_receiver_that_is_down_uses_up_three_tries() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        platform = SandboxPlatform(
            f"http://127.0.0.1:{closed.getsockname()[1]}/", pushing=Pushing(retry_delay=0.001)
        )
        pushes = platform.push_batch(1)
    assert {push.answers for push in pushes} == {("ConnectError",) * 3}
    assert platform.records()["acknowledged"] == 0


def test_stop_ends_a_wait_between_tries(receiving: Receiving) -> None:
    receiver = receiving(lambda _number, _record: PlainTextResponse("no"))
    platform = SandboxPlatform(receiver.url, pushing=Pushing(workers=2, retry_delay=3600))
    with ThreadPoolExecutor(1) as background:
        batch = background.submit(platform.push_batch, 50)
        receiver.wait_for(2)
        platform.stop()
        pushes: list[Push] = batch.result(timeout=5)
    assert [len(push.answers) for push in pushes] == [1, 1]
    assert len(receiver.bodies) == 2


def test_platform_pushes_at_its_rate_until_stopped(receiving: Receiving) -> None:
    receiver = receiving(success)
    platform = SandboxPlatform(receiver.url)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as background:
        began = datetime.now(UTC)
        running = background.submit(platform.run, stop, rate=400)
        receiver.wait_for(150)
        took = (datetime.now(UTC) - began).total_seconds()
        stop.set()
        running.result(timeout=5)
    known = platform.records()
    assert took >= 100 / 400
    assert len(receiver.bodies) == len(platform.pushes()) > known["calls"] == known["acknowledged"]
    assert {push.reason for push in platform.pushes()} == {"new", "duplicate", "edit", "late"}


def test_platform_can_be_controlled_over_http(receiving: Receiving) -> None:
    receiver = receiving(success)
    platform = SandboxPlatform(receiver.url)
    with LocalServer(platform.app) as server, httpx.Client(base_url=server.url) as client:
        answer = client.post("/_push", json={"count": 20, "seed": 4})
        assert answer.json() == {"calls": 20, "pushes": 24, "acknowledged": 24}
        assert len(receiver.bodies) == 24
        listed = client.get("/_records").json()
        assert listed["calls"] == listed["acknowledged"] == len(listed["records"]) == 20
        assert set(listed["records"][0]) == {
            *("uuid", "base_info", "sn", "record", "pushes", "acknowledged", "tries")
        }
        assert client.post("/_push", json={"count": 5, "wait": False}).status_code == 202
        receiver.wait_for(29)
        assert client.post("/_stop").status_code == 204
        assert client.post("/_push", json={"count": 0}).status_code == 422
        platform.callback_url = "nowhere"
        refused = client.post("/_push", json={"count": 1})
        assert "must start with http" in refused.json()["error"]["message"]


# The CRM


class Crm:
    """One sandbox CRM with a client that has a token."""

    def __init__(self, crm: SandboxCrm, client: httpx.Client) -> None:
        self.crm = crm
        self.client = client

    def put(self, path: str, **fields: Any) -> httpx.Response:
        return self.client.put(path, json=fields)


@pytest.fixture(scope="module")
def crm_account() -> Iterator[Callable[[], Crm]]:
    current: list[SandboxCrm] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await current[-1].app(scope, receive, send)

    with LocalServer(app) as server, httpx.Client(base_url=server.url, headers=AUTH) as client:

        def begin() -> Crm:
            current.append(SandboxCrm())
            return Crm(current[-1], client)

        yield begin


@pytest.fixture
def crm(crm_account: Callable[[], Crm]) -> Crm:
    return crm_account()


def test_contact_is_created_once_and_then_updated(crm: Crm) -> None:
    created = crm.put(PHONE, name="王芳", grade="A")
    assert created.status_code == 201
    assert created.json() == {"id": "c_1", "phone": "+8615899770637", "name": "王芳", "grade": "A"}
    updated = crm.put(PHONE, grade="B", note=None)
    assert updated.status_code == 200
    assert updated.json() == created.json() | {"grade": "B", "note": None}
    assert crm.client.get("/contacts/c_1").json() == updated.json()
    assert crm.client.get(PHONE).json() == updated.json()
    assert crm.crm.contents()["contacts"] == [updated.json()]


def test_calls_are_linked_to_contacts_and_shown_flat(crm: Crm) -> None:
    crm.put(PHONE, name="王芳")
    key = "account|42@2025-04-14 10:19:13/1"
    path = "/calls/account%7C42%402025-04-14%2010:19:13%2F1"
    assert crm.put(path, seconds=88).json() == {
        "id": "k_1",
        "call_key": key,
        "contact_id": None,
        "seconds": 88,
    }
    linked = crm.put(f"{path}/contact", contact_id="c_1")
    assert linked.status_code == 200
    assert crm.put("/calls/k_1/contact", contact_id="c_1").json() == linked.json()
    assert crm.put(path, seconds=89).status_code == 200
    contents = crm.client.get("/_contents", headers={"authorization": ""}).json()
    assert contents == crm.crm.contents()
    assert contents["calls"] == [{"id": "k_1", "call_key": key, "contact_id": "c_1", "seconds": 89}]


@pytest.mark.parametrize(
    ("path", "fields", "refusal"),
    [
        ("/contacts/15899770637", {}, (422, "invalid_phone", "phone")),
        ("/contacts/%2B0865899770637", {}, (422, "invalid_phone", "phone")),
        ("/contacts/158****0637", {}, (422, "invalid_phone", "phone")),
        (PHONE, {"grade": "A" * 33}, (422, "too_long", "grade")),
        (PHONE, {"note": "长" * 65_536}, (422, "too_long", "note")),
        (PHONE, {"id": "c_9"}, (422, "read_only", "id")),
        ("/calls/k", {"text": "x" * 65_536}, (422, "too_long", "text")),
        ("/calls/k", {"contact_id": "c_1"}, (422, "read_only", "contact_id")),
        ("/calls/nobody/contact", {"contact_id": "c_1"}, (404, "not_found", "")),
        ("/nothing/here", {}, (404, "not_found", "")),
    ],
)
def test_refusal_names_the_field_and_changes_nothing(
    crm: Crm, path: str, fields: dict[str, str], refusal: tuple[int, str, str]
) -> None:
    answer = crm.put(path, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == refusal
    assert error["message"]
    assert crm.crm.contents() == {"contacts": [], "calls": []}


def test_link_requires_both_ends_and_bodies_are_objects(crm: Crm) -> None:
    crm.put("/calls/k", seconds=1)
    unknown = crm.put("/calls/k/contact", contact_id="c_7")
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (404, "contact_id")
    for body in (b"[]", b"{", b""):
        assert crm.client.put(PHONE, content=body).json()["error"]["code"] == "invalid_json"
    assert crm.put(PHONE, grade="A" * 32, note="长" * 65_535).status_code == 201


def test_user_can_edit_and_delete(crm: Crm) -> None:
    crm.put(PHONE, name="王芳")
    crm.put("/contacts/%2B8613800000000", name="other")
    crm.put("/calls/k", seconds=1)
    crm.put("/calls/k/contact", contact_id="c_1")
    assert crm.client.patch("/contacts/c_1", json={"name": "王芳芳"}).json()["name"] == "王芳芳"
    assert crm.client.patch("/contacts/c_1", json={"phone": "+8613800000000"}).status_code == 409
    assert crm.client.patch("/contacts/c_1", json={"phone": "+8613911111111"}).status_code == 200
    assert crm.client.get(PHONE).status_code == 404
    assert crm.client.get("/contacts/%2B8613911111111").json()["name"] == "王芳芳"
    assert crm.client.patch("/calls/k_1", json={"seconds": 2}).json()["seconds"] == 2
    assert crm.client.delete("/contacts/c_1").status_code == 204
    assert crm.client.delete("/contacts/c_1").status_code == 404
    assert crm.client.get("/calls/k").json() == {
        "id": "k_1",
        "call_key": "k",
        "contact_id": None,
        "seconds": 2,
    }
    assert crm.put("/contacts/%2B8613911111111").json()["id"] == "c_3"


def test_token_is_required_and_a_given_one_must_match(crm: Crm) -> None:
    assert crm.client.put(PHONE, json={}, headers={"authorization": "Basic x"}).status_code == 401
    with LocalServer(SandboxCrm("s3cret").app) as server:
        url = server.url + PHONE
        wrong = httpx.put(url, json={}, headers=AUTH)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "unauthorized")
        assert httpx.put(url, json={}).status_code == 401
        assert httpx.put(url, json={}, headers={"authorization": "Bearer s3cret"}).status_code == 201
        assert httpx.get(f"{server.url}/_requests").json()["total"] == 3


def test_requests_are_counted_by_template_and_logged_in_order(crm: Crm) -> None:
    crm.put(PHONE, name="a", grade="B")
    crm.put("/contacts/%2B8613800000000")
    crm.put("/calls/k", seconds=1)
    crm.put("/calls/k/contact", contact_id="c_1")
    crm.client.get("/contacts/c_1")
    crm.client.get("/elsewhere")
    crm.client.get("/_contents")
    counts = crm.client.get("/_requests").json()
    assert counts == crm.crm.requests()
    assert counts == {
        "total": 6,
        "by": {
            "PUT /contacts/{phone}": 2,
            "PUT /calls/{call_key}": 1,
            "PUT /calls/{call_id_or_key}/contact": 1,
            "GET /contacts/{id_or_phone}": 1,
            "GET (unknown path)": 1,
        },
    }
    log = crm.client.get("/_log").json()["requests"]
    assert [(entry["method"], entry["path"], entry["status"]) for entry in log[:2]] == [
        ("PUT", "/contacts/+8615899770637", 201),
        ("PUT", "/contacts/+8613800000000", 201),
    ]
    assert [entry["keys"] for entry in log[:4]] == [["name", "grade"], [], ["seconds"], ["contact_id"]]
    assert datetime.fromisoformat(log[0]["time"]).tzinfo is not None


def test_planted_status_replaces_the_effect_only_where_requested(crm: Crm) -> None:
    faults = [
        {"status": 429, "retry_after": 1, "path": "/contacts"},
        {"status": 503, "times": 2, "method": "put"},
    ]
    assert crm.client.post("/_faults", json={"faults": faults}).json() == {"added": 2}
    assert crm.client.get("/calls/k").status_code == 404
    assert crm.put("/calls/k").status_code == 503
    limited = crm.put(PHONE)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "1")
    assert crm.put(PHONE).status_code == 503
    assert crm.crm.contents() == {"contacts": [], "calls": []}
    assert crm.put(PHONE).status_code == 201
    assert [entry["fault"] for entry in crm.crm.log()] == [
        None,
        {"status": 503},
        {"status": 429, "retry_after": 1},
        {"status": 503},
        None,
    ]


def test_lost_answer_has_its_effect_but_sends_no_byte(crm: Crm) -> None:
    crm.crm.add_fault(lost_answer=True)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        crm.put(PHONE, name="王芳")
    assert crm.crm.contents()["contacts"] == [{"id": "c_1", "phone": "+8615899770637", "name": "王芳"}]
    entry = crm.crm.log()[0]
    assert (entry["status"], entry["fault"]) == (None, {"lost_answer": True})
    assert crm.put(PHONE, name="王芳").status_code == 200


def test_error_can_come_after_the_effect(crm: Crm) -> None:
    crm.crm.add_fault(status=502, after_effect=True)
    assert crm.put(PHONE).status_code == 502
    assert len(crm.crm.contents()["contacts"]) == 1


def test_delay_holds_answers_back_until_cleared(crm: Crm) -> None:
    crm.client.post(
        "/_faults", json={"faults": [{"delay": 0.3, "times": -1}, {"status": 500, "path": "/calls"}]}
    )
    with pytest.raises(httpx.ReadTimeout):
        crm.client.put(PHONE, json={}, timeout=0.05)
    assert len(crm.crm.contents()["contacts"]) == 1
    assert crm.client.delete("/_faults").status_code == 204
    assert crm.put("/calls/k").status_code == 201


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"status": 200},
        {"status": 503, "times": 0},
        {"stauts": 503},
        {"delay": "1"},
        {"after_effect": True},
    ],
)
def test_invalid_fault_is_refused(crm: Crm, fault: dict[str, object]) -> None:
    answer = crm.client.post("/_faults", json={"faults": [fault]})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_fault"
    assert crm.put(PHONE).status_code == 201


def test_many_concurrent_clients_create_one_contact(crm: Crm) -> None:
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda number: crm.put(PHONE, **{f"f{number}": number}), range(40)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 39}
    [contact] = crm.crm.contents()["contacts"]
    assert contact == {"id": "c_1", "phone": "+8615899770637"} | {
        f"f{number}": number for number in range(40)
    }
