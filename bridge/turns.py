"""The turns of a call's dialogue, which the platform writes in three encodings.

A turn remembers which of its fields its encoding spoke of; `bridge.dialogue` compares by that.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Literal, cast, get_args
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from bridge.body import NotAnObject, parse_json

Speaker = Literal["robot", "customer"]
Encoding = Literal["array", "json", "string"]
Number = int | float | str | None


class Turn(msgspec.Struct, frozen=True, gc=False):
    """What one side said at a time; `carried` names the fields its encoding spoke of."""

    speaker: Speaker
    text: str = ""
    title: str | None = None
    time: datetime | None = None
    time_of_day: str | None = None
    labels: tuple[str, ...] = ()
    score: Number = None
    recording: str | None = None
    process_code: str | None = None
    similarity: Number = None
    talk_info_sn: str | None = None
    context_sn: str | None = None
    trigger_word: str | None = None
    match_type: Number = None
    jump_type: str | None = None
    agent_name: str | None = None
    extra: Mapping[str, Any] = {}
    raw: Any = None
    flagged: bool = False
    encoding: Encoding = "array"
    carried: frozenset[str] = frozenset()

    @property
    def is_unparsed(self) -> bool:
        """Whether `text` is only the raw form, because nothing in it could be told apart."""
        return self.flagged and not self.carried


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
# In a customer's turn these hold the word `listen` where a robot's says what it plays.
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

_TIME_OF_DAY = re.compile(r"(?:(\d{4}-\d{2}-\d{2})[ T])?(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_DAY = timedelta(days=1)
_SEPARATORS = re.compile("[;；]")


class _CallClock:
    """Gives a time of day its date: the call's day or the next, whichever is nearer to the call."""

    def __init__(self, start: datetime | None, end: datetime | None, zone: ZoneInfo) -> None:
        self._start = start or end
        self._end = end or start
        self._zone = zone
        self._days: tuple[date, ...] = ()
        self._midnight: datetime | None = None
        """The call's day begins; None where a clock is changed that day or the next."""
        self._known: dict[str, datetime | None] = {}
        if self._start is not None:
            today = self._start.astimezone(zone).date()
            # The last day of the calendar has no next one.
            self._days = (today, min(today, date.max - _DAY) + _DAY)
            self._midnight = _midnight(today, zone)

    def moment(self, time_of_day: str | None) -> datetime | None:
        """The moment in UTC, or None where the text is no time or the call's day is not known."""
        if not time_of_day:
            return None
        # The robot answers in the second in which the customer was heard, so most come twice.
        if time_of_day not in self._known:
            self._known[time_of_day] = self._moment(time_of_day)
        return self._known[time_of_day]

    def _moment(self, time_of_day: str) -> datetime | None:
        found = _TIME_OF_DAY.fullmatch(time_of_day.strip())
        if found is None:
            return None
        day, *parts = found.groups("0")
        hour, minute, second = map(int, parts)
        if hour > 23 or minute > 59 or second > 59:
            return None
        if day == "0" and self._midnight is not None and self._start is not None and self._end is not None:
            moment = self._midnight + timedelta(hours=hour, minutes=minute, seconds=second)
            if self._start <= moment <= self._end:
                return moment
        return self._nearest(day, time(hour, minute, second, tzinfo=self._zone))

    def _nearest(self, day: str, clock: time) -> datetime | None:
        try:
            days = self._days if day == "0" else (date.fromisoformat(day),)
            moments = [datetime.combine(day, clock).astimezone(UTC) for day in days]
        except (ValueError, OverflowError):
            return None
        return min(moments, key=self._distance, default=None)

    def _distance(self, moment: datetime) -> timedelta:
        if self._start is None or self._end is None:
            return timedelta()
        return max(self._start - moment, moment - self._end, timedelta())


@lru_cache(maxsize=64)
def _midnight(day: date, zone: ZoneInfo) -> datetime | None:
    """When a day begins; None where clocks are changed on it."""
    try:
        begins, ends = (datetime.combine(each, time(), tzinfo=zone) for each in (day, day + _DAY))
        return begins.astimezone(UTC) if begins.utcoffset() == ends.utcoffset() else None
    except OverflowError:
        return None


def parse_dialogue(
    value: object, call_start: datetime | None, call_end: datetime | None, zone: ZoneInfo
) -> tuple[Turn, ...]:
    """The turns of `talk_info` in any of its encodings; `[]`, `""` and null are no turns."""
    if isinstance(value, tuple) and all(isinstance(turn, Turn) for turn in value):
        return value
    encoding: Encoding = "array"
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in ("[", "{") or text == "null":
            try:
                value, encoding = parse_json(text), "json"
            except NotAnObject:
                value = text
    if value is None or value in ("", [], {}, ()) or (isinstance(value, str) and not value.strip()):
        return ()
    clock = _CallClock(call_start, call_end, zone)
    if isinstance(value, str):
        return tuple(_from_string(value, clock))
    if isinstance(value, list):
        return tuple(_from_object(item, encoding, clock) for item in value)
    return (_unparsed("robot", value, encoding),)


def to_json(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """The dialogue as the array encoding plus one key of ours; `parse_dialogue` reads it back whole."""
    return [_to_object(turn) for turn in turns]


def meaning(turn: Turn) -> dict[str, Any]:
    """The part of a turn that both the array and the full string encoding carry, for digests."""
    parts = _ROBOT_PARTS if turn.speaker == "robot" else _CUSTOMER_PARTS
    said = {name: compared(turn, name) for name in parts if name not in ("context_sn", "similarity")}
    said["speaker"] = turn.speaker
    if turn.is_unparsed:
        said["raw"] = turn.raw
    return {name: value for name, value in said.items() if value not in (None, "", ())}


def split_labels(value: object) -> tuple[str, ...]:
    """The entries between `;` or `；`, trimmed, without empty ones; an entry may hold colons."""
    if isinstance(value, list | tuple):
        return tuple(label for item in value for label in split_labels(item))
    if value is None or value == "" or isinstance(value, bool | dict):
        return ()
    return tuple(label for part in _SEPARATORS.split(str(value)) if (label := part.strip()))


def _from_object(item: object, encoding: Encoding, clock: _CallClock) -> Turn:
    if not isinstance(item, dict):
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
    return _restored(turn, ours) if isinstance(ours, dict) else turn


def _told_apart(item: Mapping[str, Any], names: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a turn that are known by name, and all else."""
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in item.items():
        name = names.get(key)
        if name is None:
            extra[key] = value
        elif value.__class__ is str:
            # Nearly all of them, and most are empty.
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


def _restored(turn: Turn, ours: Mapping[str, Any]) -> Turn:
    return replace(
        turn,
        time=turn.time or _stored_time(ours.get("time")),
        encoding=_encoding(ours, turn.encoding),
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
        return _number(value)
    if name == "text":
        return "" if value is None else str(value)
    return None if value is None or value == "" else str(value)


def _number(value: Any) -> Number:
    if isinstance(value, str):
        return _number_in(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return cast("Number", value)


@lru_cache(maxsize=1024)
def _number_in(value: str) -> Number:
    """What a text says: of scores and similarities there are few."""
    text = value.strip()
    if not _DECIMAL.fullmatch(text):
        return value if text else None
    if "." not in text:
        return int(text)
    number = float(text)
    return int(number) if number.is_integer() else number


def _unparsed(speaker: Speaker, raw: Any, encoding: Encoding) -> Turn:
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)
    return Turn(speaker, text=text, raw=raw, flagged=True, encoding=encoding)


def _from_string(value: str, clock: _CallClock) -> list[Turn]:
    turns: list[Turn] = []
    leading: list[str] = []
    for segment in _segments(value):
        mark = _mark(segment)
        if mark is not None:
            text = "##".join([*leading, segment]) if mark == "customer" else segment
            if mark == "robot" and leading:
                turns.append(_unparsed("customer", "##".join(leading), "string"))
            leading = []
            turns.append(_from_segment(text, mark, clock))
        elif turns:
            turns[-1] = _with_more(turns[-1], segment)
        else:
            leading.append(segment)
    if leading:
        turns.append(_unparsed("customer", "##".join(leading), "string"))
    return turns


def _segments(value: str) -> list[str]:
    """The pieces between `##`; a robot's turn that its caption's own `##` cut in two is made whole."""
    pieces = [piece for piece in value.split("##") if piece.strip()]
    whole: list[str] = []
    for piece in pieces:
        parts = piece.count("#!") + 1
        if (
            whole
            and "#@" not in piece
            and parts == 7
            and whole[-1].count("#!") == 2
            and "#@" not in whole[-1]
        ):
            whole[-1] += f"##{piece}"
        else:
            whole.append(piece)
    return whole


def _mark(segment: str) -> Speaker | None:
    robot, customer = segment.count("#!"), segment.count("#@")
    if robot and customer:
        return "robot" if robot + 1 == len(_ROBOT_PARTS) else "customer"
    if robot:
        return "robot"
    return "customer" if customer else None


def _from_segment(segment: str, speaker: Speaker, clock: _CallClock) -> Turn:
    names = _ROBOT_PARTS if speaker == "robot" else _CUSTOMER_PARTS
    parts = segment.split(_MARKS[speaker])
    if len(parts) > len(names):
        return _unparsed(speaker, segment, "string")
    values = {name: _field_value(name, part) for name, part in zip(names, parts, strict=False)}
    odd = len(parts) != len(names) if speaker == "robot" else len(parts) not in (2, 4, 6)
    return Turn(
        speaker,
        time=clock.moment(values.get("time_of_day")),
        raw=segment if odd else None,
        flagged=odd,
        encoding="string",
        carried=frozenset(values),
        **values,
    )


def _with_more(turn: Turn, segment: str) -> Turn:
    return replace(
        turn,
        text=f"{turn.text}##{segment}",
        raw=f"{turn.raw}##{segment}" if turn.flagged else None,
        carried=frozenset() if turn.is_unparsed else turn.carried | {"text"},
    )


def compared(turn: Turn, name: str) -> Any:
    """A field as it counts for equality: a clock with or without its day or its leading zero is one."""
    value = getattr(turn, name)
    if name == "time_of_day" and value is not None:
        found = _TIME_OF_DAY.fullmatch(value.strip())
        return f"{int(found[2]):02}:{found[3]}:{found[4] or '00'}" if found else value
    return value.strip() if isinstance(value, str) else value
