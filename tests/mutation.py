"""Bodies that nobody would send on purpose: mutated records, the same ones for the same seed."""

import gzip
import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from bridge.sandbox.conversation import as_marked_text
from bridge.sandbox.records import generate
from tests.running import EXAMPLE

Record = dict[str, Any]

# Stands for JSON text that no encoder would write.
_RAW = "@@raw@@"
_FIELDS = ("uuid", "base_info", "sn", "started_at", "created_at", "updated_at", "talk_info", "phone")
_NUMBERS = ("talktimes", "call_from_type", "id", "score", "call_count", "charging_minute", "is_deleted")
_TIMES = ("started_at", "created_at", "updated_at", "connected_at", "disconnected_at", "pushed_at")
_HALVES = ("\ud83d", "\udc00", "x\ud83d", "\udfff\ud800", "文\udbff")
_TIME_TEXTS = ("", "0000-00-00 00:00:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "2099-01-01 00:00:00")
_TIME_SHAPES = ("2025-04-14T10:19:21Z", "2025-04-14 10:19:21.5+23:59", "20250414101921", "10:19:21")
_NO_TIMES = (None, "2025-02-30 10:00:00", "2025-04-14 10:19:21-99:99", "２０２５-０４-１４ 10:00:00", True)
_EPOCHS = (1744597161, 1744597161000, -1, 10**30, 1e300)
_ODD_TIMES: tuple[Any, ...] = (*_TIME_TEXTS, *_TIME_SHAPES, *_NO_TIMES, *_EPOCHS)
_ODD_SCALARS = (None, "", " ", 0, -1, 1, True, False, 0.5, -0.0, "null", "NaN", "1e999", "٣", "²")
_HUGE = (1e308, 2**31, 2**63, -(2**63) - 1, 2**64, 10**400, "9" * 5000, "-" + "9" * 4301, "x" * 5000)
_NESTED: tuple[Any, ...] = ([], {}, [[]], [None], {"a": {"b": []}})
_ODD_TEXTS = ("\x00", "a\x00b", "\u2028\ufeff\u202e", "'; DROP TABLE calls; --", "{{ 7 * 7 }}")
_ODD: tuple[Any, ...] = (*_ODD_SCALARS, *_HUGE, *_NESTED, *_ODD_TEXTS, *_HALVES)
_RAW_TEXTS = (
    "1e999",
    "-1e999",
    "9" * 5000,
    "-" + "9" * 300,
    "1.0000000000000000000000000000000000001",
    "0e0",
    '"\\u0000"',
    '"\\ud83d"',
    '"a\x01b"',
    '"a\tb\nc"',
    "[" * 90 + "]" * 90,
    '{"a":' * 150 + "1" + "}" * 150,
    "[" * 250 + "]" * 250,
    "[" * 20_000 + "]" * 20_000,
    "NaN",
    "-Infinity",
    "01",
    "nul",
    "'single'",
    '"\\q"',
    "[1,]",
    "",
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A body and what was done to make it."""

    body: bytes
    steps: tuple[str, ...]


class Mutations:
    """A supply of mutants without end."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311  -- the same ones again, not secrets
        made = generate(60, seed, datetime(2025, 4, 14, 12, tzinfo=UTC))
        # Whole once, short else: what breaks a reader is seldom the tenth turn.
        self._bases: list[Record] = [json.loads(EXAMPLE.read_bytes()), *map(_shortened, made)]

    def take(self, count: int) -> list[Mutant]:
        """The next `count` mutants."""
        return [self._mutant() for _ in range(count)]

    def _mutant(self) -> Mutant:
        rng = self._rng
        if rng.random() < 0.06:
            return Mutant(_garbage(rng), ("garbage",))
        record = dict(rng.choice(self._bases))
        if rng.random() < 0.85:
            _another_call(rng, record)
        steps = []
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            step = rng.choice(_RECORD_STEPS)
            step(rng, record)
            steps.append(step.__name__)
        text = self._text(record, steps)
        body = self._encoded(text, steps)
        if rng.random() < 0.2:
            damage = rng.choice(_DAMAGES)
            body = damage(rng, body)
            steps.append(damage.__name__)
        return Mutant(body, tuple(name.removeprefix("_") for name in steps))

    def _text(self, record: Record, steps: list[str]) -> str:
        rng = self._rng
        kind = rng.random()
        if kind < 0.08:
            record[rng.choice((*_FIELDS, "anything"))] = _RAW
            steps.append("raw")
        text = json.dumps(record, ensure_ascii=rng.random() < 0.3, separators=rng.choice(((",", ":"), None)))
        if kind < 0.08:
            text = text.replace(f'"{_RAW}"', rng.choice(_RAW_TEXTS))
        elif kind < 0.14:
            name = rng.choice(_FIELDS)
            twin = json.dumps({name: rng.choice((*_ODD, record.get(name), str(_uuid(rng))))})
            first, second = (twin, text) if rng.random() < 0.5 else (text, twin)
            text = f"{first[:-1]}, {second[1:]}"
            steps.append("duplicate_key")
        return text

    def _encoded(self, text: str, steps: list[str]) -> bytes:
        rng = self._rng
        if rng.random() < 0.7:
            return _utf8(text)
        encoder = rng.choice(_ENCODERS)
        steps.append(encoder.__name__)
        return encoder(rng, text)


def _uuid(rng: random.Random) -> uuid.UUID:
    return uuid.UUID(int=rng.getrandbits(128), version=4)


def _shortened(record: Record) -> Record:
    turns = record["talk_info"]
    return record | {"talk_info": turns[:4] if isinstance(turns, list) else turns}


def _another_call(rng: random.Random, record: Record) -> None:
    name = str(_uuid(rng))
    record |= {"uuid": name, "base_info": f"{name}out", "sn": f"account|{rng.getrandbits(128):032x}"}


# -- the record -----------------------------------------------------------------------
def _some(rng: random.Random, record: Record) -> list[str]:
    return rng.sample(sorted(record), k=min(len(record), rng.choice((1, 1, 2, 5, 40))))


def _drop(rng: random.Random, record: Record) -> None:
    for name in _some(rng, record):
        del record[name]


def _null(rng: random.Random, record: Record) -> None:
    record |= dict.fromkeys(_some(rng, record), rng.choice((None, "", [], "null")))


def _rename(rng: random.Random, record: Record) -> None:
    for name in _some(rng, record):
        new = rng.choice((name.upper(), name + "_", name[:-1], f" {name}", f"{name}\x00", f"{name}\ud83d"))
        record[new] = record.pop(name)


def _wrong_type(rng: random.Random, record: Record) -> None:
    for name in _some(rng, record):
        record[name] = rng.choice(_ODD)


def _wrong_identity(rng: random.Random, record: Record) -> None:
    record[rng.choice(_FIELDS[:5])] = rng.choice(_ODD)


def _numbers(rng: random.Random, record: Record) -> None:
    for name in rng.sample(_NUMBERS, k=2):
        record[name] = rng.choice((*_ODD, str(record.get(name)), float(rng.randrange(99)), " 88 "))


def _times(rng: random.Random, record: Record) -> None:
    for name in rng.sample(_TIMES, k=rng.randrange(1, 4)):
        record[name] = rng.choice(_ODD_TIMES)


def _news(rng: random.Random, record: Record) -> None:
    record["status_manual"] = rng.choice("ABCDEF")
    record["updated_at"] = f"2025-04-{rng.randrange(13, 20)} 10:00:{rng.randrange(60):02d}"


def _turns(rng: random.Random, record: Record) -> None:
    """The dialogue in another encoding, or what is left of one that was cut."""
    turns = record.get("talk_info")
    if not isinstance(turns, list):
        return
    try:
        marked = as_marked_text(turns)
    except (KeyError, TypeError):
        marked = "a#!b##"
    nested = json.dumps(turns, ensure_ascii=rng.random() < 0.5)
    cut = rng.randrange(len(nested) + 1)
    record["talk_info"] = rng.choice(
        (
            marked,
            nested,
            nested[:cut],
            marked[:cut],
            turns[: len(turns) // 2],
            list(reversed(turns)),
            marked.replace("##", "####"),
            marked.replace("#@", "#!"),
            "#@" * 300,
            "##",
            json.dumps(nested),
            {"0": turns},
        )
    )


def _odd_turn(rng: random.Random, record: Record) -> None:
    turns = record.get("talk_info")
    if isinstance(turns, list) and turns and isinstance(turns[0], dict):
        changed = [dict(turn) if isinstance(turn, dict) else turn for turn in turns]
        index = rng.randrange(len(changed))
        if isinstance(changed[index], dict):
            name = rng.choice(sorted(changed[index]) or ["caption"])
            changed[index][name] = rng.choice((*_ODD, *_ODD_TIMES))
        if rng.random() < 0.4:
            changed.insert(index, rng.choice(_ODD))
        record["talk_info"] = changed


def _half_pair(rng: random.Random, record: Record) -> None:
    for name in _some(rng, record):
        if isinstance(record[name], str):
            record[name] += rng.choice(_HALVES)


def _base_info_only(rng: random.Random, record: Record) -> None:
    record["uuid"] = rng.choice((None, "", []))
    record["base_info"] = rng.choice((record.get("base_info"), f"task-{rng.randrange(300)}", "０", " "))


def _nameless(rng: random.Random, record: Record) -> None:
    record |= {"uuid": None, "base_info": ""}
    if rng.random() < 0.7:
        record["sn"] = f"customer-{rng.randrange(60)}"
        record["started_at"] = f"2025-04-14 10:00:{rng.randrange(20):02d}"
    if rng.random() < 0.3:
        record[rng.choice(("sn", "started_at"))] = None


def _named_like_a_nameless(rng: random.Random, record: Record) -> None:
    record["sn"] = f"customer-{rng.randrange(60)}"
    record["started_at"] = f"2025-04-14 10:00:{rng.randrange(20):02d}"


def _conflict(rng: random.Random, record: Record) -> None:
    record["base_info"] = f"{_uuid(rng)}{rng.choice(('', 'out', ' '))}"


def _two_names(rng: random.Random, record: Record) -> None:
    """A pair of words for names: sooner or later they belong to two calls."""
    record |= {"uuid": f"name-{rng.randrange(200)}", "base_info": f"name-{rng.randrange(200)}"}


def _shouted(_rng: random.Random, record: Record) -> None:
    for name in ("uuid", "base_info"):
        record[name] = f" {record.get(name)} ".upper()


def _deep(rng: random.Random, record: Record) -> None:
    value: Any = 1
    for _ in range(rng.choice((50, 150, 198, 260))):
        value = [value] if rng.random() < 0.5 else {"": value}
    record[rng.choice(("deep", "talk_info", "uuid"))] = value


_RECORD_STEPS: tuple[Callable[[random.Random, Record], None], ...] = (
    _drop,
    _null,
    _rename,
    _wrong_type,
    _wrong_identity,
    _numbers,
    _times,
    _news,
    _turns,
    _odd_turn,
    _half_pair,
    _base_info_only,
    _nameless,
    _named_like_a_nameless,
    _conflict,
    _two_names,
    _shouted,
    _deep,
)


# -- its encoding ---------------------------------------------------------------------
def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _bom(_rng: random.Random, text: str) -> bytes:
    return b"\xef\xbb\xbf" + _utf8(text)


def _gb18030(_rng: random.Random, text: str) -> bytes:
    return text.encode("gb18030", "replace")


def _utf16(rng: random.Random, text: str) -> bytes:
    mark, charset = rng.choice((("\ufeff", "utf-16-le"), ("\ufeff", "utf-16-be"), ("", "utf-16-le")))
    return (mark + text).encode(charset, "surrogatepass")


def _gzipped(_rng: random.Random, text: str) -> bytes:
    return gzip.compress(_utf8(text), 1, mtime=0)


def _gzipped_oddly(rng: random.Random, text: str) -> bytes:
    once = gzip.compress(_utf8(text), 1, mtime=0)
    half = len(text) // 2
    members = [gzip.compress(_utf8(part), 1, mtime=0) for part in (text[:half], text[half:])]
    return rng.choice((once[:-9], once + b"tail", gzip.compress(once, 1, mtime=0), b"".join(members)))


def _form(rng: random.Random, text: str) -> bytes:
    half_safe = _utf8(text)
    wrapped = rng.choice((urlencode({"a": "1", "data": half_safe}), quote(half_safe), f"data={text}"))
    return _utf8(wrapped)


def _padded(rng: random.Random, text: str) -> bytes:
    pad = rng.choice((" ", "\r\n\t", "\x00", "\u00a0"))
    return _utf8(f"{pad}{text}{pad}")


def _wrapped(rng: random.Random, text: str) -> bytes:
    return _utf8(rng.choice((f"[{text}]", json.dumps(text), f"callback({text})", text + text)))


_ENCODERS: tuple[Callable[[random.Random, str], bytes], ...] = (
    _bom,
    _gb18030,
    _utf16,
    _gzipped,
    _gzipped_oddly,
    _form,
    _padded,
    _wrapped,
)


# -- the bytes ------------------------------------------------------------------------
def _truncated(rng: random.Random, body: bytes) -> bytes:
    return body[: rng.randrange(len(body) + 1)]


def _flipped(rng: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _torn(rng: random.Random, body: bytes) -> bytes:
    start = rng.randrange(len(body))
    return body[:start] + body[start + rng.randrange(1, 400) :]


def _stuffed(rng: random.Random, body: bytes) -> bytes:
    start = rng.randrange(len(body))
    return body[:start] + rng.choice((b"\x00", b"\xff", b"\xed\xa0\xbd", rng.randbytes(5))) + body[start:]


_DAMAGES = (_truncated, _flipped, _torn, _stuffed)


def _garbage(rng: random.Random) -> bytes:
    """Nothing of a record."""
    depth = rng.choice((10, 1000, 20_000))
    return rng.choice(
        (
            rng.randbytes(rng.randrange(1, 3000)),
            b"",
            b"{",
            b"{}",
            b"null",
            b"[" * depth,
            b'{"a":' * depth + b"1" + b"}" * depth,
            b"a=" + b"&a=" * depth,
            b"\x1f\x8b" + rng.randbytes(50),
            b"\xff\xfe" + rng.randbytes(51),
            b"%7B%22uuid%22%3A" + str(rng.random()).encode() + b"%7D",
            json.dumps({str(rng.random()): rng.choice(_ODD)}).encode(),
        )
    )
