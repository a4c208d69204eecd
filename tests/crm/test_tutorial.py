"""The tutorial of docs/connectors.md, word for word, against a server that does what its API page says."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import (
    EXAMPLE,
    ROOT,
    TOKEN,
    DaemonProcess,
    callbridge,
    environment,
    wait_until,
)

PHONE = "13800138000"
SECRETS = {"OSTWIND_APP_ID": "app-7", "CALLBRIDGE_SERVER__LISTEN": "127.0.0.1:0"}
SECRETS |= {"CALLBRIDGE_ADMIN__LISTEN": "127.0.0.1:0", "CALLBRIDGE_LEDGER__URL": "sqlite:///ledger.db"}
SECRETS |= {"CALLBRIDGE_DELIVERY__FIRST_RETRY": "100ms", "CALLBRIDGE_DELIVERY__LONGEST_RETRY": "1s"}
DELIVERED = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"
PARKED = "SELECT count(*) FROM deliveries WHERE state = 'parked'"
UNIQUE = {"contact": "mobile", "phonecall": "outer_id"}


class Ostwind:
    """The invented CRM: POST only, always 200, `errorCode` in the body."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, dict[str, Any]]] = {"contact": {}, "phonecall": {}}
        self.hidden: set[str] = set()
        self.faults: dict[str, list[int]] = {}
        self.codes: list[int] = []
        self.tokens: list[str] = []
        self._lock = threading.Lock()
        self.server = LocalServer(Starlette(routes=[Route("/{rest:path}", self._answer, methods=["POST"])]))

    async def _answer(self, request: Request) -> Response:
        body = json.loads(await request.body())
        with self._lock:
            answer = self._token(body) if request.url.path == "/auth/token" else self._asked(request, body)
        self.codes.append(answer["errorCode"])
        return JSONResponse(answer)

    def _token(self, body: dict[str, Any]) -> dict[str, Any]:
        if (body["appId"], body["appSecret"]) != ("app-7", "ostwind-app-secret"):
            return {"errorCode": 20022, "errorMessage": "app disabled"}
        self.tokens.append(uuid.uuid4().hex)
        return _well({"accessToken": self.tokens[-1], "corpId": "corp-9", "expiresIn": 7200})

    def _asked(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        if (body.pop("token"), body.pop("corpId")) != (self.tokens[-1], "corp-9"):
            return {"errorCode": 20016, "errorMessage": "token expired"}
        action = request.url.path.rpartition("/")[2]
        planted = self.faults.get(f"{action} {body['object']}", [])
        code = planted.pop(0) if planted else 0
        if code == 20016:
            self.tokens.append("another")
        # Busy is said after it was done: the nastiest order.
        answer = getattr(self, f"_{action}")(**body) if code in (0, -1) else {}
        return {"errorCode": code, "errorMessage": "as planted"} if code else answer

    def _query(self, object: str, filters: list[dict[str, Any]], limit: int) -> dict[str, Any]:  # noqa: A002
        hits = [
            {"id": number, **record}
            for number, record in self.records[object].items()
            if number not in self.hidden and all(record.get(one["field"]) == one["value"] for one in filters)
        ]
        return _well({"list": hits[:limit]})

    def _create(self, object: str, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        of = UNIQUE[object]
        if any(record[of] == fields[of] for record in self.records[object].values()):
            self.hidden.clear()
            return {"errorCode": 40010, "errorMessage": "exists"}
        if len(fields.get("name", "")) > 50 or fields.get("intent", "hot") not in ("hot", "warm", "cold"):
            return {"errorCode": 40020, "errorMessage": "bad value", "data": {"field": "intent"}}
        number = f"{object[0]}-{len(self.records[object]) + 1}"
        self.records[object][number] = dict(fields)
        return _well({"id": number})

    def _update(self, object: str, id: str, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        if id not in self.records[object]:
            return {"errorCode": 40400, "errorMessage": "no such record"}
        self.records[object][id] |= fields
        return _well(None)


def _well(data: Any) -> dict[str, Any]:
    return {"errorCode": 0, "errorMessage": "success", "data": data}


@pytest.fixture
def ostwind() -> Iterator[Ostwind]:
    crm = Ostwind()
    crm.server.start()
    yield crm
    crm.server.stop()


def written(folder: Path, url: str) -> Path:
    """The tutorial's three files as they stand there, but for the server's address and its lag."""
    page = (ROOT / "docs/connectors.md").read_text("utf-8")
    for kind, name in (
        ("config", "config"),
        ("connector", "connectors/ostwind"),
        ("mapping", "mappings/ostwind"),
    ):
        start = page.index(f"```toml\n#:schema ./{kind}.schema.json\n") + len("```toml\n")
        path = folder / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        text = page[start : page.index("```", start)]
        text = (
            text.replace("https://api.ostwind.example.com", url)
            .replace('"5s"', '"300ms"')
            .replace('wait = "10s"', 'wait = "200ms"')
        )
        path.write_text(text, "utf-8")
    (folder / "secrets").mkdir()
    for name, secret in (("callback-token", TOKEN), ("ostwind-app-secret", "ostwind-app-secret\n")):
        (folder / "secrets" / name).touch(mode=0o600)
        (folder / "secrets" / name).write_text(secret, "utf-8")
    return folder / "config.toml"


def send(daemon: DaemonProcess, **fields: Any) -> None:
    record = json.loads(EXAMPLE.read_text("utf-8"))
    record |= {"uuid": str(uuid.uuid4()), "base_info": "", "sn": uuid.uuid4().hex, **fields}
    answer = httpx.post(daemon.callback_url, json=record)
    assert (answer.status_code, answer.text) == (200, "SUCCESS")


@pytest.mark.long
def test_tutorial_files_connect_an_unknown_crm(tmp_path: Path, ostwind: Ostwind) -> None:
    path = written(tmp_path, ostwind.server.url)
    env = environment() | SECRETS
    assert callbridge("check", "-c", str(path), cwd=tmp_path, env=env).stdout == "no problems\n"
    daemon = DaemonProcess(path, SECRETS)
    with ExitStack() as stack:
        stack.callback(daemon.stop)
        contacts, calls = ostwind.records["contact"], ostwind.records["phonecall"]

        send(daemon)
        wait_until(lambda: daemon.count(DELIVERED) == 1, "the first call is delivered")
        [contact] = contacts.values()
        [call] = calls.values()
        assert contact == {"mobile": "15899770637", "intent": "warm"}
        assert call["contact_id"] == "c-1"
        assert call["talk_seconds"] == 88
        assert call["started_at"] == 1744597153000
        assert len(call["record"].encode()) <= 4000
        assert len(ostwind.tokens) == 1

        # An expired token, a create that was done and answered "busy", and a limit.
        ostwind.faults = {"query contact": [20016], "create contact": [-1], "create phonecall": [30001]}
        send(daemon, phone=PHONE, status="A")
        wait_until(lambda: daemon.count(DELIVERED) == 2, "the second call is delivered")
        assert [one["mobile"] for one in contacts.values()] == ["15899770637", PHONE]
        assert len(calls) == 2
        assert calls["p-2"]["contact_id"] == "c-2"

        # A contact that the index does not show yet: the CRM says so, without its id.
        contacts["c-3"] = {"mobile": "13900139000", "intent": "cold", "name": "kept"}
        ostwind.hidden = {"c-3"}
        send(daemon, phone="13900139000", name="new", status="A")
        wait_until(lambda: daemon.count(DELIVERED) == 3, "the third call is delivered")
        assert contacts["c-3"] == {"mobile": "13900139000", "intent": "hot", "name": "kept"}
        assert calls["p-3"]["contact_id"] == "c-3"
        assert 40010 in ostwind.codes

        # The same contact again: only the call is new.
        before = len(ostwind.codes)
        send(daemon, phone="13900139000", status="A")
        wait_until(lambda: daemon.count(DELIVERED) == 4, "the fourth call is delivered")
        assert len(calls) == 4
        assert len(ostwind.codes) - before <= 4

        # What the CRM refuses waits for a person, with code, field and words.
        ostwind.faults = {"create phonecall": [40020]}
        send(daemon, phone=PHONE)
        wait_until(lambda: daemon.count(PARKED) == 1, "the refused call is parked")
    listed = callbridge(
        "deliveries", "list", "--state", "parked", "-c", str(path), "--json", cwd=tmp_path, env=env
    )
    assert "40020" in listed.stdout
    assert "as planted" in listed.stdout
    told = "\n".join(daemon.log) + listed.stdout
    assert not [secret for secret in ("ostwind-app-secret", *ostwind.tokens) if secret in told]
