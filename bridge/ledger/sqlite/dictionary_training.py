"""Makes a dictionary of samples in a process of its own: the memory that it takes goes with it."""

import subprocess
import sys
from collections.abc import Iterable

from bridge.lib.errors import LedgerError

LEVEL = 3


def train(samples: Iterable[bytes]) -> bytes | None:
    """A dictionary made of real records, which are passed on one by one; None where they teach nothing.

    Raises:
        LedgerError: the other process failed.
    """
    command = [sys.executable, "-m", "bridge.ledger.sqlite.dictionary_process"]
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
