"""A record that is decoded field by field says what one says that is decoded at once."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.record.json_body import NotAnObject, parse_object
from bridge.record.lazy_record import LazyRecord, UnreadableRecordError

PIECES = (
    *('"', "'", "\\", "{", "}", "[", "]", ",", ":", "NaN", "007", "\\ud800", "\\q", "\n", "\0", "1e999", "-"),
    *("9" * 25, "9" * 4400, "null", " ", ".", "\\u00e9", "\\u12", '"b":7,', '"b":NaN,', "\ufeff", "，"),
)
SOUND = '{"a": "x", "b": 1.50, "talk_info": [{"answer": "好", "score": ""}], "n": null}'


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A record's JSON with up to three pieces put in, or in the place of a character."""
    text = SOUND
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(PIECES)) + text[place + draw(st.integers(0, 1)) :]
    return text


def parsed(text: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(text)
    except NotAnObject:
        return None


@given(damaged(), st.randoms(use_true_random=False))
def test_damaged_record_has_the_values_of_the_lenient_reading(text: str, rng: Any) -> None:
    """In whatever order its fields are read; values are compared as text, because 1 and 1.0 are equal."""
    eager, lazy = parsed(text.encode()), LazyRecord(text.encode())
    if eager is None:
        with pytest.raises(UnreadableRecordError):
            repr(dict(lazy))
        return
    names = list(eager)
    rng.shuffle(names)
    assert [repr(lazy.get(name)) for name in names] == [repr(eager[name]) for name in names]
    assert (set(lazy), len(lazy)) == (set(eager), len(eager))


def test_sound_record_is_a_mapping_like_any_other() -> None:
    record = LazyRecord(SOUND.encode())
    assert record == json.loads(SOUND)
    assert (record["b"], record.get("n", 1), record.get("c"), record.get("c", 2)) == (1.5, None, None, 2)
    with pytest.raises(KeyError):
        record["c"]


def test_json_of_a_field_is_there_until_the_field_is_read() -> None:
    record = LazyRecord(SOUND.encode())
    text = record.json_of("talk_info")
    assert text is not None
    assert json.loads(bytes(text)) == record["talk_info"]
    assert record.json_of("talk_info") is None
    assert record.json_of("c") is None


def test_field_that_json_does_not_know_leaves_the_others_alone() -> None:
    record = LazyRecord(b'{"a": 1, "a": 2, "bad": "D:\\x", "b": "\\u597d"}')
    assert (record.get("b"), record.get("bad"), record.get("a")) == ("好", "D:\\x", 2)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b'{"a": 1', b"\xff"])
def test_text_that_is_no_object_is_unreadable(text: bytes) -> None:
    with pytest.raises(UnreadableRecordError):
        LazyRecord(text).get("a")
