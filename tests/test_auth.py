"""Authentication of every kind, judged by what a server sees."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest

from bridge.crm import Crm
from tests.connector_steps import (
    NOW,
    Seen,
    Server,
    connector_of,
    crm_of,
    serving,
)

THING = """
[objects.thing]
key = ["key"]
create = { path = "/things", json = "{{ fields }}" }
"""
NAMES = {"key": {"key": "a"}, "fields": {"name": "客户", "n": 1}}
SECRETS = {"token": "s3cret-token", "client_id": "cid-12345", "client_secret": "csecret-12345"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


def text_of(auth: str, secrets: tuple[str, ...] = ("token",), more: str = "") -> str:
    return f'name = "own"\nsecrets = {json.dumps(list(secrets))}\n{more}\n{auth}\n{THING}'


def ask(crm: Crm) -> None:
    crm.ask(crm.connector.objects["thing"].create[0].request, NAMES, "object thing, create")


def sent(server: Server, text: str, secrets: Mapping[str, str] = SECRETS) -> Seen:
    server.log.clear()
    server.answer = lambda _seen: (200, {}, {})
    with closing(crm_of(connector_of(text), server.url, secrets)) as crm:
        ask(crm)
    (seen,) = server.log
    return seen


# What every request carries


@pytest.mark.parametrize("scheme", ["Bearer ", "Zoho-oauthtoken ", "Token token=", ""])
def test_a_header(server: Server, scheme: str) -> None:
    text = text_of(f'[auth]\nheaders = {{ X-Auth = "{scheme}{{{{ secrets.token }}}}" }}')
    assert sent(server, text).headers["x-auth"] == f"{scheme}{SECRETS['token']}"


def test_a_query(server: Server) -> None:
    seen = sent(server, text_of('[auth]\nquery = { access_token = "{{ secrets.token }}" }'))
    assert seen.query == {"access_token": SECRETS["token"]}


def test_a_secret_in_the_path(server: Server) -> None:
    seen = sent(server, text_of("", more='root = "{{ base_url }}/rest/{{ secrets.token }}"'))
    assert seen.path == "/rest/s3cret-token/things"


def test_basic(server: Server) -> None:
    header = "Basic {{ (secrets.token ~ ':x') | base64 }}"
    seen = sent(server, text_of(f'[auth]\nheaders = {{ Authorization = "{header}" }}'))
    assert base64.b64decode(seen.headers["authorization"][6:]) == b"s3cret-token:x"


def test_credentials_in_the_body(server: Server) -> None:
    seen = sent(server, text_of('[auth]\nbody = { token = "{{ secrets.token }}", corp = "c" }'))
    assert seen.json == {"token": "s3cret-token", "corp": "c", "name": "客户", "n": 1}


def test_a_digest_over_time_and_secret(server: Server) -> None:
    header = "{{ (now.epoch ~ secrets.token) | digest('md5') }}"
    seen = sent(server, text_of(f'[auth]\nheaders = {{ X-Sign = "{header}" }}'))
    expected = hashlib.md5(f"{int(NOW.timestamp())}s3cret-token".encode(), usedforsecurity=False)
    assert seen.headers["x-sign"] == expected.hexdigest()


def test_an_hmac_over_the_very_bytes_that_are_sent(server: Server) -> None:
    header = "{{ (request.method ~ ' ' ~ request.path ~ request.text) | hmac(secrets.token, form='base64') }}"
    seen = sent(
        server,
        text_of(f'[auth]\nbody = {{ at = "{{{{ now.epoch }}}}" }}\nheaders = {{ X-Sign = "{header}" }}'),
    )
    assert b'"at":' in seen.raw
    signed = hmac.new(b"s3cret-token", b"POST /things" + seen.raw, "sha256").digest()
    assert base64.b64decode(seen.headers["x-sign"]) == signed


def test_a_requests_own_header_goes_before(server: Server) -> None:
    text = text_of('[auth]\nheaders = { X-Kind = "{{ secrets.token }}" }')
    seen = sent(server, text.replace('"/things",', '"/things", headers = { x-kind = "own" },'))
    assert seen.headers["x-kind"] == "own"
