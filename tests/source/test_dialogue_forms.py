"""The dialogue in other forms: the string of the samples, objects for lists, JSON in texts."""

import json
import time
from datetime import UTC, datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.record.call import transcript
from bridge.record.dialogue_merge import same_dialogue
from bridge.record.turn import Turn
from bridge.source.outcall.dialogue import to_json
from tests.fixtures.dialogues import ARRAY, as_string, parsed
from tests.fixtures.odd_records import call, odd

ZONE = ZoneInfo("Asia/Shanghai")
ROBOT = "/v/a.wav#!开场#!您好#!q1#!#!#!#!design|x#!10:00:01"
WORDS = "有需求#@/r/1.wav#@20#@有需求#@talk_info_sn|1#@10:00:05"
DASHED = "talk_info_sn|01c7cb0c-18d7-11f0-8a22-2f2b0aba51d7"


def told(turn: Turn) -> tuple[Any, ...]:
    return turn.speaker, turn.text, turn.recording, turn.score, turn.time_of_day


def said(value: object) -> list[tuple[str, str]]:
    return [(turn.speaker, turn.text) for turn in parsed(value)]


def test_string_form_of_the_samples_is_parsed() -> None:
    turns = call(odd("talk_info_string")).dialogue
    assert [told(turn) for turn in turns] == [
        ("robot", "您好,请问需要贷款吗", "/v/a.wav", None, "10:00:01"),
        ("customer", "有需求", "/r/1.wav", 20, "10:00:05"),
        ("robot", "我们是专业的", "/v/b.wav", None, "10:00:08"),
        ("customer", "好的", "/r/2.wav", 0, "10:00:12"),
    ]
    assert [turn.time for turn in turns] == [
        datetime(2025, 4, 14, 2, 0, second, tzinfo=UTC) for second in (1, 5, 8, 12)
    ]
    robot, customer = turns[:2]
    assert (robot.title, robot.process_code, robot.context_sn) == ("开场", "q1", "design|x")
    assert (customer.labels, customer.talk_info_sn) == (("有需求",), "talk_info_sn|1")
    assert not any(turn.flagged for turn in turns)


def test_list_written_as_an_object_is_the_dialogue() -> None:
    turns = call(odd("talk_info_object")).dialogue
    assert [told(turn) for turn in turns] == [
        ("robot", "您好", "a", None, None),
        ("customer", "可以", None, None, None),
    ]


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (f"##{ROBOT}@@#@{WORDS}", "您好 有需求"),
        (f"、##{ROBOT}@@#@", "您好"),
        (f"{ROBOT}@@#@##listen@@##listen@@{WORDS}", "您好 有需求"),
        (f"##{ROBOT}@@{WORDS}", "您好 有需求"),
        (f"##{ROBOT}##listen@@{WORDS}", "您好 有需求"),
        ("##listen@@##listen@@", ""),
        (f"##/v/a.wav#!开场#!您好#!q1#!#!#!#!design|x@@#@{WORDS}", "您好 有需求"),
        ("Array", ""),
        ("[object Object]", ""),
        ("[object Object],[object Object]", ""),
        ("Array, Array", ""),
        ("NaN", ""),
        (" undefined ", ""),
        ("(null)", ""),
        ("None of that", "None of that"),
        ("##listen@@#@", ""),
        ("##listen@@好的#@/r.wav", "好的"),
        ("##listen@@nomatch#@/r.wav#@_0#@#@x#@10:00:12", "nomatch"),
        # What people say.
        (f"##{ROBOT}@@#@好##的#@/r.wav#@20#@#@x#@10:00:05##listen@@{WORDS}", "您好 好##的 有需求"),
        ("##listen@@我@@你#@/r.wav", "我@@你"),
        ("##listen@@##我#@/r.wav", "##我"),
        (f"##{ROBOT}@@#@@@#@/r.wav", "您好 @@"),
        (f"##{ROBOT.replace('您好', '您##好')}@@#@{WORDS}", "您##好 有需求"),
        (f"##{ROBOT.replace('您好', '您@@好')}@@#@{WORDS}", "您@@好 有需求"),
        (f"##{ROBOT.replace('您好', '您@@##好')}@@#@{WORDS}##{ROBOT}@@#@", "您@@##好 有需求 您好"),
        (f"##listen@@我##{ROBOT}@@#@", "我 您好"),
        # The table's form goes on working, also where people say @@ in it.
        (f"{ROBOT}##{WORDS}", "您好 有需求"),
        (f"、##{ROBOT}##我@@你#@/r.wav##{ROBOT}", "您好 我@@你 您好"),
        (f"{ROBOT}###@{WORDS}", "您好 有需求"),
        ('"好的"#@/r.wav', '"好的"'),
        ("[笑]#@/r.wav", "[笑]"),
    ],
)
def test_both_string_forms_are_parsed(value: str, texts: str) -> None:
    turns = parsed(value)
    assert " ".join(turn.text for turn in turns if turn.text) == texts
    assert parsed(to_json(turns)) == turns


@pytest.mark.parametrize("value", [True, 0, 12.5, [1, 2, True], [[7]]])
def test_numbers_and_flags_are_not_spoken_words(value: Any) -> None:
    turns = parsed(value)
    assert turns
    assert {(turn.text, turn.flagged) for turn in turns} == {("", True)}
    assert parsed(to_json(turns)) == turns


def test_list_of_empty_values_is_no_dialogue() -> None:
    assert parsed([None, "", [], {}, False]) == ()


def test_a_turns_clock_may_have_a_fraction() -> None:
    (turn,) = parsed([{"is_answer": 1, "answer": "好", "talk_datetime": "10:19:21.500"}])
    assert turn.time == datetime(2025, 4, 14, 2, 19, 21, tzinfo=UTC)


def test_odd_values_of_the_samples_are_parsed() -> None:
    (turn,) = parsed(f"##listen@@好的#@/r.wav#@_0#@#@{DASHED}#@10:00:12")
    assert (turn.score, turn.labels, turn.talk_info_sn) == (0, (), DASHED)
    assert same_dialogue((turn,), parsed([{"is_answer": 1, "answer": "好的", "score": "0"}]))


def _twice(value: Any, times: int = 2) -> Any:
    for _ in range(times):
        value = json.dumps(value)
    return value


@pytest.mark.parametrize(
    "wrapped",
    [
        {"list": ARRAY, "total": len(ARRAY)},
        {"code": 0, "data": ARRAY, "msg": "ok"},
        {"code": 0, "data": {"list": json.dumps(ARRAY), "total": 2}},
        [None, *ARRAY, "", [], None],
        {str(at): turn for at, turn in enumerate(ARRAY)},
        {str(at * 3 + 1): turn for at, turn in reversed(list(enumerate(ARRAY)))},
        json.dumps({str(at): turn for at, turn in enumerate(ARRAY)}),
        _twice(ARRAY),
        _twice(ARRAY, 3),
        _twice({str(at): turn for at, turn in enumerate(ARRAY)}),
        f"  {_twice(ARRAY)} ",
        escape(json.dumps(ARRAY, ensure_ascii=False)),
        json.dumps(ARRAY, ensure_ascii=False).replace("\\", "\\\\").replace('"', '\\"'),
        [json.dumps(turn) for turn in ARRAY],
        [ARRAY],
        [ARRAY[:5], ARRAY[5:]],
        {"fragment": ARRAY},
        {"fragment": [ARRAY]},
        {f"turn{at}": turn for at, turn in enumerate(ARRAY)},
        json.dumps(as_string(ARRAY)),
        json.dumps(as_string(ARRAY, "pairs")),
    ],
)
def test_wrapping_does_not_change_a_dialogue(wrapped: object) -> None:
    turns = parsed(wrapped)
    assert same_dialogue(turns, parsed(ARRAY))
    assert not any(turn.flagged for turn in turns)


def test_one_turn_alone_is_a_dialogue() -> None:
    assert said({"is_answer": 1, "answer": "可以"}) == [("customer", "可以")]
    assert said('{"caption": "您好"}') == [("robot", "您好")]


@pytest.mark.parametrize("value", [False, "false", '""', '"[]"', _twice([], 3), '"null"', {"0": []}, [[]]])
def test_wrapped_empty_value_is_no_dialogue(value: object) -> None:
    assert parsed(value) == ()


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95, 0.9999])
@pytest.mark.parametrize("times", [1, 2])
def test_truncated_json_keeps_its_whole_turns(cut: float, times: int) -> None:
    whole = _twice(ARRAY, times)
    text = whole[: int(len(whole) * cut)]
    turns = parsed(text)
    whole_ones = [turn for turn in turns if not turn.flagged]
    assert len(whole_ones) >= int(len(ARRAY) * cut) - 3
    assert same_dialogue(whole_ones, parsed(ARRAY[: len(whole_ones)]))
    assert len(whole_ones) == len(ARRAY) or (turns[-1].text, turns[-1].flagged) == ("", True)


@pytest.mark.parametrize(
    "value",
    [
        "1#!/usr/local/sounds/a.wav#!3#!4#!5#!6#!7#!8#!9#!10",
        "##/v/a.wav@@/mnt/record/b.wav",
        "/usr/local/sounds/a.wav",
        "录音/usr/local/sounds/a.wav 在 /mnt/my rec/b.wav,d:\\rec\\c.WAV",
        f"##{'/v/a.wav#!' * 12}@@#@{WORDS}",
        {"path": "/usr/local/sounds/a.wav"},
        ["/usr/local/sounds/a.wav", ["C:\\rec\\b.WAV"]],
        [{"is_answer": 0, "caption": "/usr/local/sounds/a.wav"}],
        json.dumps(ARRAY)[:-1],
        json.dumps(ARRAY)[:300],
        _twice(ARRAY)[:-1],
    ],
)
def test_file_paths_of_the_platform_are_not_in_the_transcript(value: object) -> None:
    turns = parsed(value)
    lines = transcript(turns, ZONE)
    assert not any(sound in lines.lower() for sound in (".wav", "/usr", "/mnt", "/v/"))
    assert parsed(to_json(turns)) == turns


def test_spoken_file_names_and_links_are_kept() -> None:
    assert said("在 https://x.example/a.wav 和 1/2 和 a.wav#@/r.wav") == [
        ("customer", "在 https://x.example/a.wav 和 1/2 和 a.wav")
    ]
    assert [turn.text for turn in parsed("看 https://x.example/a.wav 1/2")] == [
        "看 https://x.example/a.wav 1/2"
    ]


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "##a",
            "a#@b##c",
            "##listen@@",
            "a#!b##",
            "@@",
            "#@",
            "#!",
            "#!@@ ",
            "##listen@@a#@b##c",
            "/a.wav ",
            "[",
            "{",
        ),
        *(
            '{"',
            '{"answer":"a"},',
            '"[',
            '\\"',
            "[{&quot;",
            "null",
            f"##{ROBOT}@@#@{WORDS}",
            f"{ROBOT}##{WORDS}##",
        ),
    ],
)
def test_parsing_time_grows_linearly_with_the_text(unit: str) -> None:
    def cost(length: int) -> float:
        text, costs = unit * (length // len(unit)), []
        for _ in range(5):
            begun = time.process_time()
            parsed(text)
            costs.append(time.process_time() - begun)
        return min(costs)

    assert cost(8_000) <= 3 * cost(4_000) + 0.002
