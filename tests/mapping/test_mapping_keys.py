"""The keys of the mapping language: what each one does to a plan, and how its misuse is named."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.errors import ConfigError
from bridge.mapping import MappingFault, MappingFile
from bridge.model.plan import Plan, PlannedField, Skip
from bridge.model.write_policy import WritePolicy
from tests.fixtures.examples import examples
from tests.fixtures.mappings import KEY, fault, field, field_of, mapping_of, outcome, planned
from tests.fixtures.mistakes import WrittenMistake

GRADE = 'value = "{{ call.grade }}"'
OWNERS = '[maps.owners]\n"7" = "u7"\n"8" = 8\n'


# What becomes of a code that is not in the map


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("", None),
        ('unknown = "park"', None),
        ('unknown = "omit"', "'Z' is not in its map"),
        ('unknown = "keep"', PlannedField("Z")),
        ('default = "?"', PlannedField("?")),
        ('unknown = "default", default = "?"', PlannedField("?")),
        ('unknown = "omit", default = "?"', "'Z' is not in its map"),
        ('unknown = "keep", default = "?"', PlannedField("Z")),
        ('unknown = "park", default = "?"', None),
        ('default = "{{ call.score }}"', PlannedField(80)),
        ("default = false", PlannedField(value=False)),
    ],
)
def test_unknown_code_follows_on_unknown(
    tmp_path: Path, rule: str, expected: PlannedField | str | None
) -> None:
    written = f'{{ {GRADE}, map = {{ A = "hot" }}{", " if rule else ""}{rule} }}'
    assert field_of(tmp_path, written, status="A") == PlannedField("hot")
    if expected is None:
        assert "objects.call.fields.x in crm.toml: 'Z' is not in its map" in fault(
            tmp_path, written, status="Z"
        )
    else:
        assert field_of(tmp_path, written, status="Z") == expected


RULES = st.sampled_from(["", "park", "omit", "keep", "default"])
CODES = st.sampled_from(["A", "B", "Z", "", None, 2, True])


@examples(40, 300)
@given(RULES, st.booleans(), CODES, st.sampled_from(["omit", "null", "error"]))
def test_every_code_has_exactly_one_outcome(
    tmp_path_factory: pytest.TempPathFactory, rule: str, with_default: bool, code: Any, missing: str
) -> None:
    """In the map: its value; empty: `default`, else `missing`; else by `unknown`. Nothing is invented."""
    if (rule == "default" and not with_default) or (with_default and missing != "omit"):
        return
    written = f'{{ {GRADE}, map = {{ A = "hot", "2" = "two" }}, missing = "{missing}"'
    written = written.replace(', missing = "omit"', "")
    written += f', unknown = "{rule}"' if rule else ""
    written += ', default = "?" }' if with_default else " }"
    try:
        found: Any = field_of(tmp_path_factory.mktemp("m"), written, status=code)
    except MappingFault as parked:
        found = parked
    text = None if isinstance(code, bool) else code
    if text in ("A", 2):
        assert found == PlannedField("hot" if text == "A" else "two")
    elif text in (None, ""):
        if with_default:
            assert found == PlannedField("?")
        elif missing == "error":
            assert isinstance(found, MappingFault)
        else:
            assert found == ("empty" if missing == "omit" else PlannedField(None))
    else:
        effective = rule or ("default" if with_default else "park")
        outcomes = {"omit": f"{text!r} is not in its map", "keep": PlannedField(text)}
        if effective == "park":
            assert isinstance(found, MappingFault)
        else:
            assert found == outcomes.get(effective, PlannedField("?"))


@pytest.mark.parametrize(
    ("more", "changes", "value", "default"),
    [
        ('default = "未知"', {"name": ""}, "未知", "未知"),
        ('default = "未知"', {"name": "王芳"}, "王芳", "未知"),
        ('default = "{{ call.phone }}"', {"name": "王芳"}, "王芳", "15899770637"),
        ('default = "未知客户", limit = 3', {"name": "王"}, "王", "未知…"),
        ('default = 7, map = { a = "b" }', {"name": "a"}, "b", 7),
        ('default = 7, map = { a = "b" }', {"name": "z"}, 7, 7),
    ],
)
def test_while_default_field_carries_its_default(
    tmp_path: Path, more: str, changes: dict[str, Any], value: Any, default: Any
) -> None:
    written = f'{{ value = "{{{{ call.name }}}}", write = "while_default", {more} }}'
    found = field_of(tmp_path, written, **changes)
    assert found == PlannedField(value, WritePolicy.WHILE_DEFAULT, "\n", default)


def test_lookup_table_can_be_shared(tmp_path: Path) -> None:
    owner = '{ value = "{{ record.agent_sn }}", map = "owners", unknown = "omit" }'
    assert field_of(tmp_path, owner, OWNERS, agent_sn="7") == PlannedField("u7")
    assert field_of(tmp_path, owner, OWNERS, agent_sn=8) == PlannedField(8)
    assert field_of(tmp_path, owner, OWNERS, agent_sn="9") == "'9' is not in its map"


def test_each_element_of_a_list_is_looked_up(tmp_path: Path) -> None:
    tags = '{ value = "{{ call.tags }}", map = { "有需求" = 1, "贷款额度" = 2 }, unknown = "%s" }'
    assert field(tmp_path, tags % "omit") == [1, 2]
    assert field(tmp_path, tags % "keep", labelling=";有需求;x") == [1, "x"]
    assert "'询问公司信息' is not in its map" in fault(tmp_path, tags % "park")


# Empty values


def test_missing_decides_about_absent_values(tmp_path: Path) -> None:
    written = '{ value = "{{ record.mark }}", missing = "%s" }'
    assert field_of(tmp_path, written % "omit", mark="") == "empty"
    assert field_of(tmp_path, written % "null", mark="") == PlannedField(None)
    assert field_of(tmp_path, written % "null", mark="x") == PlannedField("x")
    said = fault(tmp_path, written % "error", mark=None)
    assert said == f"objects.call.fields.x in crm.toml: is empty, and must not be (call {KEY})"


def test_faults_are_grouped_without_values_of_single_calls(tmp_path: Path) -> None:
    with pytest.raises(MappingFault) as caught:
        field(tmp_path, '{ value = "{{ record.mark }}", missing = "error" }', mark=None)
    assert caught.value.cause == "objects.call.fields.x in crm.toml: is empty, and must not be"


def test_default_expression_may_be_empty(tmp_path: Path) -> None:
    written = '{ value = "{{ record.mark }}", default = "{{ call.summary }}", missing = "null" }'
    assert field_of(tmp_path, written, mark="", summary="s") == PlannedField("s")
    assert field_of(tmp_path, written, mark="", summary="") == PlannedField(None)


# Limits, writing, conditions


def test_limit_is_counted_in_the_given_unit(tmp_path: Path) -> None:
    written = '{ value = "{{ record.mark }}", limit = 5, limit_bytes = 9 }'
    assert field(tmp_path, written, mark="一二三") == "一二三"
    assert field(tmp_path, written, mark="一二三四") == "一二…"
    assert field(tmp_path, written, mark="abcdef") == "abcd…"
    assert field(tmp_path, written, mark=123456789012) == 123456789012


@pytest.mark.parametrize("write", list(WritePolicy))
def test_write_names_the_policy_of_a_field(tmp_path: Path, write: WritePolicy) -> None:
    default = ", default = 2" if write is WritePolicy.WHILE_DEFAULT else ""
    found = field_of(tmp_path, f'{{ value = 1, write = "{write}"{default} }}')
    assert found == PlannedField(1, write, default=2 if default else None)


def test_separator_joins_lists_and_appends(tmp_path: Path) -> None:
    found = field_of(tmp_path, '{ value = "a", write = "append", separator = "; " }')
    assert found == PlannedField("a", WritePolicy.APPEND, "; ")
    assert field_of(tmp_path, '{ value = "a", write = "append" }') == PlannedField(
        "a", WritePolicy.APPEND, "\n"
    )


def test_when_on_a_field_leaves_it_out(tmp_path: Path) -> None:
    written = '{ value = "{{ 1 / record.call_count }}", when = "{{ record.call_count > 0 }}" }'
    assert field_of(tmp_path, written, call_count=1) == PlannedField(1.0)
    assert field_of(tmp_path, written, call_count=0) == "its `when` is not true"
    lazy = "{ value = 1, when = \"{{ call.tags | select('equalto', 'x') }}\" }"
    assert "add `| list`" in fault(tmp_path, lazy)


# Objects


def test_object_left_out_says_why(tmp_path: Path) -> None:
    when = "when = \"{{ call.grade == 'A' }}\"\n[objects.contact.fields]"
    mapping = mapping_of(tmp_path, ("[objects.contact.fields]", when))
    without = outcome(mapping, status="B")
    assert isinstance(without, Plan)
    assert without.left_out == {"contact": "its `when` is not true"}
    keyless = outcome(mapping_of(tmp_path), phone="")
    assert isinstance(keyless, Plan)
    assert keyless.left_out == {"contact": "phone, which is its key, is empty"}


def test_on_deleted_and_shared_are_read(tmp_path: Path) -> None:
    mapping = mapping_of(
        tmp_path, ("[objects.contact.fields]", 'on_deleted = "recreate"\n[objects.contact.fields]')
    )
    objects = planned(mapping)
    assert [(one.on_deleted, one.shared) for one in objects.values()] == [("recreate", True), ("park", False)]
    mixed = mapping_of(
        tmp_path, ('"{{ call.phone | e164 }}"', '"{{ call.phone }}", of = "x-{{ call[\'key\'] }}"')
    )
    assert not planned(mixed)["contact"].shared


# Shadow and trial


def test_shadow_marks_the_plan(tmp_path: Path) -> None:
    connector = 'connector = "sandbox"'
    for top, shadow in (("", False), ("\nshadow = true", True), ("\nshadow = false", False)):
        plan = outcome(mapping_of(tmp_path, (connector, connector + top)))
        assert isinstance(plan, Plan)
        assert plan.shadow is shadow


@pytest.mark.parametrize(
    ("lists", "changes", "taken"),
    [
        ('phones = ["15899770637"]', {}, True),
        ('phones = ["+86 158 9977 0637"]', {}, True),
        ('phones = ["15899770638"]', {}, False),
        ('phones = ["15899770637"]', {"phone": "158****0637"}, False),
        ('tasks = ["20250414101849"]', {}, True),
        ('tasks = ["dial_task_main_sn|1c41217cc6866d22bcb6cfe1aa5f4e47"]', {}, True),
        ('tasks = ["2025"]', {}, False),
        ('projects = ["liuy-转人工测试新"]', {}, True),
        ('projects = ["projects|af4a802d7cb2972dea6aa47d11b7e0f9"]', {}, True),
        ('projects = ["x"]', {"project_caption": None}, False),
        ('phones = ["15899770638"]\ntasks = ["20250414101849"]', {}, True),
        ('phones = ["15899770638"]\ntasks = ["x"]', {"talktimes": 0}, False),
    ],
)
def test_trial_limits_which_calls_are_delivered(
    tmp_path: Path, lists: str, changes: dict[str, Any], taken: bool
) -> None:
    mapping = mapping_of(tmp_path, ("[[rules]]", f"[trial]\n{lists}\n[[rules]]"))
    plan = outcome(mapping, **changes)
    assert isinstance(plan, Plan) if taken else plan == Skip("not in the trial")


# Misuse: what is put in place of `x = …`; the line, the key, words of message and remedy

MISUSE = [
    WrittenMistake(
        written='{ value = 1, map = "ownres" }\n' + OWNERS,
        line=16,
        key="objects.call.fields.x.map",
        message='"ownres"',
        remedy='"owners"',
    ),
    WrittenMistake(
        written='{ value = 1, map = "owners" }',
        line=16,
        key="objects.call.fields.x.map",
        message='"owners"',
        remedy="add a table [maps.owners]",
    ),
    WrittenMistake(
        written="{ value = 1, map = 3 }",
        line=16,
        key="objects.call.fields.x.map",
        message="neither a table",
        remedy="the name of a table",
    ),
    WrittenMistake(
        written='{ value = 1, map = { A = ["x"] } }',
        line=16,
        key="objects.call.fields.x.map.A",
        message="should be text",
        remedy="",
    ),
    WrittenMistake(
        written='{ value = 1, map = { A = "{{ 1 }}" } }',
        line=16,
        key="objects.call.fields.x.map.A",
        message="not computed",
        remedy="constant",
    ),
    WrittenMistake(
        written='{ value = 1, map = { "" = "x" } }',
        line=16,
        key="objects.call.fields.x.map.",
        message="never looked up",
        remedy="default",
    ),
    WrittenMistake(
        written='{ value = 1, unknown = "keep" }',
        line=16,
        key="objects.call.fields.x.unknown",
        message="no map",
        remedy="add `map`",
    ),
    WrittenMistake(
        written='{ value = 1, map = { A = 1 }, unknown = "default" }',
        line=16,
        key="objects.call.fields.x.unknown",
        message="needs a default",
        remedy="",
    ),
    WrittenMistake(
        written='{ value = 1, unknown = "kep", map = { A = 1 } }',
        line=16,
        key="objects.call.fields.x.unknown",
        message="'keep'",
        remedy="",
    ),
    WrittenMistake(
        written='{ value = 1, missing = "null", default = 1 }',
        line=16,
        key="objects.call.fields.x.missing",
        message="never counts",
        remedy="",
    ),
    WrittenMistake(
        written='{ value = 1, missing = "null", write = "append" }',
        line=16,
        key="objects.call.fields.x.missing",
        message="clears nothing",
        remedy='"omit"',
    ),
    WrittenMistake(
        written='{ value = 1, missing = "nul" }',
        line=16,
        key="objects.call.fields.x.missing",
        message="'null'",
        remedy="",
    ),
    WrittenMistake(
        written='{ value = 1, write = "while_default" }',
        line=16,
        key="objects.call.fields.x.write",
        message="needs a default",
        remedy="add `default`",
    ),
    WrittenMistake(
        written='{ value = "{{ call.name or \'未知\' }}", write = "while_default", default = "" }',
        line=16,
        key="objects.call.fields.x.write",
        message="needs a default",
        remedy="leave it out of `value`",
    ),
    WrittenMistake(
        written='{ value = 1, separator = ";" }',
        line=16,
        key="objects.call.fields.x.separator",
        message="appended",
        remedy='"append"',
    ),
    WrittenMistake(
        written='{ value = 1, write = "allways" }',
        line=16,
        key="objects.call.fields.x.write",
        message="'always'",
        remedy="",
    ),
    WrittenMistake(
        written="{ value = 1, limit_bytes = 2 }",
        line=16,
        key="objects.call.fields.x.limit_bytes",
        message="greater than or equal",
        remedy="",
    ),
    WrittenMistake(
        written='{ value = 1, when = "call.answered" }',
        line=16,
        key="objects.call.fields.x.when",
        message="no condition",
        remedy="{{",
    ),
    WrittenMistake(
        written='{ value = 1, default = "{{ call.nme }}" }',
        line=16,
        key="objects.call.fields.x.default",
        message="call.nme",
        remedy="call.name",
    ),
    WrittenMistake(
        written='"1"\n[trial]', line=17, key="trial", message="lists nothing", remedy="list phones"
    ),
    WrittenMistake(
        written='"1"\n[trial]\nphones = ["158****0637"]',
        line=18,
        key="trial.phones.0",
        message="no whole phone number",
        remedy="+86",
    ),
    WrittenMistake(
        written='"1"\n[trial]\ntaks = ["a"]',
        line=18,
        key="trial.taks",
        message="unknown key",
        remedy='"tasks"',
    ),
    WrittenMistake(
        written='"1"\n[maps.a]\nb = { c = 1 }', line=18, key="maps.a.b", message="should be text", remedy=""
    ),
    WrittenMistake(
        written='"1"\n[maps.a]\nb = "{{ call.name }}"',
        line=18,
        key="maps.a.b",
        message="not computed",
        remedy="constant",
    ),
    WrittenMistake(
        written='"1"\n[[rules]]\nname = "answered"\nwhen = "{{ 1 }}"',
        line=18,
        key="rules.1.name",
        message="already",
        remedy="of its own",
    ),
    WrittenMistake(
        written='"1"\n[[rules]]\nname = "not in the trial"\nwhen = "{{ 1 }}"',
        line=18,
        key="rules.1.name",
        message="already",
        remedy="",
    ),
    WrittenMistake(
        written='"1"\n[[tests]]\nrecord = "r"',
        line=17,
        key="tests.0",
        message="expects nothing",
        remedy="expect_skip",
    ),
    WrittenMistake(
        written='"1"\n[[tests]]\nexpect.call = false',
        line=17,
        key="tests.0",
        message="has no record",
        remedy="fields",
    ),
    WrittenMistake(
        written='"1"\n[[tests]]\nrecord = "r"\nexpect.cal = false',
        line=19,
        key="tests.0.expect.cal",
        message='"cal"',
        remedy='"call"',
    ),
    WrittenMistake(
        written='"1"\n[[tests]]\nrecord = "r"\nexpect.call.y = 1',
        line=19,
        key="tests.0.expect.call.y",
        message='"y"',
        remedy="call_key",
    ),
    WrittenMistake(
        written='"1"\n[[tests]]\nrecord = "r"\nexpect.call = true',
        line=19,
        key="tests.0.expect.call",
        message="or false",
        remedy="",
    ),
    WrittenMistake(
        written='"1"\n[[tests]]\nrecord = "r"\nexpect_skip = "answerd"',
        line=19,
        key="tests.0.expect_skip",
        message="",
        remedy='"answered"',
    ),
    WrittenMistake(
        written='"1"\n[[tests]]\nrecord = "r"\nexpect_skip = "answered"\nexpect_error = "x"',
        line=20,
        key="tests.0.expect_error",
        message="excludes expect_skip",
        remedy="split",
    ),
]


@pytest.mark.parametrize(("written", "line", "key", "words", "remedy"), MISUSE)
def test_misuse_is_named(tmp_path: Path, written: str, line: int, key: str, words: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, ('x = "{{ call.score }}"', f"x = {written}"))
    [problem] = caught.value.problems
    assert (problem.line, problem.key) == (line, key)
    assert words in problem.message
    assert remedy in f"{problem.message} {problem.remedy}"


def test_a_cycle_of_links_is_named_where_it_goes_forward(tmp_path: Path) -> None:
    linked = '[objects.contact]\nlink = { call = "call" }'
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, ("[objects.contact]", linked))
    [problem] = caught.value.problems
    assert (problem.line, problem.key) == (8, "objects.contact.link.call")
    assert problem.message == "contact → call → contact is a cycle of links"


def test_every_mistake_is_reported_in_one_run(tmp_path: Path) -> None:
    """Shape, expressions, names, links, maps, rules, tests: none hides another."""
    changes = [
        ('connector = "sandbox"', 'conector = "sandbox"\nshadow = "maybe"'),
        ("call.talk_seconds > 0", "call.talk_secons > 0 and cal.x | lenght"),
        ('name = "{{ call.name }}"', 'name = { value = "{{ call.nme | uper }}", limt = 3, map = "none" }'),
        ('link = { contact = "contact" }', 'link = { contact = "contct" }\nwhen = "yes"\non_deleted = "no"'),
        ('x = "{{ call.score }}"', "x = 1979-05-27\n[[tests]]\nrecord = 3\nexpect.x = 1"),
    ]
    with pytest.raises(ConfigError) as caught:
        mapping_of(tmp_path, *changes)
    told = {(one.line, one.key, one.message.split(":")[0]) for one in caught.value.problems}
    assert told == {
        (None, "connector", "is required"),
        (1, "conector", 'unknown key "conector"'),
        (2, "shadow", "should be a valid boolean, unable to interpret input"),
        (6, "rules.0.when", 'there is no name "cal"'),
        (6, "rules.0.when", 'there is no filter "lenght"'),
        (6, "rules.0.when", 'there is no value "call.talk_secons"'),
        (11, "objects.contact.fields.name.limt", 'unknown key "limt"'),
        (11, "objects.contact.fields.name.map", 'there is no table "none" in [maps]'),
        (11, "objects.contact.fields.name.value", 'there is no filter "uper"'),
        (11, "objects.contact.fields.name.value", 'there is no value "call.nme"'),
        (15, "objects.call.link.contact", 'there is no object "contct" to link to'),
        (16, "objects.call.when", "is no condition"),
        (17, "objects.call.on_deleted", "should be 'park' or 'recreate'"),
        (19, "objects.call.fields.x", "should be text, a number, true or false"),
        (21, "tests.0.record", "should be text"),
        (22, "tests.0.expect.x", "should be a table of fields, or false"),
        (22, "tests.0.expect.x", 'there is no object "x"'),
    }
    assert list(caught.value.problems) == sorted(caught.value.problems, key=lambda one: one.line or 0)


def test_editor_schema_describes_every_key() -> None:
    schema = MappingFile.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for table in (section, *section.get("anyOf", ())):
            for name, key in table.get("properties", {}).items():
                assert key.get("description"), name
