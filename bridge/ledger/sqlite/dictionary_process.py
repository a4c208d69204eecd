"""The process that makes a dictionary: run by `bridge.ledger.sqlite.dictionary_training`, imported by nobody.

The samples come on stdin, each behind its length in four bytes; the dictionary goes to stdout,
or nothing where they are too few or too unlike one another.
"""

import sys

import zstandard

from bridge.ledger.sqlite.dictionary_training import LEVEL

DICTIONARY_SIZE = 112_640
FEWEST_SAMPLES = 500


def main() -> None:
    """Read, learn, write."""
    samples = []
    while length := sys.stdin.buffer.read(4):
        samples.append(sys.stdin.buffer.read(int.from_bytes(length, "big")))
    if len(samples) < FEWEST_SAMPLES:
        return
    try:
        dictionary = zstandard.train_dictionary(DICTIONARY_SIZE, samples, level=LEVEL)
    except zstandard.ZstdError:
        return
    sys.stdout.buffer.write(dictionary.as_bytes())


if __name__ == "__main__":
    main()
