"""What counts as the name of a call, and how it is spelt."""

from typing import Any

import pytest

from bridge.record.identity import is_uuid, name_in, storable

NIL_UUID = "00000000-0000-0000-0000-000000000000"
UUID = "db57f262-18d6-11f0-88c8-2f2b0aba51d7"
DIGEST_OF_A_LONG_NAME = "1f75f4706785d209"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (UUID, UUID),
        (UUID.upper(), UUID),
        ("  Call-17 ", "call-17"),
        (17, "17"),
        (0, "0"),
        (2**70, str(2**70)),
        # Some encoders write every number as a decimal.
        (17.0, "17"),
        (1e19, str(10**19)),
        (17.5, "17.5"),
        # What is no text and no number names nothing.
        (None, ""),
        (True, ""),
        (False, ""),
        ([UUID], ""),
        ({"uuid": UUID}, ""),
        ([], ""),
        ({}, ""),
        ("", ""),
        (" \t ", ""),
        ("\u3000", ""),
        # Nor does what a program writes for nothing; calls that share it are not one call.
        (NIL_UUID, ""),
        ("null", ""),
        ("NULL", ""),
        ("(null)", ""),
        ("undefined", ""),
        ("None", ""),
        ("nil", ""),
        ("NaN", ""),
        (float("nan"), ""),
        ("n/a", ""),
        ("-", ""),
        (" -- ", ""),
        ("无", ""),
        ("空", ""),
        ("---", "---"),
        ("nullx", "nullx"),
        ("none-17", "none-17"),
        # What cannot be stored as it is is spelt otherwise.
        ("a\0b", "a\\0b"),
        ("a\ud800", "a\\ud800"),
    ],
)
def test_name_of_a_call_from_any_value(value: Any, name: str) -> None:
    assert name_in(value) == name
    # The ledger asks again by the name that it has stored.
    assert name_in(name) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("y" * 200, "y" * 200),
        ("Y" * 201, f"{'y' * 200}#{DIGEST_OF_A_LONG_NAME}"),
        # It looks like a name that was cut, and is longer than one.
        (f"{'y' * 201}#{DIGEST_OF_A_LONG_NAME}", f"{'y' * 200}#411cc29db88564e1"),
        (f"{'y' * 200}#{DIGEST_OF_A_LONG_NAME}0", f"{'y' * 200}#6d823b075902c136"),
        (f"{'y' * 200}#xyz0000000000000", f"{'y' * 200}#c70e33c3decdb80f"),
        ("y\n" * 100 + "y", "y\n" * 100 + "#28d0bfb1e25e8100"),
    ],
)
def test_long_name_is_shortened_with_a_digest(value: str, name: str) -> None:
    assert name_in(value) == name
    assert name_in(name) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", "a"), ("您好", "您好"), ("a\0b\0", "a\\0b\\0"), ("\ud800", "\\ud800"), ("a\udfffb", "a\\udfffb")],
)
def test_stored_text_has_no_half_characters_and_no_nul(text: str, expected: str) -> None:
    assert storable(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (UUID, True),
        (NIL_UUID, True),
        (UUID.upper(), False),
        (UUID[:-1], False),
        (f"{UUID}x", False),
        (f"x{UUID}", False),
        (f"{UUID}\n", False),
        (UUID.replace("-", ""), False),
        ("call-17", False),
        ("", False),
    ],
)
def test_is_uuid_recognises_uuids(name: str, expected: bool) -> None:
    assert is_uuid(name) is expected
