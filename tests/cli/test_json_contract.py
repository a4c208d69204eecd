"""What every command prints with `--json`, key by key: a change of code must not change it unseen."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from bridge.cli import cli
from bridge.model.calls import Quarantined, Verdict, Via
from bridge.model.crm_alterations import WORDS
from bridge.model.deliveries import DeliveryState
from bridge.model.write_policy import WritePolicy
from bridge.sandbox.platform import ACCESS_ID, ACCESS_SECRET
from bridge.sandbox.records import PLATFORM_ZONE
from tests.fixtures.delivery_simulation import DATA
from tests.fixtures.json_documents import ALTERED, DOCUMENTS, POLICIES, REASONS, STATES, VERDICTS, VIA
from tests.fixtures.json_shapes import Empty, Maybe, Named, OneOf, differences
from tests.fixtures.ledger_calls import filed, stray
from tests.fixtures.scripted_crm import ScriptedCrmBench, scripted_crm_bench
from tests.fixtures.served_platform import made, served_platform

EXAMPLE = Path(__file__).parents[1] / "data" / "callback.json"
SANDBOX_MAPPING = Path(__file__).parents[2] / "mappings" / "sandbox.toml"
CONFIG = """
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[ledger]
url = "sqlite:///ledger.db"
[sources.main]
callback_token = {{ env = "TOKEN" }}
[sources.main.api]
base_url = "{platform}"
access_id = "{access_id}"
access_secret = {{ env = "PLATFORM_SECRET" }}
[sources.main.reconcile]
settle = "0s"
[destinations.crm]
mapping = "mapping.toml"
connector = "connector.toml"
base_url = "http://127.0.0.1:9"
account = "crm account"
secrets = {{ token = {{ env = "CRM_TOKEN" }} }}
"""
SECRETS = {"TOKEN": "callback-token-of-the-tests", "CRM_TOKEN": "t", "PLATFORM_SECRET": ACCESS_SECRET}
LIMITS = '\n[limits.default]\nrate = "1000/s"\ndaily = 100000\n'
# The mapping was changed since: a code that its table lacks, a field that no call fills, a case that fails.
CHANGED = """
[objects.contact.fields.source]
value = "calls"

[objects.contact.fields.interest]
value = "{{ call.grade }}"
map = { B = "warm" }
unknown = "omit"

[[tests]]
name = "a case"
fields = { uuid = "00000001-18d6-11f0-88c8-2f2b0aba51d7", phone = "15899770637" }
expect.contact.phone = "+8613800000000"
"""


def connector() -> str:
    """The plain CRM's connector, without a way to look a call up: what is in doubt there is parked."""
    text = (DATA / "connector.toml").read_text("utf-8")
    for section in ("find", "update", "read"):
        text = re.sub(rf"\[objects\.call\.{section}\]\n(?:(?!\[).*\n)*", "", text)
    return text + LIMITS


def fill_ledger(world: ScriptedCrmBench, now: datetime) -> None:
    """Deliveries of every outcome, quarantine, an account that is paused."""
    world.clock.now = now - timedelta(hours=1)
    began = now - timedelta(hours=3)

    def platform_time(moment: datetime) -> str:
        return f"{moment.astimezone(PLATFORM_ZONE):%Y-%m-%d %H:%M:%S}"

    def call(number: int, answer: Callable[[httpx.Request], Any] = lambda _: None, **more: Any) -> None:
        times = dict.fromkeys(("created_at", "started_at", "updated_at"), platform_time(began))
        world.answer = lambda request: (
            httpx.Response(200, json={"access_token": "t"})
            if request.url.path == "/token"
            else answer(request)
        )
        world.feed(number, f"1589977063{number}", **{**times, **more})
        world.deliver()

    def silent_on_calls(request: httpx.Request) -> None:
        if request.url.path == "/calls":
            raise httpx.ReadTimeout("silence", request=request)

    refused = {"error": {"code": "invalid", "message": "no such grade", "field": "grade"}}
    call(1)
    call(2, call_from_type=3)
    call(3, lambda _: httpx.Response(422, json=refused))
    call(4, silent_on_calls)
    call(5, lambda _: httpx.Response(503))
    call(6, lambda _: httpx.Response(401))
    call(7, started_at=platform_time(now + timedelta(days=5)))
    world.ledger.save_budget("crm account", world.budget.state(), world.clock())
    filed(world.ledger, stray(Quarantined.UNIDENTIFIED, b'{"phone": "1"}', at=now))
    filed(world.ledger, stray(Quarantined.NOT_AN_OBJECT, b"garbage", at=now))


def add_rows(ledger: Path, now: datetime) -> None:
    """What only a damaged file or a CRM of its own mind brings about, as the ledger keeps it."""
    micros = int(now.timestamp() * 1_000_000)
    later = int((now + timedelta(days=9)).timestamp() * 1_000_000)
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute(
            "INSERT INTO losses (found_at, since_at, until_at, receipts, quarantine) VALUES (?, ?, ?, 2, 1)",
            (micros, micros, later),
        )
        connection.execute(
            "INSERT INTO counters (kind, part, state, cause, count, since_at)"
            " VALUES ('altered', 'crm', 'contact.remark', 'shortened', 3, ?)",
            (micros,),
        )
        connection.commit()


@dataclass(frozen=True)
class Desk:
    """A folder with a configuration and a ledger, and whoever sits before it."""

    folder: Path

    def says(self, *words: str, code: int = 0) -> Any:
        """The one document that a command prints."""
        config = ["-c", str(self.folder / "config.toml")]
        with capture_logs():  # A command's log goes to stderr; here it would stand in the document's way.
            done = CliRunner(env=os.environ | SECRETS).invoke(cli, [*words, *config, "--json"])
        assert done.exit_code == code, done.output or done.exception
        return json.loads(done.stdout)

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose ledger holds something of everything, reconciled with a platform that answers on."""
    folder, now = tmp_path_factory.mktemp("template"), datetime.now(UTC)
    with scripted_crm_bench(folder, connector()) as world:
        fill_ledger(world, now)
    add_rows(folder / "ledger.db", now)
    (folder / "connector.toml").write_text(connector(), "utf-8")
    (folder / "mapping.toml").write_text((DATA / "mapping.toml").read_text("utf-8") + CHANGED, "utf-8")
    with served_platform(made(3, before=now - timedelta(hours=1))) as platform:
        platform.clock.now = now
        config = CONFIG.format(platform=platform.url, access_id=ACCESS_ID)
        (folder / "config.toml").write_text(config, "utf-8")
        document = Desk(folder).says("reconcile", "--since", "1d")
        (folder / "reconciled.json").write_text(json.dumps(document), "utf-8")
        yield folder


@pytest.fixture
def desk(template: Path, tmp_path: Path) -> Desk:
    """A copy of its own for each test."""
    shutil.copytree(template, tmp_path / "desk")
    return Desk(tmp_path / "desk")


COMMANDS: Mapping[str, tuple[tuple[str, ...], int]] = {
    # The document → the words after `callbridge`, and the exit code.
    "status": (("status",), 1),
    "audit": (("audit",), 0),
    "audit --local": (("audit", "--local"), 1),
    "check --online": (("check", "--online"), 3),
    "calls list": (("calls", "list"), 0),
    "calls show": (("calls", "show", "00000001"), 0),
    "deliveries list": (("deliveries", "list"), 0),
    "deliveries retry": (("deliveries", "retry", "--all"), 0),
    "deliveries retry --dry-run": (("deliveries", "retry", "--all", "--dry-run"), 0),
    "deliveries park": (("deliveries", "park", "5"), 0),
    "deliveries skip": (("deliveries", "skip", "5"), 0),
    "replay": (("replay", "--since", "2d"), 0),
    "map plan": (("map", "plan"), 0),
    "map test": (("map", "test"), 1),
    "map preview": (("map", "preview", "{folder}/mapping.toml", "00000001"), 0),
    "quarantine list": (("quarantine", "list"), 0),
    "quarantine show": (("quarantine", "show", "1"), 0),
    "quarantine retry": (("quarantine", "retry", "--all"), 0),
    "quarantine drop": (("quarantine", "drop", "1"), 0),
    "prune": (("prune",), 0),
    "backup": (("backup", "{folder}/copy.db"), 0),
}


@pytest.mark.parametrize("document", COMMANDS)
def test_document_has_exactly_these_keys(desk: Desk, document: str) -> None:
    words, code = COMMANDS[document]
    said = desk.says(*(word.format(folder=desk.folder) for word in words), code=code)
    assert differences(DOCUMENTS[document], said) == []


def test_reconciliation_document_has_exactly_these_keys(desk: Desk) -> None:
    said = json.loads((desk.folder / "reconciled.json").read_text("utf-8"))
    assert differences(DOCUMENTS["reconcile"], said) == []


def test_configuration_problem_has_exactly_these_keys(desk: Desk) -> None:
    (desk.folder / "mapping.toml").write_text('connector = "nowhere"\n[objects.x]\nkye = 1\n', "utf-8")
    assert differences(DOCUMENTS["check"], desk.says("check", code=2)) == []


def test_previewed_upsert_has_exactly_these_keys(desk: Desk) -> None:
    said = desk.says("map", "preview", str(SANDBOX_MAPPING), str(EXAMPLE))
    assert differences(DOCUMENTS["map preview"] | {"token": Empty([])}, said) == []


def test_document_of_init_has_exactly_these_keys(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["init", str(tmp_path / "new"), "--json"])
    assert done.exit_code == 0
    assert differences(DOCUMENTS["init"], json.loads(done.stdout)) == []


# Commands without a document of their own, or whose document another test looks at.
ELSEWHERE = {
    "run": "it prints its log",
    "schema": "it prints a JSON Schema",
    "demo": "tests/sandbox/test_demo.py",
    "simulate crm": "as simulate platform",
    "simulate platform": "tests/cli/test_simulate.py",
    "check": "above",
    "init": "above",
    "reconcile": "above",
}


def test_every_command_has_its_document() -> None:
    def commands(group: click.Group, path: str = "") -> Iterator[str]:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from commands(command, f"{path}{name} ")
            else:
                yield f"{path}{name}"

    assert set(commands(cli)) - COMMANDS.keys() == ELSEWHERE.keys()


@pytest.mark.parametrize(
    ("promised", "there"),
    [
        (STATES, DeliveryState),
        (REASONS, Quarantined),
        (VIA, Via),
        (VERDICTS, Verdict),
        (POLICIES, WritePolicy),
        (ALTERED, WORDS.values()),
    ],
)
def test_every_word_that_a_key_may_hold_is_promised(promised: OneOf, there: Iterable[str]) -> None:
    assert set(promised) == set(there)


@pytest.mark.parametrize(
    ("shape", "value", "wrong"),
    [
        (int, 1, []),
        (int, True, ["$ is True, no <class 'int'>"]),
        (float, 1, []),
        (str | None, None, []),
        (int | None, "1", ["$ is '1', no int | None"]),
        ({"a": int}, {"a": 1}, []),
        ({"a": int}, {"b": 1}, ["$.a is missing", "$.b is new"]),
        ({"a": {"b": int}}, {"a": {"b": None}}, ["$.a.b is None, no <class 'int'>"]),
        ([int], [], ["$ is no array with at least one item: []"]),
        ([int], [1, "2"], ["$[1] is '2', no <class 'int'>"]),
        (Empty([int]), [], []),
        (Empty([int]), ["1"], ["$[0] is '1', no <class 'int'>"]),
        (Named(int), {}, ["$ is no object with at least one key: {}"]),
        (Named(int, ("a",)), {"b": 1}, ["$ has the key b, which is none of a"]),
        (Maybe({"a": int}), None, []),
        (OneOf("a", "b"), "c", ["$ is 'c', none of a, b"]),
    ],
)
def test_shape_comparison_finds_every_difference(shape: Any, value: Any, wrong: list[str]) -> None:
    assert differences(shape, value) == wrong
