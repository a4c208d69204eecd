"""Escapes invisible characters: every line that people read goes through here.

A caller's name or a CRM's sentence may hold what moves a terminal's cursor, turns the direction of a line, or
begins a line of its own that looks like one of ours.
"""

import re

_EMOJI = "\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
# Controls, direction marks, what has no width, what fills a place with nothing, halves of surrogate pairs.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
    # A joiner is seen only as what it joins: 👩‍⚕️ is one sign.
    f"|(?<![{_EMOJI}\ufe0f])\u200d|\u200d(?![{_EMOJI}])"
)
_UNSEEN_OR_BREAK = re.compile(f"\n|{_UNSEEN.pattern}")


def line(text: str) -> str:
    """A text as one line, with everything in it to be seen; a line break is written `\\n`."""
    return text if text.isascii() and text.isprintable() else _UNSEEN_OR_BREAK.sub(_escape, text)


def in_json(text: str) -> str:
    """JSON text of the same meaning in which every character is visible."""
    return text if text.isascii() and text.isprintable() else _UNSEEN.sub(_json_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2] for at in range(0, len(units), 2))
    return "".join(f"\\u{int.from_bytes(pair, 'big'):04x}" for pair in pairs)
