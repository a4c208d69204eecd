"""Tells the CRM's own answers from those of firewalls, proxies, gateways and login pages before it.

Such a page carries an HTTP status that would mean something else in the API. Judged by status alone, a 404
page would create a second contact and a 403 page would park every call. Begin at `why_foreign()`.
"""

import re
from typing import Literal

from bridge.crm.connector.answer import Answer
from bridge.crm.connector.compiling import Pick
from bridge.crm.connector.schema import Speaks
from bridge.lib.masking import LONGEST_MASKED
from bridge.lib.phone import mask_phones_in

__all__ = ["Expects", "Speaks", "expected_of", "why_foreign"]

Expects = Literal["", "text", "json"]
"""What a good answer to a request must carry: nothing in particular, a text, or JSON."""

# 407: a proxy asks for its password; 511: a network asks for a login. No CRM answers so.
_OF_A_NETWORK = (407, 511)
_NO_CONTENT = 204
_PAGE = re.compile(r"(?i)<(?:!doctype html|!--|html|head|body|title|meta|script|center|h1|br|b>)")
_READS_TEXT, _READS_BODY = re.compile(r"\btext\b"), re.compile(r"\bbody\b")
_LONGEST_TITLE = 100
# A page's title stands near its beginning: 4 KiB are searched, not a page of many megabytes.
_HEAD = 4096


def why_foreign(answer: Answer, speaks: Speaks | None, expects: Expects, *, api: bool) -> str:
    """A few words for an answer that is not the CRM's own, such as "a redirect"; empty where it is.

    `speaks` is the connector's key of that name. `api` says whether the connector reads JSON in any answer:
    then an error that is no JSON is not the API's. An error without a body is taken for the CRM's own.
    """
    body, status = answer.body, answer.status
    if status in _OF_A_NETWORK or status < 200:
        return "a proxy's or a network's own answer"
    if body.__class__ is dict or body.__class__ is list or answer.is_part:
        return ""
    if 300 <= status < 400:
        return "a redirect"
    if answer.empty:
        is_due = expects and 200 <= status < 300 and status != _NO_CONTENT
        return "nothing, where the API answers something" if is_due else ""
    if body is not None or answer.text.strip() == "null":
        return _why_scalar(answer, speaks, api=api)
    return _why_text(answer, speaks, expects, api=api)


def _why_scalar(answer: Answer, speaks: Speaks | None, *, api: bool) -> str:
    """Judge a body that is one number, text or null.

    A page that reads `404` is valid JSON too, so an error counts only where its content type says JSON.
    """
    if _is_json(answer) or 200 <= answer.status < 300 or speaks == "text":
        return ""
    return _no_json(answer.text) if api or speaks == "json" else ""


def _why_text(answer: Answer, speaks: Speaks | None, expects: Expects, *, api: bool) -> str:
    text = answer.text.lstrip("\ufeff \t\r\n")
    if _PAGE.match(text) or (text.startswith("<") and speaks != "text"):
        title = _title(text)
        return f'a web page, "{title}"' if title else "a web page"
    if _is_json(answer):
        return "broken JSON"
    good = 200 <= answer.status < 300
    strict = expects == "json" if good or speaks == "text" else api
    return _no_json(text) if strict or speaks == "json" else ""


def _no_json(text: str) -> str:
    return f'no JSON, "{" ".join(text[:LONGEST_MASKED].split())}"'


def _is_json(answer: Answer) -> bool:
    return "json" in (answer.headers.get("content-type") or "").lower()


def _title(text: str) -> str:
    """The title of a page in one line, without phone numbers; at most 100 characters."""
    head = text[:_HEAD]
    lowered = head.lower()
    start = lowered.find("<title")
    start = lowered.find(">", start) + 1 if start >= 0 else 0
    end = lowered.find("<", start) if start else 0
    title = " ".join(head[start:end].split())
    return mask_phones_in(title)[:_LONGEST_TITLE].replace('"', "'")


def expected_of(*picks: Pick | None) -> Expects:
    """What an answer must carry so that these values can be read in it."""
    expected: Expects = ""
    for pick in picks:
        if pick is None:
            continue
        if "{{" not in pick.text:
            return "json"
        if _READS_TEXT.search(pick.text):
            expected = "text"
        elif _READS_BODY.search(pick.text):
            return "json"
    return expected
