"""Authentication of every kind, judged by what a server sees."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from contextlib import closing
from typing import get_args
from urllib.parse import parse_qsl

import pytest

from bridge.crm.connector.auth import FIELDS_OF_GRANTS
from bridge.crm.connector.schema import Grant
from bridge.lib.errors import DeliveryError
from tests.fixtures.create_request import NAMES, SECRETS, ask, text_of
from tests.fixtures.small_crm import (
    NOW,
    Seen,
    Server,
    connector_of,
    crm_of,
)


def sent(server: Server, text: str, secrets: Mapping[str, str] = SECRETS) -> Seen:
    server.log.clear()
    server.answer = lambda _seen: (200, {}, {})
    with closing(crm_of(connector_of(text), server.url, secrets)) as crm:
        ask(crm)
    (seen,) = server.log
    return seen


def created(server: Server, body: str, names: Mapping[str, object], auth: str = "") -> Seen:
    """What arrives of a create with such a body."""
    text = text_of(auth).replace('json = "{{ fields }}"', body)
    server.log.clear()
    server.answer = lambda _seen: (200, {}, {})
    with closing(crm_of(connector_of(text), server.url, SECRETS)) as crm:
        crm.ask(crm.connector.objects["thing"].create[0].request, names, "object thing, create")
    (seen,) = server.log
    return seen


# What is made anew for each request


@pytest.mark.parametrize(
    "auth",
    [
        '[auth]\nheaders = { X-Id = "{{ random.uuid4 }}" }',
        '[auth]\nquery = { id = "{{ random.hex }}" }',
        '[auth]\nbody = { id = "{{ random.hex }}" }',
        '[auth]\nheaders = { X-Id = "{{ request.text | digest }}" }',
    ],
)
def test_credentials_that_differ_are_made_anew_for_each_request(server: Server, auth: str) -> None:
    server.log.clear()
    server.answer = lambda _seen: (200, {}, {})
    with closing(crm_of(connector_of(text_of(auth)), server.url, SECRETS)) as crm:
        for number in range(2):
            names = {**NAMES, "fields": {"n": number}}
            crm.ask(crm.connector.objects["thing"].create[0].request, names, "object thing, create")
    first, second = server.log
    made = [(seen.headers.get("x-id"), seen.query.get("id"), seen.json.get("id")) for seen in (first, second)]
    assert made[0] != made[1]
    assert any(made[0])


# Bodies


def test_form_body_may_be_one_expression(server: Server) -> None:
    names = {"key": {"key": "a"}, "fields": {"name": "客户 &=", "none": None, "tags": ["x", "y"], "on": True}}
    seen = created(server, 'form = "{{ key | merge(fields) }}"', names)
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qsl(seen.raw.decode()) == [
        ("key", "a"), ("name", "客户 &="), ("tags", "x"), ("tags", "y"), ("on", "true"),
    ]  # fmt: skip


def test_credentials_are_added_to_a_form_of_one_expression(server: Server) -> None:
    seen = created(server, 'form = "{{ fields }}"', NAMES, '[auth]\nbody = { token = "{{ secrets.token }}" }')
    assert seen.form == {"token": "s3cret-token", "name": "客户", "n": "1"}


@pytest.mark.parametrize("fields", ["text", None, ["a"], 3])
def test_form_expression_that_gives_no_table_is_reported(server: Server, fields: object) -> None:
    with pytest.raises(DeliveryError, match="form is no table"):
        created(server, 'form = "{{ fields }}"', {**NAMES, "fields": fields})
    assert server.log == []


def test_table_inside_a_form_is_sent_as_json(server: Server) -> None:
    seen = created(server, 'form = "{{ fields }}"', {**NAMES, "fields": {"a": {"b": [1, None]}}})
    assert seen.form == {"a": '{"b":[1,null]}'}


@pytest.mark.parametrize(
    ("how", "signed"), [("", "b=1&c=0"), ("(empty=true)", "a=&b=1&c=0"), ("(',', ':', true)", "a:,b:1,c:0")]
)
def test_signature_of_pairs_can_leave_out_empty_ones(server: Server, how: str, signed: str) -> None:
    header = "{{ (request.body | joined_pairs" + how + " ~ secrets.token) | digest('md5') }}"
    fields = {"c": 0, "b": 1, "a": "", "none": None}
    seen = created(
        server,
        'form = "{{ fields }}"',
        {**NAMES, "fields": fields},
        f'[auth]\nheaders = {{ X-Sign = "{header}" }}',
    )
    expected = hashlib.md5(f"{signed}s3cret-token".encode(), usedforsecurity=False).hexdigest()
    assert seen.headers["x-sign"] == expected


# What every request carries


@pytest.mark.parametrize("scheme", ["Bearer ", "Zoho-oauthtoken ", "Token token=", ""])
def test_secret_in_a_header(server: Server, scheme: str) -> None:
    text = text_of(f'[auth]\nheaders = {{ X-Auth = "{scheme}{{{{ secrets.token }}}}" }}')
    assert sent(server, text).headers["x-auth"] == f"{scheme}{SECRETS['token']}"


def test_secret_in_the_query(server: Server) -> None:
    seen = sent(server, text_of('[auth]\nquery = { access_token = "{{ secrets.token }}" }'))
    assert seen.query == {"access_token": SECRETS["token"]}


def test_secret_in_the_path(server: Server) -> None:
    seen = sent(server, text_of("", more='root = "{{ base_url }}/rest/{{ secrets.token }}"'))
    assert seen.path == "/rest/s3cret-token/things"


def test_basic_authentication(server: Server) -> None:
    header = "Basic {{ (secrets.token ~ ':x') | base64 }}"
    seen = sent(server, text_of(f'[auth]\nheaders = {{ Authorization = "{header}" }}'))
    assert base64.b64decode(seen.headers["authorization"][6:]) == b"s3cret-token:x"


def test_credentials_in_the_body(server: Server) -> None:
    seen = sent(server, text_of('[auth]\nbody = { token = "{{ secrets.token }}", corp = "c" }'))
    assert seen.json == {"token": "s3cret-token", "corp": "c", "name": "客户", "n": 1}


def test_digest_of_time_and_secret(server: Server) -> None:
    header = "{{ (now.epoch ~ secrets.token) | digest('md5') }}"
    seen = sent(server, text_of(f'[auth]\nheaders = {{ X-Sign = "{header}" }}'))
    expected = hashlib.md5(f"{int(NOW.timestamp())}s3cret-token".encode(), usedforsecurity=False)
    assert seen.headers["x-sign"] == expected.hexdigest()


def test_hmac_is_over_exactly_the_bytes_sent(server: Server) -> None:
    header = "{{ (request.method ~ ' ' ~ request.path ~ request.text) | hmac(secrets.token, form='base64') }}"
    seen = sent(
        server,
        text_of(f'[auth]\nbody = {{ at = "{{{{ now.epoch }}}}" }}\nheaders = {{ X-Sign = "{header}" }}'),
    )
    assert b'"at":' in seen.raw
    signed = hmac.new(b"s3cret-token", b"POST /things" + seen.raw, "sha256").digest()
    assert base64.b64decode(seen.headers["x-sign"]) == signed


def test_header_of_the_request_wins_over_the_accounts(server: Server) -> None:
    text = text_of('[auth]\nheaders = { X-Kind = "{{ secrets.token }}" }')
    seen = sent(server, text.replace('"/things",', '"/things", headers = { x-kind = "own" },'))
    assert seen.headers["x-kind"] == "own"


def test_every_grant_has_its_form_fields() -> None:
    assert list(FIELDS_OF_GRANTS) == list(get_args(Grant))
