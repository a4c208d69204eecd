"""Makes up call records with all fields of the platform; the same seed and time give the same records.

Begin at `generate()`.
"""

import itertools
import json
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from bridge.sandbox.conversation import TURN_TAGS, as_marked_text, converse

Record = dict[str, Any]
T = TypeVar("T")

PLATFORM_ZONE = ZoneInfo("Asia/Shanghai")
GRADES = "ABCDEF"

_ALWAYS_EMPTY = (
    "address",
    "unit",
    "agent_sn",
    "agent_name",
    "status_sub",
    "fs_listen_agent",
    "virtual_extension_number",
    "sip_error_code",
    *(f"data{number}" for number in range(1, 31)),
)
_ALWAYS_NULL = (
    "unit_phone",
    "asks_count_routine",
    "pushed_at",
    "listened_at",
    "intervention_at",
    "actual_push_screens_total",
    "warning_results",
    "satisfaction_caption",
    "push_crm_at",
    *(f"ext{number}" for number in range(2, 6)),
    "summary",
)
_ALWAYS_ZERO = (
    "is_wechat",
    "fs_monitor_change_talk",
    "fs_push_screens",
    "fs_intervention_time",
    "is_seating_assistance",
    "warning_times",
    "degree_of_satisfaction",
    "satisfaction_invitation_type",
    "auto_add_wechat_status",
    "is_transfertoagent",
    "transfer_type",
)
_SOMETIMES_TEXT = (
    "talktimes",
    "score",
    "call_count",
    "charging_minute",
    "is_deleted",
    "call_from_type",
    "id",
)

# A small batch gets one of each; beyond that the weights decide.
_PHONES = {
    "mobile": 60,
    "masked": 3,
    "empty": 3,
    "redial": 16,
    "redial again": 4,
    "landline": 4,
    "+86": 4,
    "0086": 2,
    "0": 4,
}
_FATES = {"answered": 62, "unanswered": 30, "voice test": 4, "deleted": 4}
_ENCODINGS = {"array": 70, "nested": 15, "marked": 15}

_MOBILE_PREFIXES = ("133", "136", "138", "139", "150", "151", "158", "159", "177", "181", "186", "188", "199")
_AREAS = (
    ("010", "北京市"),
    ("021", "上海市"),
    ("0755", "广东省深圳市"),
    ("0571", "浙江省杭州市"),
    ("028", "四川省成都市"),
)
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙欧阳"
_GIVEN = ("伟", "芳", "秀英", "敏", "静怡", "磊", "建国", "雨桐", "浩然", "桂兰", "𠮷祥")
_TAGS = (
    *(tag for tag in TURN_TAGS if tag),
    "意向产品:整装套餐",
    "预算:20万",
    "回访时间:2025-04-18 15:00:00",
    "加微信",
)
_UNANSWERED = ("无人接听", "用户忙", "关机", "空号", "呼叫超时")
_MARKS = ("已加微信", "下周再联系", "客户要求发报价", "打错了", "已转门店跟进", "约了周六上门 <量房> & 报价")


@dataclass(frozen=True, slots=True)
class _CallShape:
    phone: str
    fate: str
    encoding: str


def generate(count: int, seed: int, now: datetime, user: str = "demo") -> list[Record]:
    """`count` varied records, oldest first; the last was created less than a minute before `now` (aware)."""
    rng = random.Random(seed)  # noqa: S311  # sample data, not secrets
    rows = itertools.count(rng.randrange(10_000, 900_000_000))
    gap = min(20.0, 7200 / max(count, 1))
    last = now.astimezone(PLATFORM_ZONE).replace(tzinfo=None) - timedelta(seconds=rng.uniform(30, 55))
    return [
        _record(rng, plan, next(rows), last - timedelta(seconds=gap * (count - 1 - index)), user)
        for index, plan in enumerate(_plans(rng, count))
    ]


def stream(rng: random.Random, clock: Callable[[], datetime], user: str = "demo") -> Iterator[Record]:
    """Records without end, each created shortly before the moment it is asked for."""
    rows = itertools.count(rng.randrange(10_000, 900_000_000))
    while True:
        for plan in _plans(rng, 40):
            created = clock().astimezone(PLATFORM_ZONE).replace(tzinfo=None) - timedelta(seconds=30)
            yield _record(rng, plan, next(rows), created, user)


def later_edit(record: Record, rng: random.Random, now: datetime) -> Record:
    """The same call after a person worked on it; always newer than `record`, also when the clock is not."""
    before = datetime.fromisoformat(record["updated_at"])
    local = now.astimezone(PLATFORM_ZONE).replace(tzinfo=None)
    return record | {
        "status_manual": rng.choice([grade for grade in GRADES if grade != record["status_manual"]]),
        "mark": rng.choice(_MARKS),
        "return_visit": rng.choice(("0", "1", 1)),
        "updated_at": _stamp(max(local, before + timedelta(seconds=1))),
    }


def _plans(rng: random.Random, count: int) -> list[_CallShape]:
    regulars = [_mobile(rng) for _ in range(count // 40 + 1)]
    kinds = _mixed(rng, _PHONES, count)
    fates = _mixed(rng, _FATES, count)
    encodings = _mixed(rng, _ENCODINGS, count)
    phones = [_phone(rng, kind, regulars) for kind in kinds]
    return [_CallShape(*parts) for parts in zip(phones, fates, encodings, strict=True)]


def _mixed(rng: random.Random, weights: dict[str, int], count: int) -> list[str]:
    names = list(weights)
    extra = max(0, count - len(names))
    mixed = [*names[:count], *rng.choices(names, list(weights.values()), k=extra)]
    rng.shuffle(mixed)
    return mixed


def _mobile(rng: random.Random) -> str:
    return rng.choice(_MOBILE_PREFIXES) + f"{rng.randrange(10**8):08d}"


def _phone(rng: random.Random, kind: str, regulars: Sequence[str]) -> str:
    if kind == "empty":
        return ""
    if kind == "landline":
        return rng.choice(_AREAS)[0] + rng.choice(("", "-")) + f"{rng.randrange(20_000_000, 89_999_999)}"
    if kind.startswith("redial"):
        # The same customer also comes back written in another way.
        return rng.choice(("", "", "", "+86", "0")) + rng.choice(regulars)
    number = _mobile(rng)
    if kind == "masked":
        return f"{number[:3]}****{number[-4:]}"
    return number if kind == "mobile" else kind + number


def _record(rng: random.Random, plan: _CallShape, row: int, created: datetime, user: str) -> Record:
    name = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    record: Record = dict.fromkeys(_ALWAYS_EMPTY, "")
    record |= dict.fromkeys(_ALWAYS_NULL)
    record |= dict.fromkeys(_ALWAYS_ZERO, 0)
    record |= _identity(rng, name, row, user)
    record |= _customer(rng, plan.phone)
    record |= _judgement(rng, created)
    hung_up = created - timedelta(seconds=2)
    if plan.fate == "unanswered":
        record |= _unanswered(rng, hung_up)
    else:
        record |= _answered(rng, hung_up, f"{user}_{name}", plan.encoding)
    record["created_at"] = _stamp(created)
    record["updated_at"] = _stamp(created + timedelta(seconds=rng.choice((0, 0, 0, 1, 9))))
    record["call_from_type"] = 3 if plan.fate == "voice test" else 0
    record["is_deleted"] = 1 if plan.fate == "deleted" else 0
    for key in _SOMETIMES_TEXT:
        if rng.random() < 0.06:
            record[key] = str(record[key])
    return record


def _identity(rng: random.Random, name: str, row: int, user: str) -> Record:
    task = f"dial_task_main_sn|{user}"
    return {
        "id": row,
        "uuid": name,
        "base_info": f"{name}out",
        "sn": f"account|{rng.getrandbits(128):032x}",
        "user_sn": f"SYSUSER|{user}",
        "user_name": f"{user}1",
        "parent_sn": user,
        "operator": user,
        "team_sn": "SON",
        "team_name": "人工智能客户组",
        "project_sn": f"projects|{user}",
        "project_caption": "春季回访-转人工",
        "cdr_sn": task,
        "dial_task_main_sn": task,
        "source": "20250414101849",
        "caller": "900002",
        "tts_service_id": 110001,
        "number_status": 100,
        "recordpath": "/mnt/record",
        "virtual_extension_endreason": "-",
        "classify": "-",
    }


def _customer(rng: random.Random, phone: str) -> Record:
    # A redialled customer keeps name and place, whatever way the number is written.
    digits = int(phone[-11:]) if phone[-8:].isdigit() and phone[-11:].isdigit() else rng.getrandbits(30)
    known = digits % 4 != 0
    sex = str(digits % 3)
    return {
        "phone": phone,
        "name": _SURNAMES[digits % len(_SURNAMES)] + _GIVEN[digits // 7 % len(_GIVEN)] if known else "",
        "area_code": _AREAS[digits // 3 % len(_AREAS)][1],
        "rec_sex": sex,
        "qc_status": sex,
    }


def _judgement(rng: random.Random, created: datetime) -> Record:
    tags = rng.sample(_TAGS, rng.randrange(4))
    if rng.random() < 0.15:
        tags.append(f"A转人工;转人工时间:{_stamp(created)}")
    return {
        "status": rng.choices(GRADES, (8, 14, 24, 24, 18, 12))[0],
        "status_manual": rng.choice(GRADES) if rng.random() < 0.15 else rng.choice((None, "")),
        "labelling": "".join(f";{tag}" for tag in tags),
        "dynamic_labelling": rng.choice(("", "", "20万;", "意向强;四年级;")),
        "score": rng.randrange(0, 101, 5),
        "asks_count": rng.randrange(5),
        "call_count": rng.choice((1, 1, 1, 2)),
        "return_visit": rng.choice(("0", "1")),
        "mark": "",
    }


def _unanswered(rng: random.Random, hung_up: datetime) -> Record:
    return {
        "started_at": _stamp(hung_up - timedelta(seconds=rng.randrange(8, 60))),
        "connected_at": rng.choice((None, "", "0000-00-00 00:00:00")),
        "disconnected_at": _stamp(hung_up),
        "talktimes": rng.choice((0, 0, "")),
        "talk_info": [],
        "endreason": rng.choice(_UNANSWERED),
        "recordfile": "",
        "hangup_serial_number": "",
        "last_reply": "",
        "labelling": "",
        "charging_minute": 0,
        "ext1": "",
        "is_first_connected": 0,
    }


def _answered(rng: random.Random, hung_up: datetime, stem: str, encoding: str) -> Record:
    seconds = rng.randrange(6, 200)
    connected = hung_up - timedelta(seconds=seconds)
    turns = converse(rng, connected, seconds, f"{connected:%Y%m%d%H%M%S}_{stem}")
    encoded: object = turns
    if encoding == "nested":
        encoded = json.dumps(turns, ensure_ascii=rng.random() < 0.5)
    elif encoding == "marked":
        encoded = as_marked_text(turns)
    return {
        "started_at": _stamp(connected - timedelta(seconds=rng.randrange(3, 20))),
        "connected_at": _stamp(connected),
        "disconnected_at": _stamp(hung_up),
        "talktimes": seconds + rng.choice((0, 1)),
        "talk_info": encoded,
        "endreason": rng.choice(("对方挂机", "机器人挂机")),
        "recordfile": f"/mnt/record/{connected:%Y%m%d/%H%M/%Y%m%d%H%M%S}_{stem}.wav",
        "hangup_serial_number": f"{turns[-2]['title']}#{rng.randrange(1, 9)}",
        "last_reply": turns[-1]["answer"],
        "charging_minute": seconds // 60 + 1,
        "ext1": str(seconds),
        "is_first_connected": 1,
    }


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
