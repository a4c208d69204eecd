"""Finds mistakes in expressions when their file is read; each comes with what to write instead."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import signature, unwrap
from typing import Any

from jinja2 import nodes

from bridge.lib.errors import did_you_mean
from bridge.lib.jinja_subset import METHODS, NEVER_NULL

Mistake = tuple[str, str]
"""What is wrong, and what to write instead."""
_ANNOTATION = re.compile(": [^=]+(?:(=) |$)")
MOST_LEVELS = 60
"""So deep an expression may be nested: Python's own compiler gives up at about 90 brackets."""
# The fields of a table go before its methods, and calling them has a fault of its own.
_METHODS_OF_TABLES = frozenset({"get", "items", "keys", "values"})
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


def _refused_operators(tree: nodes.Template) -> Iterator[Mistake]:
    """`**`, and `*` and `%` of a text: they have no bound, and would fail on every call."""
    if tree.find(nodes.Pow) is not None:
        yield "there is no **", "multiply"
    for operator in tree.find_all((nodes.Mul, nodes.Mod)):
        for side in (operator.left, operator.right):
            if isinstance(side, nodes.Const | nodes.TemplateData) and isinstance(
                getattr(side, "value", ""), str
            ):
                yield f"{operator.operator} is only for numbers", "join texts by ~"
                break


class Checker:
    """Checks expressions against the names, filters and tests that one kind of file may use."""

    def __init__(
        self,
        names: Mapping[str, frozenset[str] | None],
        own: frozenset[str],
        filters: Mapping[str, Callable[..., Any]],
        tests: Mapping[str, Any],
        arguments: Mapping[str, Callable[[Any], object]],
    ) -> None:
        """`own` are the filters that are not Jinja's; for the rest see `bridge.lib.expression.Language`."""
        self._names = names
        self._own = own
        self._filters = filters
        self._tests = tests
        self._arguments = arguments

    def check(self, tree: nodes.Template) -> Iterator[Mistake]:
        """Unknown filters, tests, names and attributes, and what would mean nothing."""
        misused = list(_misuses(tree, self._gives_always))
        yield from misused
        for access in tree.find_all(nodes.Getattr):
            if access.attr.startswith("_"):
                yield f'"{access.attr}" is no name here', f'write ["{access.attr}"] for a field'
        for called in tree.find_all(nodes.Call):
            # `headers.get` is the header named get, and a condition that fails is only not true.
            if isinstance(called.node, nodes.Getattr) and called.node.attr in _METHODS_OF_TABLES:
                message = f"a table has no method {called.node.attr}(): its fields go before"
                yield message, 'write ["name"] for a field, or use a filter'
        yield from _refused_operators(tree)
        for filtered in filters_in(tree):
            if filtered.name in self._filters:
                yield from self._check_arguments(filtered)
        left_out = {message for message, _ in misused}
        for kind, name, options in self._named(tree):
            public = [option for option in options if not option.startswith("_")]
            message = f'there is no {kind} "{name}"'
            if name not in public and message not in left_out:
                yield message, did_you_mean(name, public)

    def _check_arguments(self, called: nodes.Filter) -> Iterator[Mistake]:
        """Arguments that a filter does not take: it would fail on every call, or ignore them silently."""
        if called.dyn_args is not None or called.dyn_kwargs is not None:
            return
        function = unwrap(self._filters[called.name])
        shape = signature(function)
        # What jinja2 passes first is not written in the expression, nor is the value.
        hidden = [None] * (2 if hasattr(function, "jinja_pass_arg") else 1)
        named = {str(each.key): each.value for each in called.kwargs}
        try:
            bound = shape.bind(*hidden, *called.args, **named)
        except TypeError as error:
            takes = [
                _ANNOTATION.sub(r"\1", str(each)) for each in list(shape.parameters.values())[len(hidden) :]
            ]
            remedy = f"write {called.name}" + (f"({', '.join(takes)})" if takes else " without brackets")
            yield f'the filter "{called.name}" does not take this: {error}', remedy
            return
        for name, given in bound.arguments.items():
            judge = self._arguments.get(name) if called.name in self._own else None
            if judge is None:
                continue
            if not isinstance(given, nodes.Const):
                if name == "pattern":
                    yield (
                        f"{called.name}: its pattern is a value",
                        "write it out: what it costs must be known",
                    )
                continue
            try:
                judge(given.value)
            except ValueError as error:
                yield f'{called.name}: "{given.value}" {error}', getattr(error, "remedy", "")

    def _gives_always(self, name: str) -> bool:
        """Whether a filter of ours says by its types that it never gives null."""
        filtered = unwrap(self._filters[name]) if name in self._own else None
        gives = filtered.__annotations__.get("return") if filtered is not None else None
        return gives is not None and gives is not Any and "None" not in str(gives)

    def _named(self, tree: nodes.Template) -> Iterator[tuple[str, str, Iterable[str]]]:
        """Everything that an expression calls by name: its kind, the name, and the names that exist."""
        for called in tree.find_all(nodes.Filter):
            yield "filter", called.name, self._filters
            yield from self._named_by(called)
        for test in tree.find_all(nodes.Test):
            yield "test", test.name, self._tests
        for name in tree.find_all(nodes.Name):
            yield "name", name.name, self._names
        for owner, attribute in reads_of(tree):
            known = self._names.get(owner)
            if known is not None and not attribute.startswith("_"):
                yield "value", f"{owner}.{attribute}", [f"{owner}.{option}" for option in known]

    def _named_by(self, called: nodes.Filter) -> Iterator[tuple[str, str, Iterable[str]]]:
        for kind, named, _ in named_callables(called):
            if isinstance(named, nodes.Const):
                yield kind, str(named.value), self._filters if kind == "filter" else self._tests


def reads_of(tree: nodes.Template) -> set[tuple[str, str]]:
    """The attributes that an expression reads, each with the name that has it."""
    return {read for access in tree.find_all((nodes.Getattr, nodes.Getitem)) if (read := _read(access))}


def _read(access: nodes.Node) -> tuple[str, str] | None:
    """`call.grade` and `record["grade"]` as owner and attribute; None for deeper ones."""
    owner = getattr(access, "node", None)
    if not isinstance(owner, nodes.Name):
        return None
    if isinstance(access, nodes.Getattr):
        return owner.name, access.attr
    if isinstance(access, nodes.Getitem) and isinstance(access.arg, nodes.Const):
        return owner.name, str(access.arg.value)
    return None


def never_null(node: nodes.Node | None, own: Callable[[str], bool]) -> bool:
    """Whether an expression always gives something; `own` tells it of a filter that is none of Jinja's."""
    if isinstance(node, nodes.Filter):
        return node.name in NEVER_NULL or own(node.name)
    if isinstance(node, nodes.Const):
        return node.value is not None
    return isinstance(
        node, nodes.Concat | nodes.Compare | nodes.Not | nodes.Test | nodes.BinExpr | nodes.List | nodes.Dict
    ) and not isinstance(node, nodes.And | nodes.Or)


def _misuses(tree: nodes.Template, own_never_null: Callable[[str], bool]) -> Iterator[Mistake]:
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


def _called(called: nodes.Call) -> Iterator[Mistake]:
    if isinstance(called.node, nodes.Name):
        # A name that there is not is a fault of its own.
        return
    if not isinstance(called.node, nodes.Getattr):
        yield "only a method of a value can be called", "write it as .name(…), or use a filter"
    elif called.dyn_args is not None or called.dyn_kwargs is not None:
        yield f"{called.node.attr}() is given arguments with *", "write them out"
    elif called.node.attr not in METHODS and called.node.attr not in _METHODS_OF_TABLES:
        remedy = LEFT_OUT.get(f"method {called.node.attr}", f"there are: {', '.join(sorted(METHODS))}")
        yield f"there is no method {called.node.attr}() here", remedy


def _of_empty(used: nodes.Filter) -> bool:
    """Whether a default is, or may be, also for empty values."""
    given = used.args[1:] + [each.value for each in used.kwargs if each.key == "boolean"]
    return any(not (isinstance(each, nodes.Const) and not each.value) for each in given)


def named_callables(used: nodes.Filter) -> Iterator[tuple[str, nodes.Expr, int]]:
    """`map('upper')` names a filter, `select('even')` and `selectattr('x', 'even')` a test."""
    place = {"map": 0, "select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}.get(used.name)
    if place is not None and len(used.args) > place:
        yield "filter" if used.name == "map" else "test", used.args[place], place


def filters_in(tree: nodes.Template) -> Iterator[nodes.Filter]:
    """The filters that are used, those among them that `map` hands each item to."""
    for used in tree.find_all(nodes.Filter):
        yield used
        for kind, named, place in named_callables(used):
            if kind == "filter" and isinstance(named, nodes.Const):
                yield nodes.Filter(None, str(named.value), used.args[place + 1 :], used.kwargs, None, None)


def _handed_on(used: nodes.Filter) -> Iterator[Mistake]:
    if used.dyn_args is not None or used.dyn_kwargs is not None:
        yield f"{used.name} is given arguments with *", "write them out"
    for kind, named, _ in named_callables(used):
        if not isinstance(named, nodes.Const):
            yield f"the {kind} that {used.name} uses is a value", f"write its name: {used.name}('…')"
        elif remedy := LEFT_OUT.get(f"{kind} {named.value}"):
            yield f'there is no {kind} "{named.value}"', remedy


def _levels(node: nodes.Node) -> int:
    """How deep a tree is, counted without recursion: it may be deeper than Python's stack."""
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        each, level = waiting.pop()
        deepest = max(deepest, level)
        waiting += [(child, level + 1) for child in each.iter_child_nodes()]
    return deepest
