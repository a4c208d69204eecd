"""Makes a dictionary of samples in a process of its own: the memory that it takes goes with it.

The samples come on stdin, each behind its length in four bytes; the dictionary goes to stdout,
or nothing where they are too few or too unlike one another.
"""

import subprocess
import sys
from collections.abc import Sequence

import zstandard

from bridge.errors import LedgerError

LEVEL = 3
DICTIONARY_SIZE = 112_640
FEWEST_SAMPLES = 500
WITHIN = 120.0


def train(samples: Sequence[bytes]) -> bytes | None:
    """A dictionary made of real records; None where there is nothing to learn.

    Raises:
        LedgerError: the other process failed.
    """
    if len(samples) < FEWEST_SAMPLES:
        return None
    text = b"".join(len(sample).to_bytes(4, "big") + sample for sample in samples)
    command = [sys.executable, "-m", "bridge.ledger.sqlite.training"]
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=WITHIN, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise LedgerError(f"no dictionary could be made: {error}") from error
    return done.stdout or None


def main() -> None:
    """The other process."""
    text = sys.stdin.buffer.read()
    samples, place = [], 0
    while place < len(text):
        end = place + 4 + int.from_bytes(text[place : place + 4], "big")
        samples.append(text[place + 4 : end])
        place = end
    try:
        dictionary = zstandard.train_dictionary(DICTIONARY_SIZE, samples, level=LEVEL)
    except zstandard.ZstdError:
        return
    sys.stdout.buffer.write(dictionary.as_bytes())


if __name__ == "__main__":
    main()
