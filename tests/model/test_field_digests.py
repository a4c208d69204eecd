"""Digests of what was sent for a field: what each tells of a value that a CRM shows."""

from typing import Any

import pytest

from bridge.model.crm_alterations import Alteration
from bridge.model.field_digests import (
    FORGOTTEN,
    NOTHING,
    SHORT_SIZE,
    SIZE,
    alteration_of,
    as_sent,
    digest_of,
    holds,
    is_empty,
    sent_last,
    short_of,
    unsettled,
    with_altered,
    with_possible,
)

A, B, C = map(digest_of, "abc")
ALTERED = with_altered(A, "b", Alteration.SPACES)
"""`a` was sent, and the CRM shows `b` for it."""
ALTERED_SHORT = with_altered(short_of("a"), "b", Alteration.SPACES)


@pytest.mark.parametrize(
    ("value", "digest"),
    [
        ("a", "167004e8304614a8"),
        (80, "dc38f0769707dc64"),
        (None, "7376b2cbfa0ad26e"),
        ({"b": 1, "a": 2**70}, "21b375629f33c034"),
    ],
)
def test_a_digest_is_what_earlier_releases_wrote(value: Any, digest: str) -> None:
    assert digest_of(value).hex() == digest
    assert short_of(value).hex() == digest[: 2 * SHORT_SIZE]


@pytest.mark.parametrize("big", [1, 2**70, "\ud800"])
def test_a_tables_keys_may_come_in_any_order(big: Any) -> None:
    assert digest_of({"b": 1, "a": big}) == digest_of({"a": big, "b": 1})


@pytest.mark.parametrize(
    ("digests", "value", "last"),
    [
        (A, "a", True),
        (A, "b", False),
        (short_of("a"), "a", True),
        (short_of("a"), "b", False),
        (b"", "a", False),
        # Another value may have arrived after it.
        (A + B, "a", False),
        (A + B, "b", False),
        # The second digest is what the CRM made of it.
        (ALTERED, "a", True),
        (ALTERED, "b", False),
        (ALTERED_SHORT, "a", True),
        (FORGOTTEN + A, "a", False),
    ],
)
def test_last_sent_value_is_known_while_no_other_may_have_arrived(
    digests: bytes, value: Any, last: bool
) -> None:
    assert sent_last(digests, value) is last


@pytest.mark.parametrize(
    ("digests", "value", "waits"),
    [
        (A, "a", False),
        (b"", "a", False),
        (A + B, "a", False),
        (A + B, "b", True),
        (A + B + C, "b", True),
        (short_of("a") + B, "b", True),
        (ALTERED, "b", False),
    ],
)
def test_value_is_unsettled_until_a_lookup_shows_its_result(digests: bytes, value: Any, waits: bool) -> None:
    assert unsettled(digests, value) is waits


@pytest.mark.parametrize(
    ("digests", "value", "expected"),
    [
        (b"", "a", FORGOTTEN + A),
        (A, "b", A + B),
        (A, "a", A),
        (short_of("a"), "a", short_of("a")),
        (short_of("a"), "b", short_of("a") + B),
        (A + B, "a", A + B),
        (A + B, "b", A + B),
        (A + B, "c", A + B + C),
        # Once it may hold another value, what it made of the last one is one more that it may hold.
        (ALTERED, "b", A + B),
        (ALTERED, "a", A + B),
        (ALTERED, "c", A + B + C),
        (ALTERED_SHORT, "b", short_of("a") + B),
    ],
)
def test_a_value_that_may_have_arrived_is_noted_once(digests: bytes, value: Any, expected: bytes) -> None:
    assert with_possible(digests, value) == expected


def test_newest_five_possible_values_are_kept_with_the_confirmed() -> None:
    digests = A
    for value in range(8):
        digests = with_possible(digests, value)
    assert digests == A + b"".join(map(digest_of, range(3, 8)))


@pytest.mark.parametrize(
    ("digests", "first", "kind"),
    [
        (b"", b"", ""),
        (A, A, ""),
        (A + B, A, ""),
        (A + B + C, A, ""),
        (ALTERED, A, Alteration.SPACES),
        (short_of("a"), short_of("a"), ""),
        (short_of("a") + B, short_of("a"), ""),
        (ALTERED_SHORT, short_of("a"), Alteration.SPACES),
    ],
)
def test_field_digests_have_a_confirmed_value_and_an_alteration(
    digests: bytes, first: bytes, kind: str
) -> None:
    assert (as_sent(digests), alteration_of(digests)) == (first, kind)
    assert with_altered(digests, "b", Alteration.SPACES) == first + B + Alteration.SPACES.encode()
    assert len(FORGOTTEN) == len(NOTHING) == len(A) == SIZE


@pytest.mark.parametrize(
    ("held", "sent", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        # Numbers come back as text, and texts as numbers.
        ("80", 80, True),
        ("80", 80.0, True),
        ("80.0", 80, True),
        (80, "80", True),
        (80.0, 80, True),
        ("-5", -5, True),
        ("5.5", 5.5, True),
        ("5.5", 5, False),
        ("1e3", 1000, True),
        ("9007199254740993", 9007199254740993, True),
        ("9007199254740993", 9007199254740992, False),
        ("inf", "inf", True),
        ("x5", 5, False),
        # Flags come back as words.
        ("true", True, True),
        ("True", True, True),
        ("false", False, True),
        ("FALSE", False, True),
        ("false", True, False),
        ("true", False, False),
        ("yes", True, False),
        (True, "true", True),
        # What is empty comes back as another kind of nothing.
        (None, "", True),
        ("", None, True),
        ([], "", True),
        ({}, [], True),
        ("", [], True),
        (None, 0, False),
        (0, "", False),
        # A list is its items, and no text of them.
        (["a"], ["a"], True),
        (["a"], "a", False),
        (["a"], '["a"]', False),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, '{"a":1}', False),
    ],
)
def test_sent_value_is_recognised_in_any_type(held: Any, sent: Any, expected: bool) -> None:
    assert holds(held, digest_of(sent)) is expected
    assert holds(held, short_of(sent)) is expected
    assert holds(held, FORGOTTEN + digest_of(sent)) is expected


@pytest.mark.parametrize(
    ("held", "digests", "expected"),
    [
        ("a", b"", False),
        ("", b"", False),
        ("", NOTHING, True),
        (None, NOTHING + A, True),
        (None, A + NOTHING, True),
        ("b", NOTHING + A, False),
        ("a", NOTHING + A, True),
        ("b", ALTERED, True),
        ("c", ALTERED, False),
    ],
)
def test_any_possibly_arrived_value_is_recognised(held: Any, digests: bytes, expected: bool) -> None:
    assert holds(held, digests) is expected


@pytest.mark.parametrize(
    ("value", "empty"),
    [
        (None, True),
        ("", True),
        ([], True),
        ({}, True),
        (0, False),
        (False, False),
        (" ", False),
        ([""], False),
    ],
)
def test_null_and_an_empty_text_list_or_table_are_no_value(value: Any, empty: bool) -> None:
    assert is_empty(value) is empty
