"""Mappings: what a call becomes, which rule keeps it out, and how each mistake in a file is named."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.errors import ConfigError
from bridge.mapping import MappingFault, json_value, load_mapping
from bridge.model.plan import Plan, PlannedField, PlannedObject, Skip
from tests.fixtures.examples import examples
from tests.fixtures.mappings import EXAMPLE, KEY, TOP, fault, field, mapping_of, outcome, planned
from tests.fixtures.mistakes import Mistake
from tests.fixtures.origins import MAIN

ZONE = ZoneInfo("Asia/Shanghai")
SHIPPED = load_mapping(TOP / "mappings/sandbox.toml")
TAGS = ["有需求", "询问公司信息", "想知道公司实力", "贷款额度", "A转人工", "转人工时间:2025-04-14 10:20:17"]


def values(one: PlannedObject) -> dict[str, Any]:
    return {name: field.value for name, field in one.fields.items()}


# The shipped mapping


def test_example_record_becomes_a_contact_and_a_linked_call() -> None:
    plan = outcome(SHIPPED)
    assert isinstance(plan, Plan)
    contact, call = plan.objects
    assert contact == PlannedObject(
        name="contact",
        type="contact",
        key={"phone": "+8615899770637"},
        fields={
            name: PlannedField(value)
            for name, value in {
                "area": "广东省深圳市",
                "grade": "B",
                "interest": "warm",
                "tags": TAGS,
            }.items()
        },
        absent={"name": "empty", "company": "empty"},
    )
    assert (call.name, call.type, call.key) == ("call", "call", {"call_key": KEY})
    assert call.links == {"contact": "contact"}
    lines = call.fields["transcript"].value.split("\n")
    assert len(lines) == 17
    assert lines[0] == "[10:19:21] 机器人: 您好,我这边是专业办理银行贷款的,请问您有资金需求吗?"
    assert lines[-1] == "[10:20:17] 机器人: 转人工"
    assert {name: value for name, value in values(call).items() if name != "transcript"} == {
        "phone": "+8615899770637",
        "direction": "outbound",
        "grade": "B",
        "score": 80,
        "tags": TAGS,
        "dynamic_tags": ["20万"],
        "started_at": "2025-04-14T02:19:13Z",
        "connected_at": "2025-04-14T02:19:21Z",
        "ended_at": "2025-04-14T02:20:48Z",
        "talk_seconds": 88,
        "answered": True,
        "hangup_by": "对方挂机",
        "task": "20250414101849",
        "last_reply": "转人工",
    }
    assert [one.key_text for one in plan.objects] == ["+8615899770637", KEY]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"call_from_type": 3}, "no voice tests"),
        ({"call_from_type": "3"}, "no voice tests"),
        ({"is_deleted": 1}, "not deleted on the platform"),
        ({"is_deleted": 1, "call_from_type": 3}, "no voice tests"),
    ],
)
def test_first_failing_rule_skips_by_its_name(changes: dict[str, Any], rule: str) -> None:
    assert outcome(SHIPPED, **changes) == Skip(rule)


@pytest.mark.parametrize("phone", ["", None, "158****0637", "anonymous"])
def test_a_call_without_a_number_keeps_its_call_unlinked(phone: str | None) -> None:
    objects = planned(SHIPPED, phone=phone)
    assert list(objects) == ["call"]
    assert objects["call"].links == {}
    assert "phone" not in objects["call"].fields


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@examples(60, 2000)
@given(st.dictionaries(st.sampled_from(sorted(EXAMPLE)), JUNK, max_size=8))
def test_plan_of_any_record_can_be_sent(changes: dict[str, Any]) -> None:
    plan = outcome(SHIPPED, **changes)
    if isinstance(plan, Plan):
        for one in plan.objects:
            json.dumps([one.key, values(one)], ensure_ascii=False, allow_nan=False).encode()


# Objects


@pytest.mark.parametrize(
    ("choice", "result"), [("", "call"), ("unlinked", "call"), ("skip", "contact without phone")]
)
def test_on_missing_key_decides_what_happens_without_a_key(tmp_path: Path, choice: str, result: str) -> None:
    written = f'on_missing_key = "{choice}"\n' if choice else ""
    mapping = mapping_of(tmp_path, ("[objects.contact.fields]", written + "[objects.contact.fields]"))
    assert list(planned(mapping)) == ["contact", "call"]
    plan = outcome(mapping, phone="")
    assert plan == Skip(result) or (isinstance(plan, Plan) and [one.name for one in plan.objects] == [result])


def test_on_missing_key_park_parks_the_call(tmp_path: Path) -> None:
    park = 'on_missing_key = "park"\n[objects.contact.fields]'
    with pytest.raises(MappingFault, match=r"object contact has no phone, which is its key"):
        outcome(mapping_of(tmp_path, ("[objects.contact.fields]", park)), phone="158****0637")


def test_a_call_that_makes_no_object_is_skipped(tmp_path: Path) -> None:
    mapping = mapping_of(tmp_path, ('"{{ call.key }}"', '"{{ record.phone | e164 }}"'))
    plan = outcome(mapping, phone="")
    assert isinstance(plan, Skip)
    assert plan.rule.startswith("no object")


def test_object_with_a_false_when_is_left_out_with_its_links(tmp_path: Path) -> None:
    when = "when = \"{{ call.grade == 'A' }}\"\n[objects.contact.fields]"
    mapping = mapping_of(tmp_path, ("[objects.contact.fields]", when))
    assert planned(mapping, status="A")["call"].links == {"contact": "contact"}
    without = planned(mapping, status="B")
    assert list(without) == ["call"]
    assert without["call"].links == {}


def test_an_object_may_have_a_type_of_another_name(tmp_path: Path) -> None:
    mapping = mapping_of(tmp_path, ("[objects.contact.fields]", 'type = "person"\n[objects.contact.fields]'))
    assert planned(mapping)["contact"].type == "person"


# Fields

GRADES = 'value = "{{ call.grade }}", map = { A = "hot", B = "warm", "2" = 2, "true" = true }'


@pytest.mark.parametrize(
    ("written", "status", "value"),
    [
        (f"{{ {GRADES} }}", "A", "hot"),
        (f"{{ {GRADES} }}", 2, 2),
        (f"{{ {GRADES} }}", "", None),
        (f'{{ {GRADES}, default = "cold" }}', "Z", "cold"),
        (f'{{ {GRADES}, default = "cold" }}', None, "cold"),
        (f"{{ {GRADES}, default = 0 }}", "Z", 0),
        ('{ value = "{{ call.grade }}", default = "?" }', "", "?"),
        ('{ value = "{{ call.grade }}", default = "?" }', "C", "C"),
        ('{ value = "{{ call.answered }}", map = { true = "yes", false = "no" } }', "A", "yes"),
        ('"constant"', "A", "constant"),
        ("7", "A", 7),
        ("true", "A", True),
        ("1.5", "A", 1.5),
        ('{ value = "", default = "filled" }', "A", "filled"),
        ('"{{ call.connected_at }}"', "A", "2025-04-14T02:19:21Z"),
        ('"{{ call.connected_at | local }}"', "A", "2025-04-14 10:19:21"),
        ('"{{ call.connected_at | epoch_ms }}"', "A", 1744597161000),
        ('"{{ record.talktimes }}s"', "A", "88s"),
        ('"{{ record.no_such_field }}"', "A", None),
    ],
)
def test_field_values_are_evaluated(tmp_path: Path, written: str, status: object, value: object) -> None:
    found = field(tmp_path, written, status=status)
    assert (found, type(found)) == (value, type(value))


def test_limit_marks_a_truncated_value(tmp_path: Path) -> None:
    limited = '{ value = "{{ record.mark }}", limit = 5 }'
    assert field(tmp_path, limited, mark="一二三四五") == "一二三四五"
    assert field(tmp_path, limited, mark="一二三四五六") == "一二三四…"
    assert field(tmp_path, '{ value = "abc", limit = 1 }') == "…"
    assert field(tmp_path, '{ value = "{{ call.tags }}", limit = 8 }') == "有需求, 询问…"
    assert field(tmp_path, '{ value = "{{ call.score }}", limit = 8 }') == 80


def test_code_outside_the_map_is_a_fault_with_place_and_code(tmp_path: Path) -> None:
    said = fault(tmp_path, f"{{ {GRADES} }}", status="Z")
    assert said == (
        "objects.call.fields.x in crm.toml: 'Z' is not in its map: "
        "add it, or say what becomes of it by `unknown`"
    )


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("{{ 1 / record.call_count }}", "division by zero"),
        ("{{ record.no.such.thing }}", "has no attribute"),
        ("{{ call.phone | iso8601 }}", "astimezone"),
        ("{{ call.connected_at | local('%H', 'Asia/' ~ 'Shangai') }}", "Asia/Shangai"),
        ("{{ call.dialogue }}", "a Turn is no value for a field: use a filter, such as transcript"),
        ("{{ call.dialogue[0] }}", "a Turn is no value"),
        ("{{ call.phone.upper }}", "write upper()"),
        ("{{ call.tags | map('upper') }}", "is no value for a field"),
        ("{{ record.mark | float }}", "is no value for a field"),
    ],
)
def test_a_field_that_fails_is_named(tmp_path: Path, expression: str, words: str) -> None:
    said = fault(tmp_path, f'"{expression}"', call_count=0, mark="nan")
    assert "objects.call.fields.x in crm.toml: " in said
    assert words in said


def test_failure_counts_only_if_its_value_is_needed(tmp_path: Path) -> None:
    failing = ('name = "{{ call.name }}"', 'name = "{{ 1 / record.call_count }}"')
    mapping = mapping_of(tmp_path, failing)
    assert outcome(mapping, call_count=0, talktimes=0) == Skip("answered")
    assert list(planned(mapping, call_count=0, phone="")) == ["call"]
    with pytest.raises(MappingFault, match=r"objects\.contact\.fields\.name"):
        outcome(mapping, call_count=0)


def test_a_field_may_be_called_when(tmp_path: Path) -> None:
    mapping = mapping_of(tmp_path, ('x = "{{ call.score }}"', 'when = "now"'))
    assert values(planned(mapping)["call"]) == {"when": "now"}


def test_half_surrogates_are_replaced(tmp_path: Path) -> None:
    half, whole = json.loads(r'["a\ud83db", "\ud83d\ude00"]')
    assert field(tmp_path, '"{{ record.mark }}"', mark=half) == "a?b"
    assert field(tmp_path, '"{{ record.mark }}"', mark=whole) == "😀"
    assert json_value({half: [half]}) == {"a?b": ["a?b"]}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("王\x00小\x07明", "王小明"),
        ("a\tb\nc\r\nd\re", "a\tb\nc\r\nd\re"),
        ("a\x0bb\x0cc\x85d", "a\nb\nc\nd"),
        ("a\x1b[31mb\x7f\x80\x9fc", "a[31mbc"),
        ("a\ufffe\uffff\ufdd0\U0001ffff\U0010fffeb", "ab"),
        ("a\ufffdb\u2028c\u200d\u00adé", "a\ufffdb\u2028c\u200d\u00adé"),
        ("\x00\x01", None),
    ],
)
def test_control_characters_are_never_sent(tmp_path: Path, text: str, sent: str | None) -> None:
    assert field(tmp_path, '"{{ record.mark }}"', mark=text) == sent
    assert field(tmp_path, '{ value = "{{ [record.mark] }}" }', mark=text) == [sent or ""]
    assert json_value({text: {text: text}}) == {sent or "": {sent or "": sent or ""}}
    key = ('key = { call_key = "{{ call.key }}" }', 'key = { call_key = "{{ record.mark }}" }')
    found = planned(mapping_of(tmp_path, key), mark=text)
    assert (found["call"].key if "call" in found else None) == ({"call_key": sent} if sent else None)


def test_fields_read_by_a_mapping_are_known(tmp_path: Path) -> None:
    assert SHIPPED.fields_read(MAIN.dialect) == frozenset()

    def reads(expression: str) -> frozenset[str]:
        return mapping_of(tmp_path, ('"{{ call.score }}"', f'"{expression}"')).fields_read(MAIN.dialect)

    assert reads("{{ record.ext1 }} {{ record['pushed_at'] }}") == {"ext1", "pushed_at"}
    assert reads("{{ call.updated_at | iso8601 }}") == {"updated_at"}
    with suppress(ConfigError):  # refused at load is as good
        assert reads("{{ call.record.ext9 }}") == {"ext9"}
    rule = ("{{ call.talk_seconds > 0 }}", "{{ record.of_a_rule }}")
    key = ("{{ call.phone | e164 }}", "{{ record.of_a_key }}")
    assert mapping_of(tmp_path, rule, key).fields_read(MAIN.dialect) == {"of_a_rule", "of_a_key"}


# Broken mappings: what is changed; the line, the key, words of the message, the remedy

BROKEN = [
    Mistake(
        old="phone | e164",
        new="phone | e165",
        line=8,
        key="objects.contact.key.phone",
        message='no filter "e165"',
        remedy='"e164"',
    ),
    Mistake(
        old="call.score",
        new="call.scor",
        line=16,
        key="objects.call.fields.x",
        message='no value "call.scor"',
        remedy='"call.score"',
    ),
    Mistake(
        old="call.name",
        new="cal.name",
        line=10,
        key="objects.contact.fields.name",
        message='no name "cal"',
        remedy='"call"',
    ),
    Mistake(
        old="call.talk_seconds > 0",
        new="call.talk_seconds >",
        line=5,
        key="rules.0.when",
        message="xpected",
        remedy="",
    ),
    Mistake(
        old='contact = "contact"',
        new='contact = "contct"',
        line=14,
        key="objects.call.link.contact",
        message="contct",
        remedy='"contact"',
    ),
    Mistake(
        old='"sandbox"',
        new='"sandbox"\nlimit = 1',
        line=2,
        key="limit",
        message='unknown key "limit"',
        remedy="",
    ),
    Mistake(
        old="connector =",
        new="conector =",
        line=1,
        key="conector",
        message='unknown key "conector"',
        remedy='"connector"',
    ),
    Mistake(
        old="when =",
        new='wen = "x"\nwhen =',
        line=5,
        key="rules.0.wen",
        message='unknown key "wen"',
        remedy='"when"',
    ),
    Mistake(
        old="link =",
        new='lnk = "x"\nlink =',
        line=14,
        key="objects.call.lnk",
        message='unknown key "lnk"',
        remedy='"link"',
    ),
    Mistake(
        old='x = "',
        new='x.limt = 3\nx.value = "',
        line=16,
        key="objects.call.fields.x.limt",
        message='unknown key "limt"',
        remedy='"limit"',
    ),
    Mistake(
        old="{ phone =",
        new="{} # =",
        line=8,
        key="objects.contact.key",
        message="must not be empty",
        remedy="",
    ),
    Mistake(
        old='x = "',
        new='x.limit = 0\nx.value = "',
        line=16,
        key="objects.call.fields.x.limit",
        message="greater than or equal to 1",
        remedy="",
    ),
    Mistake(
        old='"{{ call.name }}"',
        new="2025-04-14",
        line=10,
        key="objects.contact.fields.name",
        message="should be",
        remedy="",
    ),
    Mistake(
        old='"{{ call.name }}"',
        new='["a"]',
        line=10,
        key="objects.contact.fields.name",
        message="should be",
        remedy="",
    ),
    Mistake(
        old='"{{ call.key }}"',
        new="3",
        line=13,
        key="objects.call.key.call_key",
        message="should be text",
        remedy="",
    ),
    Mistake(
        old='"{{ call.talk_seconds > 0 }}"',
        new="true",
        line=5,
        key="rules.0.when",
        message="should be text",
        remedy="",
    ),
    Mistake(
        old='"{{ call.talk_seconds > 0 }}"',
        new='"call.talk_seconds > 0"',
        line=5,
        key="rules.0.when",
        message="",
        remedy="{{",
    ),
    Mistake(
        old='name = "answered"',
        new='name = ""',
        line=4,
        key="rules.0.name",
        message="must not be empty",
        remedy="",
    ),
    Mistake(old="[[rules]]", new="[rules]", line=3, key="rules", message="should be a list", remedy=""),
    Mistake(
        old="link =",
        new='on_missing_key = "unlink"\nlink =',
        line=14,
        key="objects.call.on_missing_key",
        message="'unlinked'",
        remedy="",
    ),
    Mistake(
        old="[objects.call]", new="[objects.call", line=12, key="", message="is no valid TOML", remedy=""
    ),
    Mistake(
        old='x = "{{ call.score }}"',
        new='x = "{% if 1 %}"',
        line=16,
        key="objects.call.fields.x",
        message="only {{ … }} is allowed",
        remedy="",
    ),
]


@pytest.mark.parametrize(("old", "new", "line", "key", "words", "remedy"), BROKEN)
def test_a_mistake_is_named(
    tmp_path: Path, old: str, new: str, line: int, key: str, words: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, (old, new))
    said = [one for one in caught.value.problems if one.line is not None]
    assert len(said) == 1, said
    assert (said[0].file, said[0].line, said[0].key) == (str(tmp_path / "crm.toml"), line, key)
    assert words in said[0].message
    assert remedy in f"{said[0].message} {said[0].remedy}"


def test_links_go_to_earlier_objects(tmp_path: Path) -> None:
    linked = '[objects.contact]\nlink = { call = "call" }'
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, ("[objects.contact]", linked), ('link = { contact = "contact" }\n', ""))
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (8, "objects.contact.link.call")
    assert problem.remedy == "move [objects.call] before [objects.contact]"
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, ('contact = "contact"', 'contact = "call"'))
    assert "itself" in str(caught.value)


def test_a_wrong_key_of_a_test_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, ("[objects.call]", '[[tests]]\nrecord = "x"\nexpct.a = 1\n[objects.call]'))
    assert [(one.line, one.key) for one in caught.value.problems] == [(14, "tests.0.expct")]
    assert 'did you mean "expect"?' in str(caught.value)


def test_missing_key_is_reported_with_its_section(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, ("key = { call_key", "# {"), ('connector = "sandbox"', ""))
    said = [(one.line, one.key, one.message) for one in caught.value.problems]
    assert said == [(None, "connector", "is required"), (12, "objects.call.key", "is required")]


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, ("| e164", "| e165"), ("call.score", "call.scor"), ('"contact"', '"x"'))
    assert [one.line for one in caught.value.problems] == [8, 14, 16]


def test_wrong_type_hides_no_other_mistake(tmp_path: Path) -> None:
    """What is no table, no list or no text is told, and the rest is read all the same."""
    with pytest.raises(ConfigError) as caught:
        mapping_of(
            tmp_path,
            ('name = "answered"', 'nam = "answered"'),
            ("call.talk_seconds > 0", "call.talk_second > 0"),
            ('{ phone = "{{ call.phone | e164 }}" }', "3"),
            ('name = "{{ call.name }}"', 'name = { value = "{{ call.nam }}", limt = 3 }'),
            ('"contact"', '"contct"'),
        )
    assert {(one.line, one.key) for one in caught.value.problems} == {
        (3, "rules.0.name"),
        (4, "rules.0.nam"),
        (5, "rules.0.when"),
        (8, "objects.contact.key"),
        (10, "objects.contact.fields.name.limt"),
        (10, "objects.contact.fields.name.value"),
        (14, "objects.call.link.contact"),
    }
    for right in ("name", "call.talk_seconds", "limit", "call.name", "contact"):
        assert f'did you mean "{right}"' in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, ("[[rules]]", "[rules]"), ("call.score", "call.scor"))
    assert {one.line for one in caught.value.problems} == {3, 16}
