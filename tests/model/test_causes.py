"""Failures are grouped by cause: words that differ from call to call do not split a group."""

from datetime import UTC, datetime

import pytest

from bridge.lib.errors import DeliveryError, Gone, InDoubt, Permanent, Transient
from bridge.model.failures import LONGEST, LONGEST_READ, cause_of, generalised, remedy_of

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("value 'A+' is not an option of field grade", "value 'B' is not an option of field grade"),
        ("158****0637 is no phone", "139****1111 is no phone"),
        ("object call: 7001234567 is locked", "object call: 7009876543 is locked"),
        ("a@example.com is taken", "b.c@example.org is taken"),
        (
            "call db57f262-18d6-11f0-88c8-2f2b0aba51d7 failed",
            "call 00000001-18d6-11f0-88c8-2f2b0aba51d7 failed",
        ),
        ("object contact, upsert (item 3 of 100): no id", "object contact, upsert (item 41 of 99): no id"),
    ],
)
def test_values_of_single_calls_do_not_split_groups(one: str, other: str) -> None:
    assert generalised(one) == generalised(other)
    assert cause_of(Permanent(one)) == cause_of(Permanent(other))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a@" * 2200, "a@" * 100),
        ("a." * 20_000, "a." * 100),
        ("7" * 20_000, "…"),
        ("@" + "x" * 50 + ".", "@" + "x" * 50 + "."),
        ("“a“b” is taken", "… is taken"),
        ("“never closed" * 400, "…"),
        ("bad: a@b.c,d and 1-2-3-4 or 1-2-3", "bad: … and … or 1-2-3"),
    ],
)
def test_hostile_text_is_grouped_like_any_other(text: str, left: str) -> None:
    assert generalised(text) == left


def test_only_a_bounded_part_of_a_text_is_read() -> None:
    assert generalised("no " * LONGEST_READ + "4711") == ("no " * LONGEST_READ)[:LONGEST]


def test_distinctive_words_of_a_cause_are_kept() -> None:
    told = "object contact, upsert: answered 422 too_long grade"
    assert generalised(told) == told
    assert cause_of(Permanent("long story", cause=told)) == told
    item = told.replace(", upsert:", ", upsert (item 7 of 9):")
    assert cause_of(Permanent("long story", cause=item)) == told


def test_remedy_is_the_connectors_or_else_the_default_of_its_kind() -> None:
    said = Permanent("no")
    said.says = "Create the property"
    assert remedy_of(said) == "Create the property"
    wrapped = Transient("again")
    wrapped.__cause__ = said
    assert remedy_of(wrapped) == "Create the property"
    kinds: list[DeliveryError] = [
        Permanent("x"),
        Gone("x"),
        InDoubt("x"),
        Transient("x"),
        *(Transient("x", blame=blame) for blame in ("limit", "quota", "account", "credentials")),
    ]
    assert len({remedy_of(kind) for kind in kinds}) == len(kinds)
    assert "secrets" in remedy_of(kinds[-1])
    forbidden = Permanent("x")
    forbidden.status = 403
    assert "right" in remedy_of(forbidden)
