"""Takes secrets and phone numbers out of texts that people read, before those are cut to a length.

A text that is cut first may end within a secret, which nothing then knows by its whole.
"""

import json
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from html import escape
from urllib.parse import quote, quote_plus

from bridge.lib.phone import mask_phones_in

MASK = "***"
LONGEST_MASKED = 64 * 1024
"""How many characters of a text are looked at; what follows them is never shown."""
LONGEST_MESSAGE = 300
"""How many characters are shown of what another program wrote: enough to name the field."""
# Of a secret that the other side cut itself, so much is still known by its beginning.
_SHORTEST_BEGINNING = 12
_SHORTEST_IN_BASE64 = 8


class Masking:
    """Hides the given secrets, in every spelling that an answer may quote, and phone numbers."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spelt = {each for secret in secrets if secret for each in _spellings(secret)}
        self._spelt = sorted(spelt, key=len, reverse=True)

    def masked(self, text: str, longest: int | None = None) -> str:
        """The text without secrets and whole phone numbers, cut to `longest` characters."""
        return mask_phones_in(self.without_secrets(text))[:longest]

    def without_secrets(self, text: str) -> str:
        """The text without secrets, cut to the characters that are searched."""
        shown = text[:LONGEST_MASKED]
        for secret in self._spelt:
            shown = shown.replace(secret, MASK)
        for secret in self._spelt:
            shown = _without_beginning(shown, secret)
        if len(text) > LONGEST_MASKED and self._spelt:
            # What is read may end within a secret.
            shown = shown[: max(0, len(shown) - len(self._spelt[0]))]
        return shown


def _without_beginning(text: str, secret: str) -> str:
    """A text without the first half, or more, of a secret."""
    least = max(_SHORTEST_BEGINNING, len(secret) // 2)
    if len(secret) <= least or secret[:least] not in text:
        return text
    pieces, start = [], 0
    while (place := text.find(secret[:least], start)) >= 0:
        end = place + least
        while end < len(text) and end - place < len(secret) and text[end] == secret[end - place]:
            end += 1
        pieces += [text[start:place], MASK]
        start = end
    return "".join([*pieces, text[start:]])


@lru_cache(maxsize=256)
def _spellings(secret: str) -> frozenset[str]:
    """How a secret may stand in an answer that quotes it."""
    spelt = {secret, secret.strip(), quote(secret, safe=""), quote_plus(secret), escape(secret)}
    spelt |= {quote(secret, safe="").lower()} if len(secret) >= _SHORTEST_IN_BASE64 else set()
    for _ in range(2):
        # In JSON, and in JSON that stands in JSON.
        spelt |= {json.dumps(each, ensure_ascii=ascii_)[1:-1] for each in spelt for ascii_ in (True, False)}
    if len(secret) >= _SHORTEST_IN_BASE64:
        spelt |= set(_in_base64(secret)) | {secret.encode("utf-8", "replace").hex()}
    return frozenset(spelt - {""})


def _in_base64(secret: str) -> Iterable[str]:
    """A secret in Base64, alone or after text such as `user:`, without characters that share its bits."""
    raw = secret.encode("utf-8", "replace")
    for before in range(3):
        whole = b64encode(b"\0" * before + raw).decode("ascii").rstrip("=")
        first = (before * 8 + 5) // 6
        last = (before + len(raw)) * 8 // 6
        yield whole[first:last]
        yield whole[first:last].replace("+", "-").replace("/", "_")
