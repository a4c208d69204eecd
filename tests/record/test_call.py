"""The call that mappings read."""

import json
import time
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.record.call import CALL_FIELDS, Call, transcript
from bridge.source.outcall.fields import FIELD_KINDS
from tests.fixtures.origins import MAIN

ZONE = ZoneInfo("Asia/Shanghai")
EXAMPLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "callback.json").read_text("utf-8")
)


def call(recording_url: str = "", **changes: Any) -> Call:
    record = {name: value for name, value in (EXAMPLE | changes).items() if value is not ...}
    return Call.of(record, "k1", replace(MAIN, recording_url=recording_url))


def test_call_of_the_example_record() -> None:
    example = call()
    expected: dict[str, Any] = {
        "key": "k1",
        "source": "main",
        "uuid": "db57f262-18d6-11f0-88c8-2f2b0aba51d7",
        "phone": "15899770637",
        "phone_e164": "+8615899770637",
        "phone_kind": "mobile",
        "name": None,
        "grade": "B",
        "grade_manual": None,
        "score": 80,
        "connected_at": datetime(2025, 4, 14, 2, 19, 21, tzinfo=UTC),
        "disconnected_at": datetime(2025, 4, 14, 2, 20, 48, tzinfo=UTC),
        "answered": True,
        "talk_seconds": 88,
        "ring_seconds": 8,
        "charged_minutes": 2,
        "direction": "outbound",
        "is_voice_test": False,
        "is_deleted": False,
        "hangup_by": "对方挂机",
        "hangup_node": "15转人工#3",
        "transferred": 1,
        "sex": "male",
        "account": "zzh",
        "task_name": "20250414101849",
        "read": True,
        "dynamic_tags": ("20万",),
        "recording_url": None,
    }
    assert {name: getattr(example, name) for name in expected} == expected
    assert "转人工时间:2025-04-14 10:20:17" in example.tags
    assert len(example.dialogue) == 17
    assert dict(example.record) == EXAMPLE


def test_documented_table_lists_exactly_the_public_attributes() -> None:
    example = call()
    public = {
        name for name in dir(example) if not name.startswith("_") and not callable(getattr(example, name))
    }
    assert set(CALL_FIELDS) == public - {"origin"}, "no expression may ask how a record is read"
    assert all(text.endswith(".") for text in CALL_FIELDS.values())


def test_call_is_read_only_and_its_repr_shows_no_person() -> None:
    example = call()
    for name in ("name", "key", "phone_e164", "news"):
        with pytest.raises(FrozenInstanceError):
            setattr(example, name, "x")
    with pytest.raises(TypeError):
        example.record["phone"] = "1"  # type: ignore[index] # this it must refuse
    assert "15899770637" not in repr(example)


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"status_manual": "A"}, "grade", "A"),
        ({"status_manual": " "}, "grade", "B"),
        ({"status": ""}, "grade", None),
        ({"talktimes": "88"}, "talk_seconds", 88),
        ({"talktimes": None}, "talk_seconds", 87),
        ({"talktimes": 0, "connected_at": ""}, "talk_seconds", 0),
        ({"talktimes": "", "connected_at": "0000-00-00 00:00:00"}, "answered", False),
        ({"talktimes": 5, "connected_at": ...}, "answered", True),
        ({"connected_at": None, "talktimes": ""}, "ring_seconds", 95),
        ({"started_at": ...}, "ring_seconds", None),
        ({"call_from_type": "3"}, "is_voice_test", True),
        ({"call_from_type": 1}, "direction", "inbound"),
        ({"call_from_type": 5}, "direction", "outbound"),
        ({"call_from_type": 5, "base_info": "db57in"}, "direction", "inbound"),
        ({"call_from_type": 5, "base_info": ...}, "direction", None),
        ({"call_from_type": 99}, "from_type", 99),
        ({"is_deleted": "2"}, "is_deleted", True),
        ({"rec_sex": 2}, "sex", "female"),
        ({"rec_sex": "0"}, "sex", None),
        ({"rec_sex": ""}, "sex", None),
        ({"is_transfertoagent": None}, "transferred", 0),
        ({"is_first_connected": "0"}, "first_connected", False),
        ({"is_first_connected": ...}, "first_connected", None),
        ({"phone": 15899770637}, "phone", "15899770637"),
        ({"phone": "158****0637"}, "phone_e164", None),
        ({"phone": "158****0637"}, "phone_kind", "masked"),
        ({"phone": None}, "phone", None),
        ({"id": 2**70}, "id", str(2**70)),
        ({"dial_task_main_sn": ""}, "task", "dial_task_main_sn|1c41217cc6866d22bcb6cfe1aa5f4e47"),
        ({"talk_info": ...}, "dialogue", ()),
        ({"name": "\ud83d"}, "name", "\ud83d"),
    ],
)
def test_derived_values(changes: dict[str, Any], name: str, expected: Any) -> None:
    assert getattr(call(**changes), name) == expected


@pytest.mark.parametrize(
    ("prefix", "file", "expected"),
    [
        ("https://x/rec", "/mnt/a b.wav", "https://x/rec/mnt/a%20b.wav"),
        ("https://x/rec/", "mnt/a.wav", "https://x/rec/mnt/a.wav"),
        ("https://x/play?file=", "/mnt/录.wav", "https://x/play?file=/mnt/%E5%BD%95.wav"),
        ("https://x/rec", "https://y/a.wav", "https://y/a.wav"),
        ("", "https://y/a.wav", "https://y/a.wav"),
        ("", "/mnt/a.wav", None),
        ("https://x/rec", "", None),
    ],
)
def test_recording_url(prefix: str, file: str, expected: str | None) -> None:
    assert call(prefix, recordfile=file).recording_url == expected


def test_transcript() -> None:
    text = transcript(call().dialogue, ZONE)
    lines = text.splitlines()
    assert len(lines) == 17
    assert lines[0] == "[10:19:21] 机器人: 您好,我这边是专业办理银行贷款的,请问您有资金需求吗?"
    assert lines[1] == "[10:19:29] 客户: 可以啊"
    assert "listen" not in text
    assert transcript(call().dialogue, ZoneInfo("UTC"), "R", "C").splitlines()[1] == "[02:19:29] C: 可以啊"
    assert transcript(call(talk_info="一\n二#@f").dialogue, ZONE) == "客户: 一 二"


def test_cheap_attributes_are_cheap() -> None:
    names = (
        "key",
        "phone",
        "phone_e164",
        "name",
        "grade",
        "connected_at",
        "talk_seconds",
        "tags",
        "direction",
        "score",
    )
    best = min(timed(names) for _ in range(200))
    assert best < 60e-6, f"{best * 1e6:.0f} µs"


def timed(names: tuple[str, ...]) -> float:
    begin = time.perf_counter()
    one = Call.of(EXAMPLE, "k", MAIN)
    for name in names:
        getattr(one, name)
    return time.perf_counter() - begin


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(FIELD_KINDS)), json_values, max_size=8))
def test_no_record_crashes_a_call(record: dict[str, Any]) -> None:
    one = Call.of(record, "k", replace(MAIN, recording_url="https://x"))
    for name in CALL_FIELDS:
        getattr(one, name)
    transcript(one.dialogue, ZONE)
