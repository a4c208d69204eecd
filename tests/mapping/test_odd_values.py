"""Odd values of real records, laid over the platform's example: what a mapping is told of them."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.config.destination_files import load_pair
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.lengths import LengthUnit, length_of
from bridge.model.calls import Verdict, Via
from bridge.model.plan import Plan
from bridge.record.arrival import arrival_of
from bridge.record.verdict import first, read_incoming, rule
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.delivery_bench import SECRET, DeliveryBench
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.odd_records import DATA, _read, call, odd
from tests.fixtures.origins import MAIN

ZONE = ZoneInfo("Asia/Shanghai")
TOP = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "phone", "e164", "kind"),
    [
        ("float_phone", "13800138000", "+8613800138000", "mobile"),
        ("letters_phone", "13800138OOO", None, "other"),
        ("hk_phone", "85291234567", "+85291234567", "mobile"),
        ("name_behind_phone", "13800138000 张三", "+8613800138000", "mobile"),
    ],
)
def test_odd_phones_become_e164_or_nothing(name: str, phone: str, e164: str | None, kind: str) -> None:
    known = call(odd(name))
    assert (known.phone, known.phone_e164, known.phone_kind) == (phone, e164, kind)


def test_call_without_a_time_was_not_answered() -> None:
    known = call(odd("no_time_1970"))
    assert (known.connected_at, known.disconnected_at, known.answered) == (None, None, False)
    assert (known.talk_seconds, known.ring_seconds, known.dialogue) == (0, None, ())


def test_chinese_timestamps_are_read() -> None:
    record = odd("unreadable_stamps")
    known = call(record)
    assert known.updated_at == datetime(2025, 4, 14, 3, 0, tzinfo=UTC)
    assert known.created_at == datetime(2025, 4, 14, 2, 20, 50, tzinfo=UTC)
    received = datetime(2025, 4, 14, 3, 5, tzinfo=UTC)
    said = read_incoming(record, Via.CALLBACK, MAIN, received)
    assert (said.stamp, said.flags) == (int(known.updated_at.timestamp()), ())
    older = read_incoming(
        odd("unreadable_stamps", updated_at="2025-04-14 10:59:59", name="B"), Via.CALLBACK, MAIN, received
    )
    assert rule(first(said, MAIN).known, older, frozenset(), MAIN).verdict is Verdict.STALE


def test_unreadable_values_show_in_the_calls_history(tmp_path: Path) -> None:
    received = datetime(2025, 4, 14, 3, 5, tzinfo=UTC)
    records: list[dict[str, Any]] = [
        odd("unreadable_stamps", name="newest"),
        odd(
            "unreadable_stamps",
            name="undatable",
            updated_at="04/14/2025 11:00:01",
            started_at="2099-01-01 00:00:00",
        ),
        odd(
            "unreadable_stamps", name="B", updated_at="2025-04-14 24:00:00", created_at="soon", talk_info="x"
        ),
        odd("unreadable_stamps", name="older", updated_at="2025-04-14 10:59:59"),
    ]
    ledger = SqliteLedger(tmp_path / "ledger.db", create=True)
    judge = Judge(ledger, {"main": SourceRules(MAIN)}, destinations_since={})
    for record in records:
        body = json.dumps(record).encode()
        (filed,) = filed_all(ledger, [arrival_of(MAIN, Via.CALLBACK, body, received)])
        assert judge.judge_waiting(received) == 1
    assert filed.call_id is not None
    history = ledger.show_call(filed.call_id)
    ledger.close()
    assert [(one.verdict, one.flags) for one in history.receipts] == [
        ("new", None),
        ("stale", "unreadable:updated_at started_ahead"),
        ("revision", "unreadable:created_at unreadable:talk_info"),
        ("stale", None),
    ]


@pytest.mark.parametrize(
    ("talk_info", "flags"),
    [
        ("no mark at all", "unreadable:talk_info"),
        ('[{"caption": "cut sh', "unreadable:talk_info"),
        ({"unheard": "x"}, "unreadable:talk_info"),
        (_read(DATA / "odd" / "talk_info_string.json")["talk_info"], None),
        (_read(DATA / "odd" / "talk_info_object.json")["talk_info"], None),
    ],
)
def test_partly_unreadable_dialogue_is_flagged_at_once(
    tmp_path: Path, talk_info: Any, flags: str | None
) -> None:
    received = datetime(2025, 4, 14, 3, 5, tzinfo=UTC)
    ledger = SqliteLedger(tmp_path / "ledger.db", create=True)
    body = json.dumps(odd("talk_info_string", talk_info=talk_info)).encode()
    (filed,) = filed_all(ledger, [arrival_of(MAIN, Via.CALLBACK, body, received)])
    Judge(ledger, {"main": SourceRules(MAIN)}, destinations_since={}).judge_waiting(received)
    assert filed.call_id is not None
    (receipt,) = ledger.show_call(filed.call_id).receipts
    ledger.close()
    assert (receipt.verdict, receipt.flags) == ("new", flags)


def _plan(mapping: Path, connector: Path, record: dict[str, Any]) -> Plan:
    pair = load_pair(mapping, connector)
    assert pair.mapping is not None, pair.problems
    plan = pair.mapping.plan(call(record))
    assert isinstance(plan, Plan)
    return plan


def _fields(plan: Plan) -> dict[str, Any]:
    return {name: one.value for planned in plan.objects for name, one in planned.fields.items()}


@pytest.mark.parametrize(("unit", "kept"), [("characters", 249), ("utf16", 124), ("bytes", 60)])
def test_emoji_in_a_subject_are_counted_like_the_crm_does(
    tmp_path: Path, unit: LengthUnit, kept: int
) -> None:
    connector = (TOP / "bridge/crm/connectors/salesforce.toml").read_text("utf-8")
    assert 'length_unit = "utf16"' in connector
    (tmp_path / "crm.toml").write_text(connector.replace('"utf16"', f'"{unit}"'), "utf-8")
    plan = _plan(TOP / "mappings/salesforce.toml", tmp_path / "crm.toml", odd("emoji_subject"))
    subject = _fields(plan)["Subject"]
    assert subject == "AI外呼 " + "😀" * kept + "…"
    assert 255 - length_of("😀", unit) < length_of(subject, unit) <= 255


def test_control_characters_are_kept_in_the_ledger() -> None:
    record = odd("nul_name")
    plan = _plan(TOP / "mappings/sandbox.toml", TOP / "bridge/crm/connectors/sandbox.toml", record)
    assert _fields(plan)["name"] == "王小明"
    assert call(record).record["name"] == "王\0小\7明"


LINES = "[10:00:01] 机器人: 您好,请问需要贷款吗\n[10:00:05] 客户: 有需求\n"
LINES += "[10:00:08] 机器人: 我们是专业的\n[10:00:12] 客户: 好的"
REACHED: list[tuple[str, str | None, dict[str, Any]]] = [
    ("float_phone", "+8613800138000", {"phone": "+8613800138000"}),
    ("hk_phone", "+85291234567", {"phone": "+85291234567"}),
    ("letters_phone", None, {}),
    ("name_behind_phone", "+8613800138000", {}),
    (
        "no_time_1970",
        "+8615899770637",
        {"talk_seconds": 0, "answered": False, "started_at": "2025-04-14T02:19:13Z"},
    ),
    ("unreadable_stamps", "+8615899770637", {"connected_at": "2025-04-14T02:19:21Z"}),
    ("talk_info_object", "+8615899770637", {"transcript": "机器人: 您好\n客户: 可以"}),
    ("talk_info_string", "+8615899770637", {"transcript": LINES}),
    ("emoji_subject", "+8615899770637", {"task": "😀" * 300}),
]


def test_odd_values_reach_a_crm_cleaned(tmp_path: Path) -> None:
    crm = SandboxCrm(SECRET)
    with LocalServer(crm.app) as server, closing(DeliveryBench(tmp_path, server.url)) as bench:
        for number, (case, _, _) in enumerate(REACHED):
            name = f"{number:08x}-18d6-11f0-88c8-2f2b0aba51d7"
            bench.feed(**odd(case, uuid=name, base_info=f"{name}out"))
            assert bench.worker.deliver_one(bench.now)
        bench.feed(**odd("nul_name"))
        assert bench.worker.deliver_one(bench.now)
    held = crm.contents()
    calls = {each["call_key"][:8]: each for each in held["calls"]}
    for number, (case, phone, expected) in enumerate(REACHED):
        sent = calls[f"{number:08x}"]
        assert sent.get("phone") == phone, case
        assert {name: sent.get(name) for name in expected} == expected, case
    assert calls["00000004"].get("connected_at") is None
    assert {each["phone"] for each in held["contacts"]} == {one[1] for one in REACHED if one[1]}
    assert [each["name"] for each in held["contacts"] if each.get("name")] == ["王小明"]
