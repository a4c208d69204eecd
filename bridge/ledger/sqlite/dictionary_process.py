"""The process that makes a dictionary; `bridge.ledger.sqlite.dictionary_training` runs it.

The samples come on stdin, each behind its length in four bytes; the dictionary goes to stdout,
or nothing where they are too few or too unlike one another.
"""

import os
import sys
from contextlib import suppress

import zstandard

from bridge.ledger.sqlite.dictionary_training import LEVEL
from bridge.ledger.sqlite.shared_values import as_many_share

DICTIONARY_SIZE = 112_640
"""Bytes: 110 KiB, as the zstd tool makes them."""
FEWEST_SAMPLES = 500
SEGMENTS = (200, 300, 500)
"""Lengths of the pieces that a dictionary is put together from, in bytes; which is best differs by ledger."""
TRIED_ON = 10
"""Every tenth record says which of the dictionaries packs best."""
NICE = 10
"""It computes for half a minute and lets the daemon go first."""


def main() -> None:
    """Read samples from stdin, and write the dictionary to stdout."""
    # A sandbox may forbid it (systemd, by `~@resources`); then it goes on at the priority that it has.
    with suppress(PermissionError):
        os.nice(NICE)
    samples = []
    while length := sys.stdin.buffer.read(4):
        samples.append(sys.stdin.buffer.read(int.from_bytes(length, "big")))
    try:
        sys.stdout.buffer.write(dictionary_of(samples))
        sys.stdout.flush()
    except BrokenPipeError:
        # The daemon has ended meanwhile: nobody waits for the dictionary.
        os._exit(0)


def dictionary_of(samples: list[bytes]) -> bytes:
    """The dictionary that packs these records best; empty where they have too little in common."""
    if len(samples) < FEWEST_SAMPLES:
        return b""
    shared: list[bytes | bytearray | memoryview[int]] = [*as_many_share(samples)]
    try:
        made = [
            zstandard.train_dictionary(DICTIONARY_SIZE, shared, k=length, d=8, level=LEVEL)
            for length in SEGMENTS
        ]
    except zstandard.ZstdError:
        return b""
    return min(made, key=lambda dictionary: _packed_size(dictionary, samples[::TRIED_ON])).as_bytes()


def _packed_size(dictionary: zstandard.ZstdCompressionDict, records: list[bytes]) -> int:
    packer = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary)
    return sum(len(packer.compress(record)) for record in records)


if __name__ == "__main__":
    main()
