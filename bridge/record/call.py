"""The call as a mapping reads it: normalised values by plain names, each computed when first asked for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Generic, Literal, Self, TypeVar, overload
from urllib.parse import quote
from zoneinfo import ZoneInfo

from bridge.lib.phone import PhoneKind, phone_kind, plain_number, to_e164
from bridge.lib.timestamps import parse_time
from bridge.record.dialogue import Turn, split_labels
from bridge.record.origin import Origin
from bridge.record.platform_record import dialogue_of, parse_int

T = TypeVar("T")
Direction = Literal["outbound", "inbound"]
Sex = Literal["male", "female"]

# From 4 on the platform documents two lists that contradict each other; these they agree on, or only one has.
_INBOUND = frozenset({1, 7})
_OUTBOUND = frozenset({0, 2, 3, 4, 6})
_VOICE_TEST = 3
_SEX: Mapping[str, Sex] = {"1": "male", "2": "female", "男": "male", "女": "female"}


class Attribute(Generic[T]):
    """One public value of a call: what it says, and how it is read; kept once it was read."""

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
        value = self._read(call)
        # The instance's own dictionary goes before a descriptor without __set__: read once, kept.
        call.__dict__[self._name] = value
        return value


def _text(description: str, column: str) -> Attribute[str | None]:
    return Attribute(description, lambda call: _text_of(call.record.get(column)))


def _integer(description: str, column: str) -> Attribute[int | None]:
    return Attribute(description, lambda call: parse_int(call.record.get(column)))


def _flag(description: str, column: str) -> Attribute[bool]:
    return Attribute(description, lambda call: bool(parse_int(call.record.get(column))))


def _known_flag(description: str, column: str) -> Attribute[bool | None]:
    def read(call: "Call") -> bool | None:
        number = parse_int(call.record.get(column))
        return None if number is None else bool(number)

    return Attribute(description, read)


def _time(description: str, column: str) -> Attribute[datetime | None]:
    def read(call: "Call") -> datetime | None:
        return parse_time(call.record.get(column), call.origin.zone)

    return Attribute(description, read)


def _tags(description: str, column: str) -> Attribute[tuple[str, ...]]:
    return Attribute(description, lambda call: split_labels(call.record.get(column)))


def _text_of(value: object) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def _uuid(call: "Call") -> str | None:
    uuid = _text_of(call.record.get("uuid"))
    return uuid.lower() if uuid else None


def _answered(call: "Call") -> bool:
    return call.connected_at is not None or (parse_int(call.record.get("talktimes")) or 0) > 0


def _talk_seconds(call: "Call") -> int:
    seconds = parse_int(call.record.get("talktimes"))
    if seconds is None and call.connected_at and call.disconnected_at:
        # Rules ask for this number, and an answered call must not look like one that was not.
        seconds = round((call.disconnected_at - call.connected_at).total_seconds())
    return max(seconds or 0, 0)


def _ring_seconds(call: "Call") -> int | None:
    until = call.connected_at or call.disconnected_at
    if call.started_at is None or until is None:
        return None
    return max(round((until - call.started_at).total_seconds()), 0)


def _direction(call: "Call") -> Direction | None:
    kind = call.from_type
    if kind in _INBOUND:
        return "inbound"
    if kind in _OUTBOUND:
        return "outbound"
    base_info = (_text_of(call.record.get("base_info")) or "").lower()
    if base_info.endswith("out"):
        return "outbound"
    return "inbound" if base_info.endswith("in") else None


def _recording_url(call: "Call") -> str | None:
    file, prefix = call.recording_file, call.origin.recording_url
    if file is None:
        return None
    if file.startswith(("https://", "http://")):
        return file
    if not prefix:
        return None
    path = quote(file.encode("utf-8", "replace"), safe="/")
    # After a `?` the path is a parameter's value, where a slash more or less matters.
    return prefix + path if "?" in prefix else f"{prefix.rstrip('/')}/{path.lstrip('/')}"


def _phone(description: str, column: str) -> Attribute[str | None]:
    def read(call: "Call") -> str | None:
        text = _text_of(call.record.get(column))
        # A decimal's fraction would become a part of the number in whatever takes its digits.
        return plain_number(text) if text and text.isascii() else text

    return Attribute(description, read)


def _phone_e164(call: "Call") -> str | None:
    return to_e164(call.record.get("phone"), call.origin.country)


def _phone_kind(call: "Call") -> PhoneKind:
    return phone_kind(call.record.get("phone"), call.origin.country)


def _dialogue(call: "Call") -> tuple[Turn, ...]:
    return dialogue_of(call.record, call.origin)


def _sex(call: "Call") -> Sex | None:
    return _SEX.get(_text_of(call.record.get("rec_sex")) or "")


@dataclass(frozen=True)
class Call:
    """One call, read-only; `record` is what the platform said, all else is what it means."""

    key: str
    source: str
    record: Mapping[str, Any] = field(repr=False, hash=False)
    origin: Origin = field(repr=False)

    @classmethod
    def of(cls, record: Mapping[str, Any], key: str, origin: Origin) -> Self:
        """The call that a record tells of."""
        return cls(key, origin.source, MappingProxyType(dict(record)), origin)

    uuid = Attribute("The call's UUID in lower case, as the platform gave it; null if it gave none.", _uuid)
    sn = _text("The platform's `sn` of the record; not known to be unique per call.", "sn")
    id = _text("The platform's row number, as text, because it can exceed what a CRM's numbers hold.", "id")

    phone = _phone("The customer's phone number as the platform gave it, masked digits included.", "phone")
    phone_e164 = Attribute(
        "The phone number in E.164; null if it is empty, masked or impossible.", _phone_e164
    )
    phone_kind = Attribute("`mobile`, `landline`, `masked`, `empty` or `other`.", _phone_kind)
    name = _text("The customer's name.", "name")
    company = _text("The customer's company.", "unit")
    company_phone = _phone("The company's phone number as the platform gave it.", "unit_phone")
    address = _text("The customer's address.", "address")
    area = _text("Where the phone number is registered, such as 广东省深圳市.", "area_code")
    sex = Attribute("`male` or `female` as heard by the platform; null if it could not tell.", _sex)

    grade = Attribute(
        "The customer's grade: the manual one if a person set it, else the automatic one.",
        lambda call: _text_of(call.record.get("status_manual")) or _text_of(call.record.get("status")),
    )
    grade_auto = _text("The grade the robot gave.", "status")
    grade_manual = _text("The grade a person set.", "status_manual")
    grade_sub = _text("The grade's subdivision.", "status_sub")
    score = _integer("The call's score.", "score")
    tags = _tags("The labels the dialogue earned, in order, as a list.", "labelling")
    dynamic_tags = _tags("The labels made of the customer's own words, as a list.", "dynamic_labelling")

    created_at = _time("When the platform made the record.", "created_at")
    updated_at = _time("When the platform last changed the record.", "updated_at")
    started_at = _time("When dialling began.", "started_at")
    connected_at = _time("When the customer answered; null if nobody did.", "connected_at")
    disconnected_at = _time("When the call ended.", "disconnected_at")
    answered = Attribute("Whether the call was answered.", _answered)
    first_connected = _known_flag(
        "Whether the first attempt was answered; null if unknown.", "is_first_connected"
    )
    talk_seconds = Attribute("Seconds talked; 0 if nobody answered.", _talk_seconds)
    ring_seconds = Attribute(
        "Seconds from dialling to the answer, or to the end if none; null if unknown.", _ring_seconds
    )
    charged_minutes = _integer("Minutes billed.", "charging_minute")
    call_count = _integer("How often this customer was dialled.", "call_count")

    direction = Attribute("`outbound` or `inbound`; null where the platform's codes contradict.", _direction)
    from_type = _integer(
        "The platform's code for what started the call; 3 is a voice test.", "call_from_type"
    )
    is_voice_test = Attribute("Whether this was a voice test.", lambda call: call.from_type == _VOICE_TEST)
    is_deleted = _flag("Whether the record was deleted on the platform.", "is_deleted")
    hangup_by = _text("Who hung up or why, in the platform's words.", "endreason")
    hangup_node = _text("The script node at which the call ended.", "hangup_serial_number")
    number_status = _integer(
        "The number check's code: 0 unused, 1 in use, 2 suspended, 100 unchecked.", "number_status"
    )
    caller = _text("The number that called.", "caller")
    transferred = Attribute(
        "Handover to a person: 0 none, 1 not taken, 2 taken.",
        lambda call: parse_int(call.record.get("is_transfertoagent")) or 0,
    )

    recording_file = _text("The recording's path on the platform's disk.", "recordfile")
    recording_url = Attribute(
        "The recording's link; null without a recording or where the source has no `recording_url`.",
        _recording_url,
    )
    dialogue = Attribute("The turns of the dialogue, for `transcript` or to loop over.", _dialogue)
    last_reply = _text("The customer's last reply.", "last_reply")
    question_count = _integer("How many business questions the customer asked.", "asks_count")
    summary = _text("The platform's summary of the call.", "summary")
    remark = _text("The remark a person wrote on the platform.", "mark")
    read = _known_flag(
        "Whether a person has read the record on the platform; null if unknown.", "return_visit"
    )

    project = _text("The code of the project (script).", "project_sn")
    project_name = _text("The project's name.", "project_caption")
    task = Attribute(
        "The campaign task's code.",
        lambda call: _text_of(call.record.get("dial_task_main_sn")) or _text_of(call.record.get("cdr_sn")),
    )
    task_name = _text("The campaign task's name.", "source")
    agent_sn = _text("The code of the agent who took the call.", "agent_sn")
    agent_name = _text("The name of the agent who took the call.", "agent_name")
    user_sn = _text("The code of the platform user who owns the record.", "user_sn")
    user_name = _text("The name of the platform user who owns the record.", "user_name")
    account = _text("The platform's main account.", "parent_sn")
    team_name = _text("The owner's team.", "team_name")
    wechat_pushed = _flag("Whether the customer was passed on to WeChat.", "is_wechat")
    wechat_status = _integer(
        "Adding on WeChat: 0 none, 1 to be sent, 2 sent, 3 not found, 4 failed.", "auto_add_wechat_status"
    )
    satisfaction = _integer(
        "The customer's rating: 1 satisfied, 2 fair, 3 not satisfied, 4 very, 5 not at all, 0 none given.",
        "degree_of_satisfaction",
    )
    satisfaction_text = _text("The rating in words.", "satisfaction_caption")


CALL_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "key": "The call's key in the ledger, which never changes: what a CRM's record is found by.",
        "source": "The source that the call came from, by its name in the configuration.",
        "record": "The platform's record as it came, field by field.",
    }
    | {name: value.description for name, value in vars(Call).items() if isinstance(value, Attribute)}
)


def transcript(turns: Iterable[Turn], zone: ZoneInfo, robot: str = "机器人", customer: str = "客户") -> str:
    """The dialogue to read: one line a turn, with the time in `zone` where it is known."""
    # What could not be told apart may hold no words at all.
    spoken = (turn for turn in turns if turn.text or not turn.is_unparsed)
    return "\n".join(_line(turn, zone, robot if turn.speaker == "robot" else customer) for turn in spoken)


def _line(turn: Turn, zone: ZoneInfo, who: str) -> str:
    clock = turn.time_of_day if turn.time is None else turn.time.astimezone(zone).isoformat()[11:19]
    # The ends of lines are among what cannot be printed.
    said = turn.text if turn.text.isprintable() else " ".join(turn.text.splitlines())
    return f"{f'[{clock}] ' if clock else ''}{who}: {said}".rstrip()
