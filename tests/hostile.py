"""Hostile texts, and how processor time grows with them: what the laws of linear time share."""

import re
import string
import time
from collections.abc import Callable, Iterable, Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

RATIO = 3.0
"""Twice the text may take so many times the time: 2 is linear, 4 quadratic, and clocks are coarse."""
_REPEATS = 5
# What takes less for 2,500 characters is no square: 3 million steps take more than 3 ms.
_FLOOR = 0.001
_SMALL = (14, 16, 18, 20, 22, 24, 28, 32, 64, 128, 256, 1000)
_LARGE = 2500

UNITS = (
    *("1", "a", "A", "é", "中", " ", "\t", "\n", "\r\n", "\\", '"', "'", "“", "‘", "”", "(", "[", "{", "<"),
    *("a@", "a.", "@a.", "a@a.", "1.", "1-", "-", "+", "*", "#", "|", "=", "&", "%41", "\\u0041", "\\n"),
    *('"a', "'a", "“a", '\\"', "a1", "1 ", "a ", "1a", "(1", "[1]", "{a", "x=", "a=1&", "ffff-", "é1"),
    *(
        "13800138000",
        "13800138000 ",
        "+86",
        "2025-04-14 ",
        "10:19:21",
        "1h",
        "0x",
        "a:b;",
        "@@",
        "#@1",
        "中1",
    ),
)
"""What hostile texts repeat: digits, addresses, quotes, brackets, escapes, mixtures."""
ENDS = ("", "!")


def texts_for(pattern: re.Pattern[Any]) -> Iterator[Callable[[int], str]]:
    """Families of texts of about n characters: general ones, and near misses made of the pattern."""
    units = list(dict.fromkeys([*UNITS, *_units_of(pattern)]))
    for unit in units:
        for end in ENDS:
            yield lambda size, unit=unit, end=end: unit * (size // len(unit)) + end  # type: ignore[misc]
    for start, unit, rest in _pumped(pattern):
        yield lambda size, start=start, unit=unit: start + unit * (size // len(unit)) + "!"  # type: ignore[misc]
        yield (
            lambda size, start=start, unit=unit, rest=rest: (  # type: ignore[misc]
                start + unit * (size // len(unit)) + rest[:-1]
            )
        )
        yield lambda size, start=start, unit=unit: (start + unit) * (size // len(start + unit))  # type: ignore[misc]


def grows_too_fast(run: Callable[[Any], object], make: Callable[[int], Any]) -> str:
    """How the time of `run` grows too fast with the size of what it is given; empty: it does not."""
    for size in _SMALL:
        if _least(run, make(size), 1) > _FLOOR and _least(run, make(size)) > _FLOOR:
            if size < 256:
                return f"{size} characters take more than {_FLOOR * 1000:g} ms: {make(12)!r}"
            return _doubled(run, make, size)
    if _least(run, make(_LARGE), 1) <= _FLOOR:
        return ""
    return _doubled(run, make, _LARGE)


def _doubled(run: Callable[[Any], object], make: Callable[[int], Any], size: int) -> str:
    # A busy machine may disturb all five runs once; what grows too fast does so every time.
    for _ in range(3):
        once, twice = _least(run, make(size)), _least(run, make(2 * size))
        if once <= _FLOOR or twice <= RATIO * once:
            return ""
    return f"{size} to {2 * size} characters: {once * 1000:.1f} to {twice * 1000:.1f} ms: {make(12)!r}"


def _least(run: Callable[[Any], object], given: Any, times: int = _REPEATS) -> float:
    least = float("inf")
    for _ in range(times):
        start = time.process_time()
        run(given)
        least = min(least, time.process_time() - start)
    return least


# -- made of a pattern ---------------------------------------------------------------
def _units_of(pattern: re.Pattern[Any]) -> Iterable[str]:
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree = _parser.parse(text, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else 0)
    samples = list(dict.fromkeys(_samples(tree)))[:24]
    whole = _sample(tree)
    return [
        *samples,
        *(one + other for one in samples[:5] for other in samples[:5] if one != other),
        *((whole, whole[:-1], whole[1:]) if len(whole) > 1 else ()),
    ]


def _pumped(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """For each repeat: what leads to it, what it repeats, and what follows."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree = _parser.parse(text, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else 0)
    yield from _repeats("", tree, "")


def _repeats(before: str, tree: Any, after: str) -> Iterator[tuple[str, str, str]]:
    items = list(tree)
    for place, (kind, what) in enumerate(items):
        start = before + _sample(items[:place])
        end = _sample(items[place + 1 :]) + after
        for inner in _inside(kind, what):
            yield from _repeats(start, inner, end)
        if kind in _REPEATS_OF and what[1] > 1:
            for unit in dict.fromkeys([_sample(what[2]), *_samples(what[2])]):
                if unit:
                    yield start, unit, end


_REPEATS_OF = {
    _constants.MAX_REPEAT,
    _constants.MIN_REPEAT,
    getattr(_constants, "POSSESSIVE_REPEAT", _constants.MAX_REPEAT),
}


def _inside(kind: Any, what: Any) -> list[Any]:
    if kind in _REPEATS_OF:
        return [what[2]]
    if kind is _constants.SUBPATTERN:
        return [what[3]]
    if kind is _constants.BRANCH:
        return list(what[1])
    if kind in (_constants.ASSERT, _constants.ASSERT_NOT):
        return [what[1]]
    if kind is getattr(_constants, "ATOMIC_GROUP", None):
        return [what]
    return []


def _sample(tree: Any) -> str:
    """A short text that a part of a pattern matches."""
    made = ""
    for kind, what in tree:
        if kind in _REPEATS_OF:
            made += _sample(what[2]) * max(what[0], 1 if what[1] else 0)
        elif kind is _constants.BRANCH:
            made += _sample(what[1][0])
        elif kind in (_constants.ASSERT, _constants.ASSERT_NOT):
            continue
        elif inner := _inside(kind, what):
            made += _sample(inner[0])
        else:
            made += next(iter(_letters(kind, what)), "")
    return made[:200]


def _samples(tree: Any) -> Iterator[str]:
    for kind, what in tree:
        inner = _inside(kind, what)
        if inner:
            for each in inner:
                yield from _samples(each)
        else:
            yield from _letters(kind, what)


_CATEGORIES = {
    "CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " \n", "CATEGORY_WORD": "a_1中",
    "CATEGORY_NOT_DIGIT": "a", "CATEGORY_NOT_SPACE": "a", "CATEGORY_NOT_WORD": "-",
}  # fmt: skip


def _letters(kind: Any, what: Any) -> list[str]:
    if kind is _constants.LITERAL:
        return [chr(what)]
    if kind is _constants.NOT_LITERAL:
        return [next(letter for letter in "a1!" if ord(letter) != what)]
    if kind is _constants.ANY:
        return ["a"]
    if kind is not _constants.IN:
        return []
    if what[0][0] is _constants.NEGATE:
        held = {letter for each in what[1:] for letter in _members(*each)}
        return [letter for letter in f"a1! {string.punctuation}" if letter not in held][:2]
    return [letter for each in what for letter in _members(*each)]


def _members(kind: Any, what: Any) -> list[str]:
    if kind is _constants.LITERAL:
        return [chr(what)]
    if kind is _constants.RANGE:
        return [chr(what[0]), chr(what[1])]
    if kind is _constants.CATEGORY:
        return list(_CATEGORIES.get(str(what), "a"))
    return []
