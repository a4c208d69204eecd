"""A structure as a JSON document has its fields as keys and its times as text, however deep."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.lib.documents import document_of

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Inner:
    at: datetime | None
    count: int


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    by_source: dict[str, Inner]
    several: tuple[Inner, ...]


def test_fields_are_keys_in_their_order_and_times_are_text() -> None:
    outer = Outer("a", {"main": Inner(AT, 1)}, (Inner(None, 2),))
    assert json.dumps(document_of(outer)) == (
        '{"name": "a", "by_source": {"main": {"at": "2026-11-22T08:00:00.000Z", "count": 1}},'
        ' "several": [{"at": null, "count": 2}]}'
    )


def test_plain_values_stay_as_they_are() -> None:
    plain: tuple[Any, ...] = ("text", 1, 0.5, True, None, [], {})
    assert [document_of(value) for value in plain] == list(plain)
