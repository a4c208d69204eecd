"""The call as a mapping reads it: normalised values by plain names, each computed when first asked for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic, Literal, Self, TypeVar, overload
from urllib.parse import quote
from zoneinfo import ZoneInfo

from bridge.lib.phone import PhoneKind, phone_kind, plain_number, to_e164
from bridge.lib.whole_numbers import parse_int
from bridge.record.dialect import Dialect
from bridge.record.lazy_record import LazyRecord
from bridge.record.origin import Origin
from bridge.record.turn import Turn, split_labels

T = TypeVar("T")
Direction = Literal["outbound", "inbound"]
Sex = Literal["male", "female"]


class Attribute(Generic[T]):
    """One public attribute of a call: its description, and how it is read; cached once it was read."""

    def __init__(self, description: str, read: Callable[["Call"], T]) -> None:
        self.description = description
        self._read = read
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, call: None, owner: type) -> Self: ...
    @overload
    def __get__(self, call: "Call", owner: type) -> T: ...
    def __get__(self, call: "Call | None", owner: type) -> Self | T:
        if call is None:
            return self
        value: T = call._readers[self._name](call)  # noqa: SLF001 -- its own class's table
        # An entry in `__dict__` hides a descriptor without `__set__`, so each attribute is computed once.
        call.__dict__[self._name] = value
        return value

    def reader(self, dialect: Dialect) -> Callable[["Call"], T]:
        """The function that reads it from calls of a platform."""
        computed = dialect.attributes.computed.get(self._name)
        if computed is None:
            return self._of_platform(dialect)
        compute = computed.read
        return lambda call: compute(call.record)

    def _of_platform(self, dialect: Dialect) -> Callable[["Call"], T]:
        del dialect
        return self._read


class _FieldAttribute(Attribute[T]):
    """An attribute that one field holds, or the first of several that is not empty."""

    def __init__(self, description: str, convert: Callable[[Any], T]) -> None:
        super().__init__(description, lambda _: convert(None))
        self._convert = convert

    def _of_platform(self, dialect: Dialect) -> Callable[["Call"], T]:
        convert, fields = self._convert, dialect.attributes.direct.get(self._name, ())
        if len(fields) == 1:
            (field_,) = fields
            return lambda call: convert(call.record.get(field_))
        if not fields:
            return self._read

        def first_of(call: Call) -> T:
            found = (convert(call.record.get(each)) for each in fields)
            return next((value for value in found if value is not None), convert(None))

        return first_of


class _TimeAttribute(Attribute[datetime | None]):
    """An attribute that is a time, which one field holds."""

    def __init__(self, description: str) -> None:
        super().__init__(description, lambda _: None)

    def _of_platform(self, dialect: Dialect) -> Callable[["Call"], datetime | None]:
        fields, time = dialect.attributes.direct.get(self._name), dialect.time
        if not fields:
            return self._read
        (field_,) = fields
        return lambda call: time(call.record.get(field_), call.origin.zone)


def text_of(value: Any) -> str | None:
    """A field's value as trimmed text; None if it is empty, a boolean, a list or an object."""
    if value.__class__ is str:
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def _text(description: str) -> _FieldAttribute[str | None]:
    return _FieldAttribute(description, text_of)


def _lower(value: Any) -> str | None:
    text = text_of(value)
    return text.lower() if text else None


def _integer(description: str) -> _FieldAttribute[int | None]:
    return _FieldAttribute(description, parse_int)


def _flag(description: str) -> _FieldAttribute[bool]:
    return _FieldAttribute(description, lambda value: bool(parse_int(value)))


def _known_flag(description: str) -> _FieldAttribute[bool | None]:
    def convert(value: Any) -> bool | None:
        number = parse_int(value)
        return None if number is None else bool(number)

    return _FieldAttribute(description, convert)


def _tags(description: str) -> _FieldAttribute[tuple[str, ...]]:
    return _FieldAttribute(description, split_labels)


def _phone(description: str) -> _FieldAttribute[str | None]:
    def convert(value: Any) -> str | None:
        text = text_of(value)
        # A CRM that keeps only digits would read `13800000000.0` as a number with a 0 more at its end.
        return plain_number(text) if text and text.isascii() else text

    return _FieldAttribute(description, convert)


def _as_sent(call: "Call", name: str) -> Any:
    """The raw value of the field that holds an attribute; None if no field does."""
    fields = call.origin.dialect.attributes.direct.get(name, ())
    return call.record.get(fields[0]) if fields else None


def _phone_as_sent(call: "Call") -> Any:
    return _as_sent(call, "phone") or call.phone


def _grade(call: "Call") -> str | None:
    return call.grade_manual or call.grade_auto


def _answered(call: "Call") -> bool:
    return call.connected_at is not None or call.talk_seconds > 0


def _talk_seconds(call: "Call") -> int:
    seconds = parse_int(_as_sent(call, "talk_seconds"))
    if seconds is None and call.connected_at and call.disconnected_at:
        # Mappings test `call.talk_seconds > 0`, which must be true of an answered call without the field too.
        seconds = round((call.disconnected_at - call.connected_at).total_seconds())
    return max(seconds or 0, 0)


def _ring_seconds(call: "Call") -> int | None:
    until = call.connected_at or call.disconnected_at
    if call.started_at is None or until is None:
        return None
    return max(round((until - call.started_at).total_seconds()), 0)


def _recording_url(call: "Call") -> str | None:
    file, prefix = call.recording_file, call.origin.recording_url
    if file is None:
        return None
    if file.startswith(("https://", "http://")):
        return file
    if not prefix:
        return None
    path = quote(file.encode("utf-8", "replace"), safe="/")
    # After a `?` the path is a parameter's value, whose slashes must stay as they are.
    return prefix + path if "?" in prefix else f"{prefix.rstrip('/')}/{path.lstrip('/')}"


def _phone_e164(call: "Call") -> str | None:
    return to_e164(_phone_as_sent(call), call.origin.country)


def _phone_kind(call: "Call") -> PhoneKind:
    return phone_kind(_phone_as_sent(call), call.origin.country)


def _dialogue(call: "Call") -> tuple[Turn, ...]:
    return call.origin.dialect.dialogue.read(call.record, call.origin.zone)


def _no_direction(_call: "Call") -> Direction | None:
    return None


def _no_sex(_call: "Call") -> Sex | None:
    return None


@dataclass(frozen=True)
class Call:
    """One call, read-only: `record` as the platform sent it, and normalised attributes read from it."""

    key: str
    source: str
    record: Mapping[str, Any] = field(repr=False, hash=False)
    origin: Origin = field(repr=False)
    _readers: Mapping[str, Callable[["Call"], Any]] = field(repr=False, compare=False)

    @classmethod
    def of(cls, record: Mapping[str, Any], key: str, origin: Origin) -> Self:
        """The call that a record describes."""
        if not isinstance(record, LazyRecord):
            record = MappingProxyType(dict(record))
        return cls(key, origin.source, record, origin, _readers_of(origin.dialect))

    uuid = _FieldAttribute(
        "The call's UUID in lower case, as the platform gave it; null if it gave none.", _lower
    )
    sn = _text("The platform's `sn` of the record; not known to be unique per call.")
    id = _text("The platform's row number, as text, because it can exceed what a CRM's numbers hold.")

    phone = _phone("The customer's phone number as the platform gave it, masked digits included.")
    phone_e164 = Attribute(
        "The phone number in E.164; null if it is empty, masked or impossible.", _phone_e164
    )
    phone_kind = Attribute("`mobile`, `landline`, `masked`, `empty` or `other`.", _phone_kind)
    name = _text("The customer's name.")
    company = _text("The customer's company.")
    company_phone = _phone("The company's phone number as the platform gave it.")
    address = _text("The customer's address.")
    area = _text("Where the phone number is registered, such as 广东省深圳市.")
    sex = Attribute("`male` or `female` as heard by the platform; null if it could not tell.", _no_sex)

    grade = Attribute(
        "The customer's grade: the manual one if a person set it, else the automatic one.",
        _grade,
    )
    grade_auto = _text("The grade the robot gave.")
    grade_manual = _text("The grade a person set.")
    grade_sub = _text("The grade's subdivision.")
    score = _integer("The call's score.")
    tags = _tags("The labels the dialogue earned, in order, as a list.")
    dynamic_tags = _tags("The labels made of the customer's own words, as a list.")

    created_at = _TimeAttribute("When the platform made the record.")
    updated_at = _TimeAttribute("When the platform last changed the record.")
    started_at = _TimeAttribute("When dialling began.")
    connected_at = _TimeAttribute("When the customer answered; null if nobody did.")
    disconnected_at = _TimeAttribute("When the call ended.")
    answered = Attribute("Whether the call was answered.", _answered)
    first_connected = _known_flag("Whether the first attempt was answered; null if unknown.")
    talk_seconds = Attribute("Seconds talked; 0 if nobody answered.", _talk_seconds)
    ring_seconds = Attribute(
        "Seconds from dialling to the answer, or to the end if none; null if unknown.", _ring_seconds
    )
    charged_minutes = _integer("Minutes billed.")
    call_count = _integer("How often this customer was dialled.")

    direction = Attribute(
        "`outbound` or `inbound`; null where the platform's codes contradict.", _no_direction
    )
    from_type = _integer("The platform's code for what started the call; 3 is a voice test.")
    is_voice_test = Attribute("Whether this was a voice test.", lambda _: False)
    is_deleted = _flag("Whether the record was deleted on the platform.")
    hangup_by = _text("Who hung up or why, in the platform's words.")
    hangup_node = _text("The script node at which the call ended.")
    number_status = _integer("The number check's code: 0 unused, 1 in use, 2 suspended, 100 unchecked.")
    caller = _text("The number that called.")
    transferred = _FieldAttribute(
        "Handover to a person: 0 none, 1 not taken, 2 taken.", lambda value: parse_int(value) or 0
    )

    recording_file = _text("The recording's path on the platform's disk.")
    recording_url = Attribute(
        "The recording's link; null without a recording or where the source has no `recording_url`.",
        _recording_url,
    )
    dialogue = Attribute("The turns of the dialogue, for `transcript` or to loop over.", _dialogue)
    last_reply = _text("The customer's last reply.")
    question_count = _integer("How many business questions the customer asked.")
    summary = _text("The platform's summary of the call.")
    remark = _text("The remark a person wrote on the platform.")
    read = _known_flag("Whether a person has read the record on the platform; null if unknown.")

    project = _text("The code of the project (script).")
    project_name = _text("The project's name.")
    task = _text("The campaign task's code.")
    task_name = _text("The campaign task's name.")
    agent_sn = _text("The code of the agent who took the call.")
    agent_name = _text("The name of the agent who took the call.")
    user_sn = _text("The code of the platform user who owns the record.")
    user_name = _text("The name of the platform user who owns the record.")
    account = _text("The platform's main account.")
    team_name = _text("The owner's team.")
    wechat_pushed = _flag("Whether the customer was passed on to WeChat.")
    wechat_status = _integer("Adding on WeChat: 0 none, 1 to be sent, 2 sent, 3 not found, 4 failed.")
    satisfaction = _integer(
        "The customer's rating: 1 satisfied, 2 fair, 3 not satisfied, 4 very, 5 not at all, 0 none given."
    )
    satisfaction_text = _text("The rating in words.")


@lru_cache(maxsize=16)
def _readers_of(dialect: Dialect) -> Mapping[str, Callable[[Call], Any]]:
    """Attribute → the function that reads it from calls of a platform."""
    attributes = {name: value for name, value in vars(Call).items() if isinstance(value, Attribute)}
    return {name: attribute.reader(dialect) for name, attribute in attributes.items()}


CALL_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "key": "The call's key in the ledger, which never changes: what a CRM's record is found by.",
        "source": "The source that the call came from, by its name in the configuration.",
        "record": "The platform's record as it came, field by field.",
    }
    | {name: value.description for name, value in vars(Call).items() if isinstance(value, Attribute)}
)


def transcript(turns: Iterable[Turn], zone: ZoneInfo, robot: str = "机器人", customer: str = "客户") -> str:
    """The dialogue as text: one line a turn, with the time in `zone` where it is known."""
    lines = []
    for turn in turns:
        if not turn.text and turn.is_unparsed:
            # An unparsed turn may have no words to show.
            continue
        # As text a local time is `HH:MM:SS`, perhaps with a fraction behind it.
        clock = turn.time_of_day if turn.time is None else str(turn.time.astimezone(zone).time())[:8]
        # `isprintable` is false for a text with line ends, which would break the line of the turn.
        said = turn.text if turn.text.isprintable() else " ".join(turn.text.splitlines())
        who = robot if turn.speaker == "robot" else customer
        lines.append((f"[{clock}] {who}: {said}" if clock else f"{who}: {said}").rstrip())
    return "\n".join(lines)
