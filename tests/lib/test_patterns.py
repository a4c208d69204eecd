"""Regular expressions of operators: judged at load, and given only so much of a text."""

import re
import tomllib
from importlib import resources
from re import _parser  # type: ignore[attr-defined]

import pytest

from bridge.lib import patterns
from bridge.lib.patterns import LONGEST_SEARCHED, LONGEST_SQUARE, PatternError, growth, search


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", "linear"),
        ("^-?\\d+$", "linear"),
        ("^.*$", "linear"),
        ("Existing ID:\\s*(\\d+)", "linear"),
        ("(?<!\\d)(\\d+) is taken", "linear"),
        ("\\b\\d+ is taken", "linear"),
        ("\\[([^\\[\\]]+)\\]", "linear"),
        ("(?i)duplicate|already exists", "linear"),
        ("id: (\\w{15,18})", "linear"),
        ("\\d{4}-\\d{2}", "linear"),
        ("\\d+ is taken", "square"),
        ("\\[(.+?)\\]", "square"),
        ("[^@\\s]+@[^@\\s]+", "square"),
        ("^.*;.*$", "square"),
        ("(?=.*x)a", "square"),
        ("(a+)\\1", "worse"),
        ("\\S+@\\S+\\.\\S+", "worse"),
        ("(a+)+$", "worse"),
        ("(a*)*b", "worse"),
        ("(a|b|ab)*c", "worse"),
        ("(\\w+\\s?)*$", "worse"),
        ("(.*)=(.*)=(.*);", "worse"),
        ("(x{1,30}){1,30}y", "worse"),
        ("(?=(a+)+$)b", "worse"),
    ],
)
def test_growth_of_a_patterns_time_is_judged(pattern: str, expected: str) -> None:
    assert growth(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "tree"),
    [
        ("a", "[(LITERAL, 97)]"),
        ("[^a]", "[(NOT_LITERAL, 97)]"),
        (".", "[(ANY, None)]"),
        (
            r"[^b-d\w]",
            "[(IN, [(NEGATE, None), (RANGE, (98, 100)), (CATEGORY, CATEGORY_WORD)])]",
        ),
        ("a+?", "[(MIN_REPEAT, (1, MAXREPEAT, [(LITERAL, 97)]))]"),
        ("a*", "[(MAX_REPEAT, (0, MAXREPEAT, [(LITERAL, 97)]))]"),
        ("a{2,3}+", "[(POSSESSIVE_REPEAT, (2, 3, [(LITERAL, 97)]))]"),
        ("(?>a)", "[(ATOMIC_GROUP, [(LITERAL, 97)])]"),
        ("a|bc", "[(BRANCH, (None, [[(LITERAL, 97)], [(LITERAL, 98), (LITERAL, 99)]]))]"),
        ("(a)", "[(SUBPATTERN, (1, 0, 0, [(LITERAL, 97)]))]"),
        ("(?i:a)", "[(SUBPATTERN, (None, 2, 0, [(LITERAL, 97)]))]"),
        ("(?=a)", "[(ASSERT, (1, [(LITERAL, 97)]))]"),
        ("(?<!a)", "[(ASSERT_NOT, (-1, [(LITERAL, 97)]))]"),
        (r"^$\b\A", "[(AT, AT_BEGINNING), (AT, AT_END), (AT, AT_BOUNDARY), (AT, AT_BEGINNING_STRING)]"),
        (r"(a)\1", "[(SUBPATTERN, (1, 0, 0, [(LITERAL, 97)])), (GROUPREF, 1)]"),
    ],
)
def test_parse_trees_of_re_are_those_the_judge_knows(pattern: str, tree: str) -> None:
    # A Python whose parser makes others must not be judged by what is known of these.
    assert str(list(_parser.parse(pattern))) == tree


@pytest.mark.parametrize("pattern", ["(", "(a+)+$", "a{99999999999}", "(" * 2000 + ")" * 2000])
def test_exponential_pattern_is_refused_like_an_invalid_one(pattern: str) -> None:
    with pytest.raises(PatternError) as refused:
        patterns.refuse_unsafe(pattern)
    assert refused.value.remedy


def test_search_reads_a_bounded_part_of_the_text() -> None:
    assert search("x$|x", "a" * (LONGEST_SEARCHED - 1) + "x")
    assert not search("x", "a" * LONGEST_SEARCHED + "x")
    assert search("a+x", "a" * (LONGEST_SQUARE - 1) + "x")
    assert not search("a+x", "a" * LONGEST_SQUARE + "x")


def test_every_pattern_of_the_shipped_connectors_is_linear() -> None:
    found = []
    for file in (resources.files("bridge.crm") / "connectors").iterdir():
        if file.name.endswith(".toml"):
            text = file.read_text(encoding="utf-8")
            found += _matches(tomllib.loads(text))
            found += [
                raw.replace("\\\\", "\\") for raw in re.findall(r"found\([\"'](.+?)[\"'](?:, \d)?\)", text)
            ]
    assert len(found) > 10
    assert {pattern: growth(pattern) for pattern in found if growth(pattern) != "linear"} == {}


def _matches(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["matches"]] if isinstance(value.get("matches"), str) else []
        return own + [each for inner in value.values() for each in _matches(inner)]
    return [each for inner in value for each in _matches(inner)] if isinstance(value, list) else []
