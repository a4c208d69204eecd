"""Makes a dictionary of samples in a process of its own: the memory that it takes goes with it.

The samples come on stdin, each behind its length in four bytes; the dictionary goes to stdout,
or nothing where they are too few or too unlike one another.
"""

import subprocess
import sys
from collections.abc import Iterable

import zstandard

from bridge.errors import LedgerError

LEVEL = 3
DICTIONARY_SIZE = 112_640
FEWEST_SAMPLES = 500


def train(samples: Iterable[bytes]) -> bytes | None:
    """A dictionary made of real records, which are read one by one; None where they teach nothing.

    Raises:
        LedgerError: the other process failed.
    """
    command = [sys.executable, "-m", "bridge.ledger.sqlite.training"]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:  # noqa: S603
            if other.stdin is None or other.stdout is None:
                raise LedgerError("no dictionary could be made: the other process cannot be reached")
            for sample in samples:
                other.stdin.write(len(sample).to_bytes(4, "big") + sample)
            other.stdin.close()
            return other.stdout.read() or None
    except OSError as error:
        raise LedgerError(f"no dictionary could be made: {error}") from error


def main() -> None:
    """The other process."""
    text = sys.stdin.buffer.read()
    samples, place = [], 0
    while place < len(text):
        end = place + 4 + int.from_bytes(text[place : place + 4], "big")
        samples.append(text[place + 4 : end])
        place = end
    if len(samples) < FEWEST_SAMPLES:
        return
    try:
        dictionary = zstandard.train_dictionary(DICTIONARY_SIZE, samples, level=LEVEL)
    except zstandard.ZstdError:
        return
    sys.stdout.buffer.write(dictionary.as_bytes())


if __name__ == "__main__":
    main()
