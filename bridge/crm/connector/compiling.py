"""The texts of a connector, compiled; every mistake is gathered with its line."""

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
Values = Mapping[str, Any]

# What an answer tells: for outcomes, captures and ids.
ANSWER: Names = {"status": None, "headers": None, "body": None, "text": None}
_BROKEN = Template("none", constant=True)
_MISSING = object()


class Compiler:
    """Compiles the texts of one file; `problems` gathers what is wrong with them."""

    def __init__(self, file: TomlFile, common: Names) -> None:
        self.problems: list[Problem] = []
        self.addresses: list[tuple[KeyPath, str]] = []
        """Every address that requests go to, with its place."""
        self._written = Written(file, file.data, {})
        self._common = common

    def problem(self, place: KeyPath, message: str, remedy: str = "") -> None:
        """Note a mistake at a place of the file; the index of what may stand alone is dropped."""
        self.problems.append(self.problem_at(place, message, remedy))

    def problem_at(self, place: KeyPath, message: str, remedy: str = "") -> Problem:
        """A mistake at a place of the file, not noted yet."""
        return self._written.problem(place, message, remedy)

    def knows(self, owner: str, name: str) -> bool:
        """Whether every request may use such a value."""
        known = self._common.get(owner)
        return known is None or name in known

    def language(self, names: Names, *, common: bool = True) -> Language:
        """A language with some names, and those that every request has."""
        return Language(
            {**(self._common if common else {}), **names},
            {**CONNECTOR_FILTERS, **GUARDS},
            arguments=CONNECTOR_ARGUMENTS,
        )

    def template(
        self, language: Language, place: KeyPath, text: str, guard: Rewrite | None = None
    ) -> Template:
        """A text's template; a broken one is noted, and stands for null."""
        try:
            return language.parse(text, guard)
        except ExpressionError as error:
            for fault in error.faults:
                self.problem(place, fault.message, fault.remedy or _remedy(fault.message))
            return _BROKEN

    @staticmethod
    def whole(language: Language, text: str) -> bool:
        """Whether a text is one expression and nothing else; a broken one is told of elsewhere."""
        try:
            return language.parse(text).whole
        except ExpressionError:
            return True

    def tree(self, language: Language, place: KeyPath, value: Any, address: str = "") -> "Tree":
        """A value of TOML whose texts are templates, compiled together; `address` names one that is such."""
        templates = [
            self.template(language, where, text, guard if address and where == (*place, address) else None)
            for where, text in _texts(place, value)
        ]
        if address:
            self.addresses += [
                (where, text) for where, text in _texts(place, value) if where == (*place, address)
            ]
        return Tree(value, language.compile(templates), templates)

    def condition(self, language: Language, place: KeyPath, text: str | None) -> "Condition | None":
        """A text that is one expression, as a condition; None for no text."""
        if text is None:
            return None
        template = self.template(language, place, text)
        if not template.whole and template is not _BROKEN:
            self.problem(place, "is no condition", "write one expression: {{ status == 409 }}")
        return Condition(language.compile([template]), template)

    def pick(self, place: KeyPath, text: str | None, names: Names = ANSWER) -> "Pick | None":
        """Where in an answer something stands; None for no text."""
        if text is None:
            return None
        if "{{" not in text:
            self.path(place, text)
            return Pick(text, None)
        language = self.language(names, common=False)
        return Pick(text, language.compile([self.template(language, place, text)]))

    def path(self, place: KeyPath, text: str | None) -> None:
        """Note a dotted path that leads nowhere."""
        if text is not None and "{{" in text:
            self.problem(place, "is a path here, no expression", 'write it like "data.0.id", or use `when`')
            return
        if text is not None and text != "." and "" in text.split("."):
            self.problem(place, "is no path", 'write it like "data.0.id", or "." for the whole')


@dataclass(frozen=True, slots=True)
class Tree:
    """A value whose texts are templates: `fill` evaluates them all at once."""

    value: Any
    _evaluate: Callable[[Values], list[Any]]
    templates: list[Template]

    def fill(self, names: Values) -> Any:
        """The value with its texts evaluated; keys whose own value is null are left out."""
        return _fill(self.value, iter(self._evaluate(names) if self.templates else ()))

    def mentions(self, name: str) -> bool:
        """Whether one of its texts may use a name."""
        return any(name in template.source for template in self.templates)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on what is known."""

    _evaluate: Callable[[Values], list[Any]]
    template: Template

    def holds(self, names: Values) -> bool:
        """Whether it is true; what cannot be evaluated is not."""
        try:
            return self.decides(names)
        except ExpressionError:
            return False

    def decides(self, names: Values) -> bool:
        """Whether it is true, where a guess would lose a request or make an object twice.

        Raises:
            ExpressionError: it cannot be evaluated.
        """
        return bool(self._evaluate(names)[0])


@dataclass(frozen=True, slots=True)
class Pick:
    """Where in an answer something stands: a dotted path into a value, or an expression."""

    text: str
    _evaluate: Callable[[Values], list[Any]] | None

    def of(self, root: Any, names: Values) -> Any:
        """The value; None where there is none."""
        if self._evaluate is None:
            return dig(root, self.text)
        try:
            return plain(self._evaluate(names)[0])
        except ExpressionError:
            return None

    def of_answer(self, answer: Answer) -> Any:
        """The value in an answer."""
        return dig(answer.body, self.text) if self._evaluate is None else self.of(answer.body, answer.names)

    def is_null(self, answer: Answer) -> bool:
        """Whether a path ends at an explicit null, and not nowhere."""
        return self._evaluate is None and dig(answer.body, self.text, _MISSING) is None


def _remedy(message: str) -> str:
    if '"captured.' in message:
        return 'add capture = { NAME = "where its answer carries it" } to an earlier step'
    return 'declare it: secrets = ["NAME"]' if '"secrets.' in message else ""


def _texts(place: KeyPath, value: Any) -> Iterator[tuple[KeyPath, str]]:
    """The texts of a value, depth first, in the order in which `_fill` puts them back."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts((*place, name), inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts((*place, index), inner)


def _fill(value: Any, values: Iterator[Any]) -> Any:
    if isinstance(value, str):
        return plain(next(values))
    if isinstance(value, Mapping):
        filled = {name: _fill(inner, values) for name, inner in value.items()}
        return {name: inner for name, inner in filled.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_fill(inner, values) for inner in value]
    return value
