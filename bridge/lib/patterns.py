"""Regular expressions of operators: refused where they could run for hours, and given bounded texts.

Python's engine backtracks and holds the interpreter's lock: `(a+)+$` on 40 letters never ends. How the
time of a pattern grows can be read from its automaton: it is the number of paths that read one text. Two
loops that one text leads through side by side make a square of it, one within another an exponential (Weber
and Seidl, 1991).

Python has no public parser of regular expressions, and one of our own would read some pattern otherwise than
the engine does. So `re`'s own is used, here only; `test_patterns.py` fails when its trees change.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Literal

LONGEST_SEARCHED = 256 * 1024
"""How many characters of a text are searched: a pattern of linear time takes 2 ms for them."""
LONGEST_SQUARE = 4 * 1024
"""The same for one that begins anew at each character, such as `[0-9]+ taken`: 8 million steps, 30 ms."""
Growth = Literal["linear", "square", "worse"]

# A fixed repeat of one character is written out, up to so many; any other one counts as a loop.
_WRITTEN_OUT = 64
_MOST_PLACES = 400
_LARGEST_LOOP = 60
_LETTERS = "0189azAZ_ !\n\t\0é中ßж日ａ１٣\u2028-.@:/\\\"'([{<"
_REPEATS = {sre.MAX_REPEAT, sre.MIN_REPEAT, getattr(sre, "POSSESSIVE_REPEAT", sre.MAX_REPEAT)}
_ATOMIC = getattr(sre, "ATOMIC_GROUP", None)
_ORDER: tuple[Growth, ...] = ("linear", "square", "worse")


class PatternError(ValueError):
    """A regular expression that cannot be read, or that some text would keep busy without end."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def refuse_unsafe(pattern: str) -> None:
    """Refuse a text that is no regular expression, or whose time grows faster than the square of its input.

    Raises:
        PatternError: it is one of these.
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"is no regular expression: {error}", "see Python's re") from None
    if growth(pattern) == "worse":
        raise PatternError(
            "is a regular expression that some texts would keep busy for hours",
            "two repeats that take the same characters stand within or beside one another:"
            r" let each leave out what comes next, as in [^@\s]+@[^@\s]+",
        )


def search(pattern: str, text: str) -> re.Match[str] | None:
    """The first match of an operator's pattern in the searched beginning of a text.

    Raises:
        PatternError: as `refuse_unsafe` does.
    """
    compiled, longest = _compiled(pattern)
    return compiled.search(text, 0, longest)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> tuple[re.Pattern[str], int]:
    refuse_unsafe(pattern)
    return re.compile(pattern), LONGEST_SEARCHED if growth(pattern) == "linear" else LONGEST_SQUARE


@lru_cache(maxsize=512)
def growth(pattern: str) -> Growth:
    """How a search's time grows with the text at worst: perhaps overestimated, never underestimated."""
    tree = _parser.parse(pattern)
    letters = _alphabet(tree)
    automaton = _Automaton(letters, bool(tree.state.flags & re.ASCII), bool(tree.state.flags & re.IGNORECASE))
    try:
        automaton.build(list(tree), bool(tree.state.flags & re.MULTILINE))
        found = automaton.growth()
    except _TooManyPlaces:
        return "worse"
    return max(found, automaton.least, key=_ORDER.index)


class _TooManyPlaces(Exception):
    """More places than are looked at."""


@dataclass(slots=True)
class _Part:
    """Where a part of a pattern may begin and end, and whether it may be nothing."""

    first: Counter[int] = field(default_factory=Counter)
    last: Counter[int] = field(default_factory=Counter)
    empty: bool = True


class _Automaton:
    """A pattern as places, with the letters each takes and what may follow it (Glushkov's construction)."""

    def __init__(self, letters: str, ascii_only: bool, any_case: bool) -> None:
        self._letters = letters
        self._all = (1 << len(letters)) - 1
        self._ascii, self._any_case = ascii_only, any_case
        self._takes: list[int] = []
        self._follow: list[Counter[int]] = []
        self.least: Growth = "linear"

    def build(self, tree: list[Any], multiline: bool) -> None:
        """Read a pattern that is searched for: at the beginning only, or anew at each character."""
        head = tree[0] if tree else (None, None)
        whole = self._sequence(tree)
        if head == (sre.AT, sre.AT_BEGINNING_STRING) or (
            head == (sre.AT, sre.AT_BEGINNING) and not multiline
        ):
            return
        barred = self._barred(head, whole)
        free = self._place(self._all & ~barred)
        self._follow[free].update([free, *whole.first])
        if barred:
            # After such a letter the pattern cannot begin.
            blocked = self._place(barred)
            self._follow[free][blocked] += 1
            self._follow[blocked].update([blocked, free])

    def _barred(self, head: tuple[Any, Any], whole: _Part) -> int:
        """The letters that may not stand before the pattern, as `(?<![0-9])` or `\\b` at its head say."""
        kind, what = head
        if kind is sre.ASSERT_NOT and what[0] < 0 and len(what[1]) == 1:
            return self._mask(*what[1][0]) or 0
        word = self._mask(sre.IN, [(sre.CATEGORY, sre.CATEGORY_WORD)]) or 0
        if head == (sre.AT, sre.AT_BOUNDARY) and all(not self._takes[place] & ~word for place in whole.first):
            return word
        return 0

    def _place(self, takes: int) -> int:
        if len(self._takes) >= _MOST_PLACES:
            raise _TooManyPlaces
        self._takes.append(takes)
        self._follow.append(Counter())
        return len(self._takes) - 1

    def _sequence(self, tree: Sequence[Any]) -> _Part:
        whole = _Part()
        for kind, what in tree:
            whole = self._joined(whole, self._part(kind, what))
        return whole

    def _joined(self, one: _Part, other: _Part) -> _Part:
        for end, times in one.last.items():
            for begin, more in other.first.items():
                self._follow[end][begin] += times * more
        return _Part(
            one.first + other.first if one.empty else one.first,
            other.last + one.last if other.empty else other.last,
            one.empty and other.empty,
        )

    def _part(self, kind: Any, what: Any) -> _Part:
        takes = self._mask(kind, what)
        if takes is not None:
            place = self._place(takes)
            return _Part(Counter([place]), Counter([place]), empty=False)
        if kind in _REPEATS:
            return self._repeated(*what)
        if kind in (sre.SUBPATTERN, _ATOMIC):
            return self._sequence(_inside(kind, what)[0])
        if kind is sre.BRANCH:
            parts = [self._sequence(each) for each in what[1]]
            return _Part(
                sum((part.first for part in parts), Counter()),
                sum((part.last for part in parts), Counter()),
                any(part.empty for part in parts),
            )
        if kind in (sre.ASSERT, sre.ASSERT_NOT, sre.AT):
            if kind is not sre.AT and _has_loop(what[1]):
                self.least = "worse" if _judged_alone(what[1], self) != "linear" else "square"
            return _Part()
        # What refers back to a group may read any text, of any length.
        place = self._place(self._all)
        self._follow[place][place] += 1
        return _Part(Counter([place]), Counter([place]))

    def _repeated(self, low: int, high: int, tree: Sequence[Any]) -> _Part:
        if low == high and low <= _WRITTEN_OUT and not _has_loop(tree):
            whole = _Part()
            for _ in range(low):
                whole = self._joined(whole, self._sequence(tree))
            return whole
        part = self._sequence(tree)
        if high > 1:
            for end, times in part.last.items():
                for begin, more in part.first.items():
                    self._follow[end][begin] += times * more
        return _Part(part.first, part.last, part.empty or low == 0)

    # -- letters --------------------------------------------------------------------
    def _mask(self, kind: Any, what: Any) -> int | None:
        """The letters that one place takes; None where it is no place for a letter."""
        if kind is sre.LITERAL:
            return self._where(lambda code: code == what)
        if kind is sre.NOT_LITERAL:
            return self._all & ~self._where(lambda code: code == what)
        if kind is sre.ANY:
            return self._all
        if kind is not sre.IN:
            return None
        negated = what[0][0] is sre.NEGATE
        takes = 0
        for each in what[1:] if negated else what:
            takes |= self._member(*each)
        return self._all & ~takes if negated and not self._any_case else self._all if negated else takes

    def _member(self, kind: Any, what: Any) -> int:
        if kind is sre.LITERAL:
            return self._where(lambda code: code == what)
        if kind is sre.RANGE:
            return self._where(lambda code: what[0] <= code <= what[1])
        test = _CATEGORIES.get(what)
        if test is None or self._ascii:
            return self._all
        return sum(1 << place for place, letter in enumerate(self._letters) if test(letter))

    def _where(self, holds: Any) -> int:
        found = 0
        for place, letter in enumerate(self._letters):
            forms = {letter, letter.lower(), letter.upper()} if self._any_case else {letter}
            if any(len(form) == 1 and holds(ord(form)) for form in forms):
                found |= 1 << place
        return found

    # -- growth ---------------------------------------------------------------------
    def growth(self) -> Growth:
        """The growth of what was built."""
        reach = [self._reached(place) for place in range(len(self._takes))]
        loops = [place for place in range(len(reach)) if place in reach[place]]
        for place in loops:
            ring = {other for other in reach[place] if place in reach[other]}
            if len(ring) > _LARGEST_LOOP or self._doubles(place, ring):
                return "worse"
        beside = [
            (one, other)
            for one in loops
            for other in loops
            if other in reach[one] and one not in reach[other] and self._beside(one, other, reach)
        ]
        # A third loop beside the second makes a cube of it.
        cube = any(begin == end or begin in reach[end] for _, end in beside for begin, _ in beside)
        return "worse" if cube else "square" if beside else "linear"

    def _reached(self, place: int) -> set[int]:
        seen: set[int] = set()
        waiting = list(self._follow[place])
        while waiting:
            found = waiting.pop()
            if found not in seen:
                seen.add(found)
                waiting += self._follow[found]
        return seen

    def _doubles(self, place: int, ring: set[int]) -> bool:
        """Whether one text leads from a place back to it in two ways."""
        if any(times > 1 for end in ring for begin, times in self._follow[end].items() if begin in ring):
            return True
        start: tuple[int, ...] = (place, place)
        seen, waiting = {start}, [start]
        while waiting:
            for pair in self._together(waiting.pop()):
                if pair not in seen and ring.issuperset(pair):
                    seen.add(pair)
                    waiting.append(pair)
        apart = {pair for pair in seen if pair[0] != pair[1]}
        return any(self._leads(pair, (place, place), ring) for pair in apart)

    def _leads(self, start: tuple[int, ...], goal: tuple[int, ...], ring: set[int]) -> bool:
        seen, waiting = {start}, [start]
        while waiting:
            for found in self._together(waiting.pop()):
                if found == goal:
                    return True
                if found not in seen and ring.issuperset(found):
                    seen.add(found)
                    waiting.append(found)
        return False

    def _beside(self, one: int, other: int, reach: list[set[int]]) -> bool:
        """Whether one text leads from one loop back to it, over to another, and round that one."""
        between = {place for place in reach[one] | {one} if other in reach[place] or place == other}
        start: tuple[int, ...] = (one, one, other)
        goal = (one, other, other)
        seen, waiting = {start}, [start]
        while waiting:
            for found in self._together(waiting.pop()):
                if found == goal:
                    return True
                if found not in seen and between.issuperset(found):
                    seen.add(found)
                    waiting.append(found)
            if len(seen) > 20_000:
                raise _TooManyPlaces
        return False

    def _together(self, places: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Where one and the same letter leads from several places."""
        made: list[tuple[tuple[int, ...], int]] = [((), self._all)]
        for place in places:
            made = [
                ((*before, begin), takes & self._takes[begin])
                for before, takes in made
                for begin in self._follow[place]
                if takes & self._takes[begin]
            ]
        return (found for found, _ in made)


def _judged_alone(tree: Any, outer: _Automaton) -> Growth:
    inner = _Automaton(outer._letters, outer._ascii, outer._any_case)  # noqa: SLF001 -- the same class's
    inner.build([(sre.AT, sre.AT_BEGINNING_STRING), *tree], multiline=False)
    return max(inner.growth(), inner.least, key=_ORDER.index)


def _has_loop(tree: Any) -> bool:
    return any(
        (kind in _REPEATS and (what[0] != what[1] or what[1] > _WRITTEN_OUT or _has_loop(what[2])))
        or any(_has_loop(inner) for inner in _inside(kind, what))
        for kind, what in tree
    )


def _inside(kind: Any, what: Any) -> Sequence[Any]:
    if kind is sre.SUBPATTERN:
        return [what[3]]
    if kind is sre.BRANCH:
        return list(what[1])
    if kind in (sre.ASSERT, sre.ASSERT_NOT):
        return [what[1]]
    return [what] if kind is _ATOMIC else [what[2]] if kind in _REPEATS else []


def _alphabet(tree: Any) -> str:
    """Letters that tell the pattern's classes apart: those it names, their neighbours, one of each kind."""
    codes = {ord(letter) for letter in _LETTERS}
    for code in _codes(tree):
        codes |= {code - 1, code, code + 1, *(ord(form) for form in _cases(chr(code)))}
    return "".join(chr(code) for code in sorted(codes) if 0 <= code < 0x110000)


def _cases(letter: str) -> Iterator[str]:
    return (form for form in (letter.lower(), letter.upper()) if len(form) == 1)


def _codes(tree: Any) -> Iterator[int]:
    for kind, what in tree:
        if kind in (sre.LITERAL, sre.NOT_LITERAL):
            yield what
        elif kind is sre.RANGE:
            yield from what
        elif kind is sre.IN:
            yield from _codes(what)
        for inner in _inside(kind, what):
            yield from _codes(inner)


_CATEGORIES: dict[Any, Any] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_NOT_DIGIT: lambda letter: not letter.isdecimal(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda letter: not letter.isspace(),
    sre.CATEGORY_WORD: lambda letter: letter.isalnum() or letter == "_",
    sre.CATEGORY_NOT_WORD: lambda letter: not (letter.isalnum() or letter == "_"),
}
