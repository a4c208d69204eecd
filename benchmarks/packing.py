"""When a ledger is as small as it will be: what is measured in bytes is measured then, not before."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bridge.ledger.sqlite import SqliteLedger

_LEFT = "SELECT max(receipt_id) > (SELECT count FROM counters WHERE kind = 'packed') FROM payloads"
"""NULL in a ledger without records, and in one of a release that packs each record small when it files it."""
_EVERY = 0.1


def wait_until_packed(ledger: Path, within: float = 600.0) -> None:
    """Wait until the daemon that runs on a ledger has packed every record as small as it will be.

    It does so for 10 s of each half minute. Raises TimeoutError after so many seconds.
    """
    deadline = time.monotonic() + within
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as rows:
        while rows.execute(_LEFT).fetchone()[0]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"records that are not packed small in {ledger}")
            time.sleep(_EVERY)


def pack_what_waits(ledger: SqliteLedger) -> None:
    """Do in a ledger without a daemon what the daemon does in quiet moments, until nothing waits for it."""
    ledger.pack_smaller(lambda _seconds: True)
