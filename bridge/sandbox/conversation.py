"""Makes up dialogues between robot and customer, in the platform's encodings. Begin at `converse()`."""

import random
from datetime import datetime, timedelta
from typing import Any

TurnFields = dict[str, Any]

GREETINGS = ("您好,", "喂,您好,", "您好,打扰您一下,", "先生您好,", "女士您好,", "哎,您好,能听到吗?")
COMPANIES = (
    "这边是安居装饰的",
    "我是启航教育的课程顾问",
    "我们是做银行贷款咨询的",
    "这里是康宁体检中心",
    "我是车险续保专员",
)
PITCHES = (
    "请问您最近有这方面的需求吗?",
    "给您来电是想确认一下上次的预约。",
    "现在有个活动,名额不多了,",
    "想占用您一分钟了解一下情况,可以吗?",
    "看到您在网上留过资料,跟您核实一下。",
)
QUESTIONS = (
    "您大概的预算是多少呢?",
    "请问您名下有没有车或者房子呢?",
    "孩子今年几年级了?",
    "您看周末两天哪天方便?",
    "房子是新房还是老房翻新呢?",
    "那加您微信把资料发给您,可以吗?",
    "您的保险是几月份到期的?",
    "我们安排专业的顾问给您回电,详细沟通,您看可以吗?",
)
BRIDGES = ("好的,", "明白了,", "嗯,了解,", "没关系的,", "这样啊,", "")
PARTICLES = ("嗯", "哦", "啊", "那个", "哎", "对", "")
REPLIES = (
    "可以啊",
    "我不需要",
    "什么公司啊",
    "有什么优势吗",
    "20万吧",
    "我现在在开车",
    "你们怎么有我电话的",
    "多少钱一平米",
    "明天下午三点以后",
    "先发个资料看看",
    "孩子上四年级",
    "已经买过了",
    "转人工",
    "别再打了",
)
TAILS = ("", "", "吧", "呀", ",谢谢", ",你再说一遍", "😀")
TURN_TAGS = ("", "", "", "有需求", "询问公司信息", "贷款额度", "在忙", "拒绝", "想知道价格")
JUMPS = ("肯定", "否定", "中性", "接续")


def converse(rng: random.Random, connected: datetime, seconds: int, stem: str) -> list[TurnFields]:
    """Make up a dialogue of `seconds` as a list of turns; `stem` names the call in recordings' paths."""
    rounds = max(1, min(8, seconds // 11))
    turns: list[TurnFields] = []
    for number in range(rounds):
        said = connected + timedelta(seconds=seconds * 2 * number // (2 * rounds))
        heard = connected + timedelta(seconds=seconds * (2 * number + 1) // (2 * rounds))
        title = f"{number + 1:02d}" + (
            "开场白" if number == 0 else rng.choice(("需求确认", "资质", "邀约", "答疑"))
        )
        turns.append(_robot(rng, said, title, opening=number == 0))
        turns.append(_customer(rng, heard, title, f"{stem}_{2 * number + 2}"))
    return turns


def as_marked_text(turns: list[TurnFields]) -> str:
    """The dialogue as the `##`/`#!`/`#@` string, which has fewer fields than the list."""
    return "##".join(_marked_customer(turn) if turn["is_answer"] else _marked_robot(turn) for turn in turns)


def _robot(rng: random.Random, moment: datetime, title: str, *, opening: bool) -> TurnFields:
    if opening:
        caption = rng.choice(GREETINGS) + rng.choice(COMPANIES) + "," + rng.choice(PITCHES)
    else:
        caption = rng.choice(BRIDGES) + rng.choice(QUESTIONS)
    voice = f"/usr/local/freeswitch/sounds/zh/cn/20240305110913nPf/question{rng.getrandbits(40):010x}.wav"
    return _turn(rng, moment, title) | {
        "vocfile": voice,
        "caption": caption,
        "title": title,
        "answer": "",
        "fenduanluyin": "",
        "is_answer": 0,
        "score": "",
        "labelling": "",
        "talk_info_sn": "",
        "seating_info": "",
        "trigger_jump_type": "",
    }


def _customer(rng: random.Random, moment: datetime, title: str, stem: str) -> TurnFields:
    silent = rng.random() < 0.06
    reply = rng.choice(REPLIES)
    return _turn(rng, moment, title) | {
        "vocfile": "listen",
        "caption": "listen",
        "title": "listen",
        "answer": "" if silent else rng.choice(PARTICLES) + reply + rng.choice(TAILS),
        "fenduanluyin": f"/mnt/record/segmental_record/subsection_{stem}.wav",
        "is_answer": 1,
        "score": "" if silent else rng.choice(("", "0", "10", "20")),
        "labelling": "" if silent else rng.choice(TURN_TAGS),
        "talk_info_sn": f"talk_info_sn|{rng.getrandbits(128):032x}",
        "seating_info": False,
        "match_type": 2,
        "trigger_word": "机器人不说话直接跳转" if silent else reply,
        "trigger_jump_type": rng.choice(JUMPS),
    }


def _turn(rng: random.Random, moment: datetime, title: str) -> TurnFields:
    return {
        "outType": None,
        "process_code": f"questions{rng.getrandbits(48):012x}",
        "talk_datetime": moment.strftime("%H:%M:%S"),
        "trigger_special": 0,
        "trigger_process_type": rng.choice(("主干", "主干", "业务问题")),
        "trigger_process_title": title,
        "recognition_status": 0,
        "questions_status": 0,
        "recognitionInfo": [],
        "agent_name": None,
    }


def _marked_robot(turn: TurnFields) -> str:
    similarity = context = ""
    parts = (turn["vocfile"], turn["title"], turn["caption"], turn["process_code"], similarity)
    return "#!".join((*parts, turn["talk_info_sn"], turn["labelling"], context, turn["talk_datetime"]))


def _marked_customer(turn: TurnFields) -> str:
    parts = [turn["answer"], turn["fenduanluyin"]]
    if turn["answer"]:
        parts += [turn["score"], turn["labelling"]]
        if turn["trigger_process_type"] == "主干":
            parts += [turn["talk_info_sn"], turn["talk_datetime"]]
    return "#@".join(parts)
