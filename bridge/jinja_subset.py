"""What of Jinja2 an expression may use: nothing whose cost is out of proportion to what it is given.

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

from jinja2 import Undefined, nodes
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
    """An evaluation that makes more than it may."""

    def __init__(self) -> None:
        super().__init__(f"makes more than {MOST_WORK // 2**20} million characters: shorten what it is given")


class Missing(Undefined):
    """What is not there: the same as null wherever it is compared."""

    __slots__ = ()
    __hash__ = Undefined.__hash__

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Undefined)

    def __ne__(self, other: object) -> bool:
        return not self == other


class CountedContext(Context):
    """Where an expression's names are looked up, and what its evaluation has made so far."""

    spent = 0

    def charge(self, amount: int) -> None:
        """Count what is about to be made.

        Raises:
            Spent: it is too much.
        """
        self.spent += amount
        if self.spent > MOST_WORK:
            raise Spent

    def charged(self, value: Any) -> Any:
        """A value that was made, counted; what is made bit by bit is counted as it comes."""
        if isinstance(value, str | bytes):
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
    """A filter whose results count.

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
    """Call a method of a value."""
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
    """The filters that are Jinja's, or stand in for one of them."""

    def _join(context: CountedContext, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
        items = value if attribute is None else map(_getter(context, attribute), value)
        texts = [as_text(item) for item in items]
        context.charge(sum(map(len, texts)) + len(as_text(d)) * max(len(texts) - 1, 0))
        return as_text(d).join(texts)

    def _replace(context: CountedContext, s: Any, old: str, new: str, count: int | None = None) -> str:
        text, old, new = as_text(s), as_text(old), as_text(new)
        times = text.count(old)
        times = times if count is None else min(times, max(count, 0))
        context.charge(len(text) + times * max(len(new) - len(old), 0))
        return text.replace(old, new, times)

    own = {
        "default": _default,
        "d": _default,
        "escape": _escape,
        "e": _escape,
        "tojson": _tojson,
        "round": _round,
        "trim": _trim,
        "sum": pass_context(_sum),
        "join": pass_context(_join),
        "replace": pass_context(_replace),
    }

    def plain(value: Any) -> Any:
        """A value that is no text or number by itself, as text: Python's own is no data."""
        return (
            value if isinstance(value, str | int | float) and not isinstance(value, bool) else as_text(value)
        )

    def _urlencode(value: Any) -> str:
        if isinstance(value, Mapping):
            return jinja.do_urlencode({as_text(name): as_text(each) for name, each in value.items()})
        return jinja.do_urlencode(as_text(value))

    kept = {name: jinja.FILTERS[name] for name in _KEPT}
    return {
        name: counted(
            function, null_stays=name in _NULL_STAYS_NULL, first=plain if name in _OF_TEXT else None
        )
        for name, function in (kept | own | {"urlencode": _urlencode}).items()
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

_NO_BOUND = "its result has no bound"
LEFT_OUT: Mapping[str, str] = {
    "test defined": "what is not there is null here, so it always holds: write `is not none`",
    "test undefined": "what is not there is null here, so it never holds: write `is none`",
    "test filter": "an unknown filter is a mistake here",
    "test test": "an unknown test is a mistake here",
    "test callable": "nothing can be called here but a text's own methods",
    "test escaped": "nothing is escaped by itself here: use the filter html or escape",
    "filter attr": 'write ["name"] for a field',
    "filter batch": "write a slice, such as [:10]",
    "filter center": f"{_NO_BOUND}: write the spaces",
    "filter forceescape": "write escape",
    "filter format": f"{_NO_BOUND}: write 'a' ~ b ~ 'c', and round for decimals",
    "filter indent": f"{_NO_BOUND}: write replace('\\n', '\\n  ')",
    "filter pprint": "write tojson",
    "filter random": "a request must be the same when it is sent again",
    "filter safe": "nothing is escaped by itself here: leave it out",
    "filter slice": f"{_NO_BOUND}: write a slice, such as [:10]",
    "filter urlize": "write the address and its text yourself",
    "filter wordwrap": "write shorten, or split it in parts",
    "filter xmlattr": "write the attributes yourself, with escape",
    "method center": f"{_NO_BOUND}: write the spaces",
    "method encode": "texts are sent as UTF-8",
    "method expandtabs": "write replace('\\t', '    ') as a filter",
    "method format": f"{_NO_BOUND}: write 'a' ~ b ~ 'c', and the filter round for decimals",
    "method format_map": f"{_NO_BOUND}: write 'a' ~ b ~ 'c'",
    "method join": "write the filter: list | join(', ')",
    "method ljust": f"{_NO_BOUND}: write the spaces",
    "method replace": "write the filter: text | replace('a', 'b')",
    "method rjust": f"{_NO_BOUND}: write the spaces",
    "method translate": "write the filter replace",
    "method zfill": f"{_NO_BOUND}: write ('000' ~ value)[-3:]",
}
"""What Jinja or Python has and an expression has not, with what to write instead."""


def never_null(node: nodes.Node | None, own: Callable[[str], bool]) -> bool:
    """Whether an expression always gives something; `own` tells it of a filter that is none of Jinja's."""
    if isinstance(node, nodes.Filter):
        return node.name in NEVER_NULL or own(node.name)
    if isinstance(node, nodes.Const):
        return node.value is not None
    return isinstance(
        node, nodes.Concat | nodes.Compare | nodes.Not | nodes.Test | nodes.BinExpr | nodes.List | nodes.Dict
    ) and not isinstance(node, nodes.And | nodes.Or)


MOST_LEVELS = 60
"""So deep an expression may be nested: Python's own compiler gives up at about 90 brackets."""


def misuses(tree: nodes.Template, own_never_null: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """What can be written and would mean nothing, or could be anything: each with what to write instead."""
    if _levels(tree) > MOST_LEVELS:
        yield f"is nested deeper than {MOST_LEVELS} levels", "make two fields or a map of it"
        return
    for called in tree.find_all(nodes.Call):
        yield from _called(called)
    for test in tree.find_all(nodes.Test):
        if remedy := LEFT_OUT.get(f"test {test.name}"):
            yield f'there is no test "{test.name}"', remedy
    for used in tree.find_all(nodes.Filter):
        if remedy := LEFT_OUT.get(f"filter {used.name}"):
            yield f'there is no filter "{used.name}"', remedy
        yield from _handed_on(used)
        if used.name in ("default", "d") and not _of_empty(used) and never_null(used.node, own_never_null):
            yield (
                "default never applies here: what stands before it is never null",
                "write default('x', true) for what is empty, or put it nearer to the value",
            )


def _called(called: nodes.Call) -> Iterator[tuple[str, str]]:
    if isinstance(called.node, nodes.Name):
        # A name that there is not is a fault of its own.
        return
    if not isinstance(called.node, nodes.Getattr):
        yield "only a method of a value can be called", "write it as .name(…), or use a filter"
    elif called.dyn_args is not None or called.dyn_kwargs is not None:
        yield f"{called.node.attr}() is given arguments with *", "write them out"
    elif called.node.attr not in METHODS and called.node.attr not in _TABLES:
        remedy = LEFT_OUT.get(f"method {called.node.attr}", f"there are: {', '.join(sorted(METHODS))}")
        yield f"there is no method {called.node.attr}() here", remedy


# The fields of a table go before its methods, and calling them has a fault of its own.
_TABLES = frozenset({"get", "items", "keys", "values"})


def _of_empty(used: nodes.Filter) -> bool:
    """Whether a default is also for what is empty, or may be."""
    given = used.args[1:] + [each.value for each in used.kwargs if each.key == "boolean"]
    return any(not (isinstance(each, nodes.Const) and not each.value) for each in given)


def names_of(used: nodes.Filter) -> Iterator[tuple[str, nodes.Expr, int]]:
    """`map('upper')` names a filter, `select('even')` and `selectattr('x', 'even')` a test."""
    place = {"map": 0, "select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}.get(used.name)
    if place is not None and len(used.args) > place:
        yield "filter" if used.name == "map" else "test", used.args[place], place


def filters_in(tree: nodes.Template) -> Iterator[nodes.Filter]:
    """The filters that are used, those among them that `map` hands each item to."""
    for used in tree.find_all(nodes.Filter):
        yield used
        for kind, named, place in names_of(used):
            if kind == "filter" and isinstance(named, nodes.Const):
                yield nodes.Filter(None, str(named.value), used.args[place + 1 :], used.kwargs, None, None)


def _handed_on(used: nodes.Filter) -> Iterator[tuple[str, str]]:
    if used.dyn_args is not None or used.dyn_kwargs is not None:
        yield f"{used.name} is given arguments with *", "write them out"
    for kind, named, _ in names_of(used):
        if not isinstance(named, nodes.Const):
            yield f"the {kind} that {used.name} uses is a value", f"write its name: {used.name}('…')"
        elif remedy := LEFT_OUT.get(f"{kind} {named.value}"):
            yield f'there is no {kind} "{named.value}"', remedy


def _levels(node: nodes.Node) -> int:
    """How deep a tree is, looked at without going down it: it may be deeper than Python's own stack."""
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        each, level = waiting.pop()
        deepest = max(deepest, level)
        waiting += [(child, level + 1) for child in each.iter_child_nodes()]
    return deepest
