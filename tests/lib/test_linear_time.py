"""The law of time: no pattern of the package takes more than a text's length, whatever the text is."""

import ast
import contextlib
import importlib
import pkgutil
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import bridge
from bridge.crm.connector.filters import CONNECTOR_FILTERS
from bridge.lib import jinja_subset
from bridge.lib.expression import AttributeTable, ExpressionError, Language, as_text
from bridge.mapping.filters import MAPPING_FILTERS
from tests.fixtures.hostile_texts import grows_too_fast, texts_for

_METHODS = ("search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer")
_PACKAGE = Path(bridge.__file__).parent


def modules() -> Iterator[ModuleType]:
    """Every module of the package."""
    yield bridge
    for found in pkgutil.walk_packages(bridge.__path__, "bridge."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def patterns_in(value: Any, seen: set[int]) -> Iterator[re.Pattern[Any]]:
    """The compiled patterns that a value holds, however deep."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, re.Pattern):
        yield value
    for each in _held_by(value):
        yield from patterns_in(each, seen)


def _held_by(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value, *value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if not str(getattr(value, "__module__", "")).startswith("bridge"):
        return ()
    if isinstance(value, type):
        return vars(value).values()
    cells = (cell.cell_contents for cell in getattr(value, "__closure__", None) or ())
    return (getattr(value, "__defaults__", None), getattr(value, "__kwdefaults__", None), *cells)


@cache
def trees() -> dict[str, ast.Module]:
    return {
        str(path.relative_to(_PACKAGE)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(_PACKAGE.rglob("*.py"))
    }


# Handed to a function that matches at a place: they are never searched for.
_AT_A_PLACE = {"_BLANK", "_SPACE", "_KEY_PART", "_SCALAR"}


@cache
def _uses() -> dict[tuple[str, str], set[str]]:
    """How each name of a module is used as a pattern, there."""
    uses: dict[tuple[str, str], set[str]] = {}
    for name, tree in trees().items():
        module = "bridge." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        uses |= {(module, each): {"match"} for each in _AT_A_PLACE}
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Attribute) and node.attr in _METHODS):
                continue
            for owner in ast.walk(node.value):
                if isinstance(owner, ast.Name):
                    uses.setdefault((module, owner.id), set()).add(node.attr)
    return uses


@cache
def patterns() -> dict[re.Pattern[Any], set[str]]:
    """Every compiled pattern of the package, with how it is used; where no name tells: in all ways."""
    found: dict[re.Pattern[Any], set[str]] = {}
    for module in modules():
        for name, value in vars(module).items():
            for pattern in patterns_in(value, set()):
                plain = isinstance(value, re.Pattern | tuple)
                used = _uses().get((module.__name__, name), set()) if plain else set()
                found.setdefault(pattern, set()).update(used or {"search", "fullmatch"})
    for _, node in _inline():
        if isinstance(node.args[0], ast.Constant) and isinstance(node.func, ast.Attribute):
            found.setdefault(re.compile(node.args[0].value), set()).add(node.func.attr)
    return found


def _inline() -> Iterator[tuple[str, ast.Call]]:
    """The patterns that are written where they are used: `re.search("…", text)` within a function."""
    for name, tree in trees().items():
        for function in tree.body:
            if isinstance(function, ast.Assign):
                continue
            for node in ast.walk(function):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                owner = node.func.value
                if (
                    isinstance(owner, ast.Name)
                    and owner.id == "re"
                    and node.func.attr in (*_METHODS, "compile")
                ):
                    yield name, node


def _runs(pattern: re.Pattern[Any], methods: set[str]) -> Iterator[tuple[str, Callable[[str], object]]]:
    """One run for each way of reading a text: at its start, to its end, or anywhere."""
    as_bytes = isinstance(pattern.pattern, bytes)

    def read(method: Callable[[Any], object]) -> Callable[[str], object]:
        return lambda text: method(text.encode() if as_bytes else text)

    for name in ("match", "fullmatch"):
        if name in methods:
            yield name, read(getattr(pattern, name))
    if methods - {"match", "fullmatch"}:
        yield "search", read(lambda text: [None for _ in pattern.finditer(text)])


def _slow(pattern: re.Pattern[Any], methods: set[str]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        families = list(texts_for(pattern))
    found = (
        f"{pattern.pattern!r}.{name}: {slow}"
        for name, run in _runs(pattern, methods)
        for make in families
        if (slow := grows_too_fast(run, make))
    )
    return next(found, "")


def test_every_pattern_is_found() -> None:
    assert len(patterns()) > 50


@pytest.mark.long
def test_every_pattern_of_the_package_takes_linear_time() -> None:
    slow = filter(None, (_slow(pattern, methods) for pattern, methods in patterns().items()))
    assert "\n".join(slow) == ""


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"\d+x", "search"),
        (r"(a+)+$", "search"),
        (r"(?:a|a)*b", "match"),
        (r"\s*[(]?\s*x", "fullmatch"),
        (r"[a-z]*\Z", "sub"),
    ],
)
def test_slower_pattern_is_detected(pattern: str, method: str) -> None:
    assert _slow(re.compile(pattern), {method})


# The operator's own, which are judged at load; the keys of a row and the id of a record, escaped.
_MADE_AT_WORK = {"lib/patterns.py", "source/outcall/page_text.py", "crm/answer_errors.py"}


def test_patterns_built_at_run_time_are_listed() -> None:
    made = {name for name, node in _inline() if not isinstance(node.args[0], ast.Constant)}
    assert made <= _MADE_AT_WORK


# -- filters -------------------------------------------------------------------------
# What filters are given beside the value, where they need something.
_GIVEN = {
    "shorten": "5",
    "overflow": "5",
    "shorten_bytes": "5",
    "strip_chars": "'<'",
    "last_digits": "4",
    "replace": "'a', 'bb'",
    "map": "'upper'",
    "groupby": "0",
    "selectattr": "'x'",
    "rejectattr": "'x'",
    "hmac": "'key'",
    "found": "'\\\\b([0-9]+) taken'",
    "wrap": "'a'",
    "local": "'%Y'",
    "join": "','",
}
_ZONE = ZoneInfo("Asia/Shanghai")
_UNITS = ("1", "a", "中", "<", "<!--", "&lt;", '"', " ", "\\", "a@a.", "%41", "+8613800138000 ")
# Filters of lists look at each item, which takes a microsecond: fewer families of texts, then.
_OF_LISTS = {"map", "select", "reject", "selectattr", "rejectattr", "groupby", "unique", "sort", "join"}


def _cases(language: Language) -> Iterator[tuple[str, Callable[[str], object]]]:
    for name in sorted(language._environment.filters):
        if name.startswith("_"):
            continue
        given = f"({_GIVEN[name]})" if name in _GIVEN else ""
        shapes = ["value", "[value, value]", "{'a': value, 'b': value}"]
        for shape in shapes:
            text = f"{{{{ {shape.replace('value', 'record.value')} | {name}{given} }}}}"
            try:
                evaluate = language.compile([language.parse(text)])
            except ExpressionError:
                continue

            def run(value: str, evaluate: Any = evaluate) -> None:
                names = {
                    "record": AttributeTable({"value": value}),
                    "_country": "CN",
                    "_zone": ZoneInfo("Asia/Shanghai"),
                }
                with contextlib.suppress(ExpressionError):
                    evaluate(names)

            yield text, run


@pytest.mark.parametrize("filters", [MAPPING_FILTERS, CONNECTOR_FILTERS], ids=["mapping", "connector"])
def test_every_filter_takes_linear_time(
    filters: dict[str, Callable[..., Any]],
) -> None:
    language = Language({"record": None}, filters)
    assert set(language._environment.filters) > {*filters, *jinja_subset.filters(as_text)}
    for text, run in _cases(language):
        units = _UNITS[:4] if any(f"| {name}" in text for name in _OF_LISTS) else _UNITS
        for unit in units:
            slow = grows_too_fast(run, lambda size, unit=unit: unit * (size // len(unit)))  # type: ignore[misc]
            assert slow == "", text
