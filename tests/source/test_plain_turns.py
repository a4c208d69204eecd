"""The short way of reading documented dialogues gives what the careful way gives, or leaves them to it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.record.turn import Turn
from bridge.record.turn_clock import CallClock
from bridge.source.outcall.dialogue import any_turns, parse_dialogue
from bridge.source.outcall.plain_turns import plain_turns
from tests.fixtures.dialogues import ARRAY, END, START, ZONE

ALWAYS_THERE = (
    *("vocfile", "caption", "title", "answer", "fenduanluyin", "labelling", "process_code"),
    *("talk_info_sn", "talk_datetime"),
)
OF_NO_MEANING = (
    *("outType", "seating_info", "trigger_special", "trigger_process_type", "trigger_process_title"),
    *("recognition_status", "questions_status", "recognitionInfo"),
)
texts = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                " ",
                "listen",
                "null",
                "A;B",
                "；A； ;B",
                ";",
                "_0",
                "20",
                "1.50",
                "+3",
                "a.wav",
                "/v/a.WAV",
            ),
            *(" C:\\v\\a.mp3 ", "您好", "no.wav 好", "10:19:30", "10:20", "9:05:00", "24:00:00", "23:59:60"),
            *(
                "10:20+08",
                "10:20:1Z",
                "１０:２０:３０",
                "-1:20:30",
                "2025-04-14 10:19:30",
                "00:00:30",
                "\ud800",
            ),
        ]
    ),
    st.text(max_size=8),
)
numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
values = st.one_of(texts, st.none())
oddities = st.one_of(
    values, numbers, st.booleans(), st.lists(texts, max_size=2), st.dictionaries(texts, numbers, max_size=1)
)


@st.composite
def documented_turns(draw: st.DrawFn) -> dict[str, Any]:
    """A turn with the fields of the platform's document, each of a type that it is known to have."""
    turn: dict[str, Any] = {"is_answer": draw(st.integers(0, 1)), "score": draw(st.one_of(values, numbers))}
    turn |= {name: draw(values) for name in ALWAYS_THERE}
    turn |= dict.fromkeys(OF_NO_MEANING, draw(oddities))
    optional = {"agent_name": values, "trigger_word": values, "trigger_jump_type": values}
    optional["match_type"] = st.one_of(values, numbers)
    return turn | {name: draw(of) for name, of in optional.items() if draw(st.booleans())}


@st.composite
def altered_turns(draw: st.DrawFn) -> dict[str, Any]:
    """A documented turn of which one field is missing, of another type, or not known at all."""
    turn = draw(documented_turns())
    name = draw(st.sampled_from([*turn, "similarity", "context_sn", "_callbridge", "new"]))
    if draw(st.booleans()):
        turn.pop(name, None)
    else:
        turn[name] = draw(oddities)
    return turn


def clock() -> CallClock:
    return CallClock(START, END, ZONE)


def as_told(turns: tuple[Turn, ...]) -> list[tuple[Turn, type, type]]:
    """Turns beside the types of their numbers, because 1, 1.0 and true are equal to Python."""
    return [(turn, type(turn.score), type(turn.match_type)) for turn in turns]


def in_json(dialogue: list[dict[str, Any]]) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(dialogue).encode())


@given(st.lists(documented_turns(), max_size=3))
def test_documented_turns_are_read_alike(dialogue: list[dict[str, Any]]) -> None:
    short = plain_turns(dialogue, "array", clock())
    assert short is not None
    assert as_told(short) == as_told(any_turns(dialogue, "array", clock()))


@given(st.lists(st.one_of(documented_turns(), altered_turns()), max_size=3))
def test_other_turns_are_read_alike_or_left_to_the_careful_way(dialogue: list[dict[str, Any]]) -> None:
    careful = as_told(any_turns(dialogue, "array", clock()))
    short = plain_turns(dialogue, "array", clock())
    assert short is None or as_told(short) == careful
    of_text = plain_turns(in_json(dialogue), "array", clock())
    assert of_text is None or as_told(of_text) == as_told(
        any_turns(json.loads(bytes(in_json(dialogue))), "array", clock())
    )


def test_example_dialogue_takes_the_short_way_from_json_and_decoded() -> None:
    assert plain_turns(ARRAY, "array", clock()) == any_turns(ARRAY, "array", clock())
    assert plain_turns(in_json(ARRAY), "array", clock()) == any_turns(ARRAY, "array", clock())


@pytest.mark.parametrize(
    "change",
    [
        {"score": True},
        {"labelling": ["A"]},
        {"is_answer": "1"},
        {"is_answer": 2},
        {"vocfile": 1},
        {"new": 1},
        {"_callbridge": {"encoding": "string"}},
    ],
)
def test_one_turn_of_another_kind_leaves_the_dialogue_to_the_careful_way(change: dict[str, Any]) -> None:
    dialogue = [ARRAY[0], ARRAY[1] | change]
    assert plain_turns(dialogue, "array", clock()) is None
    assert parse_dialogue(dialogue, START, END, ZONE) == any_turns(dialogue, "array", clock())
