"""`map preview`: what it shows is what is sent; secrets never; why each absent thing is absent."""

import base64
import json
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.check.preview import Preview, preview
from bridge.cli import cli
from bridge.crm.account import Account
from bridge.crm.client import Crm
from bridge.crm.connector import Connector
from bridge.crm.tokens import Tokens
from bridge.delivery.crm_requests import send_one_by_one
from bridge.delivery.plan_sync import PlanSync
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.errors import ConfigError
from bridge.lib.toml_file import load_toml
from bridge.mapping import load_mapping
from bridge.model.calls import Via
from bridge.model.crm_objects import KnownObject
from bridge.model.plan import Plan, PlannedObject
from bridge.model.sync_progress import SyncProgress
from bridge.record.arrival import arrival_of
from bridge.record.call import Call
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import EXAMPLE, ROOT, DaemonProcess, environment, wait_until, write_config
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN
from tests.fixtures.request_recorder import Recorder, Sent

SANDBOX = ROOT / "mappings/sandbox.toml"
RECORD: dict[str, Any] = json.loads(EXAMPLE.read_text("utf-8"))
KEY = "db57f262-18d6-11f0-88c8-2f2b0aba51d7"
ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
CANARY = {"app_id": "canary-id-77aa", "app_secret": "canary-sec-88bb", "sign_key": "canarykey99ccccc"}

CONNECTOR = """\
name = "own"
secrets = ["app_id", "app_secret", "sign_key"]
settings = { company = {} }

[auth]
headers.Authorization = "Basic {{ (secrets.app_id ~ ':' ~ secrets.app_secret) | base64 }}"
headers.X-Sign = "v1={{ request.text | hmac(secrets.sign_key | from_base64) }}; ok"
query = { key = "{{ secrets.sign_key }}" }
body = { corpId = "{{ settings.company }}", corpAccessToken = "{{ token.access_token }}" }

[auth.token]
url = "/token"
json.appId = "{{ secrets.app_id }}"
json.appSecret = "{{ secrets.app_secret }}"
json.company = "{{ settings.company }}"
outputs = { access_token = "data.token" }
lifetime = "2h"

[objects.contact]
key = ["tel"]
find = [
  { method = "POST", path = "/find", json = { tel = "{{ key.tel }}" }, hits = "data" },
  { method = "POST", path = "/find", json = { tel = "{{ key.tel | national }}" }, hits = "data" },
]
update = { path = "/contacts/{{ id | path }}", json = "{{ fields }}" }
read = { path = "/contacts/{{ id | path }}", fields = "data" }

[[objects.contact.create]]
name = "make"
path = "/contacts"
json = { data = "{{ fields | merge(key) }}", ref = "{{ random.uuid4 }}" }
id = "data.id"
capture = { pool = "data.pool", other = "data.nothing" }

[[objects.contact.create]]
name = "assign"
path = "/pools/{{ captured.pool }}"
json = { contact = "{{ id_of }}" }
when = "{{ captured.pool }}"

[objects.call]
key = ["uuid"]
link.contact.inline = true
link.again = { path = "/links", json = { from = "{{ id }}", to = "{{ to.id }}" }, idempotent = true }
[objects.call.create]
path = "/calls"
json = { data = "{{ fields }}", who = "{{ links.contact.id | int }}" }
id = "data.id"
"""
MAPPING = """\
connector = "own"
[objects.contact]
key = { tel = "{{ call.phone | e164 }}" }
[objects.contact.fields]
grade = { value = "{{ call.grade }}", write = "if_empty" }
notes = { value = "{{ call.last_reply }}", write = "append" }
area = "{{ call.area }}"
first = { value = "{{ call.task }}", write = "create" }
[objects.call]
key = { uuid = "{{ call.key }}" }
link = { contact = "contact", again = "contact" }
fields = { seconds = "{{ call.talk_seconds }}" }
"""


def own_connector(folder: Path, *changes: tuple[str, str]) -> Connector:
    text = CONNECTOR.replace("{{ id_of }}", "yes")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "own.toml"
    path.write_text(text, "utf-8")
    return Connector(load_toml(path))


def own_mapping(folder: Path, text: str = MAPPING) -> Path:
    path = folder / "mapping.toml"
    path.write_text(text, "utf-8")
    return path


def call_of(**changes: Any) -> Call:
    return Call.of({**RECORD, **changes}, KEY, MAIN)


def preview_of(mapping: Path, connector: Connector, base_url: str, **changes: Any) -> Preview:
    account = Account("own", base_url, {}, {"company": "c-1"}, 5.0)
    return preview(load_mapping(mapping), connector, account, call_of(**changes), NOW)


def invoke(*args: object, stdin: bytes | None = None, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, ["map", "preview", *map(str, args)], input=stdin, env=env)


def document(result: Result) -> Any:
    assert not isinstance(result.exception, ConfigError), result.exception
    return json.loads(result.stdout)


# What is shown is what is sent


def test_daemon_sends_what_the_preview_shows(tmp_path: Path) -> None:
    crm = SandboxCrm()
    recorder = Recorder(crm.app)
    with LocalServer(recorder) as server:
        config = write_config(tmp_path, server.url)
        daemon = DaemonProcess(config)
        try:
            assert httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes()).text == "SUCCESS"
            delivered = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"
            wait_until(lambda: daemon.count(delivered) == 1, "the call is delivered")
            shown = document(invoke(SANDBOX, KEY, "-c", config, "--json", env=environment()))
        finally:
            daemon.stop()
        contact, call = crm.contents()["contacts"][0], crm.contents()["calls"][0]
    assert call["contact_id"] == contact["id"]
    requests = [
        each["request"] for one in shown["objects"] for way in ("either_way", "links") for each in one[way]
    ]
    hidden = json.loads(json.dumps(requests).replace("<id of contact>", contact["id"]))
    sent = recorder.sent()
    assert [(one["method"], one["url"], one["body"]) for one in hidden] == [
        (one.method, f"{server.url}{one.path}", one.body) for one in sent
    ]
    for one, real in zip(hidden, sent, strict=True):
        assert one["headers"]["Authorization"] == "Bearer ***"
        assert real.headers["authorization"] == "Bearer crm-token-of-the-tests"
        assert one["headers"]["Content-Type"] == real.headers["content-type"]
    assert (shown["destination"], shown["outcome"], shown["call"]) == ("crm", "delivered", KEY)


class OwnCrm:
    """Finds, makes and changes; answers with ids that are numbers."""

    def __init__(self, *, there: bool) -> None:
        self._there = there
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        if path == "token":
            return JSONResponse({"data": {"token": "token-of-the-crm"}})
        if path == "find":
            return JSONResponse({"data": [{"id": 4711}] if self._there else []})
        return JSONResponse({"data": {"id": 4711 if path == "contacts" else 4712, "pool": "pool7"}})


class NoJournal:
    """Nothing was sent before, or the ids alone are known."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known

    def recall(self, planned: PlannedObject) -> KnownObject | None:
        return KnownObject(self._known[planned.name]) if planned.name in self._known else None

    def progress(self, name: str) -> SyncProgress:
        del name
        return SyncProgress()

    def note(self, name: str, progress: SyncProgress, *, durable: bool) -> None:
        pass

    def note_possible(self, planned: PlannedObject, known: KnownObject) -> None:
        pass

    def load_token(self, account: str) -> None:
        del account

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        pass


def really_sent(connector: Connector, mapping: Path, *, there: bool, known: Mapping[str, str]) -> list[Sent]:
    """What an effect sends to a CRM, token exchange first."""
    recorder = Recorder(OwnCrm(there=there).app)
    memory = NoJournal(known)
    with LocalServer(recorder) as server:
        account = Account("own", server.url, CANARY, {"company": "c-1"}, 5.0)
        tokens = Tokens("own", connector.auth.tokens, CANARY, memory, lambda: NOW)
        plan = load_mapping(mapping).plan(call_of())
        assert isinstance(plan, Plan)
        with closing(Crm(connector, account, tokens, lambda: NOW)) as crm:
            send_one_by_one(PlanSync(connector, memory, "", lambda: NOW).run(plan), crm.ask)
    return recorder.sent()


def as_shown(sent: Sent) -> dict[str, Any]:
    """A request as a preview must show it: real ids and secrets replaced by hand."""
    headers = {
        "Authorization": sent.headers["authorization"],
        "X-Sign": sent.headers["x-sign"],
        "Content-Type": sent.headers.get("content-type"),
    }
    basic = base64.b64encode(f"{CANARY['app_id']}:{CANARY['app_secret']}".encode()).decode()
    text = json.dumps({"path": sent.path, "query": sent.query, "headers": headers, "body": sent.body})
    signature = sent.headers["x-sign"].removeprefix("v1=").removesuffix("; ok")
    for real in (basic, signature, *CANARY.values(), "token-of-the-crm"):
        text = text.replace(real, "***")
    if isinstance(sent.body, dict) and "ref" in sent.body:
        text = text.replace(sent.body["ref"], "<random>")
    for real, shown in (("4711", "<id of contact>"), ("4712", "<id of call>"), ("pool7", "<captured.pool>")):
        text = text.replace(f": {real}", f': "{shown}"').replace(real, shown)
    return {"method": sent.method, **json.loads(text)}


def previewed(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for each in asked:
        request = each.get("request", each)
        headers = {"Content-Type": None, **request["headers"]}
        path = request["url"].removeprefix("http://crm.test")
        found.append(
            {
                "method": request["method"],
                "path": path,
                "query": request["query"],
                "headers": headers,
                "body": request["body"],
            }
        )
    return found


@pytest.mark.parametrize(
    ("there", "known", "ways"),
    [
        (False, {}, ["look_up", "if_new"]),
        (True, {}, ["look_up", "if_there"]),
        (True, {"contact": "4711"}, ["look_up_known", "if_there"]),
    ],
    ids=["new", "there", "known"],
)
def test_steps_lookups_and_links_are_those_a_delivery_sends(
    tmp_path: Path, there: bool, known: dict[str, str], ways: list[str]
) -> None:
    connector, mapping = own_connector(tmp_path), own_mapping(tmp_path)
    shown = preview_of(mapping, connector, "http://crm.test").document()
    contact, call = shown["objects"]
    look_up = contact[ways[0]][:1] if there else contact[ways[0]]
    expected = previewed([*look_up, *contact[ways[1]], *call["either_way"], *call["links"]])
    token, *sent = really_sent(connector, mapping, there=there, known=known)
    assert [as_shown(one) for one in sent] == expected
    assert token.body == {"appId": CANARY["app_id"], "appSecret": CANARY["app_secret"], "company": "c-1"}
    [exchange] = shown["token"]
    assert exchange["url"] == "http://crm.test/token"
    assert exchange["body"] == {"appId": "***", "appSecret": "***", "company": "c-1"}


def test_lookups_and_conditions_of_steps_are_shown(tmp_path: Path) -> None:
    mapping = own_mapping(tmp_path)
    contact, call = preview_of(mapping, own_connector(tmp_path), "").document()["objects"]
    assert [each["what"] for each in contact["look_up"]] == ["find", "find"]
    assert [each["what"] for each in contact["look_up_known"]] == ["read"]
    assert [(each["what"], each["only_if"]) for each in contact["if_new"]] == [
        ("create step make", None),
        ("create step assign", "{{ captured.pool }}"),
    ]
    assert contact["fields"]["notes"]["write"] == "append"
    assert "first" not in contact["if_there"][0]["request"]["body"]
    assert contact["if_new"][0]["request"]["body"]["data"]["first"] == RECORD["cdr_sn"]
    assert call["look_up"] == []
    assert (contact["shared"], call["shared"]) == (True, False)
    assert contact["line"] == {"account": "own", "type": "contact", "key": "+8615899770637"}
    url = contact["if_there"][0]["request"]["url"]
    assert url == "<base_url>/contacts/<id of contact>"


def test_object_found_by_reading_is_read_first(tmp_path: Path) -> None:
    text = SANDBOX.read_text("utf-8").replace(
        'area = "{{ call.area }}"', 'area = { value = "{{ call.area }}", write = "if_empty" }'
    )
    mapping = own_mapping(tmp_path, text.split("[[tests]]")[0])
    shown = document(invoke(mapping, EXAMPLE, "--json"))
    contact = shown["objects"][0]
    assert [each["what"] for each in contact["look_up"]] == ["read"]
    assert [each["what"] for each in contact["either_way"]] == ["upsert"]
    assert "if_empty: only while the CRM holds nothing there" in invoke(mapping, EXAMPLE).output


# What is never shown


def test_no_secret_is_shown_in_any_form(tmp_path: Path) -> None:
    own_connector(tmp_path)
    mapping = own_mapping(tmp_path)
    config = tmp_path / "config.toml"
    secrets = "\n".join(f'{name} = "{value}"' for name, value in CANARY.items())
    config.write_text(
        f"""
[sources.main]
callback_token = "canary-callback-token-0001"
[destinations.own]
mapping = "{mapping}"
connector = "own.toml"
base_url = "http://crm.test"
settings = {{ company = "c-1" }}
[destinations.own.secrets]
{secrets}
""",
        "utf-8",
    )
    for flags in ([], ["--json"]):
        result = invoke(mapping, EXAMPLE, "-c", config, *flags)
        assert result.exit_code == 0, result.output
        assert "***" in result.output
        assert "canary" not in result.output
        assert base64.b64encode(b"canary")[:7].decode() not in result.output
    headers = document(result)["objects"][0]["look_up"][0]["request"]["headers"]
    assert headers["Authorization"] == "Basic ***"
    assert headers["X-Sign"] == "v1=***; ok"


def test_settings_and_base_url_have_placeholders_without_a_configuration(tmp_path: Path) -> None:
    own_connector(tmp_path)
    result = invoke(own_mapping(tmp_path), EXAMPLE, "--connector", tmp_path / "own.toml", "--json")
    shown = document(result)
    assert shown["token"][0]["body"]["company"] == "<settings.company>"
    assert shown["objects"][0]["line"]["account"] == "own <base_url>"
    assert shown["destination"] is None


# Why something is absent


def test_every_absent_field_and_object_is_shown_with_its_reason(tmp_path: Path) -> None:
    text = """\
connector = "sandbox"
[objects.contact]
key = { phone = "{{ call.phone | e164 }}" }
[objects.call]
key = { call_key = "{{ call.key }}" }
link = { contact = "contact" }
[objects.call.fields]
there = "{{ call.grade }}"
nothing = "{{ record.no_such_thing }}"
never = { value = "x", when = "{{ call.grade == 'Z' }}" }
code = { value = "{{ call.grade }}", map = { A = "hot" }, unknown = "omit" }
"""
    record = tmp_path / "record.json"
    record.write_text(json.dumps({**RECORD, "phone": "158****0637"}), "utf-8")
    mapping = own_mapping(tmp_path, text)
    shown = document(invoke(mapping, record, "--json"))
    reasons = {
        "nothing": "empty",
        "never": "its `when` is not true",
        "code": "'B' is not in its map",
    }
    assert shown["objects"][0]["absent"] == reasons
    assert shown["left_out"] == {"contact": "phone, which is its key, is empty"}
    assert shown["objects"][0]["links"] == []
    text = invoke(mapping, record).output
    for name, reason in reasons.items():
        assert f"  {name}: not sent: {reason}\n" in text
    assert "object contact: left out: phone, which is its key, is empty" in text


# What becomes of it otherwise


@pytest.mark.parametrize(
    ("changes", "head", "outcome", "words", "code"),
    [
        ({"call_from_type": 3}, "", "skipped", "no voice tests", 0),
        ({}, "shadow = true\n", "skipped", "shadow: nothing is sent", 0),
        ({"status": "Q"}, "", "parked", "'Q' is not in its map", 1),
        ({"uuid": "6f1c1e70-0000-4000-8000-000000000001"}, "", "quarantined", "identity_conflict", 1),
        ({"uuid": "", "base_info": "", "sn": ""}, "", "quarantined", "unidentified", 1),
    ],
)
def test_preview_says_why_a_call_is_not_delivered(
    tmp_path: Path, changes: dict[str, Any], head: str, outcome: str, words: str, code: int
) -> None:
    text = SANDBOX.read_text("utf-8").split("[[tests]]")[0].replace(', default = "cold"', "")
    text = text.replace('C = "warm"', 'C = "warm", D = "x", E = "x", F = "x"')
    record = json.dumps({**RECORD, **changes}).encode()
    result = invoke(own_mapping(tmp_path, head + text), "-", "--json", stdin=record)
    shown = document(result)
    assert (shown["outcome"], result.exit_code) == (outcome, code)
    assert words in shown["reason"]
    assert bool(shown["objects"]) == bool(head)


def test_request_that_cannot_be_rendered_would_park_the_call(tmp_path: Path) -> None:
    connector = own_connector(tmp_path, ('"{{ links.contact.id | int }}"', '"{{ fields.seconds // 0 }}"'))
    shown = preview_of(own_mapping(tmp_path), connector, "http://crm.test")
    assert shown.outcome == "parked"
    assert shown.reason.startswith("object call, create: the connector own cannot write the request: ")
    assert [one.planned.name for one in shown.objects] == ["contact", "call"]
    assert shown.objects[0].if_new


def test_nameless_record_gets_the_key_the_ledger_would_give_it() -> None:
    record = json.dumps({**RECORD, "uuid": "", "base_info": ""}).encode()
    shown = document(invoke(SANDBOX, "-", "--json", stdin=record))
    assert shown["call"] == f"{RECORD['sn']}@{RECORD['started_at']}"


def test_zone_and_country_are_options() -> None:
    record = json.dumps({**RECORD, "phone": "(415) 555-2671"}).encode()
    args = (SANDBOX, "-", "--json", "--zone", "UTC", "--country", "US")
    contact, call = document(invoke(*args, stdin=record))["objects"]
    assert contact["key"] == {"phone": "+14155552671"}
    assert call["fields"]["started_at"]["value"] == "2025-04-14T10:19:13Z"
    for option, value in (("--zone", "Mars/Base"), ("--country", "QQ")):
        assert invoke(SANDBOX, EXAMPLE, option, value).exit_code == 2


@pytest.mark.parametrize("mapping", sorted((ROOT / "mappings").glob("*.toml")), ids=lambda path: path.stem)
def test_every_starter_mapping_shows_what_becomes_of_each_field(mapping: Path) -> None:
    result = invoke(mapping, EXAMPLE, "--json")
    shown = document(result)
    assert (result.exit_code, shown["outcome"]) == (0, "delivered")
    for name, section in load_mapping(mapping).file.objects.items():
        found = [each for each in shown["objects"] if each["name"] == name]
        assert bool(found) != (name in shown["left_out"])
        for each in found:
            assert {*each["fields"], *each["absent"]} == set(section.fields)
            assert each.get("either_way") or each["if_new"]


# Which record


def test_call_in_the_ledger_is_chosen_by_uuid_phone_or_sn(tmp_path: Path) -> None:
    config = write_config(tmp_path, "http://127.0.0.1:9")
    with closing(SqliteLedger(tmp_path / "ledger.db", create=True)) as ledger:
        filed_all(ledger, [arrival_of(MAIN, Via.CALLBACK, json.dumps(RECORD).encode(), NOW)])
        Judge(
            ledger, {"main": SourceRules(MAIN, ("crm",), frozenset())}, destinations_since={}
        ).judge_waiting(NOW)
    wanted = document(invoke(SANDBOX, EXAMPLE, "-c", config, "--json"))
    for word in (KEY, RECORD["phone"], RECORD["sn"]):
        assert document(invoke(SANDBOX, word, "-c", config, "--json"))["objects"] == wanted["objects"]
    nobody = invoke(SANDBOX, "13800138000", "-c", config)
    assert nobody.exit_code == 2
    assert "no call is named 13800138000" in nobody.output


def test_unreadable_input_is_a_usage_error(tmp_path: Path) -> None:
    assert invoke(SANDBOX, "-", stdin=b"[1]").exit_code == 2
    assert "no file" in invoke(SANDBOX, tmp_path / "none.json").output
    assert invoke(SANDBOX, EXAMPLE, "--destination", "x").exit_code == 2
    broken = own_mapping(tmp_path, 'connector = "sandbx"\n[objects.contact]\nkey = { phone = "1" }\n')
    assert isinstance(invoke(broken, EXAMPLE).exception, ConfigError)
