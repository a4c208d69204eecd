"""The turns of a call's dialogue, which the platform writes in three encodings.

A turn notes which fields its encoding has, because dialogues are compared on the fields that both have.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, cast, get_args
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from bridge.lib.timestamps import parse_time
from bridge.record.lazy_record import LazyRecord
from bridge.record.turn import Speaker, Turn, split_labels
from bridge.record.turn_clock import CallClock
from bridge.source.outcall.dialogue_string import SEPARATOR, Segment, segments
from bridge.source.outcall.plain_turns import plain_turns
from bridge.source.outcall.turn_values import SOUNDS, number_of, spoken_text
from bridge.source.outcall.unwrap_dialogue import TURN_KEYS, items_of, looks_like_json, unwrapped, whole_items

Encoding = Literal["array", "json", "string"]

_SHARED_KEYS = {
    "title": "title",
    "labels": "labelling",
    "score": "score",
    "process_code": "process_code",
    "similarity": "similarity",
    "talk_info_sn": "talk_info_sn",
    "context_sn": "context_sn",
    "time_of_day": "talk_datetime",
    "trigger_word": "trigger_word",
    "match_type": "match_type",
    "jump_type": "trigger_jump_type",
    "agent_name": "agent_name",
}
KEYS: dict[Speaker, dict[str, str]] = {
    "robot": {"text": "caption", "recording": "vocfile"} | _SHARED_KEYS,
    "customer": {"text": "answer", "recording": "fenduanluyin"} | _SHARED_KEYS,
}
# In a customer's turn these hold the word `listen`; in a robot's, what it plays.
_LISTEN_KEYS = ("vocfile", "caption", "title")
_NAMES = {
    speaker: {key: name for name, key in keys.items() if speaker == "robot" or key not in _LISTEN_KEYS}
    for speaker, keys in KEYS.items()
}
_OURS = "_callbridge"
_NUMBERS = frozenset({"score", "similarity", "match_type"})
_READ_APART = _NUMBERS | {"labels", "text"}
_IF_EMPTY: Mapping[str, Any] = {"labels": (), "text": ""}

_ROBOT_PARTS = (
    "recording",
    "title",
    "text",
    "process_code",
    "similarity",
    "talk_info_sn",
    "labels",
    "context_sn",
    "time_of_day",
)
_CUSTOMER_PARTS = ("text", "recording", "score", "labels", "talk_info_sn", "time_of_day")
_MARKS: dict[Speaker, str] = {"robot": "#!", "customer": "#@"}

_TOKEN = re.compile(r"[^\s#!@,;\"]+")
# What programs write when they print a list, an object or nothing as text.
_NO_WORD = r"(?:Array|-?Infinity|\[object Object\]|Object|NaN|None|nil|undefined|null|NULL|\(null\))"
_NO_WORDS = re.compile(rf"\s{{0,9}}{_NO_WORD}(?:\s{{0,9}},\s{{0,9}}{_NO_WORD}){{0,999}}\s{{0,9}}")


class OutcallDialogue:
    """See `bridge.record.dialect.DialogueForm`."""

    field = "talk_info"

    def read(self, record: Mapping[str, Any], zone: ZoneInfo) -> tuple[Turn, ...]:
        start = parse_time(record.get("connected_at"), zone) or parse_time(record.get("started_at"), zone)
        end = parse_time(record.get("disconnected_at"), zone)
        start = start or parse_time(record.get("created_at"), zone)
        if isinstance(record, LazyRecord) and (text := record.json_of(self.field)) is not None:
            plain = plain_turns(text, "array", CallClock(start, end, zone))
            if plain is not None:
                return plain
        return parse_dialogue(record.get(self.field), start, end, zone)

    def write(self, turns: Iterable[Turn]) -> Any:
        return to_json(turns)

    def is_plain(self, value: bytes) -> bool:
        # Nearly always it is a list of objects, or empty.
        return value == b"null" or value.startswith((b"[{", b"[]", b'""'))


def parse_dialogue(
    value: object, call_start: datetime | None, call_end: datetime | None, zone: ZoneInfo
) -> tuple[Turn, ...]:
    """The turns of a `talk_info` in any encoding; `[]`, `""`, null and false are an empty dialogue."""
    if isinstance(value, tuple) and all(isinstance(turn, Turn) for turn in value):
        return value
    value, from_text = unwrapped(value)
    if value is None or value is False or value in ("", [], {}, ()):
        return ()
    clock = CallClock(call_start, call_end, zone)
    encoding: Encoding = "json" if from_text else "array"
    if isinstance(value, list) and (plain := plain_turns(value, encoding, clock)) is not None:
        return plain
    return any_turns(value, encoding, clock)


def any_turns(value: object, encoding: Encoding, clock: CallClock) -> tuple[Turn, ...]:
    """The turns of an unwrapped dialogue, each read by itself."""
    if not isinstance(value, str):
        return tuple(_from_object(item, encoding, clock) for item in items_of(value))
    if not looks_like_json(value):
        return tuple(_from_segment(segment, clock) for segment in segments(value))
    items, rest = whole_items(value)
    turns = [_from_object(item, "json", clock) for item in items]
    return (*turns, _unparsed("customer", rest, "json")) if rest else tuple(turns)


def to_json(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """The dialogue in the array encoding plus one key of our own; `parse_dialogue` returns the same turns."""
    return [_to_object(turn) for turn in turns]


def _from_object(item: object, encoding: Encoding, clock: CallClock) -> Turn:
    if not isinstance(item, dict) or TURN_KEYS.isdisjoint(item):
        return _unparsed("robot", item, encoding)
    ours = item.get(_OURS)
    if isinstance(ours, dict) and "unparsed" in ours:
        said_by: Speaker = "customer" if ours["unparsed"] == "customer" else "robot"
        return _unparsed(said_by, ours.get("raw"), _encoding(ours, encoding))
    speaker = _speaker(item)
    values, extra = _told_apart(item, _NAMES[speaker])
    if speaker == "customer":
        for key in _LISTEN_KEYS:
            if extra.get(key) in ("listen", "", None):
                extra.pop(key, None)
    extra.pop("is_answer", None)
    extra.pop(_OURS, None)
    moment = clock.moment(values.get("time_of_day"))
    carried = frozenset(values)
    turn = Turn(speaker, time=moment, extra=extra, encoding=encoding, carried=carried, **values)
    return _restored(turn, ours, encoding) if isinstance(ours, dict) else turn


def _told_apart(item: Mapping[str, Any], names: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The known fields of a turn by our names, and all other fields."""
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in item.items():
        name = names.get(key)
        if name is None:
            extra[key] = value
        elif value.__class__ is str:
            # Nearly all values are texts, and most are empty.
            if not value:
                values[name] = _IF_EMPTY.get(name)
            else:
                values[name] = _field_value(name, value) if name in _READ_APART else value
        elif _is_plain(name, value):
            values[name] = _field_value(name, value)
        else:
            extra[key] = value
    return values, extra


def _is_plain(name: str, value: Any) -> bool:
    if isinstance(value, list) and name == "labels":
        return all(isinstance(label, str) for label in value)
    return not isinstance(value, bool | dict | list)


def _speaker(item: Mapping[str, Any]) -> Speaker:
    answers = item.get("is_answer")
    if answers in (0, 1, "0", "1"):
        return "customer" if int(answers) else "robot"
    return "customer" if item.get("vocfile") == "listen" or item.get("answer") else "robot"


def _restored(turn: Turn, ours: Mapping[str, Any], encoding: Encoding) -> Turn:
    encoding = _encoding(ours, encoding)
    return replace(
        turn,
        time=turn.time or _stored_time(ours.get("time")),
        encoding=encoding,
        separator=SEPARATOR if encoding == "string" else "",
        flagged=ours.get("flagged") is True,
        raw=ours.get("raw"),
    )


def _stored_time(stamp: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _encoding(ours: Mapping[str, Any], default: Encoding) -> Encoding:
    found = ours.get("encoding")
    return cast("Encoding", found) if found in get_args(Encoding) else default


def _to_object(turn: Turn) -> dict[str, Any]:
    ours: dict[str, Any] = {"encoding": turn.encoding}
    if turn.time is not None:
        ours["time"] = turn.time.isoformat()
    if turn.raw is not None:
        ours["raw"] = turn.raw
    if turn.is_unparsed:
        return {_OURS: ours | {"unparsed": turn.speaker}}
    if turn.flagged:
        ours["flagged"] = True
    keys = KEYS[turn.speaker]
    item: dict[str, Any] = {"is_answer": int(turn.speaker == "customer")}
    if turn.speaker == "customer":
        item |= dict.fromkeys(_LISTEN_KEYS, "listen")
    item |= dict(turn.extra)
    for name in sorted(turn.carried):
        value = getattr(turn, name)
        item[keys[name]] = ";".join(value) if name == "labels" else value
    item[_OURS] = ours
    return item


def _field_value(name: str, value: Any) -> Any:
    if value == "":
        return _IF_EMPTY.get(name)
    if name == "labels":
        return split_labels(value)
    if name in _NUMBERS:
        return number_of(value)
    if name == "text":
        return spoken_text("" if value is None else str(value))
    return None if value is None or value == "" else str(value)


def _unparsed(speaker: Speaker, raw: Any, encoding: Encoding) -> Turn:
    """A turn whose fields cannot be recognised: all of it in `raw`, its readable words in `text`."""
    text = raw if isinstance(raw, str) else ""
    text = "" if looks_like_json(text) or _NO_WORDS.fullmatch(text) else _TOKEN.sub(_without_path, text)
    separator = SEPARATOR if encoding == "string" else ""
    return Turn(speaker, text=text, raw=raw, flagged=True, encoding=encoding, separator=separator)


def _without_path(token: re.Match[str]) -> str:
    text = token[0]
    if text.lower().startswith(("http://", "https://")):
        return text
    if text.lower().endswith(SOUNDS) or (text[0] == "/" and text.count("/") > 1):
        return re.split(r"[A-Za-z]:[\\/]|[\\/]", text, maxsplit=1)[0] if "/" in text or "\\" in text else text
    return text


def _from_segment(segment: Segment, clock: CallClock) -> Turn:
    speaker, whole = segment.speaker, segment.text
    if segment.more:
        whole += SEPARATOR + segment.more
    names = _ROBOT_PARTS if speaker == "robot" else _CUSTOMER_PARTS
    parts = segment.text.split(_MARKS[speaker])
    if speaker == "customer" and len(parts) % 2 and not parts[0].strip():
        # Behind a robot's part the customer's begins with `#@`; a customer's turn has 2, 4 or 6 parts.
        del parts[0]
    if len(parts) > len(names) or not segment.marked:
        return _unparsed(speaker, whole, "string")
    values = {name: _field_value(name, part) for name, part in zip(names, parts, strict=False)}
    odd = len(parts) != len(names) if speaker == "robot" else len(parts) not in (2, 4, 6)
    if segment.more:
        values["text"] = _field_value("text", f"{values.get('text', '')}{SEPARATOR}{segment.more}")
    return Turn(
        speaker,
        time=clock.moment(values.get("time_of_day")),
        raw=whole if odd else None,
        flagged=odd,
        encoding="string",
        separator=SEPARATOR,
        carried=frozenset(values),
        **values,
    )
