"""Packs records for storage: zstandard with a dictionary, each record by itself.

15 KB of JSON become about 1.1 KB, because a dictionary holds field names and scripts already. No record is
packed by means of another one, so each can be removed alone. Dictionaries are rows of the ledger. The first
is the platform's documented record as three kinds of program spell JSON; later ones are made of what many
people's records share (`shared_values`). A packed record names its dictionary by the codec beside it, and
consists of the compressed text without its ids (`id_extraction`), followed by the ids.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import resources

import zstandard

from bridge.ledger.sqlite.binding import json_list, numbered
from bridge.ledger.sqlite.id_extraction import can_take_ids_out, put_ids_back, take_ids_out
from bridge.ledger.sqlite.times import micros

PLAIN = 0
"""The codec of a record that is stored as it came; any other codec is a dictionary's id."""

_CODEC_BYTES = 4

PARAMETERS = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_LAZY,
    window_log=17,  # more than the largest dictionary
    chain_log=16,
    hash_log=16,
    search_log=5,
    min_match=6,
    # 4 bytes less a record each: the codec beside a record names its dictionary already.
    write_checksum=False,
    write_dict_id=False,
)
"""Level 3 is 5 to 10 % larger and 30 µs a record faster; level 6 is slower than this, and no smaller."""

QUICK_PARAMETERS = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_DFAST,
    window_log=17,
    chain_log=14,
    hash_log=15,
    search_log=1,
    min_match=5,
    write_checksum=False,
    write_dict_id=False,
)
"""A third of the time. With its ids left in, a record takes 15 % more until it is packed again."""

Packed = tuple[int, bytes]
"""A codec and the bytes that are stored beside it."""

_INSERT = """
INSERT INTO payloads
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
       substr(:2, json_extract(value, '$[2]'), json_extract(value, '$[3]'))
FROM json_each(:1)
"""


@dataclass(frozen=True, slots=True)
class Packer:
    """Packs with one dictionary. They belong together: a codec beside another's bytes loses the record."""

    codec: int
    dictionary: zstandard.ZstdCompressionDict
    small: zstandard.ZstdCompressor
    quick: zstandard.ZstdCompressor

    @classmethod
    def of(cls, codec: int, body: bytes, kind: int) -> "Packer":
        """The packer of a dictionary."""
        dictionary = zstandard.ZstdCompressionDict(body, dict_type=kind)
        quick = zstandard.ZstdCompressionDict(body, dict_type=kind)
        return cls(
            codec, dictionary, _compressor(dictionary, PARAMETERS), _compressor(quick, QUICK_PARAMETERS)
        )

    def for_another_thread(self) -> "Packer":
        """The same dictionary, with a compressor of its own; quickly only the writer packs."""
        small = zstandard.ZstdCompressor(compression_params=PARAMETERS, dict_data=self.dictionary)
        return replace(self, small=small)


class Payloads:
    """Packs with the newest dictionary and unpacks with the one that a record names.

    Only the writer's thread may pack; any thread may unpack.
    """

    def __init__(self, load_more: Callable[[], None] = lambda: None) -> None:
        """`load_more` calls `load` again: another process may have added a dictionary since."""
        self._load_more = load_more
        self._packer: Packer | None = None
        self._dictionaries: dict[int, zstandard.ZstdCompressionDict] = {}
        self._local = threading.local()

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the dictionaries that are not known yet, and pack with the newest one from now on."""
        known = max(self._dictionaries, default=PLAIN)
        found = connection.execute(
            "SELECT id, trained, body FROM dictionaries WHERE id > ? ORDER BY id", (known,)
        ).fetchall()
        for number, trained, body in found:
            kind = zstandard.DICT_TYPE_FULLDICT if trained else zstandard.DICT_TYPE_RAWCONTENT
            self._dictionaries[number] = zstandard.ZstdCompressionDict(body, dict_type=kind)
        if found:
            # In one step, because the writer may be packing while another thread reads.
            self._packer = Packer.of(number, body, kind)

    def for_another_thread(self) -> "Payloads":
        """The same dictionaries, with a compressor of its own."""
        other = Payloads()
        other._dictionaries = self._dictionaries
        other._packer = self._packer and self._packer.for_another_thread()
        return other

    def pack(self, text: bytes) -> Packed:
        """Returns the codec and the bytes to store for a JSON text."""
        packer = self._packer
        if packer is None or not can_take_ids_out(text):
            return PLAIN, text
        folded, numbers = take_ids_out(text)
        return packer.codec, packer.small.compress(folded) + numbers

    def pack_quickly(self, texts: Sequence[bytes]) -> list[Packed]:
        """Packs a batch in a third of the time, and larger; `unpack` reads it like any other."""
        packer = self._packer
        if packer is None or not any(texts) or not all(map(can_take_ids_out, texts)):
            return [self.pack(text) for text in texts]
        # What cannot be predicted stays where it is: taking ids out takes half as long as all the rest.
        packed = packer.quick.multi_compress_to_buffer(list(texts), threads=0)
        return [(packer.codec, packed[at].tobytes()) for at in range(len(packed))]

    def pack_all(self, texts: Sequence[bytes]) -> list[Packed]:
        """Packs a batch like `pack`, releasing the interpreter's lock once instead of once a record."""
        packer = self._packer
        if packer is None or not any(texts) or not all(map(can_take_ids_out, texts)):
            return [self.pack(text) for text in texts]
        folded = [take_ids_out(text) for text in texts]
        packed = packer.small.multi_compress_to_buffer([text for text, _ in folded], threads=0)
        return [(packer.codec, packed[at].tobytes() + numbers) for at, (_, numbers) in enumerate(folded)]

    def unpack(self, codec: int, body: bytes) -> bytes:
        """Returns the JSON text of a packed record.

        Raises:
            zstandard.ZstdError: the record is damaged.
        """
        if codec == PLAIN:
            return body
        cached: dict[int, zstandard.ZstdDecompressor] | None = getattr(self._local, "decompressors", None)
        if cached is None:
            cached = self._local.decompressors = {}
        if codec not in cached:
            if codec not in self._dictionaries:
                self._load_more()
            cached[codec] = zstandard.ZstdDecompressor(dict_data=self._dictionaries[codec])
        # The ids follow the compressed frame, which knows its own end.
        return put_ids_back(cached[codec].decompress(body, allow_extra_data=True), body)


def _compressor(
    dictionary: zstandard.ZstdCompressionDict, parameters: zstandard.ZstdCompressionParameters
) -> zstandard.ZstdCompressor:
    dictionary.precompute_compress(compression_params=parameters)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary)


def insert_payloads(connection: sqlite3.Connection, rows: Sequence[tuple[int, int, bytes]]) -> None:
    """Keep packed records: the receipt, the codec and the body of each, in the order of the receipts.

    One statement for all, with their bodies as one: each statement gives up the interpreter's lock.
    """
    places, offset = [], 1
    for receipt_id, codec, body in rows:
        places.append((receipt_id, codec, offset, len(body)))
        offset += len(body)
    whole = b"".join(body for _, _, body in rows)
    connection.execute(_INSERT, numbered(json_list(places), whole))


def prefixed(codec: int, body: bytes) -> bytes:
    """A packed record behind its codec, for a column that has none beside it."""
    return codec.to_bytes(_CODEC_BYTES, "big") + body


def without_prefix(packed: bytes) -> tuple[int, bytes]:
    """The inverse of `prefixed`."""
    return int.from_bytes(packed[:_CODEC_BYTES], "big"), packed[_CODEC_BYTES:]


def shipped_dictionary() -> bytes:
    """The dictionary that comes with the package."""
    return (resources.files("bridge.ledger.sqlite") / "payload.dict").read_bytes()


def ship_first(connection: sqlite3.Connection, now: datetime) -> None:
    """Insert the dictionary of the package into a ledger that has none yet."""
    connection.execute(
        "INSERT INTO dictionaries (trained, created_at, calls, body) SELECT 0, ?, 0, ?"
        " WHERE NOT EXISTS (SELECT 1 FROM dictionaries)",
        (micros(now), shipped_dictionary()),
    )
