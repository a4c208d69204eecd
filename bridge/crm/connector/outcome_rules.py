"""The rules of `outcomes`, compiled: which answers a rule fits, and how long it says to wait.

Begin at `Rule.fits()`; `bridge.crm.connector.outcome` tries the rules in their order.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from bridge.crm.connector.answer import EMPTY_VALUES, Answer, first_held
from bridge.crm.connector.compiling import ANSWER, Compiler, Condition, Pick
from bridge.crm.connector.rates import bounded_number
from bridge.crm.connector.request_schema import OutcomeSection
from bridge.crm.connector.retry_after import LONGEST_RETRY_AFTER, retry_after, seconds_until
from bridge.lib import patterns
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.toml_file import KeyPath
from bridge.lib.values import parse_duration

# By status alone, a page that is not the CRM's own is never taken for a refusal, for "gone" or for a yes.
_BY_STATUS_ALONE = ("refresh", "unprocessed", "transient", "in_doubt")
# A template that reads one of these was section for answers that are no JSON.
_READS_TEXT = re.compile(r"\b(?:text|headers)\b")


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule of `outcomes`."""

    section: OutcomeSection
    among: frozenset[str]
    """The values that the section's `is` names."""
    when: Condition | None
    wait: Pick | None
    until: Pick | None
    id: Pick | None
    first_names: frozenset[str] = frozenset()
    """Where a body has no field of these names, no path of the rule holds what it asks for."""

    @property
    def of_pages(self) -> bool:
        """Whether the rule may judge an answer that is not the CRM's own.

        It may where it looks at the answer's content, or says `foreign`. By its status alone a page is never
        taken for a refusal, for "gone" or for a yes.
        """
        section = self.section
        if section.foreign or section.header is not None:
            return True
        if section.path:
            return False
        if section.matches is not None:
            return True
        if self.when is not None and _READS_TEXT.search(self.when.template.source):
            return True
        return self.when is None and section.then in _BY_STATUS_ALONE

    def fits(self, answer: Answer) -> bool:
        """Whether all conditions of the rule hold for an answer."""
        section = self.section
        if section.status and not is_status(answer.status, tuple(section.status)):
            return False
        body = answer.body
        # Most items of a batch are no errors: nine in ten rules are done with here.
        if self.first_names and body.__class__ is dict and self.first_names.isdisjoint(body):
            return False
        if self.when is not None and not self.when.holds(answer.names):
            return False
        if not section.path and section.header is None:
            return section.matches is None or patterns.search(section.matches, answer.text) is not None
        value = (
            answer.headers.get(section.header)
            if section.header is not None
            else first_held(body, section.path)
        )
        # Of several errors in one answer, one that fits is enough.
        if isinstance(value, list) and any("*" in path for path in section.path):
            return any(self._fits_value(item) for item in value)
        return self._fits_value(value)

    def _fits_value(self, value: Any) -> bool:
        section = self.section
        if self.among and as_text(value) not in self.among:
            return False
        if section.matches is not None:
            return value is not None and patterns.search(section.matches, as_text(value)) is not None
        # A path without `is` or `matches` asks for any value; an empty list of errors is none.
        return bool(section.is_) or value not in EMPTY_VALUES


@lru_cache(maxsize=1024)
def is_status(status: int, patterns: tuple[str, ...]) -> bool:
    """Whether an HTTP status matches one of the patterns, such as `409` or `5xx`."""
    code = str(status)
    return any(code == form or (form.endswith("xx") and code[0] == form[0]) for form in patterns)


def wait_of(rule: Rule, answer: Answer, now: datetime) -> float | None:
    """The seconds to wait that a rule takes from an answer; without a rule of its own by `Retry-After`."""
    if rule.until is not None:
        return seconds_until(rule.until, answer, now)
    if rule.wait is None:
        return retry_after(answer, now)
    if "{{" not in rule.wait.text:
        return parse_duration(rule.wait.text).total_seconds()
    try:
        seconds = bounded_number(rule.wait.of_answer(answer), LONGEST_RETRY_AFTER)
    except ExpressionError:
        seconds = None
    return retry_after(answer, now) if seconds is None else seconds


def compile_rules(
    compiler: Compiler, key_path: KeyPath, sections: Sequence[OutcomeSection]
) -> tuple[Rule, ...]:
    """Compile a list of `outcomes`, in its order; mistakes go to the compiler's problems."""
    return tuple(_rule(compiler, (*key_path, number), section) for number, section in enumerate(sections))


def _rule(compiler: Compiler, key_path: KeyPath, section: OutcomeSection) -> Rule:
    language = compiler.language(ANSWER, common=False)
    if not (section.status or section.path or section.header or section.matches or section.when):
        problem = compiler.problem_at(
            key_path, "has no condition", "give status, path, header, matches or when"
        )
        compiler.problems.append(replace(problem, follows=True))
    if section.is_ and not section.path and section.header is None:
        compiler.problem((*key_path, "is"), "says nothing of which value", "add path or header")
    if section.path and section.header is not None:
        compiler.problem((*key_path, "header"), "stands beside a path", "make two rules of it, or use when")
    for path in section.path:
        compiler.path((*key_path, "path"), path)
    among = frozenset(as_text(value) for value in section.is_)
    return Rule(
        section,
        among,
        compiler.condition(language, (*key_path, "when"), section.when),
        _duration_or_pick(compiler, (*key_path, "wait"), section.wait),
        _duration_or_pick(compiler, (*key_path, "until"), section.until),
        compiler.pick((*key_path, "id"), section.id),
        _first_names(section, among),
    )


def _first_names(section: OutcomeSection, among: frozenset[str]) -> frozenset[str]:
    """The fields with which a rule's paths begin; none where it may fit a body without any of them."""
    fits_nothing = section.header is not None or as_text(None) in among
    names = {path.split(".", 1)[0] for path in section.path}
    return frozenset() if fits_nothing or names & {"", "*"} else frozenset(names)


def _duration_or_pick(compiler: Compiler, key_path: KeyPath, text: str | None) -> Pick | None:
    """A constant duration or time of day, or an expression on the answer."""
    return Pick(text, None) if text is not None and "{{" not in text else compiler.pick(key_path, text)
