"""Expressions: what they become, what they read, what is refused at load, and what never gets out."""

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib import expression_checks
from bridge.lib.expression import AttributeTable, ExpressionError, Language, as_text
from bridge.mapping.filters import MAPPING_FILTERS

CALL = AttributeTable({"phone": "15899770637", "name": None, "talk_seconds": 88, "tags": ("a", "b")})
LANGUAGE = Language(
    {"call": frozenset({"phone", "name", "talk_seconds", "tags"}), "record": None}, MAPPING_FILTERS
)


def value_of(text: str, /, **record: Any) -> Any:
    template = LANGUAGE.parse(text)
    return LANGUAGE.compile([template])({"call": CALL, "record": AttributeTable(record), "_country": "CN"})[0]


def refusal(text: str) -> str:
    with pytest.raises(ExpressionError) as caught:
        LANGUAGE.parse(text)
    return str(caught.value)


# Constants


@pytest.mark.parametrize(
    "text", ["", " ", "hot", "1e5", "None", "true", "+8615899770637", "{ } }} {", "客户", "a'b\"c\\n\t\0"]
)
def test_a_text_without_expressions_is_a_constant(text: str) -> None:
    assert LANGUAGE.parse(text).constant
    assert value_of(text) == text


@given(st.text().filter(lambda text: "{" not in text))
def test_constant_keeps_its_text(text: str) -> None:
    assert value_of(text) == text


@given(st.text().filter(lambda text: "{" not in text and "\r" not in text and text.strip()))
def test_text_around_an_expression_is_kept(text: str) -> None:
    assert value_of("{{ call.phone }}" + text) == "15899770637" + text


# Types


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ call.talk_seconds }}", 88),
        ("{{ call.talk_seconds > 0 }}", True),
        ("{{call.talk_seconds/2}}", 44.0),
        ("{{ call.name }}", None),
        ("{{ call.tags }}", ("a", "b")),
        ("{{ [1, none, 'x'] }}", [1, None, "x"]),
        ("{{ {'a': {'b': 1}} }}", {"a": {"b": 1}}),
        ("{{ call.name or '未知' }}", "未知"),
        ("{{ 1 }}", 1),
        ("{{ '1' }}", "1"),
        ("{{ 'a' if false }}", None),
        ("{{ call.phone | e164 }}", "+8615899770637"),
    ],
)
def test_a_single_expression_keeps_its_type(text: str, value: object) -> None:
    found = value_of(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["15899770637", "+8615899770637", "1e5", "None", "true", "[1]", "0012", ""])
def test_text_that_looks_like_another_type_is_text(text: str) -> None:
    assert value_of("{{ record.value }}", value=text) == text
    assert value_of("<{{ record.value }}>", value=text) == f"<{text}>"
    assert value_of("{{ record.value }}{{ record.value }}", value=text) == text + text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ call.phone }}", "15899770637"),
        (" {{ call.phone }}", " 15899770637"),
        ("{{ call.talk_seconds }}s", "88s"),
        ("{{ call.name }}先生", "先生"),
        ("[{{ call.tags }}]", "[a, b]"),
        ("{{ call.talk_seconds > 0 }}!", "true!"),
        ("{{ 1 }}{{ 2 }}", "12"),
        ("x{{ record.nothing }}y", "xy"),
        ("x{{ record.a.b }}y", "xy"),
        ("{{ 'a' }} {{ 'b' if true else 'c' }}\n{{ 'd' }}", "a b\nd"),
        ("<b>{{ '<i>&' }}</b>", "<b><i>&</b>"),
    ],
)
def test_mixture_of_text_and_expressions_is_text(text: str, value: str) -> None:
    assert value_of(text, a="deep") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ '}}' }}", "}}"),
        ("{{ '{{' }}", "{{"),
        ("{{ '{% x %}' }}{{ '#}' }}", "{% x %}#}"),
        ('a {{ "it\'s }} fine" }} b', "a it's }} fine b"),
        ("{{ {'a': {'b': 1}}['a']['b'] }}", 1),
        ('{"json": "{{ call.talk_seconds }}"}', '{"json": "88"}'),
    ],
)
def test_braces_inside_an_expression_are_part_of_it(text: str, value: object) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize("text", ["{{ record.a.b }}", "{{ record.a.b if record.a.b is not none else none }}"])
def test_undefined_name_is_null(text: str) -> None:
    assert value_of(text, a="deep") is None


@pytest.mark.parametrize(
    "text", ["{{ call.name | upper }}", "{{ call.name | trim }}", "{{ call.name ~ '' }}"]
)
def test_null_never_becomes_the_word_none(text: str) -> None:
    try:
        value = value_of(text)
    except ExpressionError:
        return
    assert value in (None, "")


def test_values_inside_a_text_are_written_as_text() -> None:
    values = [None, True, False, 3, 1.5, ["a", None, [2]], ("x",)]
    assert [as_text(value) for value in values] == ["", "true", "false", "3", "1.5", "a, , 2", "x"]
    assert as_text(datetime(2025, 4, 14, 2, 19, 21, 999, tzinfo=UTC)) == "2025-04-14T02:19:21Z"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "名": [True, None]}, '{"a":1,"名":[true,null]}'),
        ([{"text": "x"}, "y"], '{"text":"x"}, y'),
        ({"at": datetime(2025, 4, 14, 2, 19, 21, tzinfo=UTC)}, '{"at":"2025-04-14T02:19:21Z"}'),
        (timedelta(seconds=88), "0:01:28"),
        ("客户".encode(), "客户"),
        ((item for item in ("a", "b")), "a, b"),
    ],
)
def test_no_value_is_written_in_python_notation(value: object, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("[v] | string", '{"a":[1,null,true]}'),
        ("v | upper", '{"A":[1,NULL,TRUE]}'),
        ("v.a | trim", "1, , true"),
        ("v.a | join(';')", "1;;true"),
        ("[v, {'a': 'x'}] | map(attribute='a') | join('/')", "1, , true/x"),
        ("[v, {'a': 'x'}] | join('/', attribute='a')", "1, , true/x"),
        ("v.a | replace('true', 'yes')", "1, , yes"),
        ("v.a | escape", "1, , true"),
        ("v | urlencode", "a=1%2C+%2C+true"),
        ("'ab cd' | truncate(3, true, '', 0)", "ab "),
        ("'ab cd' | truncate(4, killwords=false, end='', leeway=0)", "ab"),
        ("v.a | reverse | string", "true, , 1"),
        ("true | string", "true"),
    ],
)
def test_jinja_filters_write_no_python_notation(expression: str, text: str) -> None:
    language = Language({"v": None}, {})
    found = language.compile([language.parse("{{ " + expression + " }}")])({"v": {"a": [1, None, True]}})[0]
    assert found == text


@pytest.mark.parametrize("expression", ["v | pprint", "v | xmlattr"])
def test_filters_that_write_python_notation_are_removed(expression: str) -> None:
    with pytest.raises(ExpressionError, match="there is no filter"):
        Language({"v": None}, {}).parse("{{ " + expression + " }}")


def test_percent_operator_does_not_format_text() -> None:
    language = Language({"v": None}, {})
    evaluate = language.compile([language.parse("{{ v % 3 }}")])
    assert evaluate({"v": 10}) == [1]
    with pytest.raises(ExpressionError, match="only for numbers"):
        evaluate({"v": "%s"})


@pytest.mark.parametrize("value", [object(), AttributeTable({}), {"a": object()}, {1, 2}, b"\xff"])
def test_object_that_is_no_data_is_no_text(value: object) -> None:
    with pytest.raises(ValueError, match=r"is no text|decode"):
        as_text(value)


# Refused at load, with the nearest right name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ cal.phone }}", 'there is no name "cal": did you mean "call"?'),
        ("{{ xyz }}", 'there is no name "xyz": known: call, record'),
        ("{{ _country }}", 'there is no name "_country"'),
        ("{{ self }}", 'there is no name "self"'),
        ("{{ range(9) }}", 'there is no name "range"'),
        ("{{ lipsum() }}", 'there is no name "lipsum"'),
        ("{{ call.talk_secnds }}", 'there is no value "call.talk_secnds": did you mean "call.talk_seconds"?'),
        ("{{ call['fone'] }}", 'there is no value "call.fone": did you mean "call.phone"?'),
        ("{{ call.phone | e165 }}", 'there is no filter "e165": did you mean "e164"?'),
        ("{{ call.phone | _text }}", 'there is no filter "_text"'),
        ("{{ call.phone is sting }}", 'there is no test "sting": did you mean "string"?'),
        ("ok {{ call.phone }} {{ call.nme }}", 'did you mean "call.name"?'),
        ("{{ call.tags | map('uper') | list }}", 'did you mean "upper"?'),
        ("{{ call.tags | select('sting') | list }}", 'did you mean "string"?'),
    ],
)
def test_unknown_name_is_refused_with_a_suggestion(text: str, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize(
    "text", ["{% if 1 %}a{% endif %}", "{# note #}", "{% raw %}{{ x }}{% endraw %}", "a{#b#}"]
)
def test_statements_and_comments_are_refused(text: str) -> None:
    assert "only {{ … }} is allowed here" in refusal(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ call.phone", "a {{ is never closed by }}"),
        ("{{ 'a", "unexpected char"),
        ("{{ }}", "Expected an expression"),
        ("{{ call.phone ) + ( 'a' }}", "unexpected ')'"),
        ("{{ (call.phone }}", "unexpected"),
        ("{{ call phone }}", "expected token"),
        ("{{ 1 {# no #} }}", "unexpected char '#'"),
        ("{% if", "only {{ … }} is allowed here"),
    ],
)
def test_syntax_error_is_refused(text: str, words: str) -> None:
    assert words in refusal(text)


def test_all_mistakes_of_a_text_are_reported_at_once() -> None:
    with pytest.raises(ExpressionError) as caught:
        LANGUAGE.parse("{{ call.nme | uper }} and {{ cal.x }} and {{ call.nme }} and {{ 1 + }}")
    told = {(fault.message, fault.remedy) for fault in caught.value.faults}
    assert told == {
        ('there is no value "call.nme"', 'did you mean "call.name"?'),
        ('there is no filter "uper"', 'did you mean "upper"?'),
        ('there is no name "cal"', 'did you mean "call"?'),
        ("unexpected 'end of print statement'", ""),
    }
    assert len(caught.value.faults) == 4
    assert all(str(fault) in str(caught.value) for fault in caught.value.faults)


# Failures on a record


@pytest.mark.parametrize(
    "text",
    [
        "{{ 1 / record.zero }}",
        "{{ record.text + 1 }}",
        "{{ record.text.upper }}",
        "{{ 'yes' if record.text.isdigit else 'no' }}",
        "{{ record.text() }}",
        "{{ record.no.such.thing }}",
        "{{ record.text | round }}",
        "{{ record.text | iso8601 }}",
        "{{ record.text | epoch }}",
        "{{ call.tags | map(attribute='x') | sum }}",
    ],
)
def test_failure_on_a_record_is_an_expression_error(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"\w"):
        value_of(text, zero=0, text="x")


# The sandbox


@pytest.mark.parametrize(
    "text",
    [
        "{{ call.__class__ }}",
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ record.__init__ }}",
        "{{ record.__init__.__globals__ }}",
        "{{ record.a.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ '{0.__class__}'.format(record) }}",
        "{{ call._values }}",
    ],
)
def test_python_internals_cannot_be_reached(text: str) -> None:
    try:
        value = value_of(text, a="x")
    except ExpressionError:
        return
    assert value in (None, "")


@pytest.mark.parametrize("text", ["{{ ''.__class__ }}", "{{ record.__init__ }}", "{{ record.a.__class__ }}"])
def test_access_to_python_internals_is_refused_at_load(text: str) -> None:
    assert "__" in refusal(text)


@dataclass
class Plain:
    name: str = "n"
    _hidden: str = "h"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ [plain] | map(attribute='name') | list }}", ["n"]),
        ("{{ [plain] | map(attribute='_hidden') | list | string }}", "[]"),
        ("{{ plain['_hidden'] }}", None),
    ],
)
def test_only_public_attributes_of_plain_types_can_be_read(text: str, value: object) -> None:
    language = Language({"plain": None}, {}, plain=[Plain])
    try:
        [found] = language.compile([language.parse(text)])({"plain": Plain()})
    except ExpressionError:
        return
    assert "h" not in str(found)
    assert found == value or text.endswith("string }}")


def test_expression_cannot_change_data() -> None:
    tags = ["a"]
    with pytest.raises(ExpressionError):
        value_of("{{ record.tags.append('b') }}", tags=tags)
    assert tags == ["a"]
    with pytest.raises(AttributeError):
        CALL.phone = "x"


COSTLY = """
import resource, sys
from bridge.lib.expression import ExpressionError, AttributeTable, Language
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
language = Language({"record": None}, {})
try:
    language.compile([language.parse(sys.argv[1])])({"record": AttributeTable({"a": "a", "n": 10**9})})
except ExpressionError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 10**9 }}",
        "{{ record.a * record.n }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ record.n ** record.n }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 1 | round(1000000000, 'floor') }}",
        "{{ ('a' * 1000) | replace('a', 'b' * 1000000) }}",
    ],
)
def test_expression_that_exhausts_the_machine_is_refused(text: str) -> None:
    command = [sys.executable, "-c", COSTLY, text]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.stdout.startswith("refused:"), (ended.returncode, ended.stderr[-200:])


GIANT = "x" * (2 * 2**20)


@pytest.mark.parametrize(
    "text",
    [
        "{{ record.a | replace('', record.a) }}",
        "{{ record.a | replace('x', 'yyyyyyyyyyyyyyyyyyyyyyyy') }}",
        "{{ record.many | join(record.a) }}",
        "{{ record.many | map('replace', 'x', record.a) | list }}",
        "{{ record.many | select('in', record.a) | list }}",
        "{{ record.lists | sum(start=[]) }}",
        "{{ record.a ~ record.a ~ record.a ~ record.a ~ record.a ~ record.a ~ record.a ~ record.a ~ 'x' }}",
        "{{ record.a.strip(record.a) }}",
        "{{ 1 | round(10 ** 9) }}",
        "{{ record.n | round(record.n) }}",
        "{{ record.a | map('upper') | list }}",
    ],
)
def test_size_of_one_evaluation_is_bounded(text: str) -> None:
    started = time.process_time()
    many = ["x" * 1000] * 1000
    with pytest.raises(ExpressionError, match=r"million characters|longer than|decimals|no \*\*"):
        value_of(text, a=GIANT, many=many, lists=[["x"] * 10_000] * 1000, n=10**9)
    # Each takes under 2 s of processor time; without its bound it would take minutes or all memory.
    assert time.process_time() - started < 20


@pytest.mark.parametrize("name", sorted(expression_checks.LEFT_OUT))
def test_removed_jinja_feature_names_its_replacement(name: str) -> None:
    kind, _, what = name.partition(" ")
    text = {
        "filter": f"{{{{ call.name | {what} }}}}",
        "test": f"{{{{ call.name is {what} }}}}",
        "method": f"{{{{ call.name.{what}(9) }}}}",
    }[kind]
    assert expression_checks.LEFT_OUT[name] in refusal(text)
    if kind == "filter":
        assert expression_checks.LEFT_OUT[name] in refusal(f"{{{{ call.tags | map('{what}') | list }}}}")
    if kind == "test":
        assert expression_checks.LEFT_OUT[name] in refusal(
            f"{{{{ call.tags | selectattr('x', '{what}') | list }}}}"
        )
        assert expression_checks.LEFT_OUT[name] in refusal(f"{{{{ call.tags | select('{what}') | list }}}}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ record.a is defined }}", "write `is not none`"),
        ("{{ record.a is undefined }}", "write `is none`"),
        ("{{ (call.name ~ call.phone) | default('x') }}", "default never applies"),
        ("{{ (call.talk_seconds > 1) | default('x') }}", "default never applies"),
        ("{{ call.name | list | d('x') }}", "default never applies"),
        ("{{ 'a' | default('x') }}", "default never applies"),
        ("{{ record.a | int | default(1) }}", "default never applies"),
        ("{{ call.tags | map(record.x) | list }}", "write its name"),
        ("{{ call.tags | map(*record.x) | list }}", "write them out"),
        ("{{ call.talk_seconds ** 2 }}", "there is no **: multiply"),
        ("{{ 'a' * 1000 }}", "* is only for numbers: join texts by ~"),
        ("{{ '%s' % call.name }}", "% is only for numbers: join texts by ~"),
        ("{{ (call.name | upper)() }}", "only a method of a value"),
        ("{{ call.name['ljust'](9) }}", "only a method of a value"),
        ("{{ call.name.nosuch() }}", "there is no method nosuch() here"),
        ("{{ call.name.split(*record.x) }}", "write them out"),
        ("{{ " + "9" * 5000 + " }}", "cannot be read"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", ""),
        ("{{ " + " + ".join(["call.phone"] * 200) + " }}", "nested deeper"),
        ("{{ " + "not " * 5000 + "1 }}", ""),
    ],
)
def test_meaningless_expression_is_refused_with_a_correction(text: str, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ call.name | default('x') }}",
        "{{ (call.name ~ '') | default('x', true) }}",
        "{{ call.phone | e164 | default('x') }}",
        "{{ (call.name or record.a) | default('x') }}",
        "{{ record.a | first | default('x') }}",
        "{{ " + " ~ ".join(["call.phone"] * 200) + " }}",
        "{{ " + " + ".join(["call.phone"] * 50) + " }}",
    ],
)
def test_expression_with_a_possible_meaning_is_accepted(text: str) -> None:
    assert value_of(text) is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ record.a.b.c is none }}", True),
        ("{{ record.a.b is none }}", True),
        ("{{ record.a.b == none }}", True),
        ("{{ record.a.b != none }}", False),
        ("{{ ('x' if false) is none }}", True),
        ("{{ record.t is none }}", False),
        ("{{ record.t['upper'] }}", None),
        ("{{ record.a['items'] }}", None),
        ("{{ [record.a] | map(attribute='values') | first }}", None),
        ("{{ record.t.split(',')[1].upper() }}", "Y"),
        ("{{ record.t.startswith('x') and record.t.endswith('y') }}", True),
        ("{{ record.t | e ~ '<br>' }}", "x,y<br>"),
        ("{{ ['a', none, 'b'] | join('-') }}", "a--b"),
        ("{{ [[1], [2, 3]] | sum(start=[]) }}", [1, 2, 3]),
        ("{{ ['<a>', 2] | tojson }}", '["<a>", 2]'),
        ("{{ record.t | replace('x', 'z', 1) }}", "z,y"),
        ("{{ 7 % 4 }}", 3),
    ],
)
def test_missing_attribute_is_null_and_methods_must_be_called(text: str, value: object) -> None:
    assert value_of(text, a={"b": None}, t="x,y") == value


# Record fields


@pytest.mark.parametrize("name", ["items", "get", "keys", "values", "name", "_names", "姓名", "2nd-field"])
def test_any_name_can_be_a_field_of_a_record(name: str) -> None:
    assert value_of(f"{{{{ record['{name}'] }}}}", **{name: 7}) == 7
    assert value_of(f"{{{{ record['{name}'] }}}}") is None


@pytest.mark.parametrize("name", ["items", "get", "keys", "values"])
def test_field_of_a_record_is_no_method(name: str) -> None:
    assert value_of(f"{{{{ record.{name} }}}}", **{name: 7}) == 7
    assert value_of(f"{{{{ record.{name} }}}}") is None


# Many into one, and what is read


@pytest.mark.parametrize("name", ["get", "items", "keys", "values"])
def test_calling_a_table_method_is_refused_at_load(name: str) -> None:
    """It would be the field of that name, and a condition with it would never hold."""
    with pytest.raises(ExpressionError, match=rf'no method {name}\(\).*write \["name"\]'):
        LANGUAGE.parse(f"{{{{ record.{name}('x') }}}}")


def test_many_expressions_compile_into_one() -> None:
    texts = [
        "{{ call.talk_seconds }}",
        "constant",
        "{{ record.a.b }}",
        "{{ call.tags }}",
        "<{{ record.x }}>",
        "",
    ]
    evaluate = LANGUAGE.compile([LANGUAGE.parse(text) for text in texts])
    names = {"call": CALL, "record": AttributeTable({"a": "deep", "x": "1e5"})}
    assert evaluate(names) == [88, "constant", None, ("a", "b"), "<1e5>", ""]
    assert evaluate({**names, "record": AttributeTable({"a": {"b": 1}})}) == [
        88,
        "constant",
        1,
        ("a", "b"),
        "<>",
        "",
    ]
    assert LANGUAGE.compile([])(names) == []


def test_one_failing_expression_fails_the_whole() -> None:
    evaluate = LANGUAGE.compile([LANGUAGE.parse("{{ 1 }}"), LANGUAGE.parse("{{ record.a.b.c.d }}")])
    with pytest.raises(ExpressionError, match="has no attribute 'c'"):
        evaluate({"record": AttributeTable({"a": {"b": None}})})


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("constant", set()),
        ("{{ call.phone }}", {("call", "phone")}),
        ("{{ call['phone'] }}", {("call", "phone")}),
        ("a {{ record.x }} b {{ record['y z'] }}", {("record", "x"), ("record", "y z")}),
        ("{{ record.x.y }}", {("record", "x")}),
        ("{{ (record.x or record.y) | upper }}", {("record", "x"), ("record", "y")}),
        ("{{ 'record.x' }}", set()),
        (
            "{{ call.name if record.x is none else [record.y] }}",
            {("call", "name"), ("record", "x"), ("record", "y")},
        ),
        ("{{ record[record.which] }}", {("record", "which")}),
    ],
)
def test_names_read_by_an_expression_are_known(text: str, reads: set[tuple[str, str]]) -> None:
    assert LANGUAGE.parse(text).reads == reads
