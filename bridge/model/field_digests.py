"""What was sent for a field, kept as digests: enough to tell whether the CRM still holds it.

The digests of one field stand one after the other: that of the value sent last (8 bytes, or 3), then those
of other values that the CRM may hold (8 bytes each). A letter at the end (`crm_alterations.Alteration`) says
that the second one is what the CRM made of the first.
"""

import json
from hashlib import blake2b
from typing import Any

import msgspec

from bridge.lib.expression import as_text

SIZE = 8
"""Bytes of a digest: two values share one by chance once in 10¹⁹."""
SHORT_SIZE = 3
"""Bytes of a digest that only has to tell an edit: 1 edit in 16 million is taken for our own value."""
# The digest of a value that is no longer known.
FORGOTTEN = b"\xff" * SIZE
NOTHING = bytes(SIZE)
"""The digest of no value: the object did not exist before."""
# A field keeps up to 6 digests; where more attempts stay without an answer, the oldest digests are dropped.
_MOST_DIGESTS = 6

_encode = msgspec.json.Encoder(order="deterministic").encode


def digest_of(value: Any) -> bytes:
    """The digest of a value; keys of a table may come in any order."""
    try:
        text = _encode(value)
    except (OverflowError, UnicodeEncodeError):
        # msgspec refuses half a surrogate pair and integers beyond 64 bits, both of which a CRM may show.
        text = json.dumps(value, sort_keys=True).encode()
    return blake2b(text, digest_size=SIZE).digest()


def short_of(value: Any) -> bytes:
    """The first 3 bytes of a digest."""
    return digest_of(value)[:SHORT_SIZE]


def sent_last(digests: bytes, value: Any) -> bool:
    """Whether a value is what was sent last, and is known to have arrived."""
    first, others, kind = _parts(digests)
    return bool(first) and (not others or bool(kind)) and digest_of(value).startswith(first)


def unsettled(digests: bytes, value: Any) -> bool:
    """Whether a value was sent, and no look-up has shown yet whether it arrived."""
    _, others, kind = _parts(digests)
    return not kind and digest_of(value) in others


def with_possible(digests: bytes, value: Any) -> bytes:
    """The digests with that of one more value that the CRM may hold."""
    first, others, kind = _parts(digests)
    told = digest_of(value)
    if told in others or (first and told.startswith(first)):
        return digests[:-1] if kind else digests
    return (first or FORGOTTEN) + b"".join([*others[2 - _MOST_DIGESTS :], told])


def with_altered(digests: bytes, shown: Any, kind: str) -> bytes:
    """The digest of what was sent last, and of what the CRM shows in its place; `kind` is an `Alteration`."""
    return _parts(digests)[0] + digest_of(shown) + kind.encode()


def as_sent(digests: bytes) -> bytes:
    """The digest of what was sent last, alone."""
    return _parts(digests)[0]


def alteration_of(digests: bytes) -> str:
    """The letter of the `Alteration` that the CRM made; empty: none is known."""
    return _parts(digests)[2].decode()


def holds(held: Any, digests: bytes) -> bool:
    """Whether what a CRM shows is what was sent to it; numbers and flags may come back as text."""
    first, others, _ = _parts(digests)
    if is_empty(held) and NOTHING in (first, *others):
        return True
    return any(
        digest in others or (first and digest.startswith(first))
        for digest in (digest_of(each) for each in _as_sent_types(held))
    )


def is_empty(value: Any) -> bool:
    """Whether a value is none: null, or an empty text, list or table."""
    return value is None or value in ("", [], {})


def _parts(digests: bytes) -> tuple[bytes, list[bytes], bytes]:
    """The digest of what was sent last, those of what else may be there, and the letter."""
    kind = digests[-1:] if len(digests) % SIZE in (1, SHORT_SIZE + 1) else b""
    body = digests[: len(digests) - len(kind)]
    size = SHORT_SIZE if len(body) % SIZE == SHORT_SIZE else SIZE
    return body[:size], [body[at : at + SIZE] for at in range(size, len(body), SIZE)], kind


def _as_sent_types(held: Any) -> list[Any]:
    """A value in all the types in which it may have been sent."""
    ways: list[Any] = [held]
    if is_empty(held):
        ways += [None, "", []]
    elif isinstance(held, str | int | float):
        text = as_text(held)
        ways += [text, *_numbers(text)]
        ways += [flag for flag, word in ((True, "true"), (False, "false")) if text.lower() == word]
    return ways


def _numbers(text: str) -> list[int | float]:
    try:
        number = float(text)
        whole = [int(text)] if text.lstrip("-").isdecimal() else [int(number)] if number.is_integer() else []
        return [number, *whole]
    except (ValueError, OverflowError):
        return []
