"""The meaning of the platform's record, free of the noise of types."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.timestamps import parse_time
from bridge.lib.whole_numbers import parse_int
from bridge.record.canonical import canonical, digest
from bridge.record.dialect import FieldKind
from bridge.record.json_body import parse_object
from bridge.source.outcall.fields import BOOKKEEPING, FIELD_KINDS
from tests.fixtures.origins import MAIN

ZONE = ZoneInfo("Asia/Shanghai")
EXAMPLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "callback.json").read_text("utf-8")
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
records = st.dictionaries(st.sampled_from([*FIELD_KINDS, "new_field"]), json_values, max_size=8)


def one(name: str, value: Any) -> Any:
    return canonical({name: value}, MAIN)[name]


def test_every_field_of_the_example_is_known() -> None:
    assert set(FIELD_KINDS) == set(EXAMPLE)
    assert len(FIELD_KINDS) == 114


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("talktimes", "88", 88),
        ("talktimes", 88.0, 88),
        ("talktimes", " 88.00 ", 88),
        ("talktimes", 0, 0),
        ("talktimes", "0", 0),
        ("talktimes", "8x", "8x"),
        ("id", str(2**70), 2**70),
        ("id", "9" * 5000, "9" * 5000),
        ("return_visit", "1", 1),
        ("qc_status", "1", 1),
        ("ext1", "88", 88),
        ("transfer_type", 3, 3),
        ("is_wechat", True, 1),
        ("name", 5, "5"),
        ("caller", 900002, "900002"),
        ("phone", 15899770637.0, "15899770637"),
        ("rec_sex", 1, "1"),
        ("name", " \u3000", None),
        ("name", "", None),
        ("name", None, None),
        ("score", "2.50", 2.5),
        ("score", 2.5, 2.5),
        ("score", "2.5.1", "2.5.1"),
        ("unheard_of", "", None),
        ("unheard_of", 7, "7"),
        ("unheard_of", "7", "7"),
        ("unheard_of", False, False),
        ("unheard_of", {"b": [1, ""], "a": "5"}, {"a": "5", "b": [1, ""]}),
        ("summary", {"a": 1}, {"a": 1}),
        ("uuid", "DB57F262-18D6-11F0-88C8-2F2B0ABA51D7 ", "db57f262-18d6-11f0-88c8-2f2b0aba51d7"),
        ("connected_at", "2025-04-14 10:19:21", datetime(2025, 4, 14, 2, 19, 21, tzinfo=UTC)),
        ("connected_at", "0000-00-00 00:00:00", None),
        ("connected_at", "2025-02-30 10:00:00", "2025-02-30 10:00:00"),
        ("connected_at", "soon", "soon"),
        ("pushed_at", 1744597250, datetime(2025, 4, 14, 2, 20, 50, tzinfo=UTC)),
        ("pushed_at", "1744597250", datetime(2025, 4, 14, 2, 20, 50, tzinfo=UTC)),
        ("listened_at", 1744597250000, datetime(2025, 4, 14, 2, 20, 50, tzinfo=UTC)),
        ("intervention_at", "2025-04-14 10:20:50", datetime(2025, 4, 14, 2, 20, 50, tzinfo=UTC)),
        ("pushed_at", 0, None),
        ("labelling", ";a; b；转人工时间:2025-04-14 10:20:17;", ("a", "b", "转人工时间:2025-04-14 10:20:17")),
        ("dynamic_labelling", "20万;", ("20万",)),
        ("labelling", ";；", None),
        ("talk_info", [], None),
        ("talk_info", "[]", None),
        ("talk_info", "", None),
    ],
)
def test_field_values_are_normalised_by_kind(name: str, value: Any, expected: Any) -> None:
    found = one(name, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-04-14 10:20:50", "2025-04-14T02:20:50+00:00"),
        ("2025-04-14T10:20:50.5", "2025-04-14T02:20:50.500000+00:00"),
        ("2025-04-14T10:20:50+01:00", "2025-04-14T09:20:50+00:00"),
        ("2025-04-14T10:20:50Z", "2025-04-14T10:20:50+00:00"),
        ("2025/4/14 1:05", "2025-04-13T17:05:00+00:00"),
        ("20250414102050", "2025-04-14T02:20:50+00:00"),
        (datetime(2025, 4, 14, 10, tzinfo=ZONE), "2025-04-14T02:00:00+00:00"),
    ],
)
def test_times_are_normalised(value: object, expected: str) -> None:
    moment = parse_time(value, ZONE)
    assert moment is not None
    assert moment.isoformat() == expected


@pytest.mark.parametrize(
    "value", ["", "0001-01-01 00:00:00", "0000-00-00", "10:20:50", True, 5, 1e300, None, [], "x"]
)
def test_invalid_times_are_no_time(value: object) -> None:
    assert parse_time(value, ZONE) is None


def test_absent_is_absent_and_empty_is_none() -> None:
    assert canonical({}, MAIN) == {}
    assert canonical({"mark": "", "unit_phone": None}, MAIN) == {"mark": None, "unit_phone": None}


def test_example_record_is_normalised() -> None:
    known = canonical(EXAMPLE, MAIN)
    assert known["talktimes"] == 88
    assert len(known["talk_info"]) == 17
    assert known["created_at"] == datetime(2025, 4, 14, 2, 20, 50, tzinfo=UTC)
    as_text = {name: str(value) if isinstance(value, int) else value for name, value in EXAMPLE.items()}
    assert canonical(as_text, MAIN) == known
    assert digest(canonical(dict(reversed(as_text.items())), MAIN)) == digest(known)


def test_bookkeeping_fields_are_few_and_none_is_a_users() -> None:
    assert BOOKKEEPING.keys() < FIELD_KINDS.keys()
    people = {"return_visit", "mark", "is_wechat", "auto_add_wechat_status", "status_manual", "is_deleted"}
    assert not BOOKKEEPING.keys() & (people | {f"data{number}" for number in range(1, 31)})
    assert all(BOOKKEEPING.values())


def test_digest_tells_fields_and_values_apart_but_not_absent_from_none() -> None:
    assert digest({"a": None, "b": 1}) == digest({"b": 1})
    assert digest({"a": {"x": 1, "y": 2}}) == digest({"a": {"y": 2, "x": 1}})
    different: list[dict[str, Any]] = [
        {},
        {"a": 0},
        {"a": "0"},
        {"b": 0},
        {"a": "\ud83d"},
        {"a": ["x"]},
        {"a": datetime(2025, 1, 1, tzinfo=UTC)},
    ]
    assert len({digest(mapping) for mapping in different}) == len(different)
    assert len(digest({})) == 16


def test_digest_is_the_same_in_another_process() -> None:
    program = (
        "import json,sys; from tests.fixtures.origins import MAIN;"
        "from bridge.record.canonical import canonical, digest;"
        "print(digest(canonical(json.load(sys.stdin), MAIN)).hex())"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(EXAMPLE).encode(),
        capture_output=True,
        check=True,
        env=environment,
    )
    assert done.stdout.decode().strip() == digest(canonical(EXAMPLE, MAIN)).hex()


@given(records)
def test_any_record_is_normalised_and_stays_the_same(record: dict[str, Any]) -> None:
    known = canonical(record, MAIN)
    assert known.keys() == record.keys()
    assert canonical(known, MAIN) == known
    assert digest(canonical(dict(reversed(record.items())), MAIN)) == digest(known)
    again = parse_object(json.dumps(record).encode())
    assert digest(canonical(again, MAIN)) == digest(known)


@given(
    st.integers(), st.sampled_from([name for name, kind in FIELD_KINDS.items() if kind is FieldKind.INTEGER])
)
def test_number_equals_its_text(number: int, name: str) -> None:
    assert one(name, number) == one(name, str(number)) == number == parse_int(f" {number} ")


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001 - naive as the platform's
def test_local_times_survive_a_round_trip(moment: datetime) -> None:
    local = moment.replace(microsecond=0)
    found = parse_time(str(local), ZONE)
    assert found is not None
    assert found.tzinfo is UTC
    # In the summers of 1990 and 1991 Shanghai's clocks had hours that never were.
    if local.year > 1991:
        assert found.astimezone(ZONE).replace(tzinfo=None) == local
