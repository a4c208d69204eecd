"""Is it news? Dialogues in two encodings, and what holds in any order of records."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.calls import Known, Via
from bridge.record.canonical import canonical
from bridge.record.verdict import read_incoming
from tests.fixtures.origins import MAIN
from tests.fixtures.verdicts import (
    CALLBACK,
    DUPLICATE,
    LIST,
    NEW,
    NOTHING,
    RECEIVED,
    REVISION,
    STALE,
    Record,
    after,
    clock,
    epoch,
    hear,
    meaning,
    record,
    say,
)

# -- dialogues ---------------------------------------------------------------------
ROBOT = {
    "vocfile": "/a.wav",
    "caption": "您好",
    "title": "01",
    "process_code": "q1",
    "labelling": "",
    "talk_datetime": "10:19:21",
    "is_answer": 0,
    "talk_info_sn": "",
    "trigger_jump_type": "x",
}
CUSTOMER = {
    "vocfile": "listen",
    "answer": "可以啊",
    "fenduanluyin": "/b.wav",
    "score": 5,
    "labelling": "愿意",
    "talk_info_sn": "",
    "talk_datetime": "10:19:25",
    "is_answer": 1,
    "agent_name": "x",
}
ARRAY = [ROBOT, CUSTOMER]


def string_of(robot: str = "您好", customer: str = "可以啊") -> str:
    return f"/a.wav#!01#!{robot}#!q1#!#!#!#!#!10:19:21##{customer}#@/b.wav#@5#@愿意#@#@10:19:25"


@pytest.mark.parametrize("empty", [[], "", None, "[]", "  "])
@pytest.mark.parametrize("via", [CALLBACK, LIST])
def test_an_empty_dialogue_never_replaces_a_known_one(empty: Any, via: Via) -> None:
    known = after(say(1, talk_info=ARRAY))
    for minute in (1, 2, None):
        ruling = hear(known, record(minute, talk_info=empty), via)
        assert (ruling.verdict, ruling.known.values["talk_info"]) == (DUPLICATE, ARRAY)
    ruling = hear(known, record(2, talk_info=empty, name="A"), via)
    assert (ruling.verdict, ruling.kept, ruling.known.values["talk_info"]) == (REVISION, False, ARRAY)
    # Nor does it keep an older one from filling.
    filled = hear(after(say(2, via, talk_info=empty)), record(1, talk_info=ARRAY), via)
    assert (filled.verdict, filled.known.values["talk_info"]) == (REVISION, ARRAY)


@pytest.mark.parametrize("via", [CALLBACK, LIST])
def test_poorer_form_of_the_same_dialogue_replaces_nothing(via: Via) -> None:
    ruling = hear(after(say(1, talk_info=ARRAY)), record(2, talk_info=string_of()), via)
    assert (ruling.verdict, ruling.known.values["talk_info"]) == (DUPLICATE, ARRAY)
    assert ruling.known.stamp == epoch(2)


@pytest.mark.parametrize("via", [CALLBACK, LIST])
def test_richer_form_of_the_same_dialogue_is_kept_and_no_news(via: Via) -> None:
    ruling = hear(after(say(1, talk_info=string_of())), record(2, talk_info=ARRAY), via)
    assert (ruling.verdict, ruling.unchanged) == (DUPLICATE, False)
    turns = canonical(ruling.known.values, MAIN)["talk_info"]
    assert (turns[0].jump_type, turns[1].agent_name) == ("x", "x")


def test_changed_poorer_dialogue_is_news_and_keeps_missing_fields() -> None:
    known = after(say(1, talk_info=ARRAY))
    ruling = hear(known, record(2, talk_info=string_of(customer="不用了")))
    assert (ruling.verdict, ruling.kept) == (REVISION, False)
    turns = canonical(ruling.known.values, MAIN)["talk_info"]
    assert [turn.text for turn in turns] == ["您好", "不用了"]
    assert (turns[0].jump_type, turns[1].agent_name) == ("x", None)


OTHER = [ROBOT | {"caption": "再见"}]


@pytest.mark.parametrize("via", [CALLBACK, LIST])
@pytest.mark.parametrize("known_via", [CALLBACK, LIST])
def test_an_older_dialogue_replaces_no_newer_one(known_via: Via, via: Via) -> None:
    known = after(say(2, known_via, talk_info=ARRAY))
    ruling = hear(known, record(1, talk_info=OTHER), via)
    assert (ruling.verdict, ruling.known.values["talk_info"]) == (STALE, ARRAY)
    filled = hear(known, record(1, talk_info=OTHER, data1="x"), via)
    assert (filled.verdict, filled.known.values["talk_info"]) == (REVISION, ARRAY)
    assert filled.known.values["data1"] == "x"


def test_a_dialogue_of_which_a_part_is_kept_raw_is_flagged() -> None:
    def flags(talk_info: Any) -> tuple[str, ...]:
        return read_incoming({"uuid": "u", "talk_info": talk_info}, CALLBACK, MAIN, RECEIVED).flags

    assert flags(["text"]) == flags([*ARRAY, "text"]) == ("unreadable:talk_info",)
    assert flags(ARRAY) == flags([]) == flags(None) == ()


# -- laws --------------------------------------------------------------------------
VALUES: dict[str, Sequence[Any]] = {
    "name": ["", None, "A", "B"],
    "talktimes": [None, 0, "0", 88],
    "data1": ["", "x", "y"],
    "unheard_of": [None, 1, {"a": []}],
    "push_crm_at": [None, clock(1), clock(2)],
    "talk_info": [[], "", None, ARRAY, OTHER],
}
partial = st.fixed_dictionaries({}, optional={name: st.sampled_from(VALUES[name]) for name in VALUES})
vias = st.sampled_from(Via)


def newest_of_each_field(records: Sequence[Record]) -> Record:
    """The contract's sentence, word by word."""
    said: Record = {}
    for one in sorted(records, key=lambda one: str(one["updated_at"])):
        said |= {
            name: value
            for name, value in canonical(one, MAIN).items()
            if not (name == "talk_info" and value is None)
        }
    return {name: value for name, value in said.items() if value is not None and name != "updated_at"}


@given(st.data(), st.lists(partial, min_size=1, max_size=5))
def test_any_order_and_repetition_ends_in_the_same_state(data: st.DataObject, fields: list[Record]) -> None:
    records = [record(minute, **one) for minute, one in enumerate(fields)]
    repeated = data.draw(st.lists(st.sampled_from(records), max_size=4))
    order = data.draw(st.permutations(records + repeated))
    reads = data.draw(st.sampled_from([NOTHING, frozenset({"unheard_of"})]))
    known = after(*((one, data.draw(vias)) for one in order), reads=reads)
    assert meaning(known) == newest_of_each_field(records)
    assert known.stamp == epoch(len(records) - 1)


Said = tuple[Record, Via]
whole = st.fixed_dictionaries({"name": st.sampled_from("ABC"), "data1": st.sampled_from(["", "x"])})
undated = st.lists(st.tuples(whole, vias), min_size=1, max_size=8)


@given(undated, st.sampled_from([1, None]))
def test_list_wins_over_callbacks_at_equal_stamps(said: list[tuple[Record, Via]], minute: int | None) -> None:
    known = after(*((record(minute, **fields), via) for fields, via in said))
    listed = [fields for fields, via in said if via is LIST]
    if listed:
        expected = {"uuid": "u"} | {name: value for name, value in listed[-1].items() if value}
        assert meaning(known) == expected


@given(st.lists(whole, min_size=1, max_size=10), st.sampled_from([1, None]))
def test_callbacks_at_equal_stamps_show_each_state_once(said: list[Record], minute: int | None) -> None:
    known: Known | None = None
    shown = []
    for fields in said:
        ruling = hear(known, record(minute, **fields))
        known = ruling.known
        if ruling.verdict in (NEW, REVISION):
            shown.append(meaning(known))
    assert all(one not in shown[:index] for index, one in enumerate(shown))
    assert len(shown) == len({(one["name"], one["data1"]) for one in said})


@given(st.lists(st.tuples(partial, st.sampled_from([1, 2, None]), vias), min_size=1, max_size=8))
def test_flags_are_right_for_any_records(said: list[tuple[Record, int | None, Via]]) -> None:
    # `hear` checks every ruling on the way.
    known = after(*((record(minute, **fields), via) for fields, minute, via in said))
    assert 2 * known.revision >= len(known.history)
