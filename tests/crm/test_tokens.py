"""Tokens of every kind of exchange: got once, kept, renewed in time and on refusal, never shown."""

import base64
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bridge.crm.client import Crm
from bridge.crm.tokens import Tokens, TokenStore
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.errors import DeliveryError, Permanent, Transient
from tests.fixtures.create_request import SECRETS, ask, text_of
from tests.fixtures.small_crm import (
    Clock,
    NoStore,
    Seen,
    Server,
    ServerAnswer,
    connector_of,
    crm_of,
)


class TokenServer:
    """Gives out tokens that it knows again."""

    def __init__(self, server: Server, **more: Any) -> None:
        self.asked: list[Seen] = []
        self.given: list[str] = []
        self.more = {"expires_in": 3600, **more}
        self.refused = 0
        self.scripted: list[ServerAnswer] = []
        server.log.clear()
        server.answer = self.answer

    def answer(self, seen: Seen) -> ServerAnswer:
        if seen.path.startswith("/token"):
            self.asked.append(seen)
            if self.scripted:
                return self.scripted.pop(0)
            self.given.append(f"tok-{len(self.given)}-abcdef")
            return 200, {"access_token": self.given[-1], **self.more}, {}
        if self.refused or seen.headers.get("authorization") != f"Bearer {self.given[-1]}":
            self.refused = max(0, self.refused - 1)
            return 401, {"error": f"bad {seen.headers.get('authorization')}"}, {}
        return 200, {}, {}


def with_token(token: str, secrets: tuple[str, ...] = ("client_id", "client_secret")) -> str:
    header = 'headers = { Authorization = "Bearer {{ token.access_token }}" }'
    return text_of(f'[auth]\n{header}\n[auth.token]\nurl = "/token"\n{token}', secrets)


CLIENT = 'grant = "client_credentials"'
ROTATING = 'grant = "refresh_token"\nrate = "100/s"'
REFRESH = {**SECRETS, "refresh_token": "first-refresh"}
Account = Callable[..., Crm]


@pytest.fixture
def account(server: Server) -> Iterator[Account]:
    made: list[Crm] = []

    def make(
        text: str,
        secrets: Mapping[str, str] = SECRETS,
        *,
        store: TokenStore | None = None,
        clock: Clock | None = None,
        tokens: Tokens | None = None,
    ) -> Crm:
        connector = connector_of(text)
        clock = clock or Clock()
        shared = tokens or Tokens("own", connector.auth.tokens, secrets, store or NoStore(), clock)
        made.append(crm_of(connector, server.url, secrets, tokens=shared, clock=clock))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("where", ["body", "basic"])
def test_client_credentials_grant(server: Server, account: Account, where: str) -> None:
    tokens = TokenServer(server)
    ask(account(with_token(f'{CLIENT}\nclient_auth = "{where}"\nform = {{ scope = "a b" }}')))
    (seen,) = tokens.asked
    expected = {"grant_type": "client_credentials", "scope": "a b"}
    if where == "body":
        expected |= {"client_id": "cid-12345", "client_secret": "csecret-12345"}
    else:
        assert base64.b64decode(seen.headers["authorization"][6:]) == b"cid-12345:csecret-12345"
    assert seen.form == expected


def test_password_grant(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    secrets = {**SECRETS, "username": "u", "password": "p&=w"}
    ask(account(with_token('grant = "password"', tuple(secrets)), secrets))
    assert tokens.asked[0].form["password"] == "p&=w"


def test_jwt_bearer_assertion_is_signed_and_verifiable(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    grant = 'grant = "jwt_bearer"\njwt = { claims = { iss = "{{ secrets.client_id }}", aud = "crm" } }'
    text = with_token(grant, ("client_id", "private_key"))
    ask(account(text, {"client_id": "cid-12345", "private_key": pem}))
    form = tokens.asked[0].form
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    claims = jwt.decode(
        form["assertion"],
        key.public_key(),
        ["RS256"],
        audience="crm",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (claims["iss"], claims["exp"] - claims["iat"]) == ("cid-12345", 180)
    with pytest.raises(Permanent, match="private_key") as caught:
        ask(account(text, {"client_id": "cid-12345", "private_key": "garbage-key"}))
    assert 'no key"' not in str(caught.value)


def test_token_request_may_have_a_text_body(server: Server, account: Account) -> None:
    body = "<login><user>{{ secrets.client_id }}</user></login>"
    tokens = TokenServer(server)
    crm = account(with_token(f'headers = {{ Content-Type = "text/xml" }}\ntext = "{body}"'))
    ask(crm)
    (seen,) = tokens.asked
    assert seen.raw == b"<login><user>cid-12345</user></login>"
    assert seen.headers["content-type"] == "text/xml"


def test_token_request_may_have_a_form_of_one_expression(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    ask(account(with_token("form = \"{{ {'a': secrets.client_id} | merge({'b': now.epoch}) }}\"")))
    assert set(tokens.asked[0].form) == {"a", "b"}


def test_several_token_outputs_reach_url_header_and_body(server: Server, account: Account) -> None:
    tokens = TokenServer(server, instance_url=f"{server.url}/eu", corp={"id": "corp-1"})
    text = text_of(
        """[auth]
headers = { Authorization = "Bearer {{ token.access_token }}" }
body = { corpId = "{{ token.corp }}" }
[auth.token]
url = "/token"
json = { id = "{{ secrets.client_id }}" }
outputs = { access_token = "access_token", url = "instance_url", corp = "corp.id" }""",
        ("client_id",),
        'root = "{{ token.url }}"',
    )
    ask(account(text))
    assert tokens.asked[0].json == {"id": "cid-12345"}
    assert (server.log[-1].path, server.log[-1].json["corpId"]) == ("/eu/things", "corp-1")


CHAINED = """[auth]
headers = { Authorization = "Bearer {{ token.access_token }}" }
[[auth.token]]
grant = "refresh_token"
url = "/token/1"
rate = "100/s"
outputs = { app = "access_token" }
[[auth.token]]
url = "/token/2"
query = { app = "{{ token.app }}" }
rate = "100/s"
"""


def test_later_token_is_requested_with_an_earlier_one(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    ask(account(text_of(CHAINED, tuple(REFRESH)), REFRESH))
    assert [seen.path for seen in tokens.asked] == ["/token/1", "/token/2"]
    assert tokens.asked[1].query == {"app": tokens.given[0]}


def test_rotated_token_is_kept_though_the_next_exchange_fails(server: Server, account: Account) -> None:
    tokens = TokenServer(server, refresh_token="second-refresh")
    store = NoStore()
    text = text_of(CHAINED, tuple(REFRESH))
    tokens.scripted = [(200, {"access_token": "a", "refresh_token": "second-refresh"}, {}), (500, None, {})]
    with pytest.raises(Transient):
        ask(account(text, REFRESH, store=store))
    ask(account(text, REFRESH, store=store))
    assert [seen.form.get("refresh_token") for seen in tokens.asked] == [
        "first-refresh",
        None,
        "second-refresh",
        None,
    ]


def test_eight_workers_share_one_exchange(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    connector = connector_of(with_token(CLIENT))
    shared = Tokens("own", connector.auth.tokens, SECRETS, NoStore(), Clock())
    crms = [account(with_token(CLIENT), tokens=shared) for _ in range(8)]
    gate = threading.Barrier(8)

    def work(crm: Crm) -> None:
        gate.wait()
        ask(crm)

    threads = [threading.Thread(target=work, args=[crm]) for crm in crms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(tokens.asked), len(server.log)) == (1, 9)


@pytest.mark.parametrize(
    ("life", "renewed_at"),
    [(3600, 3540), (60, 30), (1, 0.5), (10**30, None), ("soon", None), (-5, None), (None, None)],
)
def test_token_is_renewed_before_it_expires(
    server: Server, account: Account, life: object, renewed_at: float | None
) -> None:
    tokens = TokenServer(server, expires_in=life)
    clock = Clock()
    crm = account(with_token(CLIENT), clock=clock)
    ask(crm)
    clock.tick(renewed_at - 0.1 if renewed_at is not None else 10**7)
    ask(crm)
    assert len(tokens.asked) == 1
    if renewed_at is not None:
        clock.tick(0.2)
        ask(crm)
        assert len(tokens.asked) == 2


def test_old_token_is_used_while_renewal_fails(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    clock = Clock()
    crm = account(with_token(CLIENT), clock=clock)
    ask(crm)
    clock.tick(3550)
    tokens.scripted = [(503, None, {})] * 9
    ask(crm)
    clock.tick(60)
    with pytest.raises(Transient):
        ask(crm)


def test_refused_token_is_renewed_once(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    crm = account(with_token(CLIENT))
    ask(crm)
    tokens.refused = 1
    ask(crm)
    assert len(tokens.asked) == 2
    tokens.refused = 9
    with pytest.raises(DeliveryError, match="answered 401") as caught:
        ask(crm)
    assert (len(tokens.asked), tokens.refused) == (3, 7)
    assert "tok-" not in f"{caught.value} {caught.value.cause}"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Callable[[], SqliteLedger]]:
    opened: list[SqliteLedger] = []

    def reopen() -> SqliteLedger:
        for one in opened:
            one.close()
        opened[:] = [SqliteLedger(tmp_path / "ledger.db", create=not opened)]
        return opened[0]

    yield reopen
    opened[0].close()


def test_rotated_refresh_token_survives_a_restart(
    server: Server, account: Account, ledger: Callable[[], SqliteLedger], tmp_path: Path
) -> None:
    tokens = TokenServer(server, refresh_token="second-refresh")
    text, clock = with_token(ROTATING, tuple(REFRESH)), Clock()
    kept: list[bool] = []
    answer = server.answer

    def spying(seen: Seen) -> ServerAnswer:
        if seen.path == "/things":
            with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
                (saved,) = connection.execute("SELECT token FROM accounts").fetchone()
            kept.append(json.loads(saved)["outputs"].get("refresh_token") == "second-refresh")
        return answer(seen)

    server.answer = spying
    store = ledger()
    ask(account(text, REFRESH, store=store, clock=clock))
    assert kept == [True], "it is on disk before it is used"
    store = ledger()
    ask(account(text, REFRESH, store=store, clock=clock))
    assert len(tokens.asked) == 1
    clock.tick(3600)
    del tokens.more["refresh_token"]
    ask(account(text, REFRESH, store=store, clock=clock))
    clock.tick(3600)
    ask(account(text, REFRESH, store=store, clock=clock))
    assert [seen.form["refresh_token"] for seen in tokens.asked] == ["first-refresh", *["second-refresh"] * 2]
    ask(account(text, {**REFRESH, "refresh_token": "new-one"}, store=store, clock=clock))
    assert tokens.asked[-1].form["refresh_token"] == "new-one", "other secrets forget it"


def test_failing_token_requests_are_rate_limited(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    tokens.scripted = [(500, None, {})] * 9
    clock = Clock()
    crm = account(with_token(f'{CLIENT}\nrate = "2/m"'), clock=clock)
    for _ in range(5):
        with pytest.raises(Transient) as caught:
            ask(crm)
    assert (len(tokens.asked), caught.value.retry_after) == (2, 60)
    clock.tick(61)
    with pytest.raises(Transient):
        ask(crm)
    assert len(tokens.asked) == 3


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        ((200, {"error": "invalid_code", "data": "tok-abcdef"}, {}), Transient, "200 invalid_code"),
        ((200, {"access_token": ""}, {}), Transient, "nothing at 'access_token'"),
        ((200, ["tok-abcdef"], {}), Transient, "nothing at 'access_token'"),
        ((200, b"<html>tok-abcdef</html>", {}), Transient, "200"),
        (
            (400, {"error": "invalid_grant", "error_description": "expired csecret-12345"}, {}),
            Transient,
            "expired ***",
        ),
        ((401, b"csecret-12345 tok-abcdef", {}), Transient, "401"),
        ((429, None, {"Retry-After": "9"}), Transient, "429"),
        ((500, b"tok-abcdef", {}), Transient, "500"),
        ((0, None, {}), Transient, "no answer"),
    ],
)
def test_refused_exchange_shows_no_token(
    server: Server, account: Account, answer: ServerAnswer, kind: type[DeliveryError], says: str
) -> None:
    tokens = TokenServer(server)
    clock = Clock()
    crm = account(with_token(CLIENT), clock=clock)
    tokens.scripted = [answer]
    with pytest.raises(kind) as caught:
        ask(crm)
    told = f"{caught.value} {caught.value.cause}"
    assert says in told
    assert "csecret" not in told
    assert "tok-" not in told


def test_exchange_without_a_token_does_not_keep_the_old_one_as_new(server: Server, account: Account) -> None:
    tokens = TokenServer(server)
    clock = Clock()
    crm = account(with_token(CLIENT), clock=clock)
    ask(crm)
    clock.tick(4000)
    tokens.scripted = [(200, {"error": "Access Denied"}, {})]
    with pytest.raises(Transient):
        ask(crm)
    ask(crm)
    assert len(tokens.given) == 2
