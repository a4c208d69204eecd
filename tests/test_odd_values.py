"""Odd values of real records, laid over the platform's example: what a mapping is told of them."""

import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.call import Call

ZONE = ZoneInfo("Asia/Shanghai")
DATA = Path(__file__).parent / "data"


def odd(name: str, **changes: Any) -> dict[str, Any]:
    """The example with one of the odd records laid over it."""
    return {**_read(DATA / "callback.json"), **_read(DATA / "odd" / f"{name}.json"), **changes}


def call(record: dict[str, Any]) -> Call:
    return Call.of(record, key="k1", source="main", zone=ZONE, country="CN")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@pytest.mark.parametrize(
    ("name", "phone", "e164", "kind"),
    [
        ("float_phone", "13800138000", "+8613800138000", "mobile"),
        ("letters_phone", "13800138OOO", None, "other"),
        ("hk_phone", "85291234567", "+85291234567", "mobile"),
        ("name_behind_phone", "13800138000 张三", "+8613800138000", "mobile"),
    ],
)
def test_phones(name: str, phone: str, e164: str | None, kind: str) -> None:
    known = call(odd(name))
    assert (known.phone, known.phone_e164, known.phone_kind) == (phone, e164, kind)
