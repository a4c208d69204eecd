"""Where a connector's requests may go: nowhere that nobody has named, and values stay in their place."""

from contextlib import closing
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.crm.connector import Connector
from bridge.crm.connector.addresses import OtherOrigin, check_address, constant_web_origin, web_origin_of
from bridge.lib.errors import ConfigError, Permanent, Transient
from bridge.lib.expression import ExpressionError
from tests.fixtures.small_crm import Server, connector_of, crm_of, serving

SECRET = "s3cr3t-of-the-crm"


def connector(path: str, head: str = "", more: str = "") -> Connector:
    return connector_of(f"""
name = "own"
secrets = ["token", "hook"]
{head}
[auth.headers]
X-Token = "{{{{ secrets.token }}}}"
{more}
[objects.thing]
key = ["key"]
[objects.thing.create]
path = "{path}"
id = "id"
json = "{{{{ fields }}}}"
[objects.thing.find]
path = "/things"
hits = "items"
[objects.thing.update]
path = "/things/{{{{ id }}}}"
json = "{{{{ fields }}}}"
""")


def send(made: Connector, url: str, names: dict[str, Any], what: str = "create", **options: Any) -> None:
    names = {"key": {"key": "k"}, "fields": {}, "id": "1", **names}
    secrets = {"token": SECRET, "hook": options.pop("hook", "x" * 8)}
    with closing(crm_of(made, url, secrets, **options)) as crm:
        crm.ask(getattr(made.objects["thing"], what)[0].request, names, "object thing")


HOSTILE = [
    *(
        "../admin",
        "a/../../b",
        "//evil.example/x",
        "http://evil.example/",
        "https://evil.example",
        "@evil.example",
    ),
    *(
        "a?b=c&d=e",
        "a#b",
        "a\r\nHost: evil.example",
        "a\\b",
        "a b",
        "a;b",
        "%2e%2e/x",
        "a%2Fb",
        "\x00",
        "张",
        ":80",
    ),
]


@pytest.mark.parametrize("value", HOSTILE)
def test_any_value_stays_in_its_path_segment(server: Server, value: str) -> None:
    for path in ("/things/{{ key.key }}", "/things/{{ key.key | path }}"):
        server.log.clear()
        server.answer = lambda _seen: (200, {"id": "1"}, {})
        send(connector(path), server.url, {"key": {"key": value}})
        (seen,) = server.log
        # The server has undone the escapes.
        assert (seen.path, seen.query) == (f"/things/{value}", {})
        assert "host: evil" not in str(seen.headers).lower()


@pytest.mark.parametrize("value", HOSTILE)
def test_value_used_as_the_whole_path_stays_on_the_host(server: Server, value: str) -> None:
    server.log.clear()
    server.answer = lambda _seen: (200, {"id": "1"}, {})
    send(connector("{{ key.key }}"), server.url, {"key": {"key": value}})
    (seen,) = server.log
    assert seen.path == f"/{value}"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\x00b", "\x0b"])
def test_value_cannot_add_a_second_header(server: Server, value: str) -> None:
    server.log.clear()
    made = connector("/things", "", "X-Key = '{{ secrets.hook }}'")
    with pytest.raises(Permanent, match=r"^object thing: the header X-Key cannot be sent"):
        send(made, server.url, {}, hook=value)
    assert not server.log


@pytest.mark.parametrize("value", [".", "..", "%2e%2e", "%2E."])
def test_dot_segment_is_not_sent(server: Server, value: str) -> None:
    server.log.clear()
    made = connector("/things/{{ key.key }}/x")
    if "%" in value:
        # Its percent sign is escaped, so that it is no dot.
        server.answer = lambda _seen: (200, {"id": "1"}, {})
        send(made, server.url, {"key": {"key": value}})
        assert server.log[0].path == f"/things/{value}/x"
        return
    with pytest.raises(Permanent, match=r"^object thing: nothing was sent.*to another place") as caught:
        send(made, server.url, {"key": {"key": value}})
    assert caught.value.says in str(caught.value)
    assert caught.value.says
    assert not server.log


def test_settings_may_hold_path_parts_and_literals_are_kept(server: Server) -> None:
    head = '[settings.base]\ndefault = "crm/v3"\n'
    made = connector("/{{ settings.base }}/a:b/{{ 'x/y' if key.key else 'z' }}?q=1&r={{ key.key }}", "", head)
    server.log.clear()
    server.answer = lambda _seen: (200, {"id": "1"}, {})
    send(made, server.url, {"key": {"key": "k&s=2"}}, settings={"base": "crm/v3"})
    (seen,) = server.log
    assert (seen.path, seen.query) == ("/crm/v3/a:b/x/y", {"q": "1", "r": "k&s=2"})


@pytest.mark.parametrize(
    ("head", "path"),
    [
        ("", "https://evil.example/x"),
        ("", "http://evil.example"),
        ("", "https://evil.example/{{ key.key }}"),
        ('base_url = "https://crm.example"', "https://crm.example.evil.example/x"),
        ('base_url = "https://crm.example"', "https://crm.example@evil.example/x"),
        ('base_url = "https://crm.example"', "https://crm.example:8443/x"),
        ('base_url = "https://crm.example"', "http://crm.example/x"),
        ('base_url = "https://crm.example"', "HTTPS://EVIL.example?x"),
    ],
)
def test_check_refuses_a_literal_host_that_is_not_listed(head: str, path: str) -> None:
    with pytest.raises(ConfigError, match="another host than base_url's"):
        connector(path, head)
    listed = f'{head}\norigins = ["{web_origin_of(path.replace("{{ key.key }}", "x"))}"]'
    connector(path, listed)
    token = f'[auth.token]\nurl = "{path.replace("key.key", "secrets.token")}"'
    with pytest.raises(ConfigError, match=r"auth\.token.*another host"):
        connector("/x", head, token)


@pytest.mark.parametrize("root", ["https://evil.example/api", "https://evil.example"])
def test_check_refuses_a_root_on_another_host(root: str) -> None:
    with pytest.raises(ConfigError, match=r"root.*another host"):
        connector("/x", f'root = "{root}"')


def test_origins_are_addresses() -> None:
    with pytest.raises(ConfigError, match="is no address"):
        connector("/x", 'origins = ["login.example.com"]')


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("{{ captured.next }}", {"captured": {"next": "http://evil.example/x"}}),
        ("http://{{ key.key }}.example/x", {"key": {"key": "evil"}}),
        ("http:{{ '//evil.example' }}", {}),
    ],
)
def test_computed_foreign_host_is_refused_before_sending(
    server: Server, path: str, names: dict[str, Any]
) -> None:
    head = '[[objects.thing.create]]\npath = "/a"\ncapture = { next = "next" }\n[[objects.thing.create]]\n'
    text = f"""
name = "own"
secrets = ["token", "hook"]
[auth.headers]
X-Token = "{{{{ secrets.token }}}}"
[objects.thing]
key = ["key"]
{head}
path = "{path}"
id = "id"
json = "{{{{ fields }}}}"
[objects.thing.find]
path = "/things"
hits = "items"
"""
    made = connector_of(text)
    server.log.clear()
    with closing(crm_of(made, server.url, {"token": SECRET, "hook": "y" * 8})) as crm:
        names = {"key": {"key": "k"}, "fields": {}, "captured": {"next": "/n"}, **names}
        with pytest.raises(Transient, match=r"nothing was sent.*evil\.example") as caught:
            crm.ask(made.objects["thing"].create[1].request, names, "object thing")
    assert (caught.value.blame, caught.value.cause) == ("account", "a request would go to another host")
    assert "origins" in caught.value.says
    assert SECRET not in str(caught.value)
    assert not server.log


def test_url_from_an_answer_is_used_within_the_crm(server: Server) -> None:
    made = connector_of("""
name = "own"
secrets = ["token", "hook"]
[objects.thing]
key = ["key"]
[[objects.thing.create]]
path = "/a"
capture = { next = "next" }
[[objects.thing.create]]
path = "{{ captured.next }}"
id = "id"
[objects.thing.find]
path = "/things"
hits = "items"
""")
    for next_, told in (
        (f"{server.url}/v2/x?page=2", "POST /v2/x"),
        ("/v2/y?page=2", "POST /v2/y"),
        ("v2/z", "POST /v2/z"),
    ):
        server.log.clear()
        server.answer = lambda _seen: (200, {"id": "1"}, {})
        with closing(crm_of(made, server.url, {"token": SECRET, "hook": "y" * 8})) as crm:
            names = {"key": {"key": "k"}, "fields": {}, "captured": {"next": next_}}
            crm.ask(made.objects["thing"].create[1].request, names, "object thing")
        assert server.told() == [told]


def test_token_answer_secrets_and_settings_may_name_hosts() -> None:
    allowed = ["https://own.example", "https://eu.login.example:8443"]
    for address in ("https://own.example/x", "https://eu.login.example:8443/y", "https://crm.example/z"):
        check_address(address, "https://crm.example", lambda: allowed)
    for address in (
        "https://own.example:444/x",
        "http://own.example/",
        "https://crm.example:1/",
        "x://y",
        "//a",
    ):
        with pytest.raises(OtherOrigin):
            check_address(address, "https://crm.example", lambda: allowed)


def test_token_answer_may_change_the_host_but_not_drop_tls(server: Server) -> None:
    made = connector(
        "/things",
        'root = "{{ token.instance }}"',
        '[auth.token]\nurl = "/token"\noutputs = { key = "t", instance = "instance" }\nlifetime = "1h"',
    )
    with serving() as other:
        server.answer = lambda _seen: (200, {"t": "abcdefgh", "instance": other.url}, {})
        other.answer = lambda _seen: (200, {"id": "1"}, {})
        send(made, server.url, {})
        assert other.told() == ["POST /things"]


@pytest.mark.parametrize(
    "text",
    [
        "/x/{{ (key.key | path) ~ key.key }}",
        "/x/{{ key.key | urlencode }}",
        "{{ (key.key | path) ~ '/' ~ key.key }}",
    ],
)
def test_check_reports_a_partly_escaped_path(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write \| path behind each value"):
        connector(text)


@settings(derandomize=True, max_examples=60)
@given(st.text(max_size=12))
def test_any_text_stays_in_its_path_segment(text: str) -> None:
    made = connector("/things/{{ key.key }}/end?x=1")
    names = {"key": {"key": text}, "fields": {}}
    (create,) = made.objects["thing"].create
    try:
        path = create.request.render(names | {"secrets": {}, "settings": {}}).path
        check_address(f"https://crm.example{path}", "https://crm.example", lambda: ())
    except (ExpressionError, UnicodeEncodeError):
        return
    url = httpx.URL(f"https://crm.example{path}")
    assert (url.host, url.query, url.fragment) == ("crm.example", b"x=1", "")
    assert url.raw_path.split(b"?")[0].count(b"/") == 3


def test_only_a_fully_literal_host_is_constant() -> None:
    assert constant_web_origin("https://a.example/{{ x }}") == "https://a.example"
    assert constant_web_origin("https://a.example") == "https://a.example"
    for text in ("https://{{ x }}.example/", "https://a{{ x }}/", "{{ x }}", "/a", "a", ""):
        assert constant_web_origin(text) == ""
