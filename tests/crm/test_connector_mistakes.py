"""Mistakes in connector files: each is named with its line, key and remedy, and all of them at once."""

from pathlib import Path

import pytest

from bridge.crm.connector import Connector
from bridge.lib.errors import ConfigError, Problem
from bridge.lib.toml_file import TomlFile
from tests.fixtures.connector_files import GOOD, connector_of


def problems_of(*changes: tuple[str, str]) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        connector_of(*changes)
    return list(caught.value.problems)


def line_of(*changes: tuple[str, str], of: str) -> int:
    text = GOOD
    for old, new in changes:
        text = text.replace(old, new)
    return next(number for number, line in enumerate(text.split("\n"), 1) if of in line)


# Mistakes: what is changed; the words of the line, the key, words of the message and of the remedy

CREATE = "objects.call.create.0"
LINK = "objects.call.link.contact"
BROKEN: list[tuple[str, str, str, str, str, str]] = [
    ('name = "own"', 'name = "own"\nnme = 1', "nme", "nme", 'unknown key "nme"', '"name"'),
    (
        "headers = { Auth",
        "heders = {}\nheaders = { Auth",
        "heders",
        "auth.heders",
        "unknown key",
        '"headers"',
    ),
    ('method = "PATCH"', 'method = "FETCH"', "FETCH", "objects.call.update.method", "'PUT'", ""),
    ('rate = "5/s"', 'rate = "5/parsec"', "parsec", "limits.search.rate", "is no rate", "100/10s"),
    ('rate = "5/s"', 'rate = "5/0s"', "5/0s", "limits.search.rate", "is no rate", "100/10s"),
    ('rate = "5/s"', 'rate = "5/999d"', "5/999d", "limits.search.rate", "is no rate", "100/10s"),
    ('rate = "5/s"', 'reset = "00:00 Mars/X"', "Mars", "limits.search.reset", "no known time zone", "Asia"),
    ("status = 409", "status = 4090", "4090", "outcomes.0.status", "is no HTTP status", "404"),
    (
        "status = 409",
        "status = 409\nmatches = '('",
        "matches",
        "outcomes.0.matches",
        "no regular expression",
        "",
    ),
    ("status = 409", 'status = 409\nwait = "soon"', "soon", "outcomes.0.wait", "is no duration", "10s"),
    ("status = 409", 'status = 409\nuntil = "25:00"', "25:00", "outcomes.0.until", "no time of day", "00:00"),
    ("status = 409", "", "[[outcomes]]", "outcomes.0", "has no condition", "status"),
    ("status = 409", "status = 409\nis = 1", "is = 1", "outcomes.0.is", "which value", "path"),
    ("status = 409", 'when = "status == 4"', '"status ==', "outcomes.0.when", "is no condition", "{{"),
    ("status = 409", 'when = "a {{ status }}"', "a {{", "outcomes.0.when", "is no condition", "{{"),
    ("status = 409", 'path = "a..b"', "a..b", "outcomes.0.path", "is no path", "data.0.id"),
    (
        "status = 409",
        'path = "{{ body.x }}"',
        "body.x",
        "outcomes.0.path",
        "path here, no expression",
        "`when`",
    ),
    ('hits = "items"', 'hits = ".items"', ".items", "objects.call.find.0.hits", "is no path", '"."'),
    ('hits = "items"', 'hits = "{{ boddy.x }}"', "boddy", "objects.call.find.0.hits", "boddy", '"body"'),
    ('hits = "items"', 'hits = "{{ body.x"', "{{ body", "objects.call.find.0.hits", "never closed", ""),
    (
        'hits = "items"',
        'hits = "items"\nseveral = "newest"',
        "newest",
        "objects.call.find.0.several",
        "by what",
        "by",
    ),
    (
        'hits = "items"',
        'hits = "items"\nindex_lag = "x"',
        "index_lag",
        "objects.call.find.0.index_lag",
        "duration",
        "",
    ),
    ('limit = "search"', 'limit = "serch"', "serch", "objects.call.find.0.limit", "no limit", '"search"'),
    ('limit = "search"', 'json = "{}"', 'json = "{}', "objects.call.find.0.json", "GET has no body", "query"),
    ("call_key | path", "call_key | pth", "pth", f"{CREATE}.path", 'no filter "pth"', '"path"'),
    (
        "secrets.token",
        "secret.token",
        "secret.token",
        "auth.headers.Authorization",
        'name "secret"',
        '"secrets"',
    ),
    (
        "secrets.token",
        "secrets.tokn",
        "tokn",
        "auth.headers.Authorization",
        "secrets.tokn",
        '"secrets.token"',
    ),
    (
        '"{{ fields }}"\nfrom',
        '"{{ feilds }}"\nfrom',
        "feilds",
        f"{CREATE}.json.properties",
        "feilds",
        '"fields"',
    ),
    ("<{{ key.part }}>", "<{{ key.part >", "<{{", f"{CREATE}.json.list.3.deep", "never closed", ""),
    ("to.id }}", "to.idd }}", "to.idd", "objects.call.link.contact.json.id", "to.idd", '"to.id"'),
    (
        'id = "data.id"',
        'id = "data.id"\nform = { a = "b" }',
        "form",
        f"{CREATE}.form",
        "json body already",
        "one body",
    ),
    (
        "[objects.call.update]",
        '[objects.call.read_as]\nnotes = "{{ valeu }}"\n[objects.call.update]',
        "valeu",
        "objects.call.read_as.notes",
        "valeu",
        '"value"',
    ),
    (
        'id = "data.id"',
        'id = "data.id"\nfields = "data..x"',
        "data..x",
        f"{CREATE}.fields",
        "is no path",
        "data.0.id",
    ),
    (
        'json = { id = "{{ to.id }}", phone',
        'form = "a=1"\nheaders = { p',
        "a=1",
        f"{LINK}.form",
        "no table",
        "merge",
    ),
    (
        'json = { id = "{{ to.id }}", phone',
        'form = "{{ to }}&"\nheaders = { p',
        "to }}&",
        f"{LINK}.form",
        "no table",
        "one expr",
    ),
    (
        '{{ captured.etag }}"\nheaders',
        '{{ captured.etg }}"\nheaders',
        "etg",
        "objects.call.create.1.when",
        "captured.etg",
        '"captured.etag"',
    ),
    (
        'capture = { etag = "data.etag" }',
        'headers = { a = "{{ captured.etag }}" }\ncapture = { etag = "x" }',
        "[[objects.call.create]]",
        CREATE,
        "its own answer",
        "earlier",
    ),
    ('from = "callbridge"', 'from = "{{ id }}"', "from =", f"{CREATE}.json.from", 'no name "id"', ""),
    ("call_key | path", "call_key | path(1)", "path(1)", f"{CREATE}.path", "too many", "write path"),
    ("call_key | path", "call_key | digest('md55')", "md55", f"{CREATE}.path", "no algorithm", '"md5"'),
    ("call_key | path", "call_key | digest('md5', 'hx')", "'hx'", f"{CREATE}.path", "no form", '"hex"'),
    ("call_key | path", "call_key | found('(')", "found(", f"{CREATE}.path", "no regular", "Python's re"),
    ('key = ["call_key", "part"]', "key = []", "key = []", "objects.call.key", "must not be empty", ""),
]


@pytest.mark.parametrize(("old", "new", "at", "key", "words", "remedy"), BROKEN)
def test_a_mistake_is_named(old: str, new: str, at: str, key: str, words: str, remedy: str) -> None:
    said = problems_of((old, new))
    first = next(one for one in said if one.key == key)
    assert first.line == line_of((old, new), of=at)
    assert words in first.message
    assert remedy in f"{first.message} {first.remedy}"
    assert first.file == "own.toml"
    assert len(said) == 1 or "key" in key or "captured" in words, said


@pytest.mark.parametrize(
    ("token", "key", "words"),
    [
        ('text = "<a/>"\njson = { a = 1 }', "text", "json body already"),
        ('text = "<a/>"\nform = { a = 1 }', "text", "form body already"),
        ('form = "{{ secrets.token }}&"', "form", "no table"),
        ('text = "<a/>"\ngrant = "client_credentials"', "text", "grant's fields go into a form"),
        ('form = "{{ {\'a\': 1} }}"\ngrant = "client_credentials"', "form", "so it is a table"),
    ],
)
def test_token_request_has_one_body(token: str, key: str, words: str) -> None:
    said = problems_of(("[auth]\n", f'[auth]\n[auth.token]\nurl = "/t"\n{token}\n[auth.x]\n'))
    assert words in next(one for one in said if one.key == f"auth.token.{key}").message


def test_conflicting_keys_are_refused() -> None:
    upsert = '\n[objects.call.upsert]\npath = "/u"\n[objects.call.link.contact]'
    said = problems_of(("\n[objects.call.link.contact]", upsert))
    assert [(one.key.split(".")[2], one.message) for one in said] == [
        ("create", "stands beside an upsert"),
    ]
    lonely = (
        'name = "x"\n[objects.a]\nkey = ["k"]\nwhole = true\n[objects.a.create]\npath = "/"\nreread = true\n'
    )
    lonely += '[objects.a.update]\npath = "/"\n[objects.b]\nkey = ["k"]\n'
    with pytest.raises(ConfigError) as caught:
        Connector(TomlFile(Path("own.toml"), lonely))
    assert [(one.line, one.remedy.split(",")[0]) for one in caught.value.problems] == [
        (4, "add read"),
        (7, "add find"),
        (8, "add find"),
        (10, "add upsert"),
    ]


def test_circular_steps_are_refused() -> None:
    changes = (
        (
            'capture = { etag = "data.etag" }',
            'capture = { etag = "data.etag" }\nheaders = { a = "{{ captured.b }}" }',
        ),
        ('headers = { If-Match = "{{ captured.etag }}" }', 'capture = { b = "b" }'),
    )
    said = problems_of(*changes)
    assert len(said) == 1
    assert said[0].line == 19
    assert "a cycle" in said[0].message
    later = problems_of(
        changes[0],
        (
            'when = "{{ captured.etag }}"\nheaders = { If-Match = "{{ captured.etag }}" }',
            'capture = { b = "b" }',
        ),
    )
    assert "captures only later" in later[0].message


def test_missing_path_is_reported_with_its_request() -> None:
    (problem,) = problems_of(('path = "/links"', ""))
    assert (problem.line, problem.key) == (line_of(of="[objects.call.link"), "objects.call.link.contact.path")
    assert problem.message == "is required"


def test_all_mistakes_are_reported_at_once_including_wrong_types() -> None:
    changes = (
        ("headers = { Auth", "heders = { Auth"),
        ("secrets.token", "secret.token"),
        ("call_key | path", "call_key | pth"),
        ('method = "PATCH"', 'method = "FETCH"'),
        ('path = "/links"', ""),
        ("to.id }}", "to.idd }}"),
        ("status = 409", "status = 4090"),
    )
    said = problems_of(*changes)
    assert [one.key for one in said] == [
        # What stands in a misspelt table is told at the table above.
        "auth.headers.Authorization",
        "auth.heders",
        f"{CREATE}.path",
        "objects.call.update.method",
        "objects.call.link.contact.path",
        "objects.call.link.contact.json.id",
        "outcomes.0.status",
    ]
    assert [one.line for one in said if one.line is None] == []


def test_grant_names_the_secrets_it_needs() -> None:
    token = '[auth]\n[auth.token]\nurl = "/t"\ngrant = "refresh_token"\n'
    said = problems_of(("[auth]\n", token + "[auth.x]\n"))
    assert {one.message for one in said if "secrets." in one.message} == {
        'there is no value "secrets.client_id"',
        'there is no value "secrets.client_secret"',
        'there is no value "secrets.refresh_token"',
    }
