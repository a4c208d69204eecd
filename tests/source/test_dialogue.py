"""The dialogue in its three encodings: one meaning, compared by what both sides carry."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.record.dialogue_merge import lay_over, same_dialogue
from bridge.source.outcall.dialogue import parse_dialogue, to_json
from tests.fixtures.dialogues import ARRAY, ZONE, as_string, parsed

FORMS: list[int | str] = [2, 4, 6, "pairs", "alone"]


def changed(index: int, **values: Any) -> list[dict[str, Any]]:
    array = [dict(item) for item in ARRAY]
    array[index] |= values
    return array


words = st.text(st.characters(exclude_characters="#;；\r\n", exclude_categories=["Cs"]), max_size=6).map(
    str.strip
)
clocks = st.times().map(lambda clock: f"{clock:%H:%M:%S}")


@st.composite
def items(draw: st.DrawFn) -> dict[str, Any]:
    customer = draw(st.booleans())
    shared = {
        "is_answer": int(customer),
        "labelling": ";".join(draw(st.lists(words, max_size=2))),
        "talk_datetime": draw(clocks),
        "process_code": draw(words),
        "talk_info_sn": draw(words),
        "score": draw(st.sampled_from(["", "0", "20"])) if customer else "",
    }
    if customer:
        listen = dict.fromkeys(["vocfile", "caption", "title"], "listen")
        return (
            shared
            | listen
            | {"answer": draw(words), "fenduanluyin": draw(words), "trigger_word": draw(words)}
        )
    return shared | {"vocfile": draw(words), "caption": draw(words), "title": draw(words), "answer": ""}


arrays = st.lists(items(), max_size=5)


def test_example_dialogue_is_parsed() -> None:
    turns = parsed(ARRAY)
    assert [turn.speaker for turn in turns].count("robot") == 9
    assert [turn.speaker for turn in turns].count("customer") == 8
    robot, customer = turns[:2]
    assert robot.text == "您好,我这边是专业办理银行贷款的,请问您有资金需求吗?"
    assert robot.title == "01打招呼+开场白"
    assert robot.time == datetime(2025, 4, 14, 2, 19, 21, tzinfo=UTC)
    assert (customer.text, customer.score, customer.labels, customer.title) == (
        "可以啊",
        20,
        ("有需求",),
        None,
    )
    assert (customer.trigger_word, customer.match_type, customer.jump_type) == ("可以啊", 2, "肯定")
    assert customer.recording == ARRAY[1]["fenduanluyin"]
    assert customer.extra["trigger_process_title"] == "02企业介绍"
    assert turns[16].labels == ("A转人工", "转人工时间:2025-04-14 10:20:17")
    assert not any(turn.flagged for turn in turns)


@pytest.mark.parametrize("value", [None, "", "  ", [], "[]", "null", {}, "{}", "##", ()])
def test_empty_values_are_no_dialogue(value: object) -> None:
    assert parsed(value) == ()


@pytest.mark.parametrize("form", FORMS)
def test_three_encodings_of_one_dialogue_are_the_same(form: int | str) -> None:
    array, text, string = parsed(ARRAY), parsed(json.dumps(ARRAY)), parsed(as_string(ARRAY, form))
    assert {turn.encoding for turn in text} == {"json"}
    assert {turn.encoding for turn in string} == {"string"}
    assert not any(turn.flagged for turn in string)
    for a in (array, text, string):
        for b in (array, text, string):
            assert same_dialogue(a, b)
    assert lay_over(array, string)[1] == array[1]
    assert lay_over(array, text) is array
    richer = lay_over(string, array)
    assert (richer[1].trigger_word, richer[0].context_sn) == ("可以啊", "ctx1")


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "不可以"},
        {"labelling": "没需求"},
        {"score": "21"},
        {"talk_datetime": "10:19:30"},
        {"talk_info_sn": "x"},
        {"is_answer": 0},
    ],
)
def test_change_that_both_encodings_carry_is_news(change: dict[str, Any]) -> None:
    assert not same_dialogue(parsed(ARRAY), parsed(changed(1, **change)))
    assert not same_dialogue(parsed(ARRAY), parsed(as_string(changed(1, **change))))


def test_change_that_only_one_encoding_carries_is_no_news() -> None:
    other = parsed(changed(1, trigger_word="好的"))
    assert not same_dialogue(parsed(ARRAY), other)
    assert same_dialogue(parsed(as_string(ARRAY)), other)
    assert same_dialogue(parsed(as_string(ARRAY, 2)), parsed(changed(1, score="21")))
    typed = changed(1, score=20, trigger_special="0", match_type="2", seating_info=False)
    assert same_dialogue(parsed(ARRAY), parsed(typed))


def test_lay_over_merges_a_poorer_encoding_into_the_known_turns() -> None:
    known = parsed(ARRAY)
    assert lay_over(known, ()) is known
    assert lay_over((), known) == known
    assert lay_over(known, parsed(ARRAY)) is known
    newer = changed(3, answer="不行")
    result = lay_over(known, parsed(as_string([*newer[:5], *newer[7:]])))
    assert len(result) == 15
    assert result[1].trigger_word == "可以啊", "an unchanged turn keeps what only the richer one knew"
    assert (result[3].text, result[3].trigger_word) == ("不行", None), "a changed one does not"
    assert result[14].extra == known[16].extra
    longer = lay_over(known[:4], parsed(as_string(ARRAY)))
    assert [turn.text for turn in longer] == [turn.text for turn in known]
    assert longer[1].trigger_word == "可以啊"


def test_repeated_words_keep_their_own_turns() -> None:
    """The example's customer says 可以啊 twice; without the first, the second must not take its place."""
    result = lay_over(parsed(ARRAY), parsed(as_string(ARRAY[2:])))
    assert result[1].jump_type == "中性"


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("您好#@f.wav##再说一遍", ["您好##再说一遍"]),
        ("f#!t#!您好#!c#!0.9#!s#!l#!x#!10:19:21##啊##嗯#@f", ["您好##啊", "嗯"]),
        ("喂##您好#@f.wav", ["喂##您好"]),
        ("f#!t#!您##好#!c#!0.9#!s#!l#!x#!10:19:21", ["您##好"]),
        ("#@f.wav", [""]),
        ("f#!title##more", ["##more"]),
        ("1#!2#!3#!4#!5#!6#!7#!8#!9#!10##more", ["1#!2#!3#!4#!5#!6#!7#!8#!9#!10##more"]),
    ],
)
def test_spoken_hash_marks_are_kept_as_words(value: str, texts: list[str]) -> None:
    assert [turn.text for turn in parsed(value)] == texts


def test_spoken_hash_marks_are_no_change() -> None:
    array, string = parsed(changed(1, answer="可##以")), parsed(as_string(changed(1, answer="可##以")))
    assert string[0].text.endswith("##可")
    assert same_dialogue(array, string)
    assert same_dialogue(string, array)
    assert lay_over(array, string)[1].text == "可##以"
    assert lay_over(string, array)[1].text == "可##以"


def test_robot_turn_in_the_string_form() -> None:
    (turn,) = parsed("v.wav#!标题#!您好#!code#!0.95#!sn1#!a;b#!ctx#!10:19:22")
    assert (turn.speaker, turn.recording, turn.title, turn.text) == ("robot", "v.wav", "标题", "您好")
    assert (turn.process_code, turn.similarity, turn.talk_info_sn) == ("code", 0.95, "sn1")
    assert (turn.labels, turn.context_sn) == (("a", "b"), "ctx")
    assert turn.time == datetime(2025, 4, 14, 2, 19, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "speaker"),
    [
        ("a#@b#@1#@c#@d#@10:19:21#@g", "customer"),
        ("1#!2#!3#!4#!5#!6#!7#!8#!9#!10", "robot"),
        ("no mark at all", "customer"),
        ('[{"caption": "cut sh', "customer"),
        (["text"], "robot"),
        ({"unheard": "x"}, "robot"),
        (5, "robot"),
    ],
)
def test_unclear_turn_is_kept_raw_and_flagged(value: Any, speaker: str) -> None:
    (turn,) = parsed(value)
    assert (turn.flagged, turn.speaker) == (True, speaker)
    assert turn.raw == (value[0] if isinstance(value, list) else value)
    assert parsed(to_json([turn])) == (turn,)


def test_flagged_turn_is_no_news_and_hides_no_known_turn() -> None:
    known = parsed(ARRAY)
    segments = as_string(ARRAY).split("##")
    segments[1] += "#@#@"
    flagged = parsed("##".join(segments))
    assert flagged[1].flagged
    assert same_dialogue(known, flagged)
    assert lay_over(known, flagged)[1] == known[1]
    assert lay_over(flagged, known)[1] == known[1]
    assert not same_dialogue(parsed(changed(1, answer="不行")), flagged)


@pytest.mark.parametrize(
    ("start", "end", "clock", "expected"),
    [
        ("2025-04-14 23:59:30", "2025-04-15 00:01:00", "23:59:31", "2025-04-14T15:59:31"),
        ("2025-04-14 23:59:30", "2025-04-15 00:01:00", "00:00:10", "2025-04-14T16:00:10"),
        ("2025-04-14 23:59:30", None, "00:00:10", "2025-04-14T16:00:10"),
        ("2025-04-14 23:59:30", None, "23:59:29", "2025-04-14T15:59:29"),
        (None, "2025-04-14 10:20:48", "10:20:17", "2025-04-14T02:20:17"),
        ("2025-04-14 10:19:21", None, "2025-04-13 10:19:21", "2025-04-13T02:19:21"),
        ("2025-04-14 10:19:21", None, "25:00:00", None),
        ("2025-04-14 10:19:21", None, "", None),
        (None, None, "10:19:21", None),
    ],
)
def test_day_of_a_turn_is_derived_from_the_call(
    start: str | None, end: str | None, clock: str, expected: str | None
) -> None:
    begin, finish = (
        datetime.fromisoformat(text).replace(tzinfo=ZONE) if text else None for text in (start, end)
    )
    (turn,) = parse_dialogue([{"caption": "x", "talk_datetime": clock}], begin, finish, ZONE)
    assert turn.time == (datetime.fromisoformat(expected).replace(tzinfo=UTC) if expected else None)
    assert turn.time_of_day == (clock or None)


def test_huge_dialogue_is_merged_quickly() -> None:
    known = parsed([{"caption": "好", "title": str(n % 2)} for n in range(5000)])
    assert len(lay_over(known, known[1:])) == 4999


def test_stored_turn_keeps_its_time_without_the_call() -> None:
    turns = parsed(ARRAY)
    assert parse_dialogue(json.loads(json.dumps(to_json(turns))), None, None, ZONE) == turns
    hostile = [{"caption": "x", "_callbridge": {"time": 5, "encoding": [], "flagged": 1}}]
    assert parsed(hostile)[0].text == "x"


@given(arrays, st.sampled_from(FORMS))
def test_stored_dialogue_is_lossless(array: list[dict[str, Any]], form: int | str) -> None:
    forms = [parsed(array), parsed(json.dumps(array)), parsed(as_string(array, form))]
    for turns in [*forms, lay_over(forms[2], forms[0])]:
        assert parsed(json.loads(json.dumps(to_json(turns)))) == turns


@given(arrays, st.sampled_from(FORMS))
def test_other_encoding_is_no_change_and_loses_nothing(array: list[dict[str, Any]], form: int | str) -> None:
    known, poorer = parsed(array), parsed(as_string(array, form))
    if len(known) != len(poorer):
        return  # A turn in which nothing was said, and the like.
    assert same_dialogue(known, poorer)
    assert same_dialogue(poorer, known)
    result = lay_over(known, poorer)
    assert [replace(turn, context_sn=None, similarity=None) for turn in result] == [
        replace(turn, carried=new.carried, encoding=new.encoding, separator=new.separator)
        for turn, new in zip(known, result, strict=True)
    ]
    assert lay_over(result, poorer) is result
    assert lay_over(result, known) is result


@given(arrays, arrays, st.sampled_from(["pairs", 6]))
def test_lay_over_equals_the_incoming_dialogue_and_is_idempotent(
    a: list[dict[str, Any]], b: list[dict[str, Any]], form: int | str
) -> None:
    known, incoming = parsed(a), parsed(as_string(b, form))
    result = lay_over(known, incoming)
    if incoming:
        assert same_dialogue(result, incoming)
    assert lay_over(result, incoming) == result


def is_value_of_a_program(text: str) -> bool:
    """Whether a text is what a program wrote for a value, and no words: `null`, `Infinity`, `Array`."""
    try:
        json.loads(text)
    except ValueError:
        return text.strip() in ("Array", "None", "undefined")
    return True


@given(
    st.text("#!@a:1;", max_size=60)
    | st.text("#!@l", max_size=30).map("##listen@@{}".format)
    | st.text(max_size=60)
)
def test_any_string_is_parsed_without_losing_words(value: str) -> None:
    turns = parsed(value)
    assert parsed(to_json(turns)) == turns
    # Marks without a letter or a digit say nothing.
    if "#" not in value and any(char.isalnum() for char in value):
        words = [turn.text.split() for turn in turns]
        assert words == [value.split()] or value.strip()[0] in "[{" or is_value_of_a_program(value)
