"""Compiles the texts of a connector file; every mistake is gathered with its line.

Begin at `Compiler`. It makes `Tree` (a value whose texts are templates), `Condition` and `Pick` (a value of
an answer).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.crm.connector.addresses import GUARDS, guard
from bridge.crm.connector.answer import Answer, dig
from bridge.crm.connector.filters import CONNECTOR_ARGUMENTS, CONNECTOR_FILTERS, plain
from bridge.lib.errors import Problem
from bridge.lib.expression import ExpressionError, Language, Rewrite, Template
from bridge.lib.toml_file import KeyPath, TomlFile, Written

Names = Mapping[str, frozenset[str] | None]
"""The variables that a text may use, each with its attributes; None: any attribute."""
Values = Mapping[str, Any]
"""The values of such variables for one request."""

ANSWER: Names = {"status": None, "headers": None, "body": None, "text": None}
"""The variables of expressions on an answer: outcomes, captures, ids."""
_BROKEN = Template("none", constant=True)
_MISSING = object()


class Compiler:
    """Compiles the texts of one connector file; `problems` gathers their mistakes."""

    def __init__(self, file: TomlFile, common: Names) -> None:
        """Compile texts of `file`, in which every request may use the variables `common`."""
        self.problems: list[Problem] = []
        self.addresses: list[tuple[KeyPath, str]] = []
        """Every address that requests go to, with its key path."""
        self._written = Written(file, file.data, {})
        self._common = common

    def problem(self, key_path: KeyPath, message: str, remedy: str = "") -> None:
        """Note a mistake at a key path; in the message a list of one is named without its index."""
        self.problems.append(self.problem_at(key_path, message, remedy))

    def problem_at(self, key_path: KeyPath, message: str, remedy: str = "") -> Problem:
        """A mistake at a key path, not noted yet."""
        return self._written.problem(key_path, message, remedy)

    def knows(self, owner: str, name: str) -> bool:
        """Whether every request may use `owner.name`, such as `secrets.token`."""
        known = self._common.get(owner)
        return known is None or name in known

    def language(self, names: Names, *, common: bool = True) -> Language:
        """The expression language with these variables, and by default those of every request."""
        return Language(
            {**(self._common if common else {}), **names},
            {**CONNECTOR_FILTERS, **GUARDS},
            arguments=CONNECTOR_ARGUMENTS,
        )

    def template(
        self, language: Language, key_path: KeyPath, text: str, guard: Rewrite | None = None
    ) -> Template:
        """Parse a text; the problems of a broken one are noted, and null stands in its place."""
        try:
            return language.parse(text, guard)
        except ExpressionError as error:
            for fault in error.faults:
                self.problem(key_path, fault.message, fault.remedy or _remedy(fault.message))
            return _BROKEN

    @staticmethod
    def whole(language: Language, text: str) -> bool:
        """Whether a text is one expression and nothing else; also of a broken text, noted elsewhere."""
        try:
            return language.parse(text).whole
        except ExpressionError:
            return True

    def tree(self, language: Language, key_path: KeyPath, value: Any, address: str = "") -> "Tree":
        """Compile all texts of a TOML value together; values in the text named `address` are escaped."""
        templates = [
            self.template(language, where, text, guard if address and where == (*key_path, address) else None)
            for where, text in _texts(key_path, value)
        ]
        if address:
            self.addresses += [
                (where, text) for where, text in _texts(key_path, value) if where == (*key_path, address)
            ]
        return Tree(value, language.compile(templates), templates)

    def condition(self, language: Language, key_path: KeyPath, text: str | None) -> "Condition | None":
        """Compile a text that must be one expression; None for no text."""
        if text is None:
            return None
        template = self.template(language, key_path, text)
        if not template.whole and template is not _BROKEN:
            self.problem(key_path, "is no condition", "write one expression: {{ status == 409 }}")
        return Condition(language.compile([template]), template)

    def pick(self, key_path: KeyPath, text: str | None, names: Names = ANSWER) -> "Pick | None":
        """Compile a dotted path or an expression on an answer; None for no text."""
        if text is None:
            return None
        if "{{" not in text:
            self.path(key_path, text)
            return Pick(text, None)
        language = self.language(names, common=False)
        return Pick(text, language.compile([self.template(language, key_path, text)]))

    def path(self, key_path: KeyPath, text: str | None) -> None:
        """Note a text that is no dotted path."""
        if text is not None and "{{" in text:
            self.problem(
                key_path, "is a path here, no expression", 'write it like "data.0.id", or use `when`'
            )
            return
        if text is not None and text != "." and "" in text.split("."):
            self.problem(key_path, "is no path", 'write it like "data.0.id", or "." for the whole')


@dataclass(frozen=True, slots=True)
class Tree:
    """A TOML value whose texts are templates; `fill` evaluates them together."""

    value: Any
    _evaluate: Callable[[Values], list[Any]]
    templates: list[Template]

    def fill(self, names: Values) -> Any:
        """The value with its texts evaluated; a key whose value is null is left out.

        Raises:
            ExpressionError: an expression fails on these values.
        """
        return _fill(self.value, iter(self._evaluate(names) if self.templates else ()))

    def mentions(self, name: str) -> bool:
        """Whether any of its texts contains this name."""
        return any(name in template.source for template in self.templates)

    @property
    def varies(self) -> bool:
        """Whether any of its texts may use the time or a random number, and so be another each time."""
        return self.mentions("now") or self.mentions("random")


@dataclass(frozen=True, slots=True)
class Condition:
    """One compiled condition."""

    _evaluate: Callable[[Values], list[Any]]
    template: Template

    def holds(self, names: Values) -> bool:
        """Whether the condition is true; False also where it cannot be evaluated."""
        try:
            return self.decides(names)
        except ExpressionError:
            return False

    def decides(self, names: Values) -> bool:
        """Whether the condition is true, where a guess would lose a request or create an object twice.

        Raises:
            ExpressionError: it cannot be evaluated.
        """
        return bool(self._evaluate(names)[0])


@dataclass(frozen=True, slots=True)
class Pick:
    """Takes one value out of an answer: by a dotted path, or by an expression."""

    text: str
    _evaluate: Callable[[Values], list[Any]] | None

    def of(self, root: Any, names: Values) -> Any:
        """The value in `root`, or of the expression on `names`; None where there is none."""
        if self._evaluate is None:
            return dig(root, self.text)
        try:
            return plain(self._evaluate(names)[0])
        except ExpressionError:
            return None

    def of_answer(self, answer: Answer) -> Any:
        """The value in an answer; None where there is none."""
        return dig(answer.body, self.text) if self._evaluate is None else self.of(answer.body, answer.names)

    def is_null(self, answer: Answer) -> bool:
        """Whether the answer holds null at this path, in contrast to no such key."""
        return self._evaluate is None and dig(answer.body, self.text, _MISSING) is None


def _remedy(message: str) -> str:
    if '"captured.' in message:
        return 'add capture = { NAME = "where its answer carries it" } to an earlier step'
    return 'declare it: secrets = ["NAME"]' if '"secrets.' in message else ""


def _texts(key_path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, str]]:
    """All texts of a value with their key paths, in the order in which `_fill` puts them back."""
    if isinstance(value, str):
        yield key_path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts((*key_path, name), inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts((*key_path, index), inner)


def _fill(value: Any, values: Iterator[Any]) -> Any:
    if isinstance(value, str):
        return plain(next(values))
    if isinstance(value, Mapping):
        filled = {name: _fill(inner, values) for name, inner in value.items()}
        return {name: inner for name, inner in filled.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_fill(inner, values) for inner in value]
    return value
