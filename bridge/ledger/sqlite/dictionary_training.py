"""Makes a dictionary in a process of its own, whose memory (up to 250 MB) is given back when it ends."""

import subprocess
import sys
from collections.abc import Iterable

from bridge.lib.errors import LedgerError

LEVEL = 3
"""The level of zstd at which dictionaries are compared: its default."""


def train(samples: Iterable[bytes]) -> bytes | None:
    """Returns a dictionary made of these records, or None where they have too little in common.

    Raises:
        LedgerError: the process could not be started or died.
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
