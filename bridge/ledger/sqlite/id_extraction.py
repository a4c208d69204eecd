"""Takes random hexadecimal ids out of a record before it is compressed, and puts them back.

The platform's ids look like `account|4216aedb…`, and each turn of a dialogue has one. A compressor cannot
predict them: in the text each hex digit costs six bits or more, though it holds four. Taken out and
stored as 16 bytes each, they cost what they hold, and the text around them compresses as one match.
"""

import re
from binascii import hexlify, unhexlify
from collections import Counter

_ID = re.compile(rb"\|([0-9a-f]{32})")
_BYTES = 16
_PLACE = b"\xff"
"""Stands in the text where an id was. UTF-8 has no such byte."""


def can_take_ids_out(text: bytes) -> bool:
    """Whether ids can be taken out and put back exactly: true of every text in UTF-8."""
    return _PLACE not in text


def take_ids_out(text: bytes) -> tuple[bytes, bytes]:
    """Returns the text without its ids, and the ids as bytes.

    An id that occurs twice stays in the text, where the second one compresses to almost nothing.
    """
    parts = _ID.split(text)
    ids = parts[1::2]
    if not ids:
        return text, b""
    times = Counter(ids)
    parts[1::2] = [b"|" + _PLACE if times[each] == 1 else b"|" + each for each in ids]
    return b"".join(parts), unhexlify(b"".join([each for each in ids if times[each] == 1]))


def put_ids_back(text: bytes, kept: bytes) -> bytes:
    """Put the ids back: they are the last bytes of `kept`, 16 for each place in the text."""
    # Splitting finds the places twice as fast as counting them does.
    parts = text.split(_PLACE)
    places = len(parts) - 1
    if not places:
        return text
    digits = hexlify(kept[-places * _BYTES :])
    whole = [b""] * (2 * places + 1)
    whole[::2] = parts
    whole[1::2] = [digits[at : at + 2 * _BYTES] for at in range(0, len(digits), 2 * _BYTES)]
    return b"".join(whole)
