"""Expressions of mapping and connector files: Jinja2, sandboxed, compiled at load.

A text without braces is a constant; `{{ … }}` is an expression; a text that is one
expression keeps its type; any other mix becomes text. Native templates would guess types
(a phone number becomes an integer), so expressions are compiled, never rendered.

All expressions of one mapping are compiled into a single one: the cost of an evaluation
is the context that is built for it, not the expression.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any, cast

from jinja2 import Undefined, nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from bridge.lib import jinja_subset
from bridge.lib.expression_checks import Checker, reads_of

_TEXT = "_text"
# What Python writes as anybody would; a time without a date among them.
_PLAIN = (str, int, float, date, time, timedelta)
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_BRACES = re.compile(r"\{[{%#]")


class ExpressionError(ValueError):
    """An expression that cannot be compiled, or that failed on a record.

    `faults`: everything that is wrong with one text, each with its message and remedy.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy
        self.faults: tuple[ExpressionError, ...] = (self,)

    @classmethod
    def of(cls, faults: Sequence["ExpressionError"]) -> "ExpressionError":
        """Several faults as one error."""
        if len(faults) == 1:
            return faults[0]
        error = cls("; ".join(map(str, faults)))
        error.faults = tuple(faults)
        return error


class AttributeTable:
    """A mapping whose keys can be read as attributes; a missing one is null."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name: str) -> Any:
        return self._values.get(name)

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("an expression changes nothing")


@dataclass(frozen=True, slots=True)
class Template:
    """One text of a TOML file, as Jinja source that evaluates to its value."""

    source: str
    constant: bool
    whole: bool = False
    """Whether it is one expression and nothing else, which keeps its type."""
    reads: frozenset[tuple[str, str]] = frozenset()
    """The attributes that it reads, each with the name that has it."""
    text: str = ""
    """What a constant says."""


class _Context(jinja_subset.CountedContext):
    """Looks up an expression's names. Kept small: one is made for every evaluation."""

    def __init__(self, environment: "_Environment", names: Mapping[str, Any]) -> None:
        self.parent = cast("dict[str, Any]", names)
        self.vars = {}
        self.environment = environment
        self.eval_ctx = environment.eval_context
        self.exported_vars = set()
        self.name = None
        self.globals_keys = set()
        self.blocks = {}


class _Environment(ImmutableSandboxedEnvironment):
    """Refuses what would take all memory or time, also while Jinja folds constants at load."""

    @cached_property
    def eval_context(self) -> EvalContext:
        """The escaping context that filters are handed: nothing is escaped here, so one serves all."""
        return EvalContext(self)

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not isinstance(left, int | float) or not isinstance(right, int | float):
            # `%` of a text is a format, and `'%1000000000d' % 1` a gigabyte.
            raise ExpressionError(
                "there is no **" if operator == "**" else f"{operator} is only for numbers: join texts by ~"
            )
        return super().call_binop(context, operator, left, right)

    plain: frozenset[type] = frozenset()

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A table's own field goes before a Python method of that name, such as `items`."""
        # The sandbox's own checks cost more than all that a mapping does with a value.
        if type(obj) in self.plain and attribute[0] != "_":
            return getattr(obj, attribute)
        if isinstance(obj, Mapping):
            return obj.get(attribute)
        found = super().getattr(obj, attribute)
        if callable(found) and not isinstance(found, Undefined):
            # It would be true in every condition.
            raise ExpressionError(
                f"{attribute} is a method of a text, and not called", f"write {attribute}()"
            )
        return found

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item, or a field of a table; never a method, which Jinja would try next."""
        if isinstance(obj, Mapping) and isinstance(argument, str):
            return obj.get(argument)
        if isinstance(argument, str) and type(obj) not in self.plain:
            return self.undefined(obj=obj, name=argument)
        return super().getitem(obj, argument)


Rewrite = Callable[[str, nodes.Template, bool], str]
"""Writes an expression anew: by its source, what that was read as, and whether it is alone in its text."""


class Language:
    """The names and filters that one kind of file may use.

    `names` maps each name to the attributes it is known to have; None: any. `plain` are types whose
    public attributes are all there, and all data. `arguments` judge constants that are written for
    the parameters of `filters`, by name: they raise ValueError for what would fail at work.
    """

    def __init__(
        self,
        names: Mapping[str, frozenset[str] | None],
        filters: Mapping[str, Callable[..., Any]],
        plain: Iterable[type] = (),
        arguments: Mapping[str, Callable[[Any], object]] | None = None,
    ) -> None:
        self._environment = _Environment(
            undefined=jinja_subset.Missing, autoescape=False, keep_trailing_newline=True
        )
        self._environment.plain = frozenset({AttributeTable, *plain})
        own = {name: jinja_subset.counted(function) for name, function in filters.items()}
        internal = {_TEXT: jinja_subset.counted(as_text), jinja_subset.METHOD: jinja_subset.method}
        self._environment.filters = {**jinja_subset.filters(as_text), **own, **internal}
        self._environment.tests = dict(jinja_subset.TESTS)
        self._checker = Checker(
            names, frozenset(filters), self._environment.filters, self._environment.tests, arguments or {}
        )
        # `{% … %}` would make a program of a mapping; Jinja's globals have no use here.
        self._environment.globals.clear()

    def parse(self, text: str, guard: "Rewrite | None" = None) -> Template:
        """Read a text, check its names and filters; `guard` changes expressions that are right.

        Raises:
            ExpressionError: with everything that is wrong, and the nearest right names.
        """
        if not _BRACES.search(text):
            # Jinja's lexer would change its line ends.
            return Template(repr(text), constant=True, text=text)
        parts = self._split(text)
        faults: list[ExpressionError] = []
        reads = frozenset(
            read
            for _, expression in parts
            if expression is not None
            for read in self._check(expression, faults)
        )
        if faults:
            raise ExpressionError.of(list({str(fault): fault for fault in faults}.values()))
        if not parts:
            return Template(repr(""), constant=True)
        if all(expression is None for _, expression in parts):
            data = "".join(data for data, _ in parts)
            return Template(repr(data), constant=True, text=data)
        if guard is not None:
            parts = [
                (data, expression and guard(expression, self._read(expression), len(parts) == 1))
                for data, expression in parts
            ]
        if len(parts) == 1:
            return Template(f"({parts[0][1]})", constant=False, whole=True, reads=reads)
        pieces = [
            repr(data) if expression is None else f"(({expression})|{_TEXT})" for data, expression in parts
        ]
        return Template("(" + " ~ ".join(pieces) + ")", constant=False, reads=reads)

    def _split(self, text: str) -> list[tuple[str, str | None]]:
        """The text cut into plain data and expressions, in order; in each pair one of the two is empty."""
        parts: list[tuple[str, str | None]] = []
        expression: list[str] | None = None
        try:
            for _, kind, value in self._environment.lex(text):
                if kind == "variable_begin":
                    expression = []
                elif kind == "variable_end" and expression is not None:
                    parts.append(("", "".join(expression).strip()))
                    expression = None
                elif expression is not None:
                    expression.append(value)
                elif kind == "data":
                    parts.append((value, None))
                else:
                    raise ExpressionError("only {{ … }} is allowed here, no {% … %} or {# … #}")
        except TemplateSyntaxError as error:
            raise ExpressionError(error.message or "cannot be read") from error
        if expression is not None:
            raise ExpressionError("a {{ is never closed by }}")
        return parts

    def _read(self, expression: str) -> nodes.Template:
        return self._environment.parse("{{ " + expression + " }}")

    def _check(self, expression: str, faults: list[ExpressionError]) -> set[tuple[str, str]]:
        """Note unknown filters, tests, names and attributes. Returns the attributes that are read."""
        try:
            tree = self._read(expression)
        except TemplateSyntaxError as error:
            faults.append(ExpressionError(error.message or "cannot be read"))
            return set()
        except (RecursionError, ValueError) as error:
            # A number of thousands of digits is a ValueError of Python's.
            faults.append(ExpressionError(f"cannot be read: {error}"))
            return set()
        faults += [ExpressionError(*each) for each in self._checker.check(tree)]
        return reads_of(tree)

    def _compile(self, source: str) -> Callable[[Mapping[str, Any]], Any]:
        """What Jinja's `compile_expression` does, with null as nothing in `a ~ b`."""
        parser = Parser(self._environment, source, state="variable")
        expression = parser.parse_expression()
        if not parser.stream.eos:
            raise TemplateSyntaxError("cannot be read to its end", parser.stream.current.lineno)
        expression = _as_data(expression)
        for joined in expression.find_all(nodes.Concat):
            joined.nodes = [nodes.Filter(part, _TEXT, [], [], None, None) for part in joined.nodes]
        body = nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)
        expression.set_environment(self._environment)
        template = self._environment.from_string(nodes.Template([body], lineno=1))
        environment, root = self._environment, template.root_render_func

        def evaluate(names: Mapping[str, Any]) -> Any:
            context = _Context(environment, names)
            for _ in root(context):
                pass
            return context.vars["result"]

        return evaluate

    def compile(self, templates: Sequence[Template]) -> Callable[[Mapping[str, Any]], list[Any]]:
        """One function from names to the values of all templates, undefined ones as None."""
        source = "[" + ", ".join(template.source for template in templates) + "]"
        try:
            compiled = self._compile(source)
        except (TemplateError, RecursionError, MemoryError, SyntaxError) as error:
            raise ExpressionError(str(error) or "cannot be compiled") from error

        def evaluate(names: Mapping[str, Any]) -> list[Any]:
            try:
                values: list[Any] = compiled(names) or []
            except (TemplateError, *_FAILURES) as error:
                raise ExpressionError(str(error)) from error
            return [None if isinstance(value, Undefined) else value for value in values]

        return evaluate


class _AsData(NodeTransformer):
    """Rewrites method calls as a filter of ours, and lets a condition without `else` give null."""

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802 -- Jinja's name
        """See `jinja2.visitor`."""
        self.generic_visit(node)
        called = node.node
        if not isinstance(called, nodes.Getattr):
            return node
        args = [nodes.Const(called.attr), *node.args]
        return nodes.Filter(called.node, jinja_subset.METHOD, args, node.kwargs, None, None)

    def visit_CondExpr(self, node: nodes.CondExpr) -> nodes.Node:  # noqa: N802 -- Jinja's name
        """See `jinja2.visitor`."""
        self.generic_visit(node)
        node.expr2 = nodes.Const(None) if node.expr2 is None else node.expr2
        return node


def _as_data(expression: nodes.Expr) -> nodes.Expr:
    changed: nodes.Expr = _AsData().visit(expression)
    return changed


def as_text(value: Any) -> str:
    """A value inside a text: nothing for null, lists joined by commas, tables as JSON, times as ISO 8601.

    Raises:
        ValueError: the value is no data; Python's own text for it would mean nothing to a CRM.
    """
    if value.__class__ is str:
        return value
    if value is None or isinstance(value, Undefined):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return iso_utc(value)
    return _other_text(value)


def _other_text(value: Any) -> str:
    if isinstance(value, list | tuple | Iterator):
        return ", ".join(as_text(item) for item in value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_in_json)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, _PLAIN):
        return str(value)
    raise ValueError(f"a {type(value).__name__} is no text: use a filter, or name one of its values")


def _in_json(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else as_text(value)


def iso_utc(moment: datetime) -> str:
    """`2025-04-14T02:19:21Z`: how a time is written where nothing else is asked for."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
