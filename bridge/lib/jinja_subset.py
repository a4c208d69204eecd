"""The part of Jinja2 that expressions may use: nothing that costs far more than its input is large.

`'a' | center(1000000000)` takes a gigabyte, `1 | round(1000000000, 'floor')` a processor for hours, and Jinja
folds constants while a file is loaded, so `check` would fall too. What has no bound of its own is left out;
what is left is counted, so that also many small steps end.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from functools import wraps
from html import escape
from typing import Any

from jinja2 import Undefined
from jinja2 import filters as jinja
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJA_TESTS
from jinja2.utils import pass_context

MOST_WORK = 16 * 2**20
"""So much one evaluation may make, a mapping's all at once: a character counts 1, an item of a list 16."""
_ITEM = 16
# No CRM takes a longer separator, name or set of letters, and each is repeated as often as there are items.
_LONGEST_ARGUMENT = 1000
_MOST_DECIMALS = 15


class Spent(ValueError):
    """An evaluation makes more text and items than it may."""

    def __init__(self) -> None:
        super().__init__(f"makes more than {MOST_WORK // 2**20} million characters: shorten what it is given")


class Missing(Undefined):
    """A missing value, which equals null wherever it is compared."""

    __slots__ = ()
    __hash__ = Undefined.__hash__

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Undefined)

    def __ne__(self, other: object) -> bool:
        return not self == other


class CountedContext(Context):
    """Looks up an expression's names, and counts what its evaluation has made so far."""

    spent = 0

    def charge(self, amount: int) -> None:
        """Count what is about to be made, in characters.

        Raises:
            Spent: it is too much.
        """
        self.spent += amount
        if self.spent > MOST_WORK:
            raise Spent

    def charged(self, value: Any) -> Any:
        """Count a value that was made, and return it; an iterator is counted item by item."""
        if value.__class__ is str or isinstance(value, str | bytes):
            self.charge(len(value))
        elif isinstance(value, list | tuple | dict):
            self.charge(_ITEM * len(value))
        elif isinstance(value, Iterator):
            return self._items(value)
        return value

    def _items(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.charge(_ITEM)
            yield item


def counted(
    function: Callable[..., Any], *, null_stays: bool = False, first: Callable[[Any], Any] | None = None
) -> Callable[..., Any]:
    """Wrap a filter so that its results are counted.

    `null_stays`: it gives null for null, as Jinja's own do not; `first`: what it is given goes through that.
    """
    passed = getattr(getattr(function, "jinja_pass_arg", None), "name", "")

    @pass_context
    @wraps(function)
    def filtered(context: CountedContext, value: Any, *args: Any, **more: Any) -> Any:
        if null_stays and _none(value):
            return None
        if first is not None:
            value = first(value)
        if passed == "context":
            return context.charged(function(context, value, *args, **more))
        if passed:
            about = context.environment if passed == "environment" else context.eval_ctx
            return context.charged(function(about, value, *args, **more))
        return context.charged(function(value, *args, **more))

    # What `wraps` copied says what the filter within is passed.
    return pass_context(filtered)


# -- methods -------------------------------------------------------------------------
_OF_TEXTS = frozenset(
    (
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii"),
        *("isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "lower", "lstrip"),
        *("partition", "removeprefix", "removesuffix", "rfind", "rindex", "rpartition", "rsplit", "rstrip"),
        *("split", "splitlines", "startswith", "strip", "swapcase", "title", "upper"),
    )
)
_OF_TIMES = frozenset(
    (
        *("date", "isocalendar", "isoformat", "isoweekday", "strftime", "time", "timestamp"),
        *("total_seconds", "weekday"),
    )
)
_OF_LISTS = frozenset({"count", "index"})
METHODS = _OF_TEXTS | _OF_TIMES | _OF_LISTS
"""The methods that an expression may call; each takes time that grows with its text."""
METHOD = "_method"
"""The filter that stands for a call of one."""


@pass_context
def method(context: CountedContext, value: Any, name: str, *args: Any, **more: Any) -> Any:
    """Call one of the allowed methods of a value."""
    if isinstance(value, str):
        known = _OF_TEXTS
    elif isinstance(value, date | time | timedelta):
        known = _OF_TIMES
    else:
        known = _OF_LISTS if isinstance(value, list | tuple) else frozenset()
    if name not in known:
        shown = "null" if value is None or isinstance(value, Undefined) else f"a {type(value).__name__}"
        raise ValueError(f"{shown} has no method {name}()")
    _short(*args, *more.values())
    return context.charged(getattr(value, name)(*args, **more))


def _short(*arguments: Any) -> None:
    for each in arguments:
        if isinstance(each, str) and len(each) > _LONGEST_ARGUMENT:
            raise ValueError(f"an argument is longer than {_LONGEST_ARGUMENT} characters")


# -- filters -------------------------------------------------------------------------
def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Jinja's own looks for what is undefined only; here that and null are the same."""
    missing = value is None or isinstance(value, Undefined) or (boolean and not value)
    return default_value if missing else value


def _escape(value: Any) -> str:
    # Jinja's own gives Markup, which escapes whatever is put beside it.
    return escape(value if isinstance(value, str) else str(value))


def _tojson(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return None if isinstance(value, Undefined) else str(value)


def _round(value: Any, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > _MOST_DECIMALS:
        raise ValueError(f"round takes at most {_MOST_DECIMALS} decimals")
    return jinja.do_round(value, precision, method)  # type: ignore[arg-type]


def _trim(value: Any, chars: str | None = None) -> str:
    _short(chars)
    return str(value).strip(chars)


def _sum(context: CountedContext, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    items = iterable if attribute is None else map(_getter(context, attribute), iterable)
    if not isinstance(start, list):
        return sum(items, start)
    # Python's `sum` copies the list at each step.
    joined = list(start)
    for item in items:
        context.charge(_ITEM * len(item))
        joined += item
    return joined


def _getter(context: CountedContext, attribute: Any) -> Callable[[Any], Any]:
    return jinja.make_attrgetter(context.environment, attribute)


def _in(context: CountedContext, value: Any, seq: Any) -> bool:
    # `select('in', …)` asks once for each item.
    context.charge(len(seq) if isinstance(seq, str | list | tuple) else 1)
    return value in seq


def _none(value: Any) -> bool:
    return value is None or isinstance(value, Undefined)


def filters(as_text: Callable[[Any], str]) -> dict[str, Callable[..., Any]]:
    """The filters that are Jinja's, or stand in for one of them; `as_text` writes any value as text."""

    def text_or_number(value: Any) -> Any:
        """What is no text or number by itself becomes text: Python's own for it is no data."""
        return (
            value if isinstance(value, str | int | float) and not isinstance(value, bool) else as_text(value)
        )

    kept = {name: jinja.FILTERS[name] for name in _KEPT}
    return {
        name: counted(
            function,
            null_stays=name in _NULL_STAYS_NULL,
            first=text_or_number if name in _OF_TEXT else None,
        )
        for name, function in (kept | _OWN | _writing(as_text)).items()
    }


def _writing(as_text: Callable[[Any], str]) -> dict[str, Callable[..., Any]]:
    """The filters that write values as text themselves."""

    def join(context: CountedContext, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
        items = value if attribute is None else map(_getter(context, attribute), value)
        texts = [as_text(item) for item in items]
        context.charge(sum(map(len, texts)) + len(as_text(d)) * max(len(texts) - 1, 0))
        return as_text(d).join(texts)

    def replace(context: CountedContext, s: Any, old: str, new: str, count: int | None = None) -> str:
        text, old, new = as_text(s), as_text(old), as_text(new)
        times = text.count(old)
        times = times if count is None else min(times, max(count, 0))
        context.charge(len(text) + times * max(len(new) - len(old), 0))
        return text.replace(old, new, times)

    def urlencode(value: Any) -> str:
        if isinstance(value, Mapping):
            return jinja.do_urlencode({as_text(name): as_text(each) for name, each in value.items()})
        return jinja.do_urlencode(as_text(value))

    return {"join": pass_context(join), "replace": pass_context(replace), "urlencode": urlencode}


_OWN: dict[str, Callable[..., Any]] = {
    "default": _default,
    "d": _default,
    "escape": _escape,
    "e": _escape,
    "tojson": _tojson,
    "round": _round,
    "trim": _trim,
    "sum": pass_context(_sum),
}
_KEPT = (
    *("abs", "capitalize", "count", "dictsort", "filesizeformat", "first", "float", "groupby", "int"),
    *("items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse"),
    *("select", "selectattr", "sort", "string", "striptags", "title", "truncate", "unique", "upper"),
    *("urlencode", "wordcount"),
)
# Jinja's own turn null into the word "None", or fail on it.
_NULL_STAYS_NULL = {
    *("abs", "capitalize", "e", "escape", "filesizeformat", "first", "join", "last", "lower", "replace"),
    *("reverse", "round", "sort", "string", "striptags", "title", "trim", "truncate", "unique", "upper"),
    "urlencode",
}
# What these are given is text to them: of a list or a table Python's own would not be what it looks like.
_OF_TEXT = {
    *("capitalize", "e", "escape", "lower", "string", "striptags", "title", "trim", "truncate", "upper"),
    "wordcount",
}
NEVER_NULL = frozenset(
    (
        *("count", "dictsort", "float", "groupby", "int", "items", "length", "list", "map", "reject"),
        *("rejectattr", "select", "selectattr", "sum", "tojson", "wordcount"),
    )
)
"""Filters of Jinja's that give something for whatever they are given: nothing after them needs a default."""

_WITHOUT_TESTS = ("defined", "undefined", "callable", "escaped", "filter", "test")
TESTS: dict[str, Any] = dict(JINJA_TESTS)
for _name in _WITHOUT_TESTS:
    del TESTS[_name]
TESTS |= {"in": pass_context(_in), "none": _none}
