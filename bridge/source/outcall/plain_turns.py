"""Reads dialogues whose turns all have the documented fields, in a third of the time of any other dialogue.

Nearly all dialogues are of this kind. For every other one `plain_turns` returns None, and `parse_dialogue`
looks at each turn by itself; where both can read a dialogue, they return equal turns.
"""

from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from bridge.record.turn import Number, Turn, split_labels
from bridge.record.turn_clock import CallClock
from bridge.source.outcall.turn_values import number_of, spoken_text

_Text = str | None
_OptionalText = str | UnsetType | None


class _PlainTurn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One turn of the array encoding; the first group of fields has a meaning of ours."""

    is_answer: Literal[0, 1]
    vocfile: _Text
    caption: _Text
    title: _Text
    answer: _Text
    fenduanluyin: _Text
    score: Number
    labelling: _Text
    process_code: _Text
    talk_info_sn: _Text
    talk_datetime: _Text

    outType: Any  # noqa: N815 -- the platform's name
    seating_info: Any
    trigger_special: Any
    trigger_process_type: Any
    trigger_process_title: Any
    recognition_status: Any
    questions_status: Any
    recognitionInfo: Any  # noqa: N815 -- the platform's name

    # Not every release of the platform sends these.
    agent_name: _OptionalText = UNSET
    match_type: Number | UnsetType = UNSET
    trigger_word: _OptionalText = UNSET
    trigger_jump_type: _OptionalText = UNSET


_CARRIED = frozenset({"text", "recording", "score", "labels", "process_code", "talk_info_sn", "time_of_day"})

_decode = msgspec.json.Decoder(list[_PlainTurn]).decode


def plain_turns(
    dialogue: msgspec.Raw | list[Any], encoding: str, clock: CallClock
) -> tuple[Turn, ...] | None:
    """The turns of a dialogue, given as JSON or decoded; None where a turn is not of the documented kind."""
    try:
        if isinstance(dialogue, list):
            plain = msgspec.convert(dialogue, list[_PlainTurn])
        else:
            plain = _decode(dialogue)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return tuple([_turn(each, encoding, clock) for each in plain])


def _turn(plain: _PlainTurn, encoding: str, clock: CallClock) -> Turn:
    extra = {
        "outType": plain.outType,
        "seating_info": plain.seating_info,
        "trigger_special": plain.trigger_special,
        "trigger_process_type": plain.trigger_process_type,
        "trigger_process_title": plain.trigger_process_title,
        "recognition_status": plain.recognition_status,
        "questions_status": plain.questions_status,
        "recognitionInfo": plain.recognitionInfo,
    }
    is_customer = plain.is_answer == 1
    if is_customer:
        text, recording, title = plain.answer, plain.fenduanluyin, None
        if not plain.vocfile == plain.caption == plain.title == "listen":
            played = {"vocfile": plain.vocfile, "caption": plain.caption, "title": plain.title}
            extra |= {name: value for name, value in played.items() if value not in ("listen", "", None)}
    else:
        text, recording, title = plain.caption, plain.vocfile, plain.title
        extra["answer"], extra["fenduanluyin"] = plain.answer, plain.fenduanluyin
    agent, match, word, jump = plain.agent_name, plain.match_type, plain.trigger_word, plain.trigger_jump_type
    return Turn(
        "customer" if is_customer else "robot",
        text=spoken_text(text) if text else "",
        title=title or None,
        time=clock.moment(plain.talk_datetime),
        time_of_day=plain.talk_datetime or None,
        labels=split_labels(plain.labelling) if plain.labelling else (),
        score=number_of(plain.score),
        recording=recording or None,
        process_code=plain.process_code or None,
        talk_info_sn=plain.talk_info_sn or None,
        trigger_word=None if word is UNSET else word or None,
        match_type=None if match is UNSET else number_of(match),
        jump_type=None if jump is UNSET else jump or None,
        agent_name=None if agent is UNSET else agent or None,
        extra=extra,
        encoding=encoding,
        carried=_carried(is_customer, agent is UNSET, match is UNSET, word is UNSET, jump is UNSET),
    )


@lru_cache(maxsize=32)
def _carried(
    is_customer: bool,
    no_agent: bool,
    no_match: bool,
    no_word: bool,
    no_jump: bool,
) -> frozenset[str]:
    """The fields that a turn's encoding has: there are 32 combinations."""
    absent = {
        "title": is_customer,
        "agent_name": no_agent,
        "match_type": no_match,
        "trigger_word": no_word,
        "jump_type": no_jump,
    }
    return _CARRIED | {name for name, is_absent in absent.items() if not is_absent}
