"""From what an answer means to the error that is raised: whose fault, what is in doubt, in which words."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.crm.connector.outcome import Meaning
from bridge.lib.errors import Blame, DeliveryError, Duplicate, Gone, InDoubt, Permanent, Transient
from bridge.lib.masking import LONGEST_MASKED, LONGEST_MESSAGE
from bridge.lib.phone import mask_phones_in, of_crm
from bridge.model.failures import generalised

# Which of several items it was groups nothing.
_PLACES = re.compile(r"\[\d+\]")
_CODE = re.compile(r"(?=(?:\D*\d){0,7}\D*$)[\w.:-]{1,40}", re.ASCII)
LONGEST_CAUSE = 80
"""So much of a message without a code groups failures."""


@dataclass(frozen=True, slots=True)
class AnswerErrors:
    """Makes errors of answers; `masked(text, longest)` takes secrets and phone numbers out of a text."""

    masked: Callable[[str, int | None], str]

    def of(
        self, meaning: Meaning, shown: str, ids: Sequence[str], *, idempotent: bool
    ) -> DeliveryError | None:
        """The error that an answer means; None: it is a yes.

        `shown` names request and status; `ids` are the CRM's ids of the records it is about, which are shown
        in messages though they may look like phone numbers. `idempotent`: the request may be repeated.
        """
        if meaning.result in ("ok", "done"):
            return None
        ids = [*ids, *([meaning.id] if meaning.id else [])]
        message, cause = self._message(meaning, shown, ids), self._cause(meaning, shown)
        error = _error(meaning, message, cause, idempotent=idempotent)
        error.status = meaning.status
        error.says = self._masked(meaning.says)
        return error

    def _message(self, meaning: Meaning, shown: str, ids: Sequence[str]) -> str:
        if meaning.foreign:
            quoted = self._named(ids, meaning.message)
            about = f"{self._masked(shown)} {quoted}: not the CRM's own answer. {self._masked(meaning.says)}"
            return about.rstrip()
        parts = [self._named(ids, part) for part in (meaning.code, meaning.message) if part]
        quoted = ": ".join(parts)
        about = f" (field {self._named(ids, meaning.field)})" if meaning.field else ""
        says = f". {self._masked(meaning.says)}" if meaning.says else ""
        return f"{self._named(ids, shown)}{': ' + quoted if quoted else ''}{about}{says}"

    def _named(self, ids: Sequence[str], text: str) -> str:
        """What a CRM says without secrets and phone numbers, but with the ids of its records."""
        text = text[:LONGEST_MASKED]
        for each in ids:
            if each in text and mask_phones_in(each) != each:
                # An id may hold a backslash, which `re.sub` would read as a group.
                named = of_crm(each).replace("\\", r"\\")
                text = re.sub(rf"(?<!\w){re.escape(each)}(?!\w)", named, text)
        return self.masked(text, LONGEST_MESSAGE)

    def _cause(self, meaning: Meaning, shown: str) -> str:
        what = shown.split(":", 1)[0]
        status = shown.rpartition(" ")[2]
        if meaning.foreign:
            return self._masked(f"{what}: answered {status}, not by the CRM itself")
        # A number is what groups refusals where every status is 200; an id, which is longer, groups nothing.
        code = self._masked(meaning.code or (meaning.message if meaning.field else ""))
        code = code if meaning.code and _CODE.fullmatch(code) else generalised(code)[:LONGEST_CAUSE]
        # Each alone: together a status and a code look like a phone number.
        parts = (f"{what}: answered {status}", code, _PLACES.sub("[]", meaning.field[:LONGEST_MASKED]))
        return " ".join(self.masked(part, LONGEST_MESSAGE) for part in parts if part)

    def _masked(self, text: str) -> str:
        return self.masked(text, None)


def _error(meaning: Meaning, message: str, cause: str, *, idempotent: bool) -> DeliveryError:
    result = meaning.result
    if result == "duplicate":
        return Duplicate(message, cause=cause, crm_id=meaning.id)
    if result == "gone":
        return Gone(message, cause=cause)
    if result == "refresh":
        message += ". Check the destination's secrets and the rights of its user"
        return Transient(message, cause=cause, blame="credentials")
    if result in ("unprocessed", "quota") or (result == "transient" and idempotent):
        return Transient(
            message,
            cause=cause,
            retry_after=meaning.wait,
            blame=_blame(meaning),
            doubtful=result == "transient",
        )
    if result == "transient" or (result == "in_doubt" and not idempotent):
        return InDoubt(message, cause=cause, blame=_blame(meaning))
    if result == "in_doubt":
        message += ". Nothing in the connector says what this answer means"
    return Permanent(message, cause=cause)


def _blame(meaning: Meaning) -> Blame:
    """Whose fault an answer is that asks for patience."""
    if meaning.result == "quota":
        return "quota"
    if meaning.result == "transient":
        return "account"
    if meaning.wait is not None or meaning.status == 429:
        return "limit"
    # What is refused without a wait may be one record that is locked; 503 says that nobody is served.
    return "account" if meaning.status == 503 else "record"
