"""Comparing and merging dialogues, turn by turn: what is the same, what is news, and what stays of both."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.record.dialogue_merge import lay_over, same_dialogue
from bridge.record.turn import Turn

AT = datetime(2026, 11, 20, 7, tzinfo=UTC)


def robot(text: str = "hello", **more: Any) -> Turn:
    """A turn whose encoding carries its text, and whatever else it is given here."""
    return _turn("robot", text, more)


def customer(text: str = "yes", **more: Any) -> Turn:
    return _turn("customer", text, more)


def _turn(speaker: Any, text: str, more: dict[str, Any]) -> Turn:
    told = {name for name in more if name not in ("time", "extra", "raw", "flagged", "encoding", "separator")}
    carried = more.pop("carried", frozenset({"text", *told}))
    return Turn(speaker, text, carried=carried, **more)


def unparsed(text: str, speaker: Any = "customer", raw: Any = None) -> Turn:
    """A turn of which nothing could be read but what stands in it."""
    return Turn(speaker, text, raw=text if raw is None else raw, flagged=True)


SAME: dict[str, tuple[Turn, Turn]] = {
    "the same": (customer("yes"), customer("yes")),
    "spaces around a text": (customer(" yes"), customer("yes ")),
    "a field that only one carries": (customer("yes", score=20), customer("yes")),
    "no value, where the other's encoding has none": (customer("yes", score=None), customer("yes")),
    "another spelling of a time": (customer(time_of_day="09:05"), customer(time_of_day="9:05:00")),
    "extra fields that only one has": (customer(extra={"a": 1}), customer(extra={"b": 2})),
    "an extra field, empty or null": (customer(extra={"a": ""}), customer(extra={"a": None})),
    "an extra field, null or empty": (customer(extra={"a": None}), customer(extra={"a": ""})),
    "an extra number as text": (customer(extra={"a": 1}), customer(extra={"a": "1"})),
    "an extra list beside another spelling": (
        customer(extra={"a": [1], "b": 1}),
        customer(extra={"a": [1], "b": "1"}),
    ),
    "words in an unparsed turn": (customer("yes"), unparsed("yes#@1")),
    "words in what was written of an unparsed turn": (customer("yes"), unparsed("", raw="a yes b")),
    "words in the text of an unparsed turn that is no text": (customer("yes"), unparsed("yes", raw={"a": 1})),
    "two unparsed turns": (unparsed("x", raw="r"), unparsed("y", raw="r")),
}
NEWS: dict[str, tuple[Turn, Turn]] = {
    "another text": (customer("yes"), customer("no")),
    "another speaker": (customer("yes"), robot("yes")),
    "a field that both carry": (customer("yes", score=20), customer("yes", score=21)),
    "a value where the other says that there is none": (customer(score=20), customer(score=None)),
    "another extra value": (customer(extra={"a": 1}), customer(extra={"a": 2})),
    "an extra value that is empty now": (customer(extra={"a": 1}), customer(extra={"a": ""})),
    "an extra value that is null now": (customer(extra={"a": "1"}), customer(extra={"a": None})),
    "an extra list with other items": (customer(extra={"a": [1]}), customer(extra={"a": [2]})),
    "an extra list as text": (customer(extra={"a": [1]}), customer(extra={"a": "[1]"})),
    "words that are not in an unparsed turn": (customer("no"), unparsed("yes#@1")),
    "no words beside an unparsed turn": (customer(""), unparsed("yes#@1")),
    "words of another speaker in an unparsed turn": (robot("yes"), unparsed("yes#@1")),
    "words that only its text repeats": (customer("yes"), unparsed("yes", raw="no")),
    "two unparsed turns": (unparsed("x", raw="r"), unparsed("x", raw="s")),
    "two unparsed turns, the one in the other": (unparsed("x", raw="x"), unparsed("xy", raw="xy")),
}


@pytest.mark.parametrize("row", SAME)
def test_equivalent_turns_are_the_same_dialogue(row: str) -> None:
    one, other = SAME[row]
    assert same_dialogue([one], [other]) is True
    assert same_dialogue([other], [one]) is True
    assert same_dialogue([robot(), one], [robot(), other]) is True


@pytest.mark.parametrize("row", NEWS)
def test_different_turns_are_news(row: str) -> None:
    one, other = NEWS[row]
    assert same_dialogue([one], [other]) is False
    assert same_dialogue([other], [one]) is False
    assert lay_over((one,), (other,)) == (other,)
    assert lay_over((other,), (one,)) == (one,)


def test_dialogues_of_unequal_length_are_never_the_same() -> None:
    assert same_dialogue([], []) is True
    assert same_dialogue([robot()], []) is False
    assert same_dialogue([robot()], [robot(), robot()]) is False


# -- one turn of two ---------------------------------------------------------------
RICH = customer("yes", score=20, title="t", time=AT, extra={"a": 1}, encoding="array")
POOR = customer("yes", encoding="string", separator="##")

MERGED: dict[str, tuple[Turn, Turn, Turn]] = {
    "nothing is learnt of a poorer one": (RICH, POOR, RICH),
    "a richer one adds its fields": (
        POOR,
        RICH,
        customer("yes", score=20, title="t", time=AT, extra={"a": 1}, encoding="array"),
    ),
    "where both carry a field, the known one stays": (
        customer("yes", score="20"),
        customer(" yes", score="20", title="t"),
        customer("yes", score="20", title="t"),
    ),
    "a time that was not known": (customer("yes"), customer("yes", time=AT), customer("yes", time=AT)),
    "a time that was known": (
        customer("yes", time=AT),
        customer("yes", time=AT.replace(hour=8)),
        customer("yes", time=AT),
    ),
    "a time that is not known any more": (
        customer("yes", time=AT),
        customer("yes"),
        customer("yes", time=AT),
    ),
    "an extra field more": (
        customer("yes", extra={"a": "1"}),
        customer("yes", extra={"a": 1, "b": 2}),
        customer("yes", extra={"a": "1", "b": 2}),
    ),
    "only an extra field, and the encoding that told it": (
        customer("yes"),
        customer("yes", extra={"a": 1}, encoding="json"),
        customer("yes", extra={"a": 1}, encoding="json"),
    ),
    "fields that are carried and empty teach nothing": (
        customer("yes"),
        customer("yes", title="", score=None, labels=(), encoding="json"),
        customer("yes"),
    ),
    "an empty field beside one that is filled is noted as carried": (
        customer("yes"),
        customer("yes", title="t", score=None),
        customer("yes", title="t", score=None),
    ),
    "a flag goes with the first encoding that can be read": (
        customer("yes", flagged=True, raw="yes#@"),
        customer("yes", title="t"),
        customer("yes", title="t"),
    ),
    "a flag stays where the other is flagged too": (
        customer("yes", flagged=True, raw="yes#@"),
        customer("yes", title="t", flagged=True, raw="other"),
        customer("yes", title="t", flagged=True, raw="yes#@"),
    ),
    "what was no flag stays none": (
        customer("yes"),
        customer("yes", title="t", flagged=True, raw="other"),
        customer("yes", title="t"),
    ),
    "a raw value without a flag stays": (
        customer("yes", raw="kept"),
        customer("yes", title="t"),
        customer("yes", title="t", raw="kept"),
    ),
    "an unparsed turn gives way": (unparsed("yes#@"), customer("yes"), customer("yes")),
    "an unparsed turn replaces nothing": (customer("yes"), unparsed("yes#@"), customer("yes")),
}


@pytest.mark.parametrize("row", MERGED)
def test_repeated_turn_is_merged_with_the_known_one(row: str) -> None:
    known, incoming, expected = MERGED[row]
    (merged,) = lay_over((known,), (incoming,))
    assert merged == expected
    # The same inside a dialogue that has changed elsewhere.
    assert lay_over((known, customer("before")), (incoming, customer("now"))) == (
        expected,
        customer("now"),
    )


def test_known_dialogue_is_returned_if_nothing_is_learnt() -> None:
    known = (RICH, robot())
    assert lay_over(known, ()) is known
    assert lay_over(known, (POOR, robot())) is known


# -- turns that moved --------------------------------------------------------------
def words(*texts: str, **more: Any) -> tuple[Turn, ...]:
    """A dialogue, robot and customer by turns."""
    return tuple(
        robot(text, **more) if index % 2 == 0 else customer(text, **more) for index, text in enumerate(texts)
    )


TITLED = words("a", "b", "c", "d", title="t")


@pytest.mark.parametrize(
    ("incoming", "titles"),
    [
        (words("a", "b", "c", "d", "e"), ["t", "t", "t", "t", None]),
        (words("c", "d"), ["t", "t"]),
        (words("x", "y", "a", "b", "c", "d"), [None, None, "t", "t", "t", "t"]),
        (words("a", "b", "x", "y", "c", "d"), ["t", "t", None, None, "t", "t"]),
        (words("a", "x", "c", "d"), ["t", None, "t", "t"]),
        (words("d", "c"), [None, None]),
        (
            (robot("a"), customer("b"), unparsed("c#", "robot"), customer("d"), robot("e")),
            ["t", "t", "t", "t", None],
        ),
        (
            (robot("a"), customer("b"), unparsed("x#", "robot"), customer("d"), robot("e")),
            ["t", "t", None, "t", None],
        ),
    ],
)
def test_each_turn_keeps_fields_of_its_own_known_turn(
    incoming: tuple[Turn, ...], titles: list[str | None]
) -> None:
    result = lay_over(TITLED, incoming)
    assert [turn.title for turn in result] == titles
    assert len(result) == len(incoming)


def test_turns_are_paired_by_what_all_turns_of_their_speaker_carry() -> None:
    # The robot's titles tell its two equal texts apart; the customer's encoding carries none.
    known = (robot("a", title="1", score=1), customer("b", score=2), robot("a", title="2", score=3))
    incoming = (robot("a", title="2"), customer("c"))
    assert [turn.score for turn in lay_over(known, incoming)] == [3, None]


def test_unparsed_turn_does_not_disturb_the_pairing_of_others() -> None:
    known = (robot("a", title="1", score=1), unparsed("?", "robot"), robot("a", title="2", score=3))
    incoming = (robot("a", title="2"), customer("c"))
    assert [turn.score for turn in lay_over(known, incoming)] == [3, None]


def test_huge_dialogue_is_paired_by_position() -> None:
    known = tuple(robot(str(number), title="t") for number in range(501))
    moved = tuple(robot(str(number)) for number in range(1, 501))
    assert {turn.title for turn in lay_over(known, moved)} == {None}
    aligned = lay_over(known[:500], moved)
    assert [turn.title for turn in aligned] == ["t"] * 499 + [None]
    placed = lay_over(known, (*(robot(str(number)) for number in range(500)), robot("x")))
    assert [turn.title for turn in placed] == ["t"] * 500 + [None]


def test_repeated_text_is_paired_like_any_other() -> None:
    known = tuple(robot("a", title="t") for _ in range(210))
    result = lay_over(known, (robot("x"), *(robot("a") for _ in range(210))))
    assert [turn.title for turn in result] == [None] + ["t"] * 210


# -- a separator that somebody said ------------------------------------------------
def cut(*texts: str) -> tuple[Turn, ...]:
    return words(*texts, separator="##")


@pytest.mark.parametrize(
    ("string", "array", "same"),
    [
        (cut("yes##no", "never"), words("yes", "no##never"), True),
        (cut("yes", "no##never"), words("yes", "no##never"), True),
        (cut("yes##", "never"), words("yes", "##never"), True),
        (cut("yes##no", "never", "a##b", "c"), words("yes", "no##never", "a", "b##c"), True),
        (cut("a", "yes##no", "never"), words("a", "yes", "no##never"), True),
        (cut("yes##no", "never"), words("yes", "no##other"), False),
        (cut("yes##no", "never"), words("yes", "other##never"), False),
        (cut("yes##no", "never"), words("ye", "no##never"), False),
        (cut("xxx##no", "never"), words("yes", "no##never"), False),
        # Of two turns in a row only one end was moved by a separator.
        (cut("a##b", "c", "d"), words("a", "b", "c##d"), False),
        (words("yes##no", "never"), words("yes", "no##never"), False),
        (words("yesno", "never"), words("yes", "nonever"), False),
        (words("yes##no", "never", separator="#@"), words("yes", "no##never"), False),
        (cut("yes##no", "never"), (*words("yes", "no##never"), robot("more")), False),
    ],
)
def test_turn_split_at_a_spoken_separator_is_the_same(
    string: tuple[Turn, ...], array: tuple[Turn, ...], same: bool
) -> None:
    assert same_dialogue(string, array) is same
    assert same_dialogue(array, string) is same
    if same:
        expected = [turn.text for turn in array]
        assert [
            turn.text for turn in lay_over(string, tuple(replace(one, title="t") for one in array))
        ] == expected
        assert lay_over(array, string) is array


def test_spoken_separator_is_searched_in_every_turn_but_the_last() -> None:
    assert not same_dialogue([robot("a", separator="##")], [robot("b")])
    assert same_dialogue([robot("a##", separator="##")], [robot("a##")])
