"""The configuration: what loads, what is refused, where each mistake stands, and what is never shown."""

import json
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bridge.config.load import Config, load_config
from bridge.config.schema import SourceSettings
from bridge.config.secrets import resolve_secrets, secrets_in_clear
from bridge.lib.errors import ConfigError, Problem
from bridge.lib.toml_file import load_toml
from bridge.lib.values import Address, parse_duration, parse_size, show_duration
from tests.fixtures.mistakes import Mistake

TOP = Path(__file__).parents[2]
CANARY = "canary-9f3b71d2-secret"

GOOD = """\
[server]
listen = "127.0.0.1:8480"

[sources.main]
callback_token = { env = "CALLBACK_TOKEN" }

[sources.main.api]
base_url = "https://ai000.example.com/"
access_id = "id"
access_secret = { file = "api-secret" }

[destinations.crm]
mapping = "crm.toml"
sources = ["main"]

[destinations.crm.secrets]
token = { credential = "crm" }
"""


def write(folder: Path, text: str) -> Path:
    (folder / "crm.toml").touch()
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return path


def problems_of(path: Path | None, environ: dict[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {})
    return caught.value.problems


# What to change in the good file; then line, key, and words of the message and of the remedy.
BROKEN = [
    Mistake(
        old='listen = "127.0.0.1:8480"',
        new='lisen = "x"',
        line=2,
        key="server.lisen",
        message='unknown key "lisen"',
        remedy='"listen"',
    ),
    Mistake(
        old="[server]",
        new="[sever]",
        line=1,
        key="sever",
        message='unknown key "sever"',
        remedy='did you mean "server"?',
    ),
    Mistake(
        old='"127.0.0.1:8480"',
        new='"8480"',
        line=2,
        key="server.listen",
        message="is no address",
        remedy="127.0.0.1:8480",
    ),
    Mistake(
        old='"127.0.0.1:8480"',
        new='"127.0.0.1:8481"',
        line=2,
        key="server.listen",
        message="on the same port",
        remedy="its own port",
    ),
    Mistake(
        old="[sources.main]",
        new='[sources.main]\nplatform = "outcal"',
        line=5,
        key="sources.main.platform",
        message="is no platform that callbridge knows",
        remedy='did you mean "outcall"?',
    ),
    Mistake(
        old="[sources.main]",
        new="[sources.main]\nplatform = 1",
        line=5,
        key="sources.main.platform",
        message="should be text",
        remedy="",
    ),
    Mistake(
        old="[sources.main]",
        new='[sources.main]\ncountry = "cn"',
        line=5,
        key="sources.main.country",
        message="country",
        remedy='"CN"',
    ),
    Mistake(
        old="[sources.main]",
        new='[sources.main]\ntimezone = "Asia/Shangai"',
        line=5,
        key="sources.main.timezone",
        message="zone",
        remedy="hai",
    ),
    Mistake(
        old="[sources.main]",
        new='[sources.main]\nallow = [\n"1.2.3.4",\n"x"]',
        line=7,
        key="sources.main.allow.1",
        message="network",
        remedy="/8",
    ),
    Mistake(
        old="[sources.main]",
        new='[sources.main]\nallow = ["10.0.0.1/8"]',
        line=5,
        key="sources.main.allow.0",
        message="inside",
        remedy="10.0.0.0/8",
    ),
    Mistake(
        old="[sources.main]",
        new="[sources.main]\nack = { status = 500 }",
        line=5,
        key="sources.main.ack.status",
        message="less than",
        remedy="",
    ),
    Mistake(
        old="[sources.main]",
        new="[sources.main]\nack = { status = 204 }",
        line=5,
        key="sources.main.ack.status",
        message="without a body",
        remedy="use 200",
    ),
    Mistake(
        old="[sources.main]",
        new='[sources.main]\nack = { content_type = "text/plain\\r\\nX: y" }',
        line=5,
        key="sources.main.ack.content_type",
        message="is no content type",
        remedy="application/json",
    ),
    Mistake(
        old="[server]",
        new='[admin]\nhosts = ["calls.example.com:443"]\n[server]',
        line=2,
        key="admin.hosts.0",
        message="is no host's name",
        remedy="without a port",
    ),
    Mistake(
        old="{ env = ",
        new="{ evn = ",
        line=5,
        key="sources.main.callback_token",
        message='unknown key "evn"',
        remedy='did you mean "env"?',
    ),
    Mistake(
        old="callback_token",
        new="# callback_token",
        line=4,
        key="sources.main.callback_token",
        message="is required",
        remedy="",
    ),
    Mistake(
        old='access_id = "id"',
        new="",
        line=7,
        key="sources.main.api.access_id",
        message="is required",
        remedy="",
    ),
    Mistake(
        old='access_id = "id"',
        new="access_id = 7",
        line=9,
        key="sources.main.api.access_id",
        message="should be text",
        remedy="",
    ),
    Mistake(
        old='access_id = "id"',
        new='access_id = "id"\npage_size = 0',
        line=10,
        key="sources.main.api.page_size",
        message="greater",
        remedy="",
    ),
    Mistake(
        old='"https://ai000.example.com/"',
        new='"ai000"',
        line=8,
        key="sources.main.api.base_url",
        message="web address",
        remedy="https://",
    ),
    Mistake(
        old='"https://ai000',
        new='"https://me:pw@ai000',
        line=8,
        key="sources.main.api.base_url",
        message="user or password",
        remedy="secrets",
    ),
    Mistake(
        old='"crm.toml"',
        new='"cmr.toml"',
        line=13,
        key="destinations.crm.mapping",
        message="there is no file",
        remedy="configuration file's",
    ),
    Mistake(
        old='["main"]',
        new='["mian"]',
        line=14,
        key="destinations.crm.sources.0",
        message='no source "mian"',
        remedy='did you mean "main"?',
    ),
    Mistake(
        old="[sources.main]",
        new="[sources.Main]",
        line=4,
        key="sources.Main",
        message="no good name",
        remedy="a-z",
    ),
    Mistake(
        old="[server]",
        new='[admin]\nlisten = "0.0.0.0:1"\n[server]',
        line=2,
        key="admin.listen",
        message="without admin.token",
        remedy="set admin",
    ),
    Mistake(
        old="[server]",
        new='[server]\nmax_body = "2 megs"',
        line=2,
        key="server.max_body",
        message="is no size",
        remedy="2MiB",
    ),
    Mistake(
        old="[server]",
        new='[server]\nbody_timeout = "soon"',
        line=2,
        key="server.body_timeout",
        message="is no duration",
        remedy="10s",
    ),
    Mistake(
        old="[server]",
        new='[server]\nbody_timeout = "0s"',
        line=2,
        key="server.body_timeout",
        message="longer than zero",
        remedy="",
    ),
    Mistake(
        old="[server]",
        new='[ledger]\nurl = "postgresql://x"\n[server]',
        line=2,
        key="ledger.url",
        message="not supported yet",
        remedy="sqlite:///",
    ),
    Mistake(
        old="[server]",
        new='[ledger]\nurl = "ledger.db"\n[server]',
        line=2,
        key="ledger.url",
        message="is no SQLite ledger",
        remedy="sqlite:////",
    ),
    Mistake(
        old="[server]",
        new='[log]\nformat = "xml"\n[server]',
        line=2,
        key="log.format",
        message="should be 'text' or 'json'",
        remedy="",
    ),
    Mistake(
        old="[server]",
        new='[delivery]\nfirst_retry = "2h"\n[server]',
        line=1,
        key="delivery.longest_retry",
        message="shorter than first",
        remedy="",
    ),
    Mistake(
        old='{ env = "CALLBACK_TOKEN" }',
        new="[]",
        line=5,
        key="sources.main.callback_token",
        message="must not be empty",
        remedy="",
    ),
    Mistake(
        old='{ env = "CALLBACK_TOKEN" }',
        new="[1]",
        line=5,
        key="sources.main.callback_token.0",
        message="is no secret",
        remedy="write { env",
    ),
    Mistake(
        old="[server]", new="server = 1\n[log]", line=1, key="server", message="should be a table", remedy=""
    ),
    Mistake(
        old="[destinations.crm]",
        new='[sources.main.reconcile]\nschedule = "* * *"\n[destinations.crm]',
        line=13,
        key="sources.main.reconcile.schedule",
        message="five fields",
        remedy="",
    ),
    Mistake(
        old="[destinations.crm]",
        new='[sources.main.reconcile]\nlookback = "1m"\n[destinations.crm]',
        line=13,
        key="sources.main.reconcile.lookback",
        message="must not be shorter than settle",
        remedy="",
    ),
]


@pytest.mark.parametrize(("old", "new", "line", "key", "message", "remedy"), BROKEN)
def test_a_mistake_is_named(
    tmp_path: Path, *, old: str, new: str, line: int, key: str, message: str, remedy: str
) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    [problem] = [one for one in problems_of(path) if one.key == key]
    assert (problem.file, problem.line) == (str(path), line)
    assert message in problem.message
    assert remedy in problem.remedy


def test_a_syntax_error_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "oops\n")
    [problem] = problems_of(path)
    assert (problem.file, problem.line) == (str(path), 18)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("[server]", '[server]\nbody_timeout = "soon"').replace('"main"', '"mian"')
    path = write(tmp_path, text.replace("crm.toml", "cmr.toml").replace('access_id = "id"', ""))
    problems = problems_of(path, {"CALLBRIDGE_SEVER__LISTEN": "x"})
    assert [one.key for one in problems] == [
        "server.body_timeout",
        "sources.main.api.access_id",
        "destinations.crm.mapping",
        "destinations.crm.sources.0",
        "CALLBRIDGE_SEVER__LISTEN",
    ]


def test_missing_source_or_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = problems_of(write(tmp_path, ""))
    assert problem.message == "at least one source is needed"
    [problem] = problems_of(tmp_path / "none.toml")
    assert problem.message == "there is no such file"
    monkeypatch.chdir(tmp_path)
    write(tmp_path, GOOD)
    assert load_config(None, {}).path == Path("config.toml")
    assert load_config(None, {}).base_dir == tmp_path


def test_valid_file_is_loaded(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD + "[delivery]\nworkers = 9\n"), {})
    assert config.server.listen == Address("127.0.0.1", 8480)
    assert config.sources["main"].api[0].base_url == "https://ai000.example.com"
    assert config.delivery.workers == 9
    assert config.sources_of("crm") == ("main",)
    assert config.absolute(config.destinations["crm"].mapping) == tmp_path / "crm.toml"
    assert config.ledger.file(config.base_dir) == Path("/var/lib/callbridge/ledger.db")
    assert secrets_in_clear(config) == ()


def test_one_login_or_several_can_be_given(tmp_path: Path) -> None:
    login = '[[sources.main.api]]\nbase_url = "https://b"\naccess_id = "b"\naccess_secret = { env = "B" }\n'
    config = load_config(
        write(tmp_path, GOOD.replace("[sources.main.api]", "[[sources.main.api]]") + login), {}
    )
    assert [one.access_id for one in config.sources["main"].api] == ["id", "b"]
    path = write(tmp_path, GOOD.replace("[sources.main.api]", "[[sources.main.api]]") + login + "size = 1\n")
    assert [(one.key, one.line) for one in problems_of(path)] == [("sources.main.api.1.size", 22)]


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {
        "CALLBRIDGE_SERVER__LISTEN": "[::1]:0",
        "callbridge_delivery__workers": "7",
        "CALLBRIDGE_SERVER__TRUSTED_PROXIES": '["10.0.0.0/8"]',
        "CALLBRIDGE_SOURCES__MAIN__CALLBACK_TOKEN__FILE": "token",
        "CALLBRIDGE_SOURCES__MAIN__API__ACCESS_SECRET": '{"env": "API"}',
        "CALLBRIDGE_SOURCES__MAIN__API__PAGE_SIZE": "50",
        "CALLBRIDGE_SOURCES__MAIN__ACK__BODY": '{"code":0}',
        "CALLBRIDGE_ADMIN__TOKEN": "[a plain one",
        "CALLBRIDGE_ADMIN_TOKEN": "is no override",
        "OTHER__THING": "1",
    }
    config = load_config(write(tmp_path, GOOD), environ)
    source = config.sources["main"]
    assert config.server.listen == Address("::1", 0)
    assert config.delivery.workers == 7
    assert [str(one) for one in config.server.trusted_proxies] == ["10.0.0.0/8"]
    assert repr(source.callback_token[0]) == "Secret(file='token')"
    assert repr(source.api[0].access_secret) == "Secret(env='API')"
    assert (source.api[0].page_size, source.api[0].access_id) == (50, "id")
    assert source.ack.body == '{"code":0}'
    assert repr(config.admin.token) == "Secret(***)"
    assert secrets_in_clear(config) == ()


@pytest.mark.parametrize(
    ("variable", "value", "message", "remedy"),
    [
        ("CALLBRIDGE_SEVER__LISTEN", "x", 'there is no section "sever"', 'did you mean "SERVER"?'),
        ("CALLBRIDGE_SERVER__LISEN", "x", 'unknown key "lisen"', 'did you mean "listen"?'),
        ("CALLBRIDGE_SERVER__LISTEN", "x", "is no address", "127.0.0.1"),
        ("CALLBRIDGE_SERVER__LISTEN__PORT", "1", "reaches into a value", "whole value"),
        ("CALLBRIDGE_SERVER__TRUSTED_PROXIES", "10.0.0.0/8", "should be a list", "JSON"),
        ("CALLBRIDGE_SERVER__TRUSTED_PROXIES", "[10.0.0.0/8]", "is no valid JSON", "JSON"),
        ("CALLBRIDGE_SERVER__TRUSTED_PROXIES", '["x"]', "0: is no network", "10.0.0.0/8"),
        ("CALLBRIDGE_DESTINATIONS__CRM__SOURCES__0", "x", "reaches into a value", "whole value"),
        ("CALLBRIDGE_SERVER__TRUSTED_PROXIES__0", "x", "reaches into a value", "whole value"),
        ("CALLBRIDGE_SOURCES__MAIN__API", '{"access_id": "x"}', "base_url: is required", ""),
    ],
)
def test_wrong_override_is_named(
    tmp_path: Path, variable: str, value: str, message: str, remedy: str
) -> None:
    problem = problems_of(write(tmp_path, GOOD), {variable: value})[0]
    assert (problem.file, problem.key, problem.line) == ("environment", variable, None)
    assert message in problem.message
    assert remedy in problem.remedy


def test_contradicting_overrides_are_reported(tmp_path: Path) -> None:
    for other in ("CALLBRIDGE_ADMIN__TOKEN", "CALLBRIDGE_ADMIN__TOKEN__ENV"):
        environ = {other: CANARY.replace("-", "_"), "CALLBRIDGE_ADMIN__TOKEN__FILE": "X"}
        [problem] = problems_of(write(tmp_path, GOOD), environ)
        assert problem.message == f"contradicts {other}"


def test_secrets_are_resolved_later(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), {})
    with pytest.raises(ConfigError) as caught:
        resolve_secrets(config, {})
    assert [(one.key, one.line) for one in caught.value.problems] == [
        ("sources.main.callback_token", 5),
        ("sources.main.api.access_secret", 10),
        ("destinations.crm.secrets.token", 17),
    ]
    assert [one.remedy.split(",")[0] for one in caught.value.problems] == [
        "set the environment variable CALLBACK_TOKEN",
        "put the secret there",
        "add LoadCredential=crm:/path to the systemd unit",
    ]
    (tmp_path / "api-secret").write_text("from-file\r\n")
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds" / "crm").write_text("from-systemd\n")
    environ = {"CALLBACK_TOKEN": "a-long-enough-token", "CREDENTIALS_DIRECTORY": str(tmp_path / "creds")}
    secrets = resolve_secrets(config, environ)
    assert secrets.callback_tokens == {"main": ("a-long-enough-token",)}
    assert secrets.api == {"main": ("from-file",)}
    assert secrets.destinations == {"crm": {"token": "from-systemd"}}
    assert (secrets.admin_token, secrets.warnings) == (None, ())
    (tmp_path / "api-secret").write_text("\n")
    with pytest.raises(ConfigError, match="the file api-secret is empty"):
        resolve_secrets(config, environ)


def test_weak_tokens_are_warned_about(tmp_path: Path) -> None:
    tokens = 'callback_token = [{ env = "A" }, { env = "B" }, { env = "C" }]'
    text = GOOD.replace('callback_token = { env = "CALLBACK_TOKEN" }', tokens)
    environ = {"A": "short", "B": "a-long-enough-token", "C": "a-long-enough-token", "crm": "x"}
    config = load_config(write(tmp_path, text.replace('{ file = "api-secret" }', '{ env = "crm" }')), {})
    (tmp_path / "crm").write_text("x")
    secrets = resolve_secrets(config, environ | {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert [(one.key, one.message) for one in secrets.warnings] == [
        ("sources.main.callback_token.2", "is the same secret as sources.main.callback_token.1"),
    ]
    assert [(one.key, one.message) for one in secrets.short_tokens] == [
        (f"sources.main.callback_token.{place}", "is shorter than 22 characters") for place in range(3)
    ]
    with pytest.raises(ConfigError, match="cannot stand in a URL") as caught:
        resolve_secrets(config, environ | {"CREDENTIALS_DIRECTORY": str(tmp_path), "A": f"{CANARY}/"})
    assert CANARY not in str(caught.value)


def test_plain_secrets_are_warned_about_and_never_shown(tmp_path: Path) -> None:
    text = GOOD.replace('{ env = "CALLBACK_TOKEN" }', f'["{CANARY}"]').replace(
        '{ credential = "crm" }', f'"{CANARY}"'
    )
    config = load_config(write(tmp_path, text), {"CALLBRIDGE_ADMIN__TOKEN": CANARY})
    assert [(one.key, one.line) for one in secrets_in_clear(config)] == [
        ("sources.main.callback_token.0", 5),
        ("destinations.crm.secrets.token", 17),
    ]
    (tmp_path / "api-secret").write_text(CANARY)
    secrets = resolve_secrets(config, {})
    assert secrets.admin_token == CANARY
    told = [repr(config), str(config), config.model_dump_json(), str(secrets_in_clear(config)), repr(secrets)]
    assert not [one for one in told if CANARY in one]


def leaves(node: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from leaves(value, (*at, key))


EXAMPLE_PATHS = sorted(leaves(load_toml(TOP / "config.example.toml").data), key=str)


@pytest.mark.parametrize(
    "wrong", [CANARY, f'["{CANARY}", 1]', f'{{"env": "{CANARY}"}}', f'{{"file": ["{CANARY}"]}}']
)
@pytest.mark.parametrize("path", [path for path in EXAMPLE_PATHS if len(path) > 1], ids=str)
def test_no_error_shows_a_value(tmp_path: Path, path: tuple[str | int, ...], wrong: str) -> None:
    """A secret pasted into any key at all: loading may refuse it, and never repeats it."""
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "sandbox.toml").touch()
    (tmp_path / "config.toml").write_text((TOP / "config.example.toml").read_text("utf-8"), "utf-8")
    variable = "CALLBRIDGE_" + "__".join(map(str, path)).upper()
    try:
        config = load_config(tmp_path / "config.toml", {variable: wrong})
        resolve_secrets(config, {})
    except ConfigError as error:
        told = "".join(traceback.format_exception(error)) + repr(error.problems)
        shown = [line for line in told.splitlines() if CANARY in line]
        # The two names of things elsewhere that have to be told, to be found.
        assert not shown or path[-1] in {"mapping", "connector", "sources", 0}


@pytest.fixture
def example(tmp_path: Path) -> Config:
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "sandbox.toml").touch()
    (tmp_path / "config.toml").write_text((TOP / "config.example.toml").read_text("utf-8"), "utf-8")
    return load_config(tmp_path / "config.toml", {})


def test_example_file_loads(example: Config) -> None:
    environ = {"CALLBRIDGE_ADMIN_TOKEN": "a" * 22, "CALLBACK_TOKEN": "b" * 22, "PLATFORM_SECRET": "c"}
    assert resolve_secrets(example, environ | {"CRM_TOKEN": "d"}).warnings == ()
    assert secrets_in_clear(example) == ()


def models(config: Config) -> list[tuple[str, BaseModel]]:
    source = config.sources["main"]
    return [
        ("server", config.server),
        ("admin", config.admin),
        ("ledger", config.ledger),
        ("sources.main", source),
        ("sources.main.api", source.api[0]),
        ("sources.main.api.names", source.api[0].names),
        ("sources.main.reconcile", source.reconcile),
        ("destinations.crm", config.destinations["crm"]),
        ("delivery", config.delivery),
        ("log", config.log),
    ]


# What an example must fill in, although it could be left out.
EXAMPLES = {"admin.token", "sources.main.api", "destinations.crm.base_url"}
EXAMPLES |= {"destinations.crm.sources", "destinations.crm.secrets"}


def test_example_file_shows_every_key_with_its_default(example: Config) -> None:
    text = (TOP / "config.example.toml").read_text("utf-8")
    sections = {block.split("]")[0].strip("["): block for block in text.replace("\n[", "\0[").split("\0")}
    for section, model in models(example):
        for name, field in type(model).model_fields.items():
            key = f"{section}.{name}"
            lines = sections[section].splitlines()
            own = [line.removeprefix("# ").startswith(f"{name} = ") for line in lines]
            assert any(own) or key in sections, key
            if any(own):
                assert lines[own.index(True) - 1].startswith("# "), f"{key} lacks a comment"
            assert field.description, key
            if not field.is_required() and key not in EXAMPLES:
                assert getattr(model, name) == field.get_default(), key


def test_every_section_of_the_models_is_visited(example: Config) -> None:
    walked = {type(model).__name__ for _, model in models(example)} | {"AckSettings", "RetentionSettings"}
    assert set(Config.model_json_schema()["$defs"]) == walked
    assert json.dumps(Config.model_json_schema(mode="serialization"))


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("10s", timedelta(seconds=10)),
        ("3h", timedelta(hours=3)),
        ("35d", timedelta(days=35)),
        ("1h30m", timedelta(minutes=90)),
        ("0s", timedelta()),
        (2.5, timedelta(seconds=2.5)),
        ("90", timedelta(seconds=90)),
    ],
)
def test_durations_are_read(text: object, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert parse_duration(show_duration(duration)) == duration


@pytest.mark.parametrize(
    "wrong", ["", "h", "-1s", "1 h", "1y", "9" * 30 + "d", True, -1, float("nan"), float("inf"), None]
)
def test_wrong_durations_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(wrong)


def test_sizes_are_read() -> None:
    assert [parse_size(one) for one in ("2MiB", "512KiB", "1GB", "7", 7, "3 kb")] == [
        2 * 2**20,
        512 * 2**10,
        10**9,
        7,
        7,
        3000,
    ]
    for wrong in ("", "0", 0, -1, True, 1.5, "2 megs", "9" * 5000, None):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(wrong)


@pytest.mark.parametrize("good", ["127.0.0.1:8480", "[::1]:0", "localhost:65535", "0.0.0.0:80", "[::]:443"])
def test_addresses_are_read(good: str) -> None:
    address = Address.parse(good)
    assert str(address) == good
    assert address.loopback is (address.host in {"127.0.0.1", "::1", "localhost"})


@pytest.mark.parametrize(
    "wrong",
    ["", ":8480", "8480", "::1:8480", "[::1]", "1.2.3:4", "a b:1", "x:65536", "[x]:1", "[127.0.0.1]:1", 8480],
)
def test_wrong_addresses_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Address.parse(wrong)


def test_start_at_is_in_the_sources_zone() -> None:
    def start(value: Any) -> datetime | None:
        return SourceSettings.model_validate({"callback_token": "x" * 16, "start_at": value}).start

    midnight = datetime(2026, 11, 21, 16, tzinfo=UTC)
    assert start(None) is None
    assert start(date(2026, 11, 22)) == start("2026-11-22") == start("2026-11-22T00:00:00") == midnight
    assert start("2026-11-22T00:00:00+00:00") == datetime(2026, 11, 22, tzinfo=UTC)
    with pytest.raises(ValueError, match="is no date or time"):
        start("tomorrow")
