"""Turns the meaning of an answer into the error to raise: which class, whose fault, in which words.

Begin at `AnswerErrors.of()`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.crm.connector.outcome import Meaning
from bridge.lib.errors import Blame, DeliveryError, Duplicate, Gone, InDoubt, Permanent, Transient
from bridge.lib.masking import LONGEST_MASKED, LONGEST_MESSAGE
from bridge.lib.phone import mask_phones_in, of_crm
from bridge.model.failures import generalised

# `items[3].email` and `items[7].email` are one cause of failures.
_ITEM_INDEX = re.compile(r"\[\d+\]")
_CODE = re.compile(r"(?=(?:\D*\d){0,7}\D*$)[\w.:-]{1,40}", re.ASCII)
LONGEST_CAUSE = 80
"""Characters: of a message without a code, its beginning groups failures."""


@dataclass(frozen=True, slots=True)
class AnswerErrors:
    """Makes errors of answers; `masked(text, longest)` masks secrets and phones, then cuts the text."""

    masked: Callable[[str, int | None], str]

    def of(
        self, meaning: Meaning, description: str, ids: Sequence[str], *, idempotent: bool
    ) -> DeliveryError | None:
        """The error to raise for an answer; None where the request has succeeded.

        `description` names request and status. `ids` are the CRM's ids of the records: messages show them
        even where they look like phone numbers. `idempotent` says that the request may be repeated.
        """
        if meaning.result in ("ok", "done"):
            return None
        ids = [*ids, *([meaning.id] if meaning.id else [])]
        message, cause = self._message(meaning, description, ids), self._cause(meaning, description)
        error = _error(meaning, message, cause, idempotent=idempotent)
        error.status = meaning.status
        error.says = self._masked(meaning.says)
        return error

    def _message(self, meaning: Meaning, description: str, ids: Sequence[str]) -> str:
        if meaning.foreign:
            quoted = self._with_ids(ids, meaning.message)
            request = self._masked(description)
            return f"{request} {quoted}: not the CRM's own answer. {self._masked(meaning.says)}".rstrip()
        parts = [self._with_ids(ids, part) for part in (meaning.code, meaning.message) if part]
        quoted = ": ".join(parts)
        about = f" (field {self._with_ids(ids, meaning.field)})" if meaning.field else ""
        says = f". {self._masked(meaning.says)}" if meaning.says else ""
        return f"{self._with_ids(ids, description)}{': ' + quoted if quoted else ''}{about}{says}"

    def _with_ids(self, ids: Sequence[str], text: str) -> str:
        """A text of the CRM without secrets and phone numbers, but with the ids of its records."""
        text = text[:LONGEST_MASKED]
        for record_id in ids:
            if record_id in text and mask_phones_in(record_id) != record_id:
                # An id may hold a backslash, which `re.sub` would read as a group.
                marked = of_crm(record_id).replace("\\", r"\\")
                text = re.sub(rf"(?<!\w){re.escape(record_id)}(?!\w)", marked, text)
        return self.masked(text, LONGEST_MESSAGE)

    def _cause(self, meaning: Meaning, description: str) -> str:
        what = description.split(":", 1)[0]
        status = description.rpartition(" ")[2]
        if meaning.foreign:
            return self._masked(f"{what}: answered {status}, not by the CRM itself")
        # Where every status is 200, a code such as 301 tells refusals apart. A longer number is an id of
        # one record and groups nothing.
        code = self._masked(meaning.code or (meaning.message if meaning.field else ""))
        code = code if meaning.code and _CODE.fullmatch(code) else generalised(code)[:LONGEST_CAUSE]
        # Masked one by one: a status and a code side by side look like a phone number.
        parts = (f"{what}: answered {status}", code, _ITEM_INDEX.sub("[]", meaning.field[:LONGEST_MASKED]))
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
    """Who is to blame where a request is tried again later: quota, rate limit, account or record."""
    if meaning.result == "quota":
        return "quota"
    if meaning.result == "transient":
        return "account"
    if meaning.wait is not None or meaning.status == 429:
        return "limit"
    # Without a wait the refusal may be about one locked record; 503 says that the whole account is not
    # served.
    return "account" if meaning.status == 503 else "record"
