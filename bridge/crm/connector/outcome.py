"""What an answer means: rules of the connector in their order, then what HTTP says."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from bridge.crm.connector.compiling import ANSWER, Answer, Compiler, Condition, Pick, dig
from bridge.crm.connector.foreign_answer import Expects, Speaks, why_foreign
from bridge.crm.connector.rates import bounded_number
from bridge.crm.connector.request_schema import OutcomeSection, Result
from bridge.crm.connector.schema import ErrorsSection, InnerSection
from bridge.lib import patterns
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.masking import LONGEST_MASKED
from bridge.lib.toml_file import KeyPath
from bridge.lib.values import parse_duration

# More is a mistake of the CRM, and would leave the calendar.
LONGEST_RETRY_AFTER = 86400.0
_BY_STATUS: dict[int, Result] = {
    401: "refresh",
    404: "gone",
    410: "gone",
    408: "transient",
    425: "transient",
    429: "unprocessed",
    503: "unprocessed",
}
_REDIRECTED = (
    "It redirects to another address: where the CRM has moved, give that one as base_url;"
    " it is tried again by itself"
)
_FOREIGN = (
    "Something before the CRM answered in its place, such as a firewall, a proxy, a login or a maintenance"
    " page: check base_url and the way there; it is tried again by itself"
)
# What a rule may make of a page by its status alone: nothing is taken for refused, gone or done.
_BY_STATUS_ALONE = ("refresh", "unprocessed", "transient", "in_doubt")
# A template that reads these was written with an eye on what is no JSON.
_READS_TEXT = re.compile(r"\b(?:text|headers)\b")
# How many of the errors inside an error are named.
_MOST_INNER = 10
# A longer text is no id of anything, and would be kept with the call.
_LONGEST_ID = 512
_GOOD = ("ok", "done")
_REDIRECTS = (301, 302, 303, 307, 308)
_NOTHING: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer means; `wait` is in seconds, `says` is for the operator."""

    result: Result
    wait: float | None = None
    id: str | None = None
    says: str = ""
    code: str = ""
    field: str = ""
    message: str = ""
    named: bool = False
    """The message stands where the connector says; else it is the beginning of the whole answer."""
    status: int = 0
    foreign: bool = False
    """Not the CRM itself has answered; the message says what did."""
    unknown: bool = False
    """No rule knew the answer, and the connector says itself what `ok` looks like."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule."""

    section: OutcomeSection
    among: frozenset[str]
    """The values that the section's `is` names."""
    when: Condition | None
    wait: Pick | None
    until: Pick | None
    id: Pick | None

    @property
    def of_pages(self) -> bool:
        """Whether it may judge an answer that is not the CRM's own.

        It must look at what stands there, or say `foreign`: by its status alone a page is never taken for a
        refusal, for "gone" or for a yes.
        """
        written = self.section
        if written.foreign or written.header is not None:
            return True
        if written.path:
            return False
        if written.matches is not None:
            return True
        if self.when is not None and _READS_TEXT.search(self.when.template.source):
            return True
        return self.when is None and written.then in _BY_STATUS_ALONE

    def fits(self, answer: Answer) -> bool:
        """Whether all its conditions hold."""
        written = self.section
        if written.status and not _is_status(answer.status, tuple(written.status)):
            return False
        if self.when is not None and not self.when.holds(answer.names):
            return False
        if not written.path and written.header is None:
            return written.matches is None or patterns.search(written.matches, answer.text) is not None
        value = (
            answer.headers.get(written.header)
            if written.header is not None
            else _held(answer.body, written.path)
        )
        # One of the errors inside another is enough.
        if isinstance(value, list) and any("*" in path for path in written.path):
            return any(self._fits_value(each) for each in value)
        return self._fits_value(value)

    def _fits_value(self, value: Any) -> bool:
        written = self.section
        if self.among and as_text(value) not in self.among:
            return False
        if written.matches is not None:
            return value is not None and patterns.search(written.matches, as_text(value)) is not None
        # A list of errors that is empty is no error.
        return bool(written.is_) or value not in _NOTHING


def _held(body: Any, paths: Iterable[str]) -> Any:
    return next((held for path in paths if (held := dig(body, path)) not in _NOTHING), None)


@lru_cache(maxsize=1024)
def _is_status(status: int, patterns: tuple[str, ...]) -> bool:
    """Whether it is one of these, such as `409` or `5xx`."""
    code = str(status)
    return any(code == each or (each.endswith("xx") and code[0] == each[0]) for each in patterns)


@dataclass(frozen=True, slots=True)
class Errors:
    """Where an answer carries what went wrong; of several places the first that holds something counts."""

    message: Sequence[Pick] = ()
    code: Sequence[Pick] = ()
    field: Sequence[Pick] = ()
    inner: InnerSection | None = None

    def told(self, answer: Answer) -> tuple[str, str, str]:
        """Code, field and message of what went wrong; where there are errors inside it, each is named."""
        code, field_, message = (_first(answer, each) for each in (self.code, self.field, self.message))
        found = self._inside(answer)
        if not found:
            return code, field_, message
        said = [_inner_text(each) for each in found]
        fields = ", ".join(dict.fromkeys(each[1] for each in found if each[1]))
        codes = ", ".join(dict.fromkeys(each[0] for each in found if each[0]))
        return code or codes, fields or field_, "; ".join([*([message] if message else []), *said])

    def _inside(self, answer: Answer) -> list[tuple[str, str, str]]:
        """The errors inside an error; a list of one says the same as the error itself."""
        if self.inner is None:
            return []
        listed = _held(answer.body, self.inner.list)
        if not isinstance(listed, list) or (len(listed) < 2 and "." in self.inner.list):
            return []
        places = (self.inner.code, self.inner.field, self.inner.message)
        told = [
            [as_text(_held(each, place))[:LONGEST_MASKED] for place in places]
            for each in listed[:_MOST_INNER]
        ]
        return [(code, field_, message) for code, field_, message in told if code or message]


def compile_errors(compiler: Compiler, section: ErrorsSection) -> Errors:
    """The places in `[errors]`: paths, or expressions where something stands inside a sentence."""

    def picked(name: str, texts: Sequence[str]) -> list[Pick]:
        places = [compiler.pick(("errors", name, number), text) for number, text in enumerate(texts)]
        return [place for place in places if place is not None]

    if section.inner is not None:
        for name in ("list", "code", "field", "message"):
            for path in getattr(section.inner, name):
                compiler.path(("errors", "inner", name), path)
    return Errors(
        picked("message", section.message),
        picked("code", section.code),
        picked("field", section.field),
        section.inner,
    )


def _inner_text(told: tuple[str, str, str]) -> str:
    code, field_, message = told
    about = f" (field {field_})" if field_ else ""
    return f"{': '.join(part for part in (code, message) if part)}{about}"


@dataclass(frozen=True, slots=True)
class Classifier:
    """The rules of a connector, and where its answers carry what went wrong."""

    rules: Sequence[Rule]
    errors: Errors
    own_ok: bool = field(default=False)
    """Whether the connector says itself what `ok` looks like: then a status proves nothing."""
    speaks: Speaks | None = None
    """What the connector says of the API; None: it is told by what is read of its answers."""
    api: bool = False
    """Whether JSON is read of any answer."""
    _by_code: dict[int, Sequence[Rule]] = field(default_factory=dict, repr=False, compare=False)

    def judge(self, answer: Answer, first: Sequence[Rule], now: datetime, expects: Expects = "") -> Meaning:
        """What an answer means, the request's own rules first; `expects` is what a good one carries."""
        foreign = why_foreign(answer, self.speaks, expects, api=self.api)
        for rule in (*first, *self._rules_for(answer.status)):
            if (not foreign or rule.of_pages) and rule.fits(answer):
                return self._by_rule(rule, answer, now, foreign)
        if foreign:
            return self._by_page(answer, now, foreign)
        result, unknown = self._by_status(answer, first)
        wait = retry_after(answer, now) if result in ("unprocessed", "transient", "quota") else None
        return self._meaning(answer, result, wait, unknown=unknown)

    def _by_page(self, answer: Answer, now: datetime, foreign: str) -> Meaning:
        """What an answer means that is not the CRM's own, and that no rule knows."""
        wait = retry_after(answer, now)
        says = _REDIRECTED if 300 <= answer.status < 400 else _FOREIGN
        result: Result = "transient"
        # Who names a time to come back has refused; a 503 without one may be a gateway that lost patience.
        if answer.status == 429 or (answer.status == 503 and wait is not None):
            result, says = "unprocessed", ""
        elif answer.status == 401:
            result, says = "refresh", ""
        return self._meaning(answer, result, wait, says=says, foreign=foreign)

    def _rules_for(self, status: int) -> Sequence[Rule]:
        """The rules that may fit an answer of such a status: most name another, and many answers come."""
        known = self._by_code.get(status)
        if known is None:
            known = [
                rule
                for rule in self.rules
                if not rule.section.status or _is_status(status, tuple(rule.section.status))
            ]
            self._by_code[status] = known
        return known

    def _by_rule(self, rule: Rule, answer: Answer, now: datetime, foreign: str) -> Meaning:
        found = rule.id.of_answer(answer) if rule.id is not None else None
        # A table, a list or true is no id.
        is_id = isinstance(found, str | int) and not isinstance(found, bool) and found != ""
        crm_id = as_text(found) if is_id and len(as_text(found)) <= _LONGEST_ID else None
        wait = _wait_of(rule, answer, now)
        return self._meaning(
            answer, rule.section.then, wait, id=crm_id, says=rule.section.says, foreign=foreign
        )

    def _by_status(self, answer: Answer, first: Sequence[Rule]) -> tuple[Result, bool]:
        status = answer.status
        if 200 <= status < 300:
            if self.own_ok or any(rule.section.then == "ok" for rule in first):
                return "in_doubt", True
            return "ok", False
        if status >= 500 and status not in _BY_STATUS:
            return "transient", False
        if status in _REDIRECTS and answer.headers.get("location"):
            return "transient", False
        return _BY_STATUS.get(status, "permanent"), False

    def _meaning(
        self, answer: Answer, result: Result, wait: float | None, *, foreign: str = "", **more: Any
    ) -> Meaning:
        if result in _GOOD:
            return Meaning(result, wait, status=answer.status, **more)
        if foreign:
            told = f"with {foreign}"
            return Meaning(result, wait, message=told, status=answer.status, foreign=True, **more)
        code, field_, message = self.errors.told(answer)
        return Meaning(
            result,
            wait,
            code=code,
            field=field_,
            message=" ".join((message or answer.text)[:LONGEST_MASKED].split()),
            named=bool(message),
            status=answer.status,
            **more,
        )


def _first(answer: Answer, places: Iterable[Pick]) -> str:
    for place in places:
        value = place.of_answer(answer)
        if value not in (None, "", [], {}):
            return as_text(value)
    return ""


def _wait_of(rule: Rule, answer: Answer, now: datetime) -> float | None:
    if rule.until is not None:
        return _seconds_until(rule.until, answer, now)
    if rule.wait is None:
        return retry_after(answer, now)
    if "{{" not in rule.wait.text:
        return parse_duration(rule.wait.text).total_seconds()
    try:
        told = bounded_number(rule.wait.of_answer(answer), LONGEST_RETRY_AFTER)
    except ExpressionError:
        told = None
    return retry_after(answer, now) if told is None else told


def _seconds_until(until: Pick, answer: Answer, now: datetime) -> float | None:
    if "{{" not in until.text:
        return (next_time(until.text, now) - now).total_seconds()
    value = until.of_answer(answer)
    try:
        moment = (
            datetime.fromisoformat(value)
            if isinstance(value, str) and not value.isdecimal()
            else datetime.fromtimestamp(float(value) / (1000 if float(value) > 1e11 else 1), UTC)
        )
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def next_time(text: str, now: datetime) -> datetime:
    """The next time that a clock shows `"00:00 Asia/Shanghai"`, after `now`."""
    clock, _, zone = text.partition(" ")
    hour, minute = clock.split(":")
    local = now.astimezone(ZoneInfo(zone or "UTC"))
    then = local.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    if then <= local:
        then += timedelta(days=1)
    return then.astimezone(UTC)


def retry_after(answer: Answer, now: datetime) -> float | None:
    """The seconds that a `Retry-After` asks for, given as seconds or as a date."""
    text = (answer.headers.get("retry-after") or "").strip()
    if not text:
        return None
    seconds = bounded_number(text, LONGEST_RETRY_AFTER)
    if seconds is not None:
        return seconds
    at = http_date(text)
    return None if at is None else bounded_number((at - now).total_seconds(), LONGEST_RETRY_AFTER)


def http_date(text: str) -> datetime | None:
    """A time as headers write it; None for what is none, or is beyond the calendar."""
    try:
        at = parsedate_to_datetime(text)
    except (OverflowError, TypeError, ValueError):
        return None
    return at.replace(tzinfo=at.tzinfo or UTC)


def compile_rules(compiler: Compiler, place: KeyPath, sections: Sequence[OutcomeSection]) -> tuple[Rule, ...]:
    """The rules of a list of `outcomes`."""
    return tuple(_rule(compiler, (*place, number), each) for number, each in enumerate(sections))


def _rule(compiler: Compiler, place: KeyPath, section: OutcomeSection) -> Rule:
    language = compiler.language(ANSWER, common=False)
    if not (section.status or section.path or section.header or section.matches or section.when):
        problem = compiler.problem_at(place, "has no condition", "give status, path, header, matches or when")
        compiler.problems.append(replace(problem, follows=True))
    if section.is_ and not section.path and section.header is None:
        compiler.problem((*place, "is"), "says nothing of which value", "add path or header")
    if section.path and section.header is not None:
        compiler.problem((*place, "header"), "stands beside a path", "make two rules of it, or use when")
    for path in section.path:
        compiler.path((*place, "path"), path)
    return Rule(
        section,
        frozenset(as_text(each) for each in section.is_),
        compiler.condition(language, (*place, "when"), section.when),
        _when(compiler, (*place, "wait"), section.wait),
        _when(compiler, (*place, "until"), section.until),
        compiler.pick((*place, "id"), section.id),
    )


def _when(compiler: Compiler, place: KeyPath, text: str | None) -> Pick | None:
    """A duration or a time of day, which is no path; or an expression."""
    return Pick(text, None) if text is not None and "{{" not in text else compiler.pick(place, text)
