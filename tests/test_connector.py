"""Connectors and the client that follows them: what is sent, how mistakes are named, what is never shown."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bridge.connector import Connector, load_connector, shipped_connectors
from bridge.crm import Crm, retry_after
from bridge.deliver import Destination, Schedule, next_attempt_at
from bridge.errors import ConfigError, DeliveryError, InDoubt, Permanent, Problem, Transient
from bridge.mapping import load_mapping
from bridge.plan import PlannedObject
from bridge.sandbox.server import LocalServer
from bridge.tomlfile import load_toml

TOP = Path(__file__).parent.parent
SECRET = "canary-5a81c0de"
PHONE = "15899770637"
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
SCHEDULE = Schedule(timedelta(seconds=10), timedelta(minutes=5), timedelta(hours=1))
FIELDS = {"grade": "A", "tags": ["有需求"], "score": 80, "answered": True}

GOOD = """\
name = "own"
secrets = ["token"]

[auth]
headers = { Authorization = "Bearer {{ secrets.token }}", X-Api-Version = "3" }

[objects.call]
key = ["call_key", "part"]

[objects.call.upsert]
method = "POST"
path = "/calls/{{ key.call_key | path }}/{{ key.part }}"
id = "data.id"

[objects.call.upsert.json]
properties = "{{ fields }}"
from = "callbridge"
number = 3
list = [1, true, "{{ key.call_key }}", { deep = "<{{ key.part }}>" }]

[objects.call.link.contact]
method = "PUT"
path = "/links"
json = { id = "{{ to.id }}", phone = "{{ to.key.phone }}" }
"""


def connector_of(folder: Path, *changes: tuple[str, str]) -> Connector:
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "own.toml"
    path.write_text(text, "utf-8")
    return Connector(load_toml(path))


def shipped() -> Connector:
    return Connector(load_toml(shipped_connectors()["sandbox"]))


def test_every_shipped_connector_loads_under_its_files_name() -> None:
    names = shipped_connectors()
    assert "sandbox" in names
    assert [Connector(load_toml(path)).name for path in names.values()] == list(names)


def test_the_sandbox_connector_says_what_is_safe_to_repeat() -> None:
    connector = shipped()
    assert connector.secrets == ("token",)
    assert {name: found.key for name, found in connector.objects.items()} == {
        "contact": ("phone",),
        "call": ("call_key",),
    }
    call = connector.objects["call"]
    requests = [connector.objects["contact"].upsert, call.upsert, call.link["contact"]]
    assert [request.section.idempotent for request in requests] == [True, True, True]


def test_a_request_is_not_idempotent_unless_it_says_so(tmp_path: Path) -> None:
    assert not connector_of(tmp_path).objects["call"].upsert.section.idempotent


def test_an_unknown_connector_is_named_where_the_mapping_names_it(tmp_path: Path) -> None:
    path = tmp_path / "crm.toml"
    text = '# mine\nconnector = "sandbx"\n[objects.call]\nkey = { call_key = "{{ call.key }}" }\n'
    path.write_text(text, "utf-8")
    mapping = load_mapping(path)

    def problem_at(message: str, remedy: str) -> Problem:
        return mapping.problem(("connector",), message, remedy)

    with pytest.raises(ConfigError) as caught:
        load_connector(mapping.file.connector, problem_at)
    expected = Problem(
        str(path), "connector", 'there is no connector "sandbx"', 'did you mean "sandbox"?', line=2
    )
    assert caught.value.problems == (expected,)
    assert load_connector("sandbox", problem_at).name == "sandbox"


# What is sent


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("+8615899770637", "/calls/%2B8615899770637"),
        ("a/b?c#d&e=f", "/calls/a%2Fb%3Fc%23d%26e%3Df"),
        ("100%", "/calls/100%25"),
        ("客户 1", "/calls/%E5%AE%A2%E6%88%B7%201"),
        ("sn@2025-04-14 10:19:13", "/calls/sn%402025-04-14%2010%3A19%3A13"),
        ("a\r\nX: y", "/calls/a%0D%0AX%3A%20y"),
        ("{{ 7*7 }}", "/calls/%7B%7B%207%2A7%20%7D%7D"),
        (12, "/calls/12"),
    ],
)
def test_a_key_cannot_change_the_shape_of_a_path(key: object, path: str) -> None:
    names = {"key": {"call_key": key}, "fields": FIELDS}
    rendered, body = shipped().objects["call"].upsert.render(names)
    assert rendered == path
    assert unquote(rendered) == f"/calls/{key}"
    assert body == FIELDS


def test_a_body_keeps_types_and_constants(tmp_path: Path) -> None:
    request = connector_of(tmp_path).objects["call"].upsert
    path, body = request.render({"key": {"call_key": "k/1", "part": "x"}, "fields": FIELDS})
    assert path == "/calls/k%2F1/x"
    assert body == {
        "properties": FIELDS,
        "from": "callbridge",
        "number": 3,
        "list": [1, True, "k/1", {"deep": "<x>"}],
    }


def test_a_link_knows_both_ends(tmp_path: Path) -> None:
    link = connector_of(tmp_path).objects["call"].link["contact"]
    names = {"key": {"call_key": "k"}, "to": {"id": "c_1", "key": {"phone": "+86158"}}}
    assert link.render(names) == ("/links", {"id": "c_1", "phone": "+86158"})


def test_a_request_may_have_no_body(tmp_path: Path) -> None:
    bodiless = ('json = { id = "{{ to.id }}", phone = "{{ to.key.phone }}" }', "")
    link = connector_of(tmp_path, bodiless).objects["call"].link["contact"]
    assert link.render({"key": {}, "to": {}}) == ("/links", None)


def test_headers_carry_the_secrets(tmp_path: Path) -> None:
    headers = connector_of(tmp_path).headers({"token": SECRET})
    assert headers == {"Authorization": f"Bearer {SECRET}", "X-Api-Version": "3"}


# Mistakes: what is changed; the line, the key, words of the message, the remedy

BROKEN = [
    ('name = "own"', 'name = "own"\nnme = 1', 2, "nme", 'unknown key "nme"', '"name"'),
    ("headers =", "heders = {}\nheaders =", 5, "auth.heders", 'unknown key "heders"', '"headers"'),
    ('method = "POST"', 'method = "FETCH"', 11, "objects.call.upsert.method", "'PUT'", ""),
    ('id = "data.id"', 'idd = "data.id"', 13, "objects.call.upsert.idd", 'unknown key "idd"', '"id"'),
    ('path = "/links"', 'pth = "/links"', 23, "objects.call.link.contact.pth", 'unknown key "pth"', '"path"'),
    ('["call_key", "part"]', "[]", 8, "objects.call.key", "must not be empty", ""),
    ("call_key | path", "call_key | pth", 12, "objects.call.upsert.path", 'no filter "pth"', '"path"'),
    ("secrets.token", "secret.token", 5, "auth.headers.Authorization", 'no name "secret"', '"secrets"'),
    ('"{{ fields }}"', '"{{ feilds }}"', 16, "objects.call.upsert.json.properties", "feilds", '"fields"'),
    ("<{{ key.part }}>", "<{{ key.part >", 19, "objects.call.upsert.json.list.3.deep", "never closed", ""),
    ("to.id }}", "to.idd }}", 24, "objects.call.link.contact.json.id", "to.idd", '"to.id"'),
]


@pytest.mark.parametrize(("old", "new", "line", "key", "words", "remedy"), BROKEN)
def test_a_mistake_is_named(
    tmp_path: Path, old: str, new: str, line: int, key: str, words: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        connector_of(tmp_path, (old, new))
    said = [one for one in caught.value.problems if one.message != "is required"]
    assert len(said) == 1, said
    assert (said[0].file, said[0].line, said[0].key) == (str(tmp_path / "own.toml"), line, key)
    assert words in said[0].message
    assert remedy in f"{said[0].message} {said[0].remedy}"


def test_a_missing_path_is_told_with_its_request(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        connector_of(tmp_path, ('path = "/links"', ""))
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (21, "objects.call.link.contact.path")
    assert problem.message == "is required"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        connector_of(tmp_path, ("secrets.token", "secret.token"), ("to.id }}", "to.idd }}"))
    assert [one.line for one in caught.value.problems] == [5, 24]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("{{ fields }}", "{{ to.id }}", 16),
        ("{{ fields }}", "{{ secrets.token }}", 16),
        ("<{{ key.part }}>", "{{ key.prt }}", 19),
        ("secrets.token", "secrets.tokn", 5),
    ],
)
def test_what_a_request_is_not_given_is_refused_at_load(
    tmp_path: Path, old: str, new: str, line: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        connector_of(tmp_path, (old, new))
    assert [one.line for one in caught.value.problems] == [line]


# What is never shown


def test_no_text_of_a_connector_shows_a_secret() -> None:
    connector = shipped()
    crm = Crm(connector, "http://127.0.0.1:9", {"token": SECRET}, timeout=1)
    crm.close()
    destination = Destination(
        name="crm",
        mapping=load_mapping(TOP / "mappings/sandbox.toml"),
        connector=connector,
        base_url="http://127.0.0.1:9",
        secrets={"token": SECRET},
        timeout=1,
    )
    for shown in (connector, crm, destination):
        assert SECRET not in f"{shown!r} {shown}"


# What an answer makes of it


def refusal(
    answer: Callable[[Request], Response], secret: str = SECRET, connector: Connector | None = None
) -> DeliveryError:
    """What sending a contact to a CRM that answers so comes to."""
    contact = PlannedObject("contact", "contact", {"phone": f"+86{PHONE}"}, {}, {})
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["PUT"])])

    def send(url: str) -> None:
        with closing(Crm(connector or shipped(), url, {"token": secret}, timeout=5)) as crm:
            crm.upsert(contact)

    with LocalServer(app) as server, pytest.raises(DeliveryError) as caught:
        send(server.url)
    assert not any(text in f"{caught.value!r} {caught.value.cause}" for text in (PHONE, SECRET))
    return caught.value


@pytest.mark.parametrize("body", [{"ok": True}, {"id": None}, {"id": ""}, ["id"], "id", None])
def test_an_answer_without_an_id_says_where_it_was_looked_for(body: object) -> None:
    error = refusal(lambda _request: JSONResponse(body))
    assert isinstance(error, InDoubt)
    assert str(error) == "object contact: the answer carries no id at 'id'"


@pytest.mark.parametrize(
    ("status", "repeatable", "other"),
    [
        (429, Transient, Transient),
        (503, Transient, Transient),
        (500, Transient, InDoubt),
        (502, Transient, InDoubt),
        (408, Transient, InDoubt),
        (302, Permanent, Permanent),
        (400, Permanent, Permanent),
        (403, Permanent, Permanent),
    ],
)
def test_what_a_status_means_depends_on_whether_the_request_may_be_repeated(
    tmp_path: Path, status: int, repeatable: type[DeliveryError], other: type[DeliveryError]
) -> None:
    path = tmp_path / "once.toml"
    text = shipped_connectors()["sandbox"].read_text("utf-8")
    path.write_text(text.replace(", idempotent = true", ""), "utf-8")
    once = Connector(load_toml(path))
    assert type(refusal(lambda _request: PlainTextResponse("no", status))) is repeatable
    assert type(refusal(lambda _request: PlainTextResponse("no", status), connector=once)) is other


def test_an_answer_that_is_no_json() -> None:
    error = refusal(lambda _request: PlainTextResponse("<html>login</html>"))
    assert isinstance(error, InDoubt)
    assert str(error).endswith("answered 200 with a body that is no JSON")


def test_a_refusal_that_quotes_the_secret_and_the_phone_shows_neither() -> None:
    error = refusal(lambda request: PlainTextResponse(f"{PHONE}: {request.headers['authorization']}", 403))
    assert isinstance(error, Permanent)
    assert "answered 403: 158****0637: " in str(error)
    assert "Check the destination's secrets" in str(error)


@pytest.mark.parametrize("secret", [f"{SECRET}é", f"{SECRET}\n", f"{SECRET}\r\nX-Evil: 1"])
def test_a_secret_that_no_header_can_carry_is_refused_without_showing_it(secret: str) -> None:
    error = refusal(lambda _request: JSONResponse({"id": "1"}), secret)
    assert isinstance(error, Permanent)
    assert "secret" in str(error)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Sun, 22 Nov 2026 08:00:07 GMT", 7.0),
        ("Sun, 22 Nov 2026 16:00:07 +0800", 7.0),
        ("Sun, 22 Nov 2026 07:00:00 GMT", 0.0),
        ("Sunday, 22-Nov-26 08:00:07 GMT", 7.0),
        ("", None),
        ("soon", None),
        ("Sun, 99 Nov 2026 08:00:07 GMT", None),
        ("1,5", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": text}), NOW) == seconds
    assert retry_after(httpx.Response(429), NOW) is None


# When to try again


@pytest.mark.parametrize("asked", [None, 3.0, 90.0, 86400.0])
@pytest.mark.parametrize(("attempt", "wait"), [(1, 10), (2, 20), (5, 160), (6, 300), (10**6, 300)])
def test_the_next_attempt(attempt: int, wait: int, asked: float | None) -> None:
    for chance, spread in ((0.0, 0.9), (0.5, 1.0), (0.999, 1.0998)):
        at = next_attempt_at(
            SCHEDULE, owed_at=NOW, attempt=attempt, retry_after=asked, now=NOW, chance=chance
        )
        assert at is not None
        assert (at - NOW).total_seconds() == pytest.approx(max(wait * spread, asked or 0))


@pytest.mark.parametrize(("owed_for", "again"), [(3599, True), (3600, False), (10**6, False)])
def test_patience_ends(owed_for: int, again: bool) -> None:
    owed_at = NOW - timedelta(seconds=owed_for)
    at = next_attempt_at(SCHEDULE, owed_at=owed_at, attempt=1, retry_after=5, now=NOW, chance=0.0)
    assert (at is not None) is again
