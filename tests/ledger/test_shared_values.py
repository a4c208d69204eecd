"""What of many records a dictionary may be made of: nothing that is one person's."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from benchmarks.texts import varied_records
from bridge.ledger.sqlite.dictionary_process import dictionary_of
from bridge.ledger.sqlite.id_extraction import take_ids_out
from bridge.ledger.sqlite.shared_values import (
    SHARED_BY,
    FieldPrivacy,
    as_many_share,
    kind_of,
    values_of,
)
from bridge.sandbox.records import generate

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
Record = Mapping[str, Any]
LEAST = 3


def spaced(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def compact(record: Record) -> bytes:
    return msgspec.json.encode(record)


def escaped(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).replace("/", "\\/").encode()


def in_a_string(record: Record) -> bytes:
    """Its fields within a dialogue that is JSON in a string."""
    return spaced({"phone": record["phone"], "talk_info": json.dumps([record], ensure_ascii=False)})


SPELLINGS = (spaced, compact, escaped, in_a_string)


def of_people(count: int, fields: Record) -> list[Record]:
    """Records with the same fields, of so many people."""
    return [{"phone": f"1391234{number:04}", **fields} for number in range(count)]


def kept(records: Sequence[Record], spelled: Callable[[Record], bytes] = spaced) -> str:
    """All that a dictionary would be made of, decoded."""
    rewritten = as_many_share([take_ids_out(spelled(record))[0] for record in records], LEAST)
    texts = [sample.decode("utf-8", "surrogateescape") for sample in rewritten]
    return "\n".join(text for sample in texts for text in decoded(sample))


def decoded(sample: str) -> Iterator[str]:
    for value in values_of(sample):
        yield value.text
        if value.text[:1] in ("{", "["):
            yield from decoded(value.text)


@pytest.mark.parametrize("spelled", SPELLINGS)
@pytest.mark.parametrize(
    ("name", "value", "held_by", "stays"),
    [
        ("caption", "您好，我这边是专业办理银行贷款的", LEAST, True),
        ("caption", "您好，我这边是专业办理银行贷款的", LEAST - 1, False),
        ("vocfile", "/usr/local/sounds/zh/cn/20240305110913nPf/a.wav", LEAST, True),
        ("score", 77123, LEAST, True),
        ("score", 77123, LEAST - 1, False),
        ("answer", "不需要谢谢", LEAST, True),
        ("answer", "不需要谢谢", LEAST - 1, False),
        ("last_reply", "嗯20万吧", LEAST - 1, False),
        ("name", "欧阳雨桐", LEAST, False),
        ("agent_name", "欧阳雨桐", LEAST, False),
        ("contact_person", "欧阳雨桐", LEAST, False),
        ("unit_phone", "075586660011", LEAST, False),
        ("called_number", "075586660011", LEAST, False),
        ("mark", "约了周六到店", LEAST, False),
        ("data7", "车牌粤B12345", LEAST, False),
        ("ext3", "车牌粤B12345", LEAST, False),
        ("uuid", "db57f262-18d6-11f0-88c8-2f2b0aba51d7", LEAST, False),
        ("summary", "客户要求发报价单", LEAST, False),
    ],
)
def test_value_is_kept_if_many_people_share_it_in_a_field_not_personal(
    spelled: Callable[[Record], bytes], name: str, value: object, held_by: int, stays: bool
) -> None:
    records = [*of_people(held_by, {name: value}), *of_people(9, {"other": "x"})[held_by:]]
    assert (str(value) in kept(records, spelled).splitlines()) is stays


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_fifty_calls_of_one_person_count_as_one_person(spelled: Callable[[Record], bytes]) -> None:
    fifty = [{"phone": "139 1234 0001", "place": "锦绣江南三栋", "answer": "我住三栋"}] * 50
    said = kept([*fifty, *of_people(5, {"place": "深圳市"})], spelled)
    assert "锦绣江南三栋" not in said
    assert "我住三栋" not in said
    assert "深圳市" in said


def test_one_number_in_several_spellings_counts_as_one_person() -> None:
    spellings = ("13912340001", "+86 139 1234 0001", "0086-13912340001", "86 13912340001", "013912340001")
    assert "锦绣江南三栋" not in kept([{"phone": one, "place": "锦绣江南三栋"} for one in spellings])


def test_records_with_an_empty_number_count_as_no_person() -> None:
    assert "锦绣江南三栋" not in kept([{"phone": "", "n": n, "place": "锦绣江南三栋"} for n in range(50)])


def test_records_without_a_number_field_count_as_one_person_each() -> None:
    assert "锦绣江南三栋" in kept([{"n": number, "place": "锦绣江南三栋"} for number in range(LEAST)])


def test_rare_field_name_is_replaced() -> None:
    assert "王建国欠款" not in kept(
        [*of_people(9, {"place": "x"}), {"phone": "13900000001", "王建国欠款": 1}]
    )


def test_replacement_is_escaped_like_its_record() -> None:
    records = [
        {"phone": f"1391234{number:04}", "answer": f"好的/{chr(0x6000 + number)}嗯"} for number in range(9)
    ]
    for sample in as_many_share([escaped(record) for record in records], LEAST):
        assert sample.isascii()
        assert b"\\/" in sample
        assert b"\\u" in sample


def test_name_of_many_people_is_not_personal() -> None:
    records = of_people(LEAST, {"name": "王伟", "caption": "王伟讲堂"})
    assert "王伟讲堂" in kept(records).splitlines()


def test_bytes_that_are_neither_value_nor_structure_are_removed() -> None:
    (first, *_) = as_many_share([b'{"phone": "139", "a": wangjianguo}'] * 5, LEAST)
    assert b"wangjianguo" not in first


@pytest.mark.parametrize(
    ("value", "stays"),
    [
        ("/sounds/13912340002/a.wav", False),
        ("回拨139-1234-0002", False),
        ("ref912340", False),
        ("/sounds/20250101/a.wav", True),
        ("王建国先生您好", False),
        ("先生您好", True),
    ],
)
def test_shared_value_containing_a_number_or_name_is_removed(value: str, stays: bool) -> None:
    records: list[Record] = of_people(6, {"caption": value.replace("139-1234-0002", "13912340002")})
    records[2] = dict(records[2]) | {"name": "王建国"}
    assert (value in kept(records).splitlines()) is stays


def test_only_one_shared_phrase_of_the_spoken_words_is_kept() -> None:
    sentences = [
        "我现在开着车呢晚点再打过来",
        "喂我现在开着车呢",
        "我现在开着车呢吧",
        "晚点再打过来行吧",
        "那晚点再打过来",
    ]
    records = [{"phone": f"1391234{number:04}", "answer": text} for number, text in enumerate(sentences)]
    said = kept([*records, {"phone": "13900000001", "answer": "你们晚点再打过来"}])
    assert "我现在开着车呢" in said
    assert "晚点再打过来" in said
    assert sentences[0] not in said


def test_replacement_uses_no_letter_of_a_name() -> None:
    records = [
        {"phone": f"1391234{number:04}", "name": f"钱{chr(0x4E00 + number)}", "mark": "钱一二三"}
        for number in range(9)
    ]
    assert "钱" not in kept(records)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no JSON",
        b'{"a": 1',
        b'{"a": "\\ud800", "b": "x',
        b"[[[[",
        b'{"phone": NaN, "a": 007 13912345678 x}',
        b"\xff\xfe",
        b'"' * 999,
    ],
)
def test_text_that_is_not_json_contributes_nothing(text: bytes) -> None:
    rewritten = as_many_share([text] * 5, LEAST)
    assert b"13912345678" not in b"".join(rewritten)


@pytest.mark.parametrize("spelled", [spaced, compact, escaped])
def test_structure_and_escapes_are_kept(spelled: Callable[[Record], bytes]) -> None:
    text = spelled({"place": "您/好", "n": [1, -2.5e3, True, None], "o": {"empty": ""}, "sn": "a|b"})
    person = spelled({"phone": "1"})
    same = [
        text[:1] + person[1:-1].replace(b"1", b"%d" % n) + text[1:].replace(b"{", b"{", 1)
        for n in range(100, 105)
    ]
    joined = [one.replace(b'"place', b',"place', 1) for one in same]
    (first, *_) = as_many_share(joined, LEAST)
    assert first.endswith(joined[0][joined[0].index(b',"place') :])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("phone", FieldPrivacy.PHONE),
        ("caller", FieldPrivacy.PHONE),
        ("customerMobile", FieldPrivacy.PHONE),
        ("answer", FieldPrivacy.SPOKEN),
        ("last_reply", FieldPrivacy.SPOKEN),
        ("dynamic_labelling", FieldPrivacy.SPOKEN),
        ("name", FieldPrivacy.NAME),
        ("user_name", FieldPrivacy.NAME),
        ("data30", FieldPrivacy.PERSONAL),
        ("dataset", FieldPrivacy.COMMON),
        ("caption", FieldPrivacy.COMMON),
        ("process_code", FieldPrivacy.COMMON),
    ],
)
def test_field_kind_is_derived_from_its_name(name: str, kind: FieldPrivacy) -> None:
    assert kind_of(name) is kind


# -- whole records, to the dictionary's bytes -----------------------------------------------
def turns_of(record: Record) -> list[Record]:
    turns = record["talk_info"]
    turns = json.loads(turns) if isinstance(turns, str) and turns[:1] == "[" else turns
    return turns if isinstance(turns, list) else []


def private_texts(records: Iterable[Record], digits: int) -> Iterator[str]:
    """Each person's number and every so many digits of it, name, ids, and files of what was recorded."""
    for record in records:
        phone = re.sub(r"\D", "", record["phone"])
        yield from (phone[at : at + digits] for at in range(len(phone) - digits + 1))
        yield from (text for text in (record["name"], record["uuid"], record["recordfile"]) if len(text) > 1)
        yield from (turn.get("fenduanluyin", "") for turn in turns_of(record))


def assert_private(dictionary: bytes, records: Sequence[Record], digits: int = 6) -> None:
    def stands(text: str) -> bool:
        spellings = {text, json.dumps(text)[1:-1], text.replace("/", "\\/")}
        return any(spelling.encode() in dictionary for spelling in spellings)

    assert not [text for text in {*private_texts(records, digits)} - {""} if stands(text)]
    told = {record["phone"]: json.dumps(record, ensure_ascii=False) for record in records}
    said = {turn.get("answer", "") for record in records for turn in turns_of(record)}
    for text in said:
        if len(text) > 3 and stands(text):
            people = sum(text in whole for whole in told.values())
            assert people >= SHARED_BY, f"{text} was said by {people}"


def test_no_value_of_a_person_is_in_rewritten_records() -> None:
    records = generate(14, 3, NOW)
    rewritten = b"\n".join(as_many_share([take_ids_out(spaced(record))[0] for record in records]))
    assert len(rewritten) > 10_000
    assert_private(rewritten, records)


@pytest.mark.long
@pytest.mark.parametrize("spelled", [spaced, escaped])
def test_no_value_of_a_person_is_in_a_dictionary(spelled: Callable[[Record], bytes]) -> None:
    records = [*varied_records(900, seed=8), *generate(300, 9, NOW)]
    dictionary = dictionary_of([take_ids_out(spelled(record))[0] for record in records])
    assert len(dictionary) > 50_000
    # A dictionary puts pieces side by side: of 7,000 parts of six digits one or two stand there by chance.
    assert_private(dictionary, records, digits=8)
