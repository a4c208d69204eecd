"""Whether an answer is the CRM's own, or of something that stands before it.

A firewall's block page, a gateway's 404, a login or maintenance page and a redirect all carry an HTTP
status that the API would give another meaning. Read by its status alone, a 404 page would make a second
contact and a 403 page would park every call.
"""

import re
from typing import Literal

from bridge.crm.connector.compiling import Answer, Pick
from bridge.crm.connector.schema import Speaks
from bridge.lib.masking import LONGEST_MASKED
from bridge.lib.phone import mask_phones_in

__all__ = ["Expects", "Speaks", "expected_of", "why_foreign"]

Expects = Literal["", "text", "json"]
"""What a good answer to a request must carry: nothing in particular, a text, or JSON."""

_REDIRECTS = (301, 302, 303, 307, 308)
# A proxy asks for its own password, a network for its login: no CRM says so.
_OF_A_NETWORK = (407, 511)
_NO_CONTENT = 204
_PAGE = re.compile(r"(?i)<(?:!doctype html|!--|html|head|body|title|meta|script|center|h1|br|b>)")
_READS_TEXT, _READS_BODY = re.compile(r"\btext\b"), re.compile(r"\bbody\b")
_LONGEST_TITLE = 100
# A page's title stands near its beginning; a page of many megabytes is not searched.
_HEAD = 4096


def why_foreign(answer: Answer, speaks: Speaks | None, expects: Expects, *, api: bool) -> str:
    """What an answer is that is not the CRM's own, in a few words; empty: it is its own.

    `speaks` is what the connector says of the API, `api` whether it reads JSON anywhere: then an error
    that is no JSON is no error of the API. An empty answer is a CRM's own way to say 404 or 500.
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
        return _of_scalar(answer, speaks, api=api)
    return _of_text(answer, speaks, expects, api=api)


def _of_scalar(answer: Answer, speaks: Speaks | None, *, api: bool) -> str:
    """A number, text or null: JSON only where its sender says so, for `404` alone is a number too."""
    if _is_json(answer) or 200 <= answer.status < 300 or speaks == "text":
        return ""
    return _no_json(answer.text) if api or speaks == "json" else ""


def _of_text(answer: Answer, speaks: Speaks | None, expects: Expects, *, api: bool) -> str:
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
    """The title of a page, in one line."""
    head = text[:_HEAD]
    lowered = head.lower()
    start = lowered.find("<title")
    start = lowered.find(">", start) + 1 if start >= 0 else 0
    end = lowered.find("<", start) if start else 0
    title = " ".join(head[start:end].split())
    return mask_phones_in(title)[:_LONGEST_TITLE].replace('"', "'")


def expected_of(*picks: Pick | None) -> Expects:
    """What an answer must carry for these places to be read in it."""
    found: Expects = ""
    for pick in picks:
        if pick is None:
            continue
        if "{{" not in pick.text:
            return "json"
        if _READS_TEXT.search(pick.text):
            found = "text"
        elif _READS_BODY.search(pick.text):
            return "json"
    return found
