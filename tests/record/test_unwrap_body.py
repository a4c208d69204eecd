"""What is taken out of a body: one record, several, or nothing that is plain."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest

from bridge.model.calls import Via
from bridge.record.arrival import arrivals_of
from bridge.record.json_body import NotAnObject, parse_object
from bridge.record.unwrap_body import MOST_RECORDS, TooMany, read_record, read_records
from bridge.source.outcall.dialect import OUTCALL_DIALECT
from bridge.source.outcall.dialogue import parse_dialogue
from tests.fixtures.origins import MAIN

ONE = {"uuid": "7b1d3f60-0000-4000-8000-000000000001", "phone": "13800138000", "name": "张三"}
TWO = {"uuid": "7b1d3f60-0000-4000-8000-000000000002", "phone": "13900139000", "name": "李四"}
A, B = (json.dumps(record, ensure_ascii=False) for record in (ONE, TWO))
SPOILT = '{"uuid": "u-3", "score": NaN}'


def found(body: str | bytes, charset: str = "") -> list[str]:
    """The texts that are taken out of a body; what is no record is in angle brackets."""
    pieces = read_records(body.encode() if isinstance(body, str) else body, OUTCALL_DIALECT, charset)
    return [f"<{piece.text.decode()}>" if piece.trouble else piece.text.decode() for piece in pieces]


@pytest.mark.parametrize(
    "body",
    [
        A,
        A.encode("utf-32"),
        A.encode("utf-32-le"),
        A.encode("utf-32-be"),
        f"[{A}]",
        f"[[{A}]]",
        f"[{A},]",
        json.dumps(A),
        json.dumps(json.dumps(A)),
        json.dumps([A]),
        f'{{"code":0,"data":{A}}}',
        f'{{"code":0,"data":[{A}]}}',
        f'{{"code":0,"data":{{"list":[{A}],"total":1}}}}',
        f'{{"code":0,"msg":"ok","data":{json.dumps(A)},"timestamp":1}}',
        f'{{"status":"ok","id":7,"result":{A}}}',
        f'[{{"event":"call.finished","payload":{A}}}]',
        f"{A}\0",
        f"\0\0 {A} \0\r\n\x1a",
        f"\ufeff\u3000{A}\u200b",
        f"\x1e{A}\n",
        f"{A},",
        urlencode({"data": A}),
        urlencode({"任意": A, "sign": "x"}),
        urlencode({"data": f"[{A}]"}),
        urlencode({"data": json.dumps(A)}),
        urlencode({"data": f'{{"code":0,"data":{A}}}'}),
        f"data={A}",
        f"data=[{A}]",
        quote(A),
        quote(f"[{A}]"),
        urlencode({"a": A, "b": A}),
        # Escaped once more than the form needs, by a sender's own hand.
        urlencode({"data": quote(A)}),
        urlencode({"data": urlencode({"": A})[1:]}),
        urlencode({"data": A.replace('"', '\\"')}),
        A.replace('"', '\\"'),
        A.replace('"', "&quot;"),
        urlencode({"data": A.replace('"', "&#34;")}),
        json.dumps({"data": A.replace('"', "&quot;")}),
        # What was read of a body, beside the body.
        json.dumps({"data": ONE, "raw": A}).replace(json.dumps(ONE), A),
        f'--x9\r\nContent-Disposition: form-data; name="any"\r\n\r\n{A}\r\n--x9--',
    ],
)
def test_record_in_a_clear_wrapping_is_extracted_unchanged(body: str | bytes) -> None:
    assert found(body) == [A]
    assert read_record(body.encode() if isinstance(body, str) else body, OUTCALL_DIALECT) == A.encode()


@pytest.mark.parametrize(
    "body",
    [
        urlencode(ONE),
        urlencode(ONE | {"sign": "x"}),
        urlencode({name: value.encode("gbk") for name, value in ONE.items()}),
        "".join(
            f'--x9\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in ONE.items()
        )
        + "--x9--\r\n",
    ],
)
def test_form_fields_may_be_the_record(body: str) -> None:
    assert json.loads(found(body)[0]).items() >= ONE.items()


WHOLE = json.loads((Path(__file__).parents[1] / "data" / "callback.json").read_text())


def test_a_whole_record_fits_into_a_form_of_either_kind() -> None:
    fields = {name: str(value) for name, value in WHOLE.items() if not isinstance(value, list)}
    parts = "".join(
        f'--x9\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    assert len(fields) > 110
    for body in (urlencode(fields), parts + "--x9--\r\n"):
        assert json.loads(found(body)[0]) == fields


def in_brackets(value: Any, name: str) -> dict[str, str]:
    """What PHP's http_build_query makes of a value."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, each in items for k, v in in_brackets(each, f"{name}[{key}]").items()}
    return {name: "" if value is None else str(value)}


@pytest.mark.parametrize("outer", ["", "data"])
def test_nested_form_fields_are_written_in_brackets(outer: str) -> None:
    talk = [{"is_answer": 0, "caption": "您好"}, {"is_answer": 1, "answer": "可以", "labelling": "有需求"}]
    record = ONE | {"talk_info": talk}
    fields = {
        k: v
        for name, each in record.items()
        for k, v in in_brackets(each, f"{outer}[{name}]" if outer else name).items()
    }
    assert "talk_info" in "".join(fields)
    (text,) = found(urlencode(fields | {"sign": "x"}))
    read = json.loads(text)
    assert read.items() >= ONE.items()
    turns = parse_dialogue(read["talk_info"], None, None, ZoneInfo("Asia/Shanghai"))
    assert [(turn.speaker, turn.text) for turn in turns] == [("robot", "您好"), ("customer", "可以")]


@pytest.mark.parametrize(
    "name", ["a[" * 300, "[]", "a[][][]", "a]b[", "uuid[0]", "a" * 300 + "[0]", "Array\n( [uuid]"]
)
def test_odd_brackets_identify_no_call(name: str) -> None:
    for fields in ({name: "x"}, {"uuid": "u", name: "x"}, {name: "x", "uuid": "u"}):
        try:
            texts = found(urlencode(fields))
        except NotAnObject:
            texts = []
        assert ([json.loads(text).get("uuid") for text in texts] or ["u"]) == ["u"] or name == "uuid[0]"


def test_charset_of_a_form_is_declared_or_derived_from_all_fields() -> None:
    fields = {"uuid": "u", "name": "肖茂", "last_reply": "好的，可以"}
    form = urlencode({name: value.encode("gbk") for name, value in fields.items()})
    assert json.loads(found(form)[0]) == fields
    assert (
        json.loads(found(urlencode({"uuid": "u", "name": "肖茂".encode("gbk")}), "gbk")[0])["name"] == "肖茂"
    )


def test_a_dialogue_inside_a_form_stays_in_its_field() -> None:
    talk = '[{"uuid": "u-of-a-turn", "caption": "hi"}]'
    assert json.loads(found(urlencode(ONE | {"talk_info": talk}))[0]) == ONE | {"talk_info": talk}


@pytest.mark.parametrize(
    "body",
    [
        f"[{A},{B}]",
        f"[{A},[{json.dumps(B)}]]",
        json.dumps(f"[{A},{B}]"),
        f"{A}\n{B}\n",
        f"{A}{B}",
        f"{A},\r\n{B}",
        f"\x1e{A}\n\x1e{B}\n",
        f'{{"code":0,"data":[{A},{B}]}}',
        f'{{"data":{{"list":[{A},{B}]}}}}',
        # PHP writes a list with a gap as an object; others write what is found by its name.
        f'{{"0":{A},"2":{B}}}',
        f'{{"code":0,"data":{{"1":{A},"2":{B}}}}}',
        f'{{"{ONE["uuid"]}":{A},"{TWO["uuid"]}":{B}}}',
        urlencode({"a": A, "b": B}),
        urlencode({"data": f"[{A},{B}]"}),
        f"data=[{A},{B}]",
    ],
)
def test_several_records_in_one_body_are_extracted(body: str) -> None:
    assert found(body) == [A, B]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"[{A},7,null,{B}]", [A, "<7>", "<null>", B]),
        (f'[{A},"text",{{"id":1}}]', [A, '<"text">', '{"id":1}']),
        (f"{A}\n{{broken\n{B}", [A, "<{broken>", B]),
        (f"[{SPOILT},{A}]", [SPOILT, A]),
        (f'{{"code":NaN,"data":[{SPOILT},{A}]}}', [SPOILT, A]),
        (f'{{"code":0,"data":{SPOILT}}}', [SPOILT]),
    ],
)
def test_one_bad_record_loses_no_other(body: str, expected: list[str]) -> None:
    assert found(body) == expected


MESSAGE = {"uuid": "of-the-message", "created_at": "2026-11-22 08:00:00"}


def test_message_with_its_own_name_is_still_an_envelope() -> None:
    record = {
        name: WHOLE[name] for name in ("uuid", "base_info", "phone", "talktimes", "connected_at", "talk_info")
    }
    for inner in (record, json.dumps(record), [record]):
        (text,) = found(json.dumps(MESSAGE | {"data": inner}))
        assert json.loads(text) == record
        # The door takes no short way past it.
        now = datetime(2026, 11, 22, tzinfo=UTC)
        (arrival,) = arrivals_of(MAIN, Via.CALLBACK, json.dumps(MESSAGE | {"data": inner}).encode(), now)
        assert arrival.names == (record["uuid"],)
    # A record with another one in a field of its own stays itself.
    whole = json.dumps(WHOLE | {"data1": json.dumps(record)})
    assert found(whole) == [whole]


@pytest.mark.parametrize(
    "body",
    [
        # Two members hold calls: which of them is meant?
        f'{{"old":{A},"new":{B}}}',
        # A record without a name, and somebody's name inside it.
        '{"id":1,"phone":"13800138000","agent":{"uuid":"of-the-agent","name":"x"}}',
        '{"id":1,"phone":"13800138000"}',
        '{"code":0,"data":{"id":1}}',
        # It has a name of its own, whatever is inside.
        f'{{"uuid":"own","ext":{A}}}',
        f'{{"sn":"s","created_at":"2026-11-22 08:00:00","ext":{A}}}',
        "{}",
        # A record without a name and with a long dialogue.
        '{"id":1,"talk_info":[' + ",".join(['{"caption":"x"}'] * (MOST_RECORDS + 1)) + "]}",
        # No envelope has so many members.
        "{" + ",".join(f'"k{number}":1' for number in range(60)) + f',"data":{A}}}',
    ],
)
def test_ambiguous_or_bare_body_stays_whole(body: str) -> None:
    assert found(body) == [body]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "\0",
        "[]",
        "[[]]",
        "[1,2]",
        '"text"',
        "12",
        "a=1&b=2",
        "data=[1]",
        A[:-1],
        f"{A}x",
        "[" * 99,
    ],
)
def test_body_without_a_record_says_why(body: str) -> None:
    with pytest.raises(NotAnObject, match=r"\w"):
        read_records(body.encode(), OUTCALL_DIALECT)


def test_a_body_wrapped_too_often_is_refused() -> None:
    text = A
    for _ in range(12):
        text = json.dumps(text)
    with pytest.raises(NotAnObject):
        read_records(text.encode(), OUTCALL_DIALECT)
    body = f"{'[' * 150}{A}{']' * 150}"
    with pytest.raises(NotAnObject):
        read_records(body.encode(), OUTCALL_DIALECT)


def test_too_many_records_are_refused_as_one() -> None:
    many = ",".join(f'{{"uuid":"u-{number}"}}' for number in range(MOST_RECORDS))
    assert len(read_records(f"[{many}]".encode(), OUTCALL_DIALECT)) == MOST_RECORDS
    for body in (f"[{many},{A}]", f'{{"data":[{many},{A}]}}', urlencode({"a": f"[{many}]", "b": A})):
        with pytest.raises(TooMany):
            read_records(body.encode(), OUTCALL_DIALECT)


CASES = Path(__file__).parents[1] / "data" / "door"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("nan.bin", {"score": "NaN"}),
        ("array_of_one.bin", {"phone": "13800138000"}),
        ("envelope.bin", {"phone": "13800138000"}),
        ("trailing_nul.bin", {"phone": "13800138000"}),
        (
            "cut_char_mojibake.bin",
            {"name": "王小\ufffd", "last_reply": "好的，可以加微信", "area_code": "广东省深圳市"},
        ),
    ],
)
def test_bodies_of_real_senders_are_unwrapped(case: str, expected: dict[str, Any]) -> None:
    record = parse_object(read_record((CASES / case).read_bytes(), OUTCALL_DIALECT))
    assert record == {"uuid": ONE["uuid"]} | expected
