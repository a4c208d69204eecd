"""An answer that is not the CRM's own is the account's fault: never "absent", "deleted" or the record's."""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.crm.connector import Connector, shipped_connectors
from bridge.crm.connector.answer import read_answer
from bridge.crm.connector.foreign_answer import Expects
from bridge.crm.connector.outcome import Meaning
from bridge.crm.connector.request import Find, Link, Read, Request
from bridge.crm.connector.steps import Step
from bridge.lib.toml_file import load_toml
from tests.fixtures.delivery_simulation import DATA
from tests.fixtures.scripted_crm import plain_connector, scripted_crm_bench
from tests.fixtures.small_crm import NOW, connector_of

PHONE = "15899770631"
WAF = "<!DOCTYPE html><html><head><title>Attention Required!</title></head><body>blocked</body></html>"
NGINX = "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body><center>nginx</center></body></html>"
HTML = {"content-type": "text/html"}
PLAIN = {"content-type": "text/plain"}
API = '[objects.thing]\nkey = ["key"]\ncreate = { path = "/things", id = "id" }\n'
TEXTS = '[objects.thing]\nkey = ["key"]\ncreate = { path = "/things" }\n'


def own(rules: str = "", objects: str = API, more: str = "") -> Connector:
    return connector_of(f'name = "own"\n{more}\n[errors]\nmessage = "message"\n{rules}\n{objects}')


def judged(
    connector: Connector,
    status: int,
    body: Any = "",
    headers: Mapping[str, str] | None = None,
    expects: Expects = "",
) -> Meaning:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    answer = read_answer(status, headers or {}, raw, None)
    return connector.classifier.meaning_of(answer, (), NOW, expects)


@pytest.mark.parametrize("objects", [API, TEXTS])
def test_html_page_is_never_an_answer_of_the_crm(objects: str) -> None:
    connector = own(objects=objects)
    for body in (
        WAF,
        NGINX,
        "\ufeff\n <h1>Not Found</h1>",
        "<br />\n<b>Fatal error</b>: x",
        "<?xml version='1.0'?>",
    ):
        for status in (200, 201, 207, 302, 400, 403, 404, 405, 409, 410, 413, 422, 451, 500, 502, 520):
            found = judged(connector, status, body, HTML)
            assert (found.result, found.foreign) == ("transient", True), (status, body)
            assert "base_url" in found.says


@pytest.mark.parametrize(
    ("status", "body", "headers", "result"),
    [
        # Limits, and a key that is refused, are told by the status whoever tells them.
        (429, WAF, HTML, "unprocessed"),
        (401, WAF, HTML, "refresh"),
        # A 503 names a time to come back where somebody has decided to refuse; without it a gateway may
        # have lost patience with what went on behind it.
        (503, WAF, {**HTML, "retry-after": "9"}, "unprocessed"),
        (503, WAF, HTML, "transient"),
        # Of other servers and networks.
        (407, {"message": "x"}, {}, "transient"),
        (511, "", {}, "transient"),
        (302, "", {"location": "https://maintenance.example/"}, "transient"),
        (302, {"go": "there"}, {"location": "/login"}, "transient"),
        (308, "", {}, "transient"),
        # Text where an API speaks JSON, and JSON that was cut.
        (404, "404 page not found", PLAIN, "transient"),
        (404, "404", PLAIN, "transient"),
        (502, "Bad Gateway", PLAIN, "transient"),
        (403, "RBAC: access denied", PLAIN, "transient"),
        (404, '{"message": "it is go', {"content-type": "application/json"}, "transient"),
        # What an API may say itself.
        (404, "", {}, "gone"),
        (404, {"message": "there is none"}, {}, "gone"),
        (404, '"there is none"', {"content-type": "application/json"}, "gone"),
        (404, "null", {"content-type": "application/json"}, "gone"),
        (404, {"message": "there is none"}, HTML, "gone"),
        (400, [{"message": "x"}], {}, "permanent"),
        (300, [{"url": "/1"}, {"url": "/2"}], {}, "permanent"),
        (204, "", {}, "ok"),
        (200, "", {}, "ok"),
        (500, "", {}, "transient"),
    ],
)  # fmt: skip
def test_answers_of_gateways_are_told_apart_from_the_crms_own(
    status: int, body: Any, headers: Mapping[str, str], result: str
) -> None:
    assert judged(own(), status, body, headers).result == result


@pytest.mark.parametrize(
    ("expects", "status", "body", "result"),
    [
        ("json", 200, "", "transient"),
        ("json", 201, "  \n", "transient"),
        ("json", 204, "", "ok"),
        ("json", 202, "", "transient"),
        ("", 202, "", "ok"),
        ("", 103, {}, "transient"),
        ("json", 200, "OK", "transient"),
        ("json", 200, {}, "ok"),
        ("json", 200, [], "ok"),
        ("text", 200, "", "transient"),
        ("text", 200, "id: 7", "ok"),
        ("", 200, "OK", "ok"),
    ],
)
def test_expected_body_must_be_there(expects: Expects, status: int, body: Any, result: str) -> None:
    assert judged(own(), status, body, PLAIN, expects).result == result


@pytest.mark.parametrize(
    ("rule", "status", "body", "result"),
    [
        # By its status alone a rule says nothing of a page…
        ('status = 403\nthen = "permanent"', 403, WAF, "transient"),
        ('status = 404\nthen = "gone"', 404, NGINX, "transient"),
        ('status = 409\nthen = "done"', 409, WAF, "transient"),
        ('status = 409\nthen = "duplicate"', 409, "conflict", "transient"),
        ('status = "2xx"\nthen = "ok"', 200, WAF, "transient"),
        ("when = '{{ status == 404 }}'\nthen = \"gone\"", 404, NGINX, "transient"),
        ("when = '{{ not body.id }}'\nthen = \"gone\"", 404, NGINX, "transient"),
        ('path = "x"\nis = ""\nthen = "gone"', 404, NGINX, "transient"),
        ('status = 403\nthen = "quota"\nuntil = "00:00"', 403, WAF, "transient"),
        # … unless it looks at what stands there, or says so.
        ('status = 404\nmatches = "nginx"\nthen = "gone"', 404, NGINX, "gone"),
        ('status = 404\nheader = "x-own"\nthen = "gone"', 404, NGINX, "gone"),
        ('when = \'{{ status == 404 and "nginx" in text }}\'\nthen = "gone"', 404, NGINX, "gone"),
        ('status = 404\nforeign = true\nthen = "gone"', 404, NGINX, "gone"),
        ('status = 404\nmatches = "no such"\nthen = "gone"', 404, "no such thing", "gone"),
        ('status = 404\nmatches = "no such"\nthen = "gone"', 404, "404 page not found", "transient"),
        # What is the account's fault anyway may be told by the status.
        ('status = 403\nthen = "refresh"', 403, WAF, "refresh"),
        ('status = 420\nthen = "unprocessed"', 420, WAF, "unprocessed"),
        # Of the API's own answers it says what it always said.
        ('status = 403\nthen = "permanent"', 403, {"message": "no right"}, "permanent"),
        ('status = 409\nthen = "done"', 409, "", "done"),
    ],
)
def test_only_some_rules_apply_to_a_page(rule: str, status: int, body: Any, result: str) -> None:
    connector = own(f"[[outcomes]]\n{rule}\n")
    headers = {**(HTML if isinstance(body, str) else {}), "x-own": "1"}
    assert judged(connector, status, body, headers).result == result


@pytest.mark.parametrize(
    ("speaks", "status", "body", "result"),
    [
        ("text", 404, "no such thing", "gone"),
        ("text", 404, "<error>no such thing</error>", "gone"),
        ("text", 200, "<id>7</id>", "ok"),
        ("text", 404, NGINX, "transient"),
        ("json", 200, "OK", "transient"),
        ("json", 404, "no such thing", "transient"),
    ],
)
def test_connector_declares_its_crms_content_types(speaks: str, status: int, body: str, result: str) -> None:
    for objects in (API, TEXTS):
        connector = own(objects=objects, more=f'speaks = "{speaks}"')
        assert judged(connector, status, body, PLAIN).result == result


def test_page_is_named_by_its_title_not_quoted() -> None:
    found = judged(own(), 403, WAF, HTML)
    assert found.message == 'with a web page, "Attention Required!"'
    assert judged(own(), 200, "<html>" + "x" * 100_000, HTML).message == "with a web page"
    assert judged(own(), 404, "404 page not found", PLAIN).message == 'with no JSON, "404 page not found"'


@pytest.mark.parametrize("name", sorted(shipped_connectors()))
def test_no_shipped_connector_takes_a_page_for_success(name: str) -> None:
    connector = Connector(load_toml(shipped_connectors()[name]))
    requests: list[Request] = []
    for kind in connector.objects.values():
        ways: list[Step | Find | Read | Link] = [*kind.find, *kind.create, *kind.update, *kind.upsert]
        ways += [*kind.link.values(), *([kind.read] if kind.read else [])]
        requests += [each.request for each in ways if each.request is not None]
        requests += [each.batch.request for each in ways if each.batch is not None]
    for status in (200, 302, 403, 404, 405, 409, 410, 422, 500):
        answer = read_answer(status, HTML, WAF.encode(), None)
        for request in requests:
            found = connector.classifier.meaning_of(answer, request.rules, NOW, request.expects)
            assert found.result in ("transient", "refresh"), (status, request.method, found)


def html(status: int, text: str = WAF) -> httpx.Response:
    return httpx.Response(status, text=text, headers=HTML)


def is_search(request: httpx.Request) -> bool:
    return request.method == "GET" and bool(request.url.query)


@pytest.mark.parametrize(
    ("told", "batches"),
    [
        (html(404, NGINX), False),
        (html(404, NGINX), True),
        (html(200), False),
        (httpx.Response(302, headers={"location": "/sorry"}), True),
        (httpx.Response(404, text="404 page not found"), False),
        (httpx.Response(200), True),
        (httpx.Response(200, text="{"), False),
    ],
    ids=lambda value: f"{value.status_code} {value.text[:6]}" if isinstance(value, httpx.Response) else None,
)
def test_foreign_answers_double_park_or_lose_nothing(
    tmp_path: Path, told: httpx.Response, batches: bool
) -> None:
    with scripted_crm_bench(tmp_path, plain_connector(batches=batches)) as world:
        world.feed(1, PHONE)
        world.drain()
        # Everything is answered by what stands before the CRM: searches, reads, writes, links.
        world.answer = lambda _request: httpx.Response(
            told.status_code, headers=told.headers, content=told.content
        )
        world.feed(2, PHONE)
        world.feed(1, PHONE, stamp=2, status="B")
        for number in range(3, 9):
            world.feed(number, f"1589977064{number}")
        for _ in range(12):
            world.clock.pass_by(20)
            world.deliver()
        world.deliver(2)
        assert {row["state"] for row in world.rows()} <= {"due", "delivered"}
        assert world.budget.paused_for(world.clock.now) > 0, "the account is paused"
        assert "not the CRM" in world.row(2)["reason"]
        assert "by itself" in world.row(2)["reason"]
        asked = len(world.requests)
        world.deliver(5)
        assert len(world.requests) == asked, "and is left alone"
        world.answer = lambda _request: None
        world.drain()
        assert {row["state"] for row in world.rows()} == {"delivered"}
        held = world.contents()
        assert len(held["contacts"]) == 7
        assert len(held["calls"]) == 8
        assert all(call["contact_id"] for call in held["calls"])


def test_404_page_on_an_update_does_not_mean_deleted(tmp_path: Path) -> None:
    with scripted_crm_bench(tmp_path, plain_connector(), mapping=recreated) as world:
        world.feed(1, PHONE)
        world.drain()
        before = world.contents()
        world.answer = lambda request: html(404, NGINX) if request.method == "PATCH" else None
        world.feed(1, PHONE, stamp=2, status="B")
        world.deliver()
        assert world.row(1)["state"] == "due"
        assert world.contents() == before
        world.answer = lambda _request: None
        world.drain()
        assert world.row(1)["state"] == "delivered"
        assert len(world.contents()["contacts"]) == 1


def test_404_page_on_a_search_creates_no_second_contact(tmp_path: Path) -> None:
    with scripted_crm_bench(tmp_path, plain_connector()) as world:
        world.crm.carry_out("POST", ["contacts"], {}, {"phone": f"+86{PHONE}"})
        world.answer = lambda request: html(404, NGINX) if is_search(request) else None
        world.feed(1, PHONE)
        world.drain(longest=timedelta(hours=1))
        assert [method for method, _ in world.requests if method == "POST"] == []
        world.answer = lambda _request: None
        world.drain()
        assert len(world.contents()["contacts"]) == 1


def recreated(text: str) -> str:
    return text.replace('on_deleted = "park"', 'on_deleted = "recreate"')


def test_create_answered_by_a_firewall_is_looked_up_before_repeating(tmp_path: Path) -> None:
    def after_the_effect(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST":
            return None
        world.effect(request)
        return html(403)

    with scripted_crm_bench(tmp_path, plain_connector()) as world:
        world.answer = after_the_effect
        world.feed(1, PHONE)
        world.deliver()
        world.answer = lambda _request: None
        world.drain()
        held = world.contents()
        assert (len(held["contacts"]), len(held["calls"])) == (1, 1)
        assert world.row(1)["state"] == "delivered"


def test_page_instead_of_a_token_is_an_account_fault(tmp_path: Path) -> None:
    with scripted_crm_bench(tmp_path, (DATA / "connector.toml").read_text("utf-8")) as world:
        world.answer = lambda _request: html(200)
        world.feed(1, PHONE)
        for _ in range(9):
            world.deliver()
            world.clock.pass_by(10)
        assert world.row(1)["state"] == "due"
        assert world.budget.state()["breaker"]["open_until"] is not None, "the account is paused"
        assert len(world.contents()["contacts"]) == 0


@pytest.mark.parametrize("before", [0, 90, 95, 99])
def test_title_of_a_page_shows_no_part_of_a_phone(before: int) -> None:
    page = f"<html><title>{'x' * before} 15899770637</title></html>"
    assert not re.search(r"\d{5}", judged(own(), 403, page, HTML).message)
