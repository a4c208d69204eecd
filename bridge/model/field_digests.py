"""What was sent for a field, as digests: whether the CRM still holds it, and what it made of it."""

import json
from hashlib import blake2b
from typing import Any

import msgspec

from bridge.lib.expression import as_text

SIZE = 8
"""Bytes of a digest."""
SHORT = 3
"""The size of a digest where many are kept and one decides alone: 1 in 16 million is taken for another."""
# Stands for a value that is no longer known.
FORGOTTEN = b"\xff" * SIZE
NOTHING = bytes(SIZE)
"""Stands for an object that did not exist: nothing was there before."""
# A field that is sent again and again without an answer need not be known by all that it may hold.
_MOST = 6

# Digests of one field stand one behind the other: what was sent last (8 bytes, or 3), then what else the
# CRM may hold (8 each). A letter at the end says that the second is what the CRM made of the first.


def digest_of(value: Any) -> bytes:
    """A short digest of a value; of equal values the same, whatever their order."""
    try:
        text = msgspec.json.encode(value, order="deterministic")
    except (OverflowError, UnicodeEncodeError):
        # Half a character, or a number beyond 64 bits, which a CRM may show.
        text = json.dumps(value, sort_keys=True).encode()
    return blake2b(text, digest_size=SIZE).digest()


def short_of(value: Any) -> bytes:
    """The same in fewer bytes."""
    return digest_of(value)[:SHORT]


def sent_last(digests: bytes, value: Any) -> bool:
    """Whether a value is what was sent last, for certain."""
    first, others, kind = _parts(digests)
    return bool(first) and (not others or bool(kind)) and digest_of(value).startswith(first)


def unsettled(digests: bytes, value: Any) -> bool:
    """Whether a value was sent, and nothing is known yet of what came of it."""
    _, others, kind = _parts(digests)
    return not kind and digest_of(value) in others


def with_possible(digests: bytes, value: Any) -> bytes:
    """The digests of a field, and of one value more that it may hold."""
    first, others, kind = _parts(digests)
    told = digest_of(value)
    if told in others or (first and told.startswith(first)):
        return digests[:-1] if kind else digests
    return (first or FORGOTTEN) + b"".join([*others[2 - _MOST :], told])


def with_altered(digests: bytes, shown: Any, kind: str) -> bytes:
    """The digest of what was sent last, and of what the CRM made of it; `kind` is one letter."""
    return _parts(digests)[0] + digest_of(shown) + kind.encode()


def as_sent(digests: bytes) -> bytes:
    """The digest of what was sent last, without what the CRM made of it."""
    return _parts(digests)[0]


def alteration_of(digests: bytes) -> str:
    """The letter that says what the CRM made of what was sent; empty: nothing that is known."""
    return _parts(digests)[2].decode()


def holds(held: Any, digests: bytes) -> bool:
    """Whether what a CRM shows is what was sent to it: numbers and flags may come back as text."""
    first, others, _ = _parts(digests)
    if is_empty(held) and NOTHING in (first, *others):
        return True
    return any(
        digest in others or (first and digest.startswith(first))
        for digest in (digest_of(each) for each in _ways(held))
    )


def is_empty(value: Any) -> bool:
    """Whether a value is none."""
    return value is None or value in ("", [], {})


def _parts(digests: bytes) -> tuple[bytes, list[bytes], bytes]:
    """What was sent last, what else may be there, and the letter."""
    kind = digests[-1:] if len(digests) % SIZE in (1, SHORT + 1) else b""
    body = digests[: len(digests) - len(kind)]
    size = SHORT if len(body) % SIZE == SHORT else SIZE
    return body[:size], [body[at : at + SIZE] for at in range(size, len(body), SIZE)], kind


def _ways(held: Any) -> list[Any]:
    """A value in the ways in which it may have been sent."""
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
