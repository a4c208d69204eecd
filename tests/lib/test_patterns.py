"""Regular expressions of operators: judged at load, and given only so much of a text."""

import re
import tomllib
from importlib import resources

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
def test_how_the_time_of_a_pattern_grows(pattern: str, expected: str) -> None:
    assert growth(pattern) == expected


@pytest.mark.parametrize("pattern", ["(", "(a+)+$", "a{99999999999}", "(" * 2000 + ")" * 2000])
def test_what_would_never_end_is_refused_like_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(PatternError) as refused:
        patterns.check(pattern)
    assert refused.value.remedy


def test_only_so_much_of_a_text_is_searched() -> None:
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
