"""`check --online`: a CRM behind a real socket, with every fault of set-up; nothing is written."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.check.crm import OnlineFindings
from bridge.check.online import ask_online
from bridge.cli import cli
from bridge.config.destination_files import load_pair
from bridge.config.load import load_config
from bridge.config.secrets import resolve_secrets
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.owner_lock import OwnerLock
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import EXAMPLE, ROOT
from tests.fixtures.request_recorder import Recorder

SECRET = "canary-secret-5a81c0de"
PHONE = "15899770637"

CONNECTOR = """\
name = "own"
secrets = ["secret"]

[auth]
headers = { Authorization = "Bearer {{ token.access }}" }
[auth.token]
url = "/token"
json = { secret = "{{ secrets.secret }}" }
outputs = { access = "access" }
expires_in = "seconds"
outcomes = [{ path = "denied", then = "permanent", says = "Take the secret of the app's page" }]

[errors]
message = "error"

[objects.contact]
key = ["tel"]
find = { path = "/contacts", query = { tel = "{{ key.tel }}" }, hits = "." }
create = { path = "/contacts", json = "{{ fields }}", id = "id" }

[objects.contact.describe]
path = "/meta/contact"
fields = "data.fields"
name = "api"
type = "kind"
options = "choices"
option = "code"
read_only = "{{ field.locked }}"
length = "max.length"

[objects.note]
key = ["uuid"]
create = { path = "/notes", json = "{{ fields }}", id = "id" }

[[probe]]
name = "who am I"
path = "/me"
expect = "{{ status == 200 and body.rights == 'write' }}"
remedy = "give the app the right to write contacts"
"""

MAPPING = """\
connector = "own"
[maps]
grades = { A = "hot", B = "warm" }

[objects.contact]
key = { tel = "{{ call.phone | e164 }}" }
[objects.contact.fields]
grade = { value = "{{ call.grade }}", map = "grades", default = "cold" }
note = { value = "{{ call.summary }}", limit = 200 }
seconds = "{{ call.talk_seconds }}"
answered = "{{ call.answered }}"
started = "{{ call.started_at | iso8601 }}"
source = "robot"

[[tests]]
name = "a call"
record = "record.json"
expect.contact.seconds = 88
"""

FIELDS: list[dict[str, Any]] = [
    {"api": "grade", "kind": "select", "choices": [{"code": "hot"}, {"code": "warm"}, {"code": "cold"}]},
    {"api": "note", "kind": "text", "max": {"length": 200}},
    {"api": "seconds", "kind": "Number"},
    {"api": "answered", "kind": "boolean"},
    {"api": "started", "kind": "datetime"},
    {"api": "source", "kind": "text", "choices": [], "max": {"length": None}},
]


class OwnCrm:
    """Says who asks and what there is."""

    def __init__(self) -> None:
        self.fields: Any = [dict(field) for field in FIELDS]
        self.rights = "write"
        self.status = 200
        self.tokens = 0
        self.refresh: str | None = None
        routes = [
            Route("/token", self._token, methods=["POST"]),
            Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]
        self.recorder = Recorder(Starlette(routes=routes))

    def field(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(field for field in self.fields if field["api"] == name)
        return found

    async def _token(self, request: Request) -> Response:
        if (await request.json()).get("secret") != SECRET:
            return JSONResponse({"denied": True, "error": "bad secret"})
        self.tokens += 1
        return JSONResponse({"access": f"t{self.tokens}", "seconds": 3600, "refresh": self.refresh})

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer t{self.tokens}":
            return JSONResponse({"error": "who are you?"}, 401)
        if request.url.path == "/me":
            return JSONResponse({"rights": self.rights}, self.status)
        if request.url.path == "/meta/contact" and self.fields is not None:
            return JSONResponse({"data": {"fields": self.fields}})
        return JSONResponse({"error": "no such object"}, 404)


class Desk:
    """A configuration for one CRM, and the check of it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.path = folder / "config.toml"
        self.mapping = folder / "mapping.toml"
        self.ahead = timedelta(0)
        (folder / "record.json").write_bytes(EXAMPLE.read_bytes())
        (folder / "own.toml").write_text(CONNECTOR, "utf-8")
        self.mapping.write_text(MAPPING, "utf-8")
        self.path.write_text(
            f"""
[ledger]
url = "sqlite:///ledger.db"
[sources.main]
callback_token = {{ env = "TOKEN" }}
[destinations.own]
mapping = "mapping.toml"
connector = "own.toml"
base_url = "{url}"
[destinations.own.secrets]
secret = {{ env = "SECRET" }}
""",
            "utf-8",
        )

    def change(self, path: Path, *changes: tuple[str, str]) -> None:
        text = path.read_text("utf-8")
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path.write_text(text, "utf-8")

    @property
    def environment(self) -> dict[str, str]:
        return {"TOKEN": "callback-token-of-tests", "SECRET": SECRET}

    def ask(self, **environ: str) -> OnlineFindings:
        config = load_config(self.path, {})
        secrets = resolve_secrets(config, {**self.environment, **environ})
        return ask_online(config, secrets, None, lambda: datetime.now(UTC) + self.ahead)["own"]

    def check(self, *args: str, **environ: str) -> Result:
        env = {**self.environment, **environ}
        return CliRunner().invoke(cli, ["check", "-c", str(self.path), *args], env=env)

    def line(self, words: str, path: Path | None = None) -> int:
        lines = (path or self.mapping).read_text("utf-8").splitlines()
        [found] = [number for number, line in enumerate(lines, 1) if words in line]
        return found


@pytest.fixture
def crm() -> OwnCrm:
    return OwnCrm()


@pytest.fixture
def desk(crm: OwnCrm, tmp_path: Path) -> Iterator[Desk]:
    with LocalServer(crm.recorder) as server:
        yield Desk(tmp_path, server.url)
    assert {one.method for one in crm.recorder.sent() if one.path != "/token"} <= {"GET"}, "it was written"


def told(found: OnlineFindings) -> list[tuple[str, int | None, str, str]]:
    return [(Path(one.file).name, one.line, one.message, one.remedy) for one in found.problems]


def test_matching_crm_gives_no_findings(desk: Desk, crm: OwnCrm) -> None:
    assert desk.ask() == OnlineFindings()
    assert [one.path for one in crm.recorder.sent()] == ["/token", "/me", "/meta/contact"]


def test_fields_may_be_described_in_a_table_by_name(desk: Desk, crm: OwnCrm) -> None:
    crm.fields = {field["api"]: {**field, "api": None} for field in FIELDS}
    assert desk.ask() == OnlineFindings()


# The token


def test_refused_secret_is_named_but_not_shown(desk: Desk, crm: OwnCrm) -> None:
    [(file, line, message, remedy)] = told(desk.ask(SECRET="wrong-canary-0001"))
    assert (file, line) == ("config.toml", desk.line("[destinations.own.secrets]", desk.path))
    assert message.startswith('destination own: probe "who am I": no token: ')
    assert "bad secret. Take the secret of the app's page" in message
    assert remedy == "check the destination's secrets and settings"
    assert "canary" not in f"{message} {remedy}"
    assert len(crm.recorder.sent()) == 1, "what needs a token was asked without one"


@pytest.mark.parametrize("secret", [SECRET, "wrong-canary-0001"])
def test_token_is_requested_though_there_is_nothing_to_probe(desk: Desk, crm: OwnCrm, secret: str) -> None:
    probe, describe = CONNECTOR.index("[[probe]]"), CONNECTOR.index("[objects.contact.describe]")
    bare = CONNECTOR[:describe] + CONNECTOR[CONNECTOR.index("[objects.note]") : probe]
    (desk.folder / "own.toml").write_text(bare, "utf-8")
    found = desk.ask(SECRET=secret)
    assert [one.path for one in crm.recorder.sent()] == ["/token"]
    if secret == SECRET:
        assert not found.problems
        assert "whether the token that was got opens anything is not known" in found.warnings[-1].remedy
    else:
        [(_, line, message, _)] = told(found)
        assert line == desk.line("[destinations.own.secrets]", desk.path)
        assert "no token: the CRM answered 200" in message
        assert "bad secret" in message


def test_token_without_rights_is_reported_with_a_remedy(desk: Desk, crm: OwnCrm) -> None:
    crm.rights = "read"
    [(_, _, message, remedy)] = told(desk.ask())
    assert "GET /me answered 200, and that is not what was expected" in message
    assert remedy == "give the app the right to write contacts"


def test_unaccepted_token_ends_the_check(desk: Desk, crm: OwnCrm) -> None:
    desk.change(desk.folder / "own.toml", ("Bearer {{ token.access }}", "Bearer no"))
    [(_, line, message, _)] = told(desk.ask())
    assert "answered 401: who are you?" in message
    assert line == desk.line("[destinations.own.secrets]", desk.path)
    assert "/meta/contact" not in {one.path for one in crm.recorder.sent()}


def test_daemons_token_is_used_and_a_new_one_is_kept_for_it(desk: Desk, crm: OwnCrm) -> None:
    SqliteLedger(desk.folder / "ledger.db", create=True).close()
    assert (desk.ask(), desk.ask()) == (OnlineFindings(), OnlineFindings())
    assert crm.tokens == 1
    crm.tokens = 7
    assert desk.ask() == OnlineFindings()
    assert crm.tokens == 8


def test_rotating_refresh_token_is_left_to_a_running_daemon(desk: Desk, crm: OwnCrm) -> None:
    rotates = ('{ access = "access" }', '{ access = "access", refresh_token = "refresh" }')
    desk.change(desk.folder / "own.toml", rotates)
    crm.refresh = "r1"
    ledger = desk.folder / "ledger.db"
    [unborn] = desk.ask().unreachable
    assert "there is no ledger to keep it" in unborn.message
    SqliteLedger(ledger, create=True).close()
    with OwnerLock(ledger):
        [owned] = desk.ask().unreachable
    assert "it is the daemon's to renew" in owned.message
    assert crm.tokens == 0
    assert desk.ask() == OnlineFindings()
    with closing(SqliteLedger(ledger, read_only=True)) as kept:
        saved = kept.load_token(f"own {load_config(desk.path, {}).destinations['own'].base_url}")
    assert saved is not None
    assert saved["outputs"]["refresh_token"] == "r1"
    with OwnerLock(ledger):
        assert desk.ask() == OnlineFindings(), "a token that lives may be used beside the daemon"


# Objects and fields


def test_object_missing_in_the_crm_is_reported(desk: Desk, crm: OwnCrm) -> None:
    crm.fields = None
    [(file, line, message, remedy)] = told(desk.ask())
    assert (file, line) == ("mapping.toml", desk.line("[objects.contact]"))
    assert message.startswith("destination own: object contact: the CRM does not describe it: ")
    assert "no such object" in message
    assert remedy.startswith("create the object in the CRM")


def missing(crm: OwnCrm) -> None:
    crm.fields = [field for field in crm.fields if field["api"] != "note"] + [{"api": "notes"}]


def change(name: str, **values: Any) -> Callable[[OwnCrm], None]:
    return lambda crm: crm.field(name).update(values)


IN_CASE = 'in the case "a call" the value'
CHOICES = [{"code": "hot"}, {"code": "lukewarm"}, {"code": "cold"}]


@pytest.mark.parametrize(
    ("spoil", "where", "message", "remedy"),
    [
        (
            missing,
            "note =",
            "field note: the CRM has no such field",
            'did you mean "notes"? Else create it in the CRM',
        ),
        (
            change("grade", choices=CHOICES),
            "grades =",
            "field grade: what 'B' becomes, 'warm' is no option of the CRM",
            'did you mean "lukewarm"?',
        ),
        (
            change("grade", choices=[*CHOICES[:1], {"code": "warm"}]),
            "grade =",
            "field grade: the constant 'cold' is no option of the CRM",
            "known: hot, warm",
        ),
        (
            change("source", choices=["human", "robots"]),
            "source =",
            "field source: the constant 'robot' is no option of the CRM",
            'did you mean "robots"?',
        ),
        (
            change("note", locked=True),
            "note =",
            "field note: the CRM lets nobody write it",
            "leave it out, or choose a field that can be written",
        ),
        (
            change("note", max={"length": 100}),
            "note =",
            "field note: the CRM takes 100 characters, and the limit is 200",
            "write limit = 100",
        ),
        (
            change("source", max={"length": "3"}),
            "source =",
            "field source: the constant has 5 characters, the CRM takes 3",
            "add limit = 3",
        ),
        (
            change("source", kind="int"),
            "source =",
            "field source: the constant 'robot' does not fit: the CRM expects int",
            "use a filter, or another field",
        ),
        (
            change("started", kind="bool"),
            "started =",
            f"field started: {IN_CASE} '2025-04-14T02:19:13Z' does not fit: the CRM expects bool",
            "use a filter, or another field",
        ),
    ],
)
def test_unsuitable_field_is_reported_at_its_line(
    desk: Desk,
    crm: OwnCrm,
    spoil: Callable[[OwnCrm], None],
    where: str,
    message: str,
    remedy: str,
) -> None:
    spoil(crm)
    expected = ("mapping.toml", desk.line(where), f"destination own: object contact, {message}", remedy)
    assert told(desk.ask()) == [expected]


@pytest.mark.parametrize(
    ("form", "value", "fits"),
    [
        ("%Y-%m-%dT%H:%M:%SZ", "{{ call.started_at | iso8601 }}", True),
        ("%Y-%m-%d", "{{ call.started_at | iso8601 }}", False),
        ("%Y-%m-%d", "{{ call.started_at | local('%Y-%m-%d') }}", True),
        ("%Y-%m-%d", "2026-1-2", False),
        ("%Y-%m-%d %H:%M:%S", "{{ call.started_at | epoch_ms }}", False),
    ],
)
def test_time_format_that_is_not_the_crms_is_reported(desk: Desk, form: str, value: str, fits: bool) -> None:
    desk.change(desk.folder / "own.toml", ('length = "max.length"', f'forms = {{ datetime = "{form}" }}'))
    desk.change(desk.mapping, ('"{{ call.started_at | iso8601 }}"', f'"{value}"'))
    found = told(desk.ask())
    assert (found == []) is fits
    if not fits:
        [(file, line, message, remedy)] = found
        assert (file, line) == ("mapping.toml", desk.line("started ="))
        assert "is not written as the CRM takes a datetime: 2026-11-22" in message
        assert remedy == f"use | local('{form}', 'UTC')"


RIGHTS = """
[[probe]]
name = "fields"
object = "contact"
path = "/me"
writes = "{{ field not in ['note', 'grade'] or body.rights == 'all' }}"
remedy = "let it write them"
[[probe]]
name = "of notes"
object = "note"
path = "/nowhere"
expect = "{{ status == 200 }}"
[[probe]]
name = "behind"
after = "fields"
path = "/nowhere"
expect = "{{ status == 200 }}"
"""


def test_fields_without_write_permission_are_reported(desk: Desk) -> None:
    own = desk.folder / "own.toml"
    own.write_text(own.read_text("utf-8") + RIGHTS, "utf-8")
    found = told(desk.ask())
    assert [(line, remedy) for _, line, _, remedy in found] == [
        (desk.line("grade ="), "let it write them"),
        (desk.line("note ="), "let it write them"),
    ]
    assert all("the destination's user may not write it" in message for _, _, message, _ in found)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('object = "contact"', 'object = "contract"', 'there is no object "contract"'),
        ('after = "fields"', 'after = "field"', 'there is no probe "field" before it'),
        ('after = "fields"', 'after = "behind"', 'there is no probe "behind" before it'),
        ('object = "contact"\n', "", "of which object's fields?"),
    ],
)
def test_check_reports_a_probe_that_makes_no_sense(desk: Desk, before: str, after: str, message: str) -> None:
    own = desk.folder / "own.toml"
    assert before in RIGHTS
    own.write_text(own.read_text("utf-8") + RIGHTS.replace(before, after), "utf-8")
    assert message in str(load_pair(desk.mapping, own).problems)


def test_text_without_a_limit_is_warned_about_if_the_field_has_one(desk: Desk) -> None:
    desk.change(desk.mapping, (", limit = 200", ""))
    found = desk.ask()
    assert not found.problems
    [warning] = found.warnings
    assert (warning.line, warning.remedy) == (desk.line("note ="), "add limit = 200")


def test_warning_says_what_cannot_be_checked(desk: Desk) -> None:
    text = desk.mapping.read_text("utf-8")
    note = '[objects.note]\nkey = { uuid = "{{ call.key }}" }\n\n[[tests]]'
    desk.mapping.write_text(text.replace("[[tests]]", note), "utf-8")
    [warning] = desk.ask().warnings
    assert warning.line == desk.line("[objects.note]")
    assert 'cannot ask which fields "note" has' in warning.message


# The clock, and a CRM that is not there


@pytest.mark.parametrize(("seconds", "words"), [(400, "s ahead of"), (-400, "s behind"), (30, "")])
def test_wrong_clock_is_reported_once(desk: Desk, seconds: int, words: str) -> None:
    desk.ahead = timedelta(seconds=seconds)
    found = told(desk.ask())
    assert len(found) == bool(words)
    for _, _, message, remedy in found:
        assert words in message
        assert "timedatectl set-ntp true" in remedy


@pytest.mark.parametrize("status", [429, 500, 503])
def test_crm_that_cannot_answer_now_is_no_finding(desk: Desk, crm: OwnCrm, status: int) -> None:
    crm.status = status
    found = desk.ask()
    assert not found.problems
    [told_why] = found.unreachable
    assert f"answered {status}" in told_why.message
    assert (told_why.line, told_why.key) == (desk.line("base_url", desk.path), "destinations.own.base_url")


# The command


def test_exit_code_follows_the_findings(desk: Desk, crm: OwnCrm) -> None:
    assert (desk.check("--online").exit_code, desk.check("--online").stdout) == (0, "no problems\n")
    crm.field("note")["locked"] = True
    result = desk.check("--online", "--json")
    shown = json.loads(result.stdout)
    assert (result.exit_code, len(shown["problems"]), shown["unreachable"]) == (2, 1, [])
    assert shown["problems"][0]["line"] == desk.line("note =")
    assert desk.check().exit_code == 0
    assert desk.check("--online", "--destination", "nobody").exit_code == 2
    assert desk.check("--destination", "own").exit_code == 2


def test_unreachable_crm_exits_3(tmp_path: Path) -> None:
    with LocalServer(SandboxCrm().app) as server:
        url = server.url
    result = Desk(tmp_path, url).check("--online")
    assert result.exit_code == 3, result.output
    assert "Connection refused" in result.output
    assert result.output.count("is base_url right") == 1
    assert "destinations.own.base_url: destination own: " in result.output


def test_crm_without_tls_is_reported_with_its_own_remedy(tmp_path: Path) -> None:
    with LocalServer(SandboxCrm().app) as server:
        result = Desk(tmp_path, server.url.replace("http:", "https:")).check("--online")
    assert result.exit_code == 3, result.output
    assert result.output.count("speaks no TLS") == 1
    assert "is base_url right" not in result.output


def test_nothing_is_requested_while_the_offline_check_fails(desk: Desk, crm: OwnCrm) -> None:
    desk.change(desk.mapping, ("| e164", "| e146"))
    result = desk.check("--online")
    assert result.exit_code == 2
    assert "platforms and CRMs are not asked" in result.stderr
    assert crm.recorder.sent() == []


def sandbox_check(folder: Path, url: str, token: str) -> Result:
    (folder / "config.toml").write_text(
        f"""
[sources.main]
callback_token = {{ env = "TOKEN" }}
[destinations.crm]
mapping = "{ROOT / "mappings/sandbox.toml"}"
base_url = "{url}"
secrets = {{ token = {{ env = "CRM_TOKEN" }} }}
[ledger]
url = "sqlite:///ledger.db"
""",
        "utf-8",
    )
    env: Mapping[str, str] = {"TOKEN": "callback-token-of-tests", "CRM_TOKEN": token}
    return CliRunner().invoke(cli, ["check", "--online", "-c", str(folder / "config.toml")], env=env)


def test_sandbox_can_be_checked_online(tmp_path: Path) -> None:
    crm = SandboxCrm("the-right-token")
    with LocalServer(crm.app) as server:
        assert sandbox_check(tmp_path, server.url, "the-right-token").stdout == "no problems\n"
        wrong = sandbox_check(tmp_path, server.url, "canary-wrong-token")
    assert wrong.exit_code == 2
    assert "a valid bearer token is needed" in wrong.stdout
    assert "canary" not in wrong.output
    assert set(crm.requests()["by"]) == {"GET /fields/{kind}"}
