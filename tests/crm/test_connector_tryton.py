"""The Tryton connector on a real Tryton: written, read back, compared; a proxy between them loses answers."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.sandbox.server import LocalServer
from tests.crm.conformance.bench import OTHER_PHONE, PHONE, ConnectorCase, bench_on, uuid_of
from tests.crm.conformance.online import found_online
from tests.servers.base import VendorServer
from tests.servers.clock import Clock
from tests.servers.tryton import PARTY_ONLY, TrytonServer, available, cache_folder
from tests.servers.wire import HungUp, Logged

pytestmark = pytest.mark.long

CASE = ConnectorCase(
    connector="tryton",
    server=lambda _clock: cast("VendorServer", None),
    name="name",
    phone="numbers",
    note="description",
    key="name",
    contact_path="party",
    forms=(),
    changes={"objects.call.fields.description": "{{ call.remark }}"},
)
ALWAYS = {"objects.contact.fields.name.write": "always"}


class Lossy:
    """Stands before Tryton, passes everything on and keeps what was asked; answers get lost on demand."""

    violations: ClassVar[list[str]] = []

    def __init__(self, tryton: TrytonServer) -> None:
        self.tryton = tryton
        self.secrets = tryton.secrets
        self.settings: dict[str, str] = {}
        self.lost = 0
        """How many of the next writes are carried out, and not answered."""
        self._log: list[Logged] = []
        self._lock = threading.Lock()
        self._client = httpx.Client(base_url=tryton.url.removesuffix("/lab"))
        methods = ["GET", "POST", "PUT", "DELETE"]
        self._server = LocalServer(Starlette(routes=[Route("/{path:path}", self._pass, methods=methods)]))

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._client.close()

    @property
    def url(self) -> str:
        return f"{self._server.url}/lab"

    def log(self) -> list[Logged]:
        return list(self._log)

    def writes(self) -> list[str]:
        return [f"{entry.method} {entry.path.rpartition('/model/')[2]}" for entry in self._log if entry.kind]

    def contacts(self) -> list[dict[str, Any]]:
        return self.tryton.contacts()

    def calls(self) -> list[dict[str, Any]]:
        """The attachments, which is where calls are kept."""
        found = self.tryton.search("ir.attachment", "name", "resource", "description", "link")
        return [each | {"contact_ids": [int(each["resource"].rpartition(",")[2])]} for each in found]

    async def _pass(self, request: Request) -> Response:
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        kind = "" if request.method == "GET" else "write"
        with self._lock:
            entry = Logged(request.method, request.url.path, dict(request.query_params), None, kind=kind)
            self._log.append(entry)
            address = f"{request.url.path}?{request.url.query}"
            answer = self._client.request(request.method, address, content=body, headers=headers)
            entry.status = answer.status_code
            if kind and self.lost:
                self.lost -= 1
                return HungUp()
        kept = {"content-type": answer.headers.get("content-type", "text/plain")}
        return Response(answer.content, answer.status_code, kept)


@pytest.fixture(scope="module")
def tryton(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrytonServer]:
    """One server for all: each test has numbers of its own, or takes away what it made."""
    if not available(PARTY_ONLY):
        pytest.skip("Tryton is not installed; see the dev extra")
    folder = tmp_path_factory.mktemp("tryton")
    with TrytonServer(folder / "data", cache_folder(request.config, folder / "cache")) as server:
        yield server


@pytest.fixture
def lossy(tryton: TrytonServer) -> Iterator[Lossy]:
    for model, records in (
        ("ir.attachment", tryton.search("ir.attachment")),
        ("party.party", tryton.parties()),
    ):
        for record in records:
            tryton.delete(model, str(record["id"]))
    with Lossy(tryton) as proxy:
        yield proxy


def bench(folder: Path, lossy: Lossy, changes: dict[str, Any] | None = None) -> Any:
    folder.mkdir(exist_ok=True)
    return bench_on(folder / "bench", CASE, cast("VendorServer", lossy), Clock(), changes)


def test_written_call_reads_back_the_same(tmp_path: Path, lossy: Lossy) -> None:
    with bench(tmp_path, lossy) as one:
        one.send(name="王芳", mark="有意向 “好”\n第二行")
        one.settled()
        (party,), (call,) = lossy.contacts(), lossy.calls()
        assert (party["name"], party["numbers"]) == ("王芳", [f"+86{PHONE}"])
        assert (call["description"], call["name"]) == ("有意向 “好”\n第二行", uuid_of(1))
        assert lossy.writes() == ["POST party.party", "POST ir.attachment"]


def test_a_long_dialogue_comes_back_whole(tmp_path: Path, lossy: Lossy) -> None:
    with bench(
        tmp_path, lossy, {"objects.call.fields.description": "{{ call.dialogue | transcript }}"}
    ) as one:
        one.send()
        (call,) = lossy.calls()
        lines = call["description"].split("\n")
        assert len(lines) == 17
        assert lines[-1] == "[10:20:17] 机器人: 转人工"


def test_unchanged_call_causes_no_request_and_a_revision_one(tmp_path: Path, lossy: Lossy) -> None:
    with bench(tmp_path, lossy) as one:
        one.send(mark="一")
        assert one.send(mark="一") == []
        assert [entry.method for entry in one.send(mark="二")] == ["PUT"]
        one.settled()
        assert lossy.calls()[0]["description"] == "二"


@pytest.mark.parametrize("form", ["+86 158 9977 0637", "+8615899770637", "+86-158-9977-0637"])
def test_party_made_by_a_user_is_found(tmp_path: Path, lossy: Lossy, form: str) -> None:
    there = lossy.tryton.seed_contact(name="手写", phone=form)
    with bench(tmp_path, lossy) as one:
        one.send(name="王芳")
        one.settled()
        assert [(str(party["id"]), party["name"]) for party in lossy.contacts()] == [(there, "手写")]


def test_lost_memory_creates_no_duplicates(tmp_path: Path, lossy: Lossy) -> None:
    with bench(tmp_path, lossy) as one:
        one.send(name="王芳", mark="一")
    with bench(tmp_path / "again", lossy) as two:
        two.send(name="王芳", mark="二")
        two.settled()
        assert lossy.calls()[0]["description"] == "二"


@pytest.mark.parametrize("first", [1, 2])
def test_lost_answer_creates_no_duplicate(tmp_path: Path, lossy: Lossy, first: int) -> None:
    with bench(tmp_path, lossy) as one:
        if first == 2:
            one.send(mark="一")
            lossy.tryton.delete("ir.attachment", str(lossy.calls()[0]["id"]))
        lossy.lost = 1
        one.feed(first, mark="二")
        one.drain()
        assert one.state(first) == "delivered", one.reason(first)
        assert len(lossy.contacts()) == len(lossy.calls()) == 1
        assert lossy.calls()[0]["name"] == uuid_of(first)


def test_party_code_taken_by_another_is_a_temporary_failure(tmp_path: Path, lossy: Lossy) -> None:
    """What parallel creates run into: the sequence gives a number that is taken."""
    first = lossy.tryton.seed_contact(name="eins")
    taken = int(next(party["code"] for party in lossy.contacts() if str(party["id"]) == first))
    blocker = lossy.tryton.seed_contact(name="zwei", code=str(taken + 1))
    with bench(tmp_path, lossy) as one:
        one.feed()
        one.attempt()
        assert one.state() == "due"
        assert "must be unique" in one.reason()
        assert one.wait() < 60
        for party in (first, blocker):
            lossy.tryton.delete("party.party", party)
        one.drain()
        one.settled()


def test_many_concurrent_calls_are_each_there_once(tmp_path: Path, lossy: Lossy) -> None:
    with bench(tmp_path, lossy) as one:
        for number in range(1, 9):
            one.feed(number, phone=f"138001380{number:02}" if number % 2 else OTHER_PHONE)
        workers = [one.worker, one.new_worker(), one.new_worker()]
        threads = [threading.Thread(target=worker.deliver_one, args=(one.clock(),)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.drain()
        assert {one.state(number) for number in range(1, 9)} == {"delivered"}
        assert len(lossy.contacts()) == 5
        assert sorted(call["name"] for call in lossy.calls()) == [uuid_of(n) for n in range(1, 9)]


def test_refusal_of_tryton_is_parked_with_a_remedy(tmp_path: Path, lossy: Lossy) -> None:
    with bench(tmp_path, lossy, {"objects.contact.fields.nonesuch": "x"}) as one:
        one.feed()
        one.drain()
        assert one.state() == "parked"
        assert "no field or model of this name" in one.reason()
        assert lossy.contacts() == []


def test_number_invalid_for_tryton_is_named(tmp_path: Path, lossy: Lossy) -> None:
    with bench(tmp_path, lossy) as one:
        one.feed(phone="+8612345678901")
        one.drain()
        assert one.state() == "parked", "possible, but no number that China has"
        assert "is not valid" in one.reason()


def test_refused_key_does_no_harm(tmp_path: Path, lossy: Lossy) -> None:
    lossy.secrets = {"key": "0" * 40}
    with bench(tmp_path, lossy) as one:
        one.feed()
        one.attempt()
        assert one.state() == "due"
        assert "Tryton refuses the key" in one.reason()
        assert lossy.contacts() == []


def test_party_deleted_by_a_user_parks_or_is_recreated(tmp_path: Path, lossy: Lossy) -> None:
    for wish in ("park", "recreate"):
        with bench(tmp_path / wish, lossy, {**ALWAYS, "objects.contact.on_deleted": wish}) as one:
            one.send(1, name="王芳")
            for party in lossy.contacts():
                lossy.tryton.delete("party.party", str(party["id"]))
            one.feed(2, name="王小芳")
            one.drain()
            assert one.state(2) == ("parked" if wish == "park" else "delivered")
            assert [party["name"] for party in lossy.contacts()] == ([] if wish == "park" else ["王小芳"])


def test_if_empty_reads_the_party(tmp_path: Path, lossy: Lossy) -> None:
    there = lossy.tryton.seed_contact(phone=f"+86{PHONE}")
    with bench(tmp_path, lossy, {"objects.contact.fields.name.write": "if_empty"}) as one:
        one.send(1, name="王芳")
        assert lossy.contacts()[0]["name"] == "王芳"
        lossy.tryton.edit("party.party", there, name="手写")
        one.send(2, name="王小芳")
        assert lossy.contacts()[0]["name"] == "手写"


def test_call_without_a_party_is_attached_as_configured(tmp_path: Path, lossy: Lossy) -> None:
    own = lossy.tryton.seed_contact(name="我们")
    changes = {"objects.contact.on_missing_key": "unlinked"}
    with bench(tmp_path / "without", lossy, changes) as one:
        one.feed(phone="158****0637")
        one.drain()
        assert "unlinked_resource" in one.reason()
    lossy.settings = {"unlinked_resource": f"party.party,{own}"}
    with bench(tmp_path / "with", lossy, changes) as one:
        one.send(phone="158****0637")
        assert lossy.calls()[0]["contact_ids"] == [int(own)]


def test_tryton_is_checked_online(lossy: Lossy) -> None:
    server = cast("VendorServer", lossy)
    assert found_online(CASE, server, Clock()) == []
    lossy.secrets = {"key": "0" * 40}
    assert "Tryton refuses the key" in "\n".join(found_online(CASE, server, Clock()))
