"""What a CRM's answer means: the connector's rules in their order, then what HTTP says.

Begin at `Classifier.meaning_of()`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.crm.connector.answer import Answer
from bridge.crm.connector.error_details import Errors
from bridge.crm.connector.foreign_answer import Expects, Speaks, why_foreign
from bridge.crm.connector.outcome_rules import Rule, is_status, wait_of
from bridge.crm.connector.request_schema import Result
from bridge.crm.connector.retry_after import retry_after
from bridge.lib.expression import as_text
from bridge.lib.masking import LONGEST_MASKED

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
# A text of more than 512 characters is no id of a record; it would be kept with the call.
_LONGEST_ID = 512
_SUCCESS = ("ok", "done")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer means to callbridge, and what is said about it."""

    result: Result
    wait: float | None = None
    """Seconds until the request may come again; None: the answer does not say."""
    id: str | None = None
    """Of a `duplicate`: the id of the record that exists already."""
    says: str = ""
    """What the operator should do."""
    code: str = ""
    """The CRM's own code of the error."""
    field: str = ""
    """The field of the record that the error is about."""
    message: str = ""
    named: bool = False
    """Whether the message was found where `[errors]` says; else it is the beginning of the answer's text."""
    status: int = 0
    foreign: bool = False
    """Whether something before the CRM answered, such as a proxy; the message says what it sent."""
    unknown: bool = False
    """Whether no rule fitted though the connector has a rule for `ok`, so that the status proves nothing."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """Judges the answers of one CRM by its connector's rules; shared by all workers."""

    rules: Sequence[Rule]
    errors: Errors
    own_ok: bool = field(default=False)
    """Whether the connector has a rule for `ok`: then a status of 2xx alone proves nothing."""
    speaks: Speaks | None = None
    """The connector's `speaks`: whether every answer is JSON; None: `api` decides."""
    api: bool = False
    """Whether the connector reads JSON in any answer; then an error that is no JSON is not the API's own."""
    _by_code: dict[int, Sequence[Rule]] = field(default_factory=dict, repr=False, compare=False)

    def meaning_of(
        self, answer: Answer, first: Sequence[Rule], now: datetime, expects: Expects = ""
    ) -> Meaning:
        """What an answer means: by the request's own rules, then the connector's, then its HTTP status.

        `first` are the request's own rules, `expects` is what a good answer to it must carry.
        """
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
        """Judge an answer that is not the CRM's own, such as a page of a proxy, where no rule fits."""
        wait = retry_after(answer, now)
        says = _REDIRECTED if 300 <= answer.status < 400 else _FOREIGN
        result: Result = "transient"
        # With a Retry-After the request was refused. A 503 without it may come from a gateway that timed
        # out while the CRM was still working.
        if answer.status == 429 or (answer.status == 503 and wait is not None):
            result, says = "unprocessed", ""
        elif answer.status == 401:
            result, says = "refresh", ""
        return self._meaning(answer, result, wait, says=says, foreign=foreign)

    def _rules_for(self, status: int) -> Sequence[Rule]:
        """The rules that may fit this status, remembered by status: most rules name another one."""
        fitting = self._by_code.get(status)
        if fitting is None:
            fitting = [
                rule
                for rule in self.rules
                if not rule.section.status or is_status(status, tuple(rule.section.status))
            ]
            self._by_code[status] = fitting
        return fitting

    def _by_rule(self, rule: Rule, answer: Answer, now: datetime, foreign: str) -> Meaning:
        value = rule.id.of_answer(answer) if rule.id is not None else None
        # A table, a list or true is no id.
        is_id = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
        crm_id = as_text(value) if is_id and len(as_text(value)) <= _LONGEST_ID else None
        wait = wait_of(rule, answer, now)
        return self._meaning(
            answer, rule.section.then, wait, id=crm_id, says=rule.section.says, foreign=foreign
        )

    def _by_status(self, answer: Answer, first: Sequence[Rule]) -> tuple[Result, bool]:
        """The result by HTTP status, and whether that is a guess because a rule for `ok` exists."""
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
        if result in _SUCCESS:
            return Meaning(result, wait, status=answer.status, **more)
        if foreign:
            message = f"with {foreign}"
            return Meaning(result, wait, message=message, status=answer.status, foreign=True, **more)
        code, field_, message = self.errors.described(answer)
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
