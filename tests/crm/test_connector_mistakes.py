"""Mistakes in connector files: each is named with its line, key and remedy, and all of them at once."""

from pathlib import Path

import pytest

from bridge.crm.connector import Connector
from bridge.lib.errors import ConfigError, Problem
from bridge.lib.toml_file import TomlFile
from tests.fixtures.connector_files import GOOD, connector_of
from tests.fixtures.mistakes import MarkedMistake


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
BROKEN = [
    MarkedMistake(
        old='name = "own"',
        new='name = "own"\nnme = 1',
        at="nme",
        key="nme",
        message='unknown key "nme"',
        remedy='"name"',
    ),
    MarkedMistake(
        old="headers = { Auth",
        new="heders = {}\nheaders = { Auth",
        at="heders",
        key="auth.heders",
        message="unknown key",
        remedy='"headers"',
    ),
    MarkedMistake(
        old='method = "PATCH"',
        new='method = "FETCH"',
        at="FETCH",
        key="objects.call.update.method",
        message="'PUT'",
        remedy="",
    ),
    MarkedMistake(
        old='rate = "5/s"',
        new='rate = "5/parsec"',
        at="parsec",
        key="limits.search.rate",
        message="is no rate",
        remedy="100/10s",
    ),
    MarkedMistake(
        old='rate = "5/s"',
        new='rate = "5/0s"',
        at="5/0s",
        key="limits.search.rate",
        message="is no rate",
        remedy="100/10s",
    ),
    MarkedMistake(
        old='rate = "5/s"',
        new='rate = "5/999d"',
        at="5/999d",
        key="limits.search.rate",
        message="is no rate",
        remedy="100/10s",
    ),
    MarkedMistake(
        old='rate = "5/s"',
        new='reset = "00:00 Mars/X"',
        at="Mars",
        key="limits.search.reset",
        message="no known time zone",
        remedy="Asia",
    ),
    MarkedMistake(
        old="status = 409",
        new="status = 4090",
        at="4090",
        key="outcomes.0.status",
        message="is no HTTP status",
        remedy="404",
    ),
    MarkedMistake(
        old="status = 409",
        new="status = 409\nmatches = '('",
        at="matches",
        key="outcomes.0.matches",
        message="no regular expression",
        remedy="",
    ),
    MarkedMistake(
        old="status = 409",
        new='status = 409\nwait = "soon"',
        at="soon",
        key="outcomes.0.wait",
        message="is no duration",
        remedy="10s",
    ),
    MarkedMistake(
        old="status = 409",
        new='status = 409\nuntil = "25:00"',
        at="25:00",
        key="outcomes.0.until",
        message="no time of day",
        remedy="00:00",
    ),
    MarkedMistake(
        old="status = 409",
        new="",
        at="[[outcomes]]",
        key="outcomes.0",
        message="has no condition",
        remedy="status",
    ),
    MarkedMistake(
        old="status = 409",
        new="status = 409\nis = 1",
        at="is = 1",
        key="outcomes.0.is",
        message="which value",
        remedy="path",
    ),
    MarkedMistake(
        old="status = 409",
        new='when = "status == 4"',
        at='"status ==',
        key="outcomes.0.when",
        message="is no condition",
        remedy="{{",
    ),
    MarkedMistake(
        old="status = 409",
        new='when = "a {{ status }}"',
        at="a {{",
        key="outcomes.0.when",
        message="is no condition",
        remedy="{{",
    ),
    MarkedMistake(
        old="status = 409",
        new='path = "a..b"',
        at="a..b",
        key="outcomes.0.path",
        message="is no path",
        remedy="data.0.id",
    ),
    MarkedMistake(
        old="status = 409",
        new='path = "{{ body.x }}"',
        at="body.x",
        key="outcomes.0.path",
        message="path here, no expression",
        remedy="`when`",
    ),
    MarkedMistake(
        old='hits = "items"',
        new='hits = ".items"',
        at=".items",
        key="objects.call.find.0.hits",
        message="is no path",
        remedy='"."',
    ),
    MarkedMistake(
        old='hits = "items"',
        new='hits = "{{ boddy.x }}"',
        at="boddy",
        key="objects.call.find.0.hits",
        message="boddy",
        remedy='"body"',
    ),
    MarkedMistake(
        old='hits = "items"',
        new='hits = "{{ body.x"',
        at="{{ body",
        key="objects.call.find.0.hits",
        message="never closed",
        remedy="",
    ),
    MarkedMistake(
        old='hits = "items"',
        new='hits = "items"\nseveral = "newest"',
        at="newest",
        key="objects.call.find.0.several",
        message="by what",
        remedy="by",
    ),
    MarkedMistake(
        old='hits = "items"',
        new='hits = "items"\nindex_lag = "x"',
        at="index_lag",
        key="objects.call.find.0.index_lag",
        message="duration",
        remedy="",
    ),
    MarkedMistake(
        old='limit = "search"',
        new='limit = "serch"',
        at="serch",
        key="objects.call.find.0.limit",
        message="no limit",
        remedy='"search"',
    ),
    MarkedMistake(
        old='limit = "search"',
        new='json = "{}"',
        at='json = "{}',
        key="objects.call.find.0.json",
        message="GET has no body",
        remedy="query",
    ),
    MarkedMistake(
        old="call_key | path",
        new="call_key | pth",
        at="pth",
        key=f"{CREATE}.path",
        message='no filter "pth"',
        remedy='"path"',
    ),
    MarkedMistake(
        old="secrets.token",
        new="secret.token",
        at="secret.token",
        key="auth.headers.Authorization",
        message='name "secret"',
        remedy='"secrets"',
    ),
    MarkedMistake(
        old="secrets.token",
        new="secrets.tokn",
        at="tokn",
        key="auth.headers.Authorization",
        message="secrets.tokn",
        remedy='"secrets.token"',
    ),
    MarkedMistake(
        old='"{{ fields }}"\nfrom',
        new='"{{ feilds }}"\nfrom',
        at="feilds",
        key=f"{CREATE}.json.properties",
        message="feilds",
        remedy='"fields"',
    ),
    MarkedMistake(
        old="<{{ key.part }}>",
        new="<{{ key.part >",
        at="<{{",
        key=f"{CREATE}.json.list.3.deep",
        message="never closed",
        remedy="",
    ),
    MarkedMistake(
        old="to.id }}",
        new="to.idd }}",
        at="to.idd",
        key="objects.call.link.contact.json.id",
        message="to.idd",
        remedy='"to.id"',
    ),
    MarkedMistake(
        old='id = "data.id"',
        new='id = "data.id"\nform = { a = "b" }',
        at="form",
        key=f"{CREATE}.form",
        message="json body already",
        remedy="one body",
    ),
    MarkedMistake(
        old="[objects.call.update]",
        new='[objects.call.read_as]\nnotes = "{{ valeu }}"\n[objects.call.update]',
        at="valeu",
        key="objects.call.read_as.notes",
        message="valeu",
        remedy='"value"',
    ),
    MarkedMistake(
        old='id = "data.id"',
        new='id = "data.id"\nfields = "data..x"',
        at="data..x",
        key=f"{CREATE}.fields",
        message="is no path",
        remedy="data.0.id",
    ),
    MarkedMistake(
        old='json = { id = "{{ to.id }}", phone',
        new='form = "a=1"\nheaders = { p',
        at="a=1",
        key=f"{LINK}.form",
        message="no table",
        remedy="merge",
    ),
    MarkedMistake(
        old='json = { id = "{{ to.id }}", phone',
        new='form = "{{ to }}&"\nheaders = { p',
        at="to }}&",
        key=f"{LINK}.form",
        message="no table",
        remedy="one expr",
    ),
    MarkedMistake(
        old='{{ captured.etag }}"\nheaders',
        new='{{ captured.etg }}"\nheaders',
        at="etg",
        key="objects.call.create.1.when",
        message="captured.etg",
        remedy='"captured.etag"',
    ),
    MarkedMistake(
        old='capture = { etag = "data.etag" }',
        new='headers = { a = "{{ captured.etag }}" }\ncapture = { etag = "x" }',
        at="[[objects.call.create]]",
        key=CREATE,
        message="its own answer",
        remedy="earlier",
    ),
    MarkedMistake(
        old='from = "callbridge"',
        new='from = "{{ id }}"',
        at="from =",
        key=f"{CREATE}.json.from",
        message='no name "id"',
        remedy="",
    ),
    MarkedMistake(
        old="call_key | path",
        new="call_key | path(1)",
        at="path(1)",
        key=f"{CREATE}.path",
        message="too many",
        remedy="write path",
    ),
    MarkedMistake(
        old="call_key | path",
        new="call_key | digest('md55')",
        at="md55",
        key=f"{CREATE}.path",
        message="no algorithm",
        remedy='"md5"',
    ),
    MarkedMistake(
        old="call_key | path",
        new="call_key | digest('md5', 'hx')",
        at="'hx'",
        key=f"{CREATE}.path",
        message="no form",
        remedy='"hex"',
    ),
    MarkedMistake(
        old="call_key | path",
        new="call_key | found('(')",
        at="found(",
        key=f"{CREATE}.path",
        message="no regular",
        remedy="Python's re",
    ),
    MarkedMistake(
        old='key = ["call_key", "part"]',
        new="key = []",
        at="key = []",
        key="objects.call.key",
        message="must not be empty",
        remedy="",
    ),
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
