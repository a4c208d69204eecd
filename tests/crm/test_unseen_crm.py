"""A CRM that nobody has seen, connected with one connector and one mapping written from the docs alone.

Both files were written by someone who read `docs/connectors.md`, `docs/mapping.md` and the vendor's API page
(the docstring of `tests/servers/unseen.py`), and nothing else.
"""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crm.conformance.bench import OTHER_PHONE, PHONE, ConformanceBench, ConnectorCase, bench_of, uuid_of
from tests.crm.conformance.suite import Conformance
from tests.fixtures.daemon_process import EXAMPLE, DaemonProcess, callbridge, callbridge_json, wait_until
from tests.servers.unseen import UnseenCrm

pytestmark = pytest.mark.long

FILES = Path(__file__).parents[1] / "data/unseen"
CONNECTOR, MAPPING = FILES / "connector.toml", FILES / "mapping.toml"


class UnseenCase(ConnectorCase):
    """The same, with a mapping that is not shipped."""

    @property
    def mapping_path(self) -> Path:
        return MAPPING


CASE = UnseenCase(
    connector="ruiyun",
    server=lambda clock: UnseenCrm(clock=clock),
    own=CONNECTOR,
    name="name",
    phone="mobile",
    note="summary",
    key="callNo",
    contact_path="/api/customer/",
    forms=(PHONE,),
    required={"name": "王"},
    # Its refusal of a second one names no id, so that the index must have caught up.
    unique=False,
    changes={
        "objects.call.fields.summary": "{{ call.remark }}",
        # So that only the call changes where the suite changes the remark or sends a second call.
        "objects.contact.fields.remark": None,
        "objects.contact.fields.lastCallTime": None,
        "objects.contact.fields.callCount": None,
    },
)


class TestUnseen(Conformance):
    case = CASE


def unseen(one: ConformanceBench) -> UnseenCrm:
    assert isinstance(one.server, UnseenCrm)
    return one.server


def test_values_are_written_in_the_crms_formats(tmp_path: Path) -> None:
    case = UnseenCase(**{**CASE.__dict__, "changes": {}})
    with bench_of(tmp_path, case) as one:
        one.send(name="王芳", mark="有意向", summary="短")
        (customer,), (call,) = one.server.contacts(), one.server.calls()
        assert customer == {
            "id": customer["id"],
            "mobile": PHONE,
            "name": "王芳",
            "grade": "WARM",
            "tags": customer["tags"],
            "remark": "有意向",
            "lastCallTime": "2025-04-14 10:20:13",
            "callCount": 1,
        }
        assert len(customer["tags"]) == 6
        assert call["contact_ids"] == [customer["id"]]
        assert (call["startTime"], call["seconds"], call["direction"], call["result"]) == (
            "2025-04-14 10:20:13",
            88,
            "OUT",
            "ANSWERED",
        )
        assert call["dialogue"].endswith("[10:20:17] 机器人: 转人工")
        # What a person wrote stays, what counts upwards stays upwards.
        one.server.edit("contact", customer["id"], remark="手写", callCount=7)
        one.send(2, name="王芳", mark="别的", call_count=3)
        assert (one.contact()["remark"], one.contact()["callCount"]) == ("手写", 7)


def test_too_long_texts_are_visibly_truncated(tmp_path: Path) -> None:
    case = UnseenCase(**{**CASE.__dict__, "changes": {}})
    with bench_of(tmp_path, case) as one:
        one.send(name="王" * 99, mark="长" * 999, summary="话" * 999, unit="公" * 200)
        (customer,), (call,) = one.server.contacts(), one.server.calls()
        lengths = [len(customer[name]) for name in ("name", "remark", "company")]
        assert (lengths, len(call["summary"])) == ([50, 500, 100], 200)
        assert {text[-1] for text in (customer["name"], customer["remark"], call["summary"])} == {"…"}


def test_busy_answer_after_a_commit_creates_no_duplicate(tmp_path: Path) -> None:
    with bench_of(tmp_path, CASE) as one:
        for number in range(1, 4):
            unseen(one).busy_after_commit(number)
            one.feed(number, phone=OTHER_PHONE if number == 2 else PHONE, mark=f"第{number}")
            one.drain()
        assert [one.state(number) for number in (1, 2, 3)] == ["delivered"] * 3
        assert len(one.server.contacts()) == 2
        assert [call["summary"] for call in one.server.calls()] == ["第1", "第2", "第3"]


def test_refusal_names_field_and_remedy(tmp_path: Path) -> None:
    with bench_of(tmp_path, CASE, {"objects.call.fields.result": "MAYBE"}) as one:
        one.feed()
        one.drain()
        assert one.state() == "parked"
        assert one.reason() == (
            "destination crm, object call, create: POST /api/call/create answered 200:"
            " 3002: field result: unknown value MAYBE."
            " Correct this field in the mapping: Ruiyun's API page lists lengths and values"
        )


def test_dripping_answer_is_waited_for(tmp_path: Path) -> None:
    with bench_of(tmp_path, CASE) as one:
        one.server.drip_next(2, pause=0)
        one.feed()
        one.drain()
        one.settled()


def test_duplicate_without_an_id_is_found_after_the_index_lag(tmp_path: Path) -> None:
    with bench_of(tmp_path, CASE) as one:
        one.server.index_lag = 5
        there = one.server.create("contact", {"mobile": PHONE, "name": "另一个程序写的"}).id
        one.feed(name="王芳")
        one.attempt()
        assert one.state() == "due"
        assert "2001" in one.reason()
        assert 5 <= one.wait() <= 60
        one.drain()
        assert one.call()["contact_ids"] == [there]
        assert one.contact()["name"] == "另一个程序写的"


@pytest.mark.parametrize("seed", range(3))
def test_every_call_is_there_once_after_a_bad_day(tmp_path: Path, seed: int) -> None:
    """Eight calls of three customers, revised and pushed again, while all goes wrong at once."""
    rng = random.Random(seed)  # noqa: S311 -- a bad day, not a secret
    with bench_of(tmp_path, CASE) as one:
        server = unseen(one)
        server.index_lag = 5
        phones = {number: f"1380013800{number % 3}" for number in range(1, 9)}
        said: dict[int, str] = {}
        faults: list[Any] = [
            lambda: server.expire_token(rng.randrange(4)),
            lambda: server.limit_next(2, wait=rng.randrange(1, 60), after=rng.randrange(5)),
            lambda: server.fail_next(2, after=rng.randrange(5)),
            lambda: server.busy_after_commit(2),
            lambda: server.lose_next_answer(2, after=rng.randrange(5)),
            lambda: server.cut_next(after=rng.randrange(5)),
            server.quota_next,
        ]
        for _ in range(25):
            number = rng.randrange(1, 9)
            said[number] = f"第{number}通 {rng.randrange(100)}"
            rng.choice(faults)()
            one.feed(number, phone=phones[number], mark=said[number])
            one.attempt()
            one.clock.pass_by(rng.randrange(20))
        server.heal()
        one.clock.pass_by(2 * 86400)
        one.drain()
        states = {number: (one.state(number), one.reason(number)) for number in said}
        assert {state for state, _ in states.values()} == {"delivered"}, states
        calls = Counter(call["callNo"] for call in server.calls())
        assert calls == Counter(uuid_of(number) for number in said)
        mobiles = Counter(each["mobile"] for each in server.contacts())
        assert mobiles == Counter({phones[number] for number in said})
        for number, text in said.items():
            call = one.call(number)
            (customer,) = [each for each in server.contacts() if each["id"] in call["contact_ids"]]
            assert (call["summary"], customer["mobile"]) == (text, phones[number])


# As an operator would run it


def configured(folder: Path, server: UnseenCrm) -> Path:
    path = folder / "config.toml"
    path.write_text(
        f"""
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[ledger]
url = "sqlite:///ledger.db"
[sources.main]
callback_token = {{ env = "TOKEN" }}
[destinations.ruiyun]
mapping = "{MAPPING}"
connector = "{CONNECTOR}"
base_url = "{server.url}"
[destinations.ruiyun.secrets]
app_key = {{ file = "key" }}
app_secret = {{ file = "secret" }}
[delivery]
first_retry = "100ms"
longest_retry = "1s"
""",
        "utf-8",
    )
    for name, secret in (("key", "app_key"), ("secret", "app_secret")):
        (folder / name).write_text(server.secrets[secret], "utf-8")
        (folder / name).chmod(0o600)
    return path


def test_check_and_map_test_pass(tmp_path: Path) -> None:
    with UnseenCrm() as server:
        configured(tmp_path, server)
        assert callbridge("check", "--online", cwd=tmp_path).returncode == 0
        assert callbridge("map", "test", str(MAPPING), cwd=tmp_path).returncode == 0
        assert {entry.path for entry in server.log()} == {"/api/auth", "/api/customer/query"}


def test_daemon_delivers_every_call_through_all_faults(tmp_path: Path) -> None:
    record = json.loads(EXAMPLE.read_text("utf-8"))
    with UnseenCrm() as server:
        server.refuse_value("seconds", 77)
        server.expire_token(after=3)
        server.limit_next(2, wait=0.2, after=8)
        server.fail_next(after=14)
        server.lose_next_answer(after=4)
        server.cut_next(after=20)
        server.busy_after_commit()
        daemon = DaemonProcess(configured(tmp_path, server))
        try:
            for number in range(1, 11):
                uuid = uuid_of(number)
                body = {"id": number, "sn": f"account|{number}", "uuid": uuid, "base_info": f"{uuid}out"}
                body |= {"phone": f"1380013800{number % 4}", "talktimes": 77 if number == 7 else number}
                answer = httpx.post(daemon.callback_url, json=record | body)
                assert (answer.status_code, answer.text) == (200, "SUCCESS")
            settled = "SELECT count(*) FROM deliveries WHERE state IN ('delivered', 'parked')"
            wait_until(lambda: daemon.count(settled) == 10, "10 calls are delivered or parked", within=90)
            (parked,) = callbridge_json("deliveries", "list", "--state", "parked", cwd=tmp_path)["deliveries"]
        finally:
            daemon.stop()
        assert parked["key"] == uuid_of(7)
        assert "3004: field seconds: not acceptable. Correct this field in the mapping" in parked["reason"]
        calls = server.calls()
        assert sorted(call["callNo"] for call in calls) == [uuid_of(n) for n in range(1, 11) if n != 7]
        assert len({contact["mobile"] for contact in server.contacts()}) == len(server.contacts()) == 4
        mobile = {contact["id"]: contact["mobile"] for contact in server.contacts()}
        assert all([mobile[one] for one in call["contact_ids"]] == [call["mobile"]] for call in calls)
