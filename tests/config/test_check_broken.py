"""Thirty files with one mistake each: `check` names file, line, key and remedy, and nothing starts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import cli
from tests.fixtures.daemon_process import callbridge, environment

CONFIG = """\
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[ledger]
url = "sqlite:///ledger.db"

[sources.main]
callback_token = { env = "TOKEN" }
allow = ["203.0.113.0/24"]
timezone = "Asia/Shanghai"

[sources.main.reconcile]
schedule = "*/15 * * * *"

[destinations.crm]
mapping = "mapping.toml"
connector = "connector.toml"
base_url = "http://127.0.0.1:1"
sources = ["main"]
timeout = "30s"

[destinations.crm.secrets]
token = { env = "CRM_TOKEN" }
"""

CONNECTOR = """\
name = "own"
secrets = ["token"]
settings = { site = "main" }

[auth.headers]
Authorization = "Bearer {{ secrets.token }}"

[limits.search]
rate = "5/s"

[[outcomes]]
status = 409
then = "duplicate"

[[outcomes]]
path = "message"
matches = "quota of (\\\\d+)"
then = "quota"

[objects.contact]
key = ["phone"]
link = { call = { inline = true } }

[objects.contact.find]
path = "/contacts"
query = { phone = "{{ key.phone | national }}" }
limit = "search"
hits = "data"

[objects.contact.create]
path = "/contacts"
json = "{{ fields }}"
id = "data.id"

[objects.contact.update]
method = "PUT"
path = "/contacts/{{ id | path }}"
json = "{{ fields }}"

[objects.call]
key = ["call_key"]

[[objects.call.create]]
name = "open"
path = "/calls"
json = { key = "{{ key.call_key }}" }
capture = { call_id = "data.id" }
id = "data.id"

[[objects.call.create]]
name = "fill"
path = "/calls/{{ captured.call_id }}"
json = "{{ fields }}"
capture = { version = "data.version" }

[[objects.call.create]]
name = "close"
path = "/calls/{{ captured.call_id }}/close"
json = { version = "{{ captured.version }}" }

[objects.call.link.contact]
path = "/links"
json = { call = "{{ id }}", contact = "{{ to.id }}" }
"""

MAPPING = """\
connector = "own"

[[rules]]
name = "answered"
when = "{{ call.answered }}"

[maps.grades]
A = "hot"

[objects.contact]
key = { phone = "{{ call.phone | e164 }}" }

[objects.contact.fields]
name = { value = "{{ call.name }}", limit = 40 }
note = { value = "{{ call.remark }}", write = "unless_edited" }
rank = { value = "{{ call.grade }}", map = "grades", default = "cold" }

[objects.call]
key = { call_key = "{{ call.key }}" }
link = { contact = "contact" }

[objects.call.fields]
started = "{{ call.started_at | iso8601 }}"
"""

FILES = {"config.toml": CONFIG, "connector.toml": CONNECTOR, "mapping.toml": MAPPING}


@dataclass(frozen=True)
class Broken:
    """A mistake: what is written instead of what, and how it is told."""

    file: str
    old: str
    new: str
    line: int
    key: str
    message: str
    remedy: str


def config(old: str, new: str, line: int, key: str, message: str, remedy: str) -> Broken:
    return Broken("config.toml", old, new, line, key, message, remedy)


def connector(old: str, new: str, line: int, key: str, message: str, remedy: str) -> Broken:
    return Broken("connector.toml", old, new, line, key, message, remedy)


def mapping(old: str, new: str, line: int, key: str, message: str, remedy: str) -> Broken:
    return Broken("mapping.toml", old, new, line, key, message, remedy)


MISTAKES = {
    # Ten of the configuration.
    "unreadable secret": config(
        'token = { env = "CRM_TOKEN" }',
        'token = { file = "no-such-file" }',
        24,
        "destinations.crm.secrets.token",
        "no-such-file cannot be read: No such file or directory",
        "put the secret there, readable by the user this program runs as",
    ),
    "crontab": config(
        '"*/15 * * * *"', '"*/15 * * *"', 14, "sources.main.reconcile.schedule", "fields", "*/15 * * * *"
    ),
    "CIDR": config(
        '"203.0.113.0/24"', '"203.0.113.7/24"', 10, "sources.main.allow.0", "inside", 'mean "203.0.113.0/24"?'
    ),
    "zone": config(
        '"Asia/Shanghai"',
        '"Asia/Shanghia"',
        11,
        "sources.main.timezone",
        "is no known time zone",
        'did you mean "Asia/Shanghai"?',
    ),
    "unknown key": config(
        'timeout = "30s"',
        'tiemout = "30s"',
        21,
        "destinations.crm.tiemout",
        'unknown key "tiemout"',
        'did you mean "timeout"?',
    ),
    "duration": config(
        '"30s"', '"30 sec"', 21, "destinations.crm.timeout", "is no duration", 'write it like "500ms", "10s"'
    ),
    "listen": config(
        '[server]\nlisten = "127.0.0.1:0"',
        '[server]\nlisten = "127.0.0.1"',
        2,
        "server.listen",
        "is no address to listen on",
        'write it as "127.0.0.1:8480"',
    ),
    "unknown source": config(
        '["main"]',
        '["mian"]',
        20,
        "destinations.crm.sources.0",
        'there is no source "mian"',
        'did you mean "main"?',
    ),
    "no mapping": config(
        '"mapping.toml"',
        '"maping.toml"',
        17,
        "destinations.crm.mapping",
        "there is no file",
        "relative paths start at the configuration file's folder",
    ),
    "unknown secret": config(
        'token = { env = "CRM_TOKEN" }',
        'token = { env = "CRM_TOKEN" }\ntoken2 = "canary-of-a-secret"',
        25,
        "destinations.crm.secrets.token2",
        "the connector own knows no such secret",
        'did you mean "token"?',
    ),
    # Ten of the connector.
    "misspelt connector filter": connector(
        "| national",
        "| natinal",
        26,
        "objects.contact.find.query.phone",
        'there is no filter "natinal"',
        'did you mean "national"?',
    ),
    "unknown name": connector(
        '"{{ fields }}"\nid',
        '"{{ feilds }}"\nid',
        32,
        "objects.contact.create.json",
        'there is no name "feilds"',
        'did you mean "fields"?',
    ),
    "capture never set": connector(
        "{{ captured.call_id }}/close",
        "{{ captured.cal_id }}/close",
        58,
        "objects.call.create.2.path",
        'there is no value "captured.cal_id"',
        'did you mean "captured.call_id"?',
    ),
    "cycle of steps": connector(
        '{ key = "{{ key.call_key }}" }',
        '{ key = "{{ captured.version }}" }',
        43,
        "objects.call.create.0",
        "a cycle",
        "let one of them do without",
    ),
    "unknown limit": connector(
        'limit = "search"',
        'limit = "serach"',
        27,
        "objects.contact.find.limit",
        'there is no limit "serach"',
        'did you mean "search"?',
    ),
    "status": connector(
        "status = 409", "status = 4009", 12, "outcomes.0.status", "is no HTTP status", '"5xx"'
    ),
    "regular expression": connector(
        '"quota of (\\\\d+)"',
        '"quota of (\\\\d+"',
        17,
        "outcomes.1.matches",
        "is no regular expression: missing ), unterminated subpattern",
        "see Python's re",
    ),
    "rate": connector('"5/s"', '"5 a second"', 9, "limits.search.rate", "is no rate", '"100/10s" or "5/s"'),
    "missing find": connector(
        """[objects.contact.find]
path = "/contacts"
query = { phone = "{{ key.phone | national }}" }
limit = "search"
hits = "data"
""",
        "",
        30,
        "objects.contact.update",
        "needs a find, or nothing tells what to update",
        "add find",
    ),
    "unknown connector key": connector(
        'method = "PUT"',
        'mehtod = "PUT"',
        36,
        "objects.contact.update.mehtod",
        'unknown key "mehtod"',
        'did you mean "method"?',
    ),
    # Ten of the mapping.
    "misspelt filter": mapping(
        "| iso8601",
        "| iso8061",
        23,
        "objects.call.fields.started",
        'there is no filter "iso8061"',
        'did you mean "iso8601"?',
    ),
    "unknown call name": mapping(
        "call.remark",
        "call.remrak",
        15,
        "objects.contact.fields.note.value",
        'there is no value "call.remrak"',
        'did you mean "call.remark"?',
    ),
    "link to no object": mapping(
        'contact = "contact" }',
        'contact = "contcat" }',
        20,
        "objects.call.link.contact",
        'there is no object "contcat" to link to',
        'did you mean "contact"?',
    ),
    "cycle of links": mapping(
        'key = { phone = "{{ call.phone | e164 }}" }',
        'key = { phone = "{{ call.phone | e164 }}" }\nlink = { call = "call" }',
        12,
        "objects.contact.link.call",
        "contact → call → contact is a cycle of links",
        "leave out one of them",
    ),
    "write policy": mapping(
        '"unless_edited"',
        '"unless_editted"',
        15,
        "objects.contact.fields.note.write",
        "should be 'always', 'create', 'if_empty'",
        'did you mean "unless_edited"?',
    ),
    "unknown table": mapping(
        'map = "grades"',
        'map = "grade"',
        16,
        "objects.contact.fields.rank.map",
        'there is no table "grade" in [maps]',
        'did you mean "grades"?',
    ),
    "key part": mapping(
        '{ phone = "{{ call.phone',
        '{ fone = "{{ call.phone',
        11,
        "objects.contact.key.fone",
        '"fone" is no part of the connector\'s key for it, which is phone',
        'did you mean "phone"?',
    ),
    "condition without braces": mapping(
        '"{{ call.answered }}"',
        '"call.answered"',
        5,
        "rules.0.when",
        "is no condition",
        "write one expression: {{ call.talk_seconds > 0 }}",
    ),
    "limit": mapping(
        "limit = 40", "limit = 0", 14, "objects.contact.fields.name.limit", "greater than or equal to 1", ""
    ),
    "unknown object": mapping(
        "[objects.contact]",
        "[objects.contact]\ntype = 'contacts'",
        11,
        "objects.contact.type",
        'the connector own has no object "contacts"',
        'did you mean "contact"?',
    ),
}
# One that needs a configuration of its own: the connector that a mapping names.
NAMED = mapping(
    'connector = "own"', 'connector = "sandbx"', 1, "connector", 'no connector "sandbx"', 'mean "sandbox"?'
)


def write_files(folder: Path, *mistakes: Broken, without: str = "") -> Path:
    texts = dict(FILES)
    for mistake in mistakes:
        assert texts[mistake.file].count(mistake.old) == 1, mistake.old
        texts[mistake.file] = texts[mistake.file].replace(mistake.old, mistake.new)
    for name, text in texts.items():
        (folder / name).write_text(text.replace(without, "") if without else text, "utf-8")
    return folder / "config.toml"


def checked(path: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the document of `check`."""
    result = CliRunner(env=environment()).invoke(cli, ["check", "-c", str(path), "--json"])
    return result.exit_code, json.loads(result.stdout)


def assert_told(problem: dict[str, Any], mistake: Broken, folder: Path) -> None:
    where = (problem["file"], problem["line"], problem["key"])
    assert where == (str(folder / mistake.file), mistake.line, mistake.key)
    assert mistake.message in problem["message"]
    assert mistake.remedy in problem["remedy"]
    assert problem["remedy"], "what should the operator do?"


def test_there_are_ten_broken_files_of_each_kind() -> None:
    files = [mistake.file for mistake in MISTAKES.values()]
    assert {file: files.count(file) for file in FILES} == dict.fromkeys(FILES, 10)


def test_files_without_a_mistake_give_no_problems(tmp_path: Path) -> None:
    code, document = checked(write_files(tmp_path))
    assert (code, document) == (0, {"problems": [], "warnings": []})


@pytest.mark.parametrize("name", MISTAKES)
def test_check_names_the_mistake(name: str, tmp_path: Path) -> None:
    code, document = checked(write_files(tmp_path, MISTAKES[name]))
    assert code == 2
    [problem] = document["problems"]
    assert_told(problem, MISTAKES[name], tmp_path)
    assert "canary" not in json.dumps(document)


@pytest.mark.long
@pytest.mark.parametrize("name", MISTAKES)
def test_daemon_refuses_to_start_with_the_same_message(name: str, tmp_path: Path) -> None:
    path = write_files(tmp_path, MISTAKES[name])
    _, document = checked(path)
    [problem] = document["problems"]
    ended = callbridge("run", "-c", str(path), cwd=tmp_path)
    assert ended.returncode == 2
    shown = f"{problem['file']}:{problem['line']}: {problem['key']}: {problem['message']}"
    assert ended.stderr.splitlines() == [f"{shown} ({problem['remedy']})"]
    assert not (tmp_path / "ledger.db").exists(), "nothing was touched"


def test_missing_connector_is_reported(tmp_path: Path) -> None:
    code, document = checked(write_files(tmp_path, NAMED, without='connector = "connector.toml"\n'))
    assert code == 2
    [problem] = document["problems"]
    assert_told(problem, NAMED, tmp_path)


def test_mistakes_of_all_kinds_are_reported_in_one_run(tmp_path: Path) -> None:
    chosen = [
        "unreadable secret",
        "crontab",
        "CIDR",
        "unknown key",
        "unknown source",
        "misspelt connector filter",
        "unknown name",
        "unknown limit",
        "status",
        "rate",
        "unknown connector key",
        "misspelt filter",
        "unknown call name",
        "link to no object",
        "write policy",
        "unknown table",
        "condition without braces",
        "limit",
    ]
    mistakes = [MISTAKES[name] for name in chosen]
    code, document = checked(write_files(tmp_path, *mistakes))
    assert code == 2
    told = {(Path(one["file"]).name, one["line"], one["key"]): one for one in document["problems"]}
    assert set(told) == {(one.file, one.line, one.key) for one in mistakes}
    for mistake in mistakes:
        assert_told(told[mistake.file, mistake.line, mistake.key], mistake, tmp_path)


def test_mapping_with_mistakes_is_still_checked_against_its_connector(tmp_path: Path) -> None:
    mistakes = [MISTAKES["misspelt filter"], MISTAKES["key part"], MISTAKES["duration"]]
    _, document = checked(write_files(tmp_path, *mistakes))
    assert {one["line"] for one in document["problems"]} == {one.line for one in mistakes}


def test_reading_policy_requires_a_readable_object(tmp_path: Path) -> None:
    written = mapping(
        'started = "{{ call.started_at | iso8601 }}"',
        'started = { value = "{{ call.started_at }}", write = "if_empty" }',
        23,
        "objects.call.fields.started.write",
        'write = "if_empty" has to read the object',
        "give the connector a find or a read for it",
    )
    _, document = checked(write_files(tmp_path, written))
    [problem] = document["problems"]
    assert_told(problem, written, tmp_path)


def test_weak_and_reused_tokens_are_warned_about(tmp_path: Path) -> None:
    path = write_files(tmp_path)
    text = CONFIG.replace('{ env = "TOKEN" }', '[{ env = "TOKEN" }, { env = "TOKEN" }, "canary"]')
    path.write_text(text, "utf-8")
    code, document = checked(path)
    assert code == 2
    told = [(one["key"], one["line"], one["message"]) for one in document["warnings"]]
    assert told == [
        ("sources.main.callback_token.2", 9, "is a secret in clear"),
        ("sources.main.callback_token.1", 9, "is the same secret as sources.main.callback_token.0"),
    ]
    refused = [(one["key"], one["line"], one["message"]) for one in document["problems"]]
    assert refused == [("sources.main.callback_token.2", 9, "is shorter than 22 characters")]
    assert "canary" not in json.dumps(document)
