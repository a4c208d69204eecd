"""When a ledger is as small as it will be: what is measured in bytes is measured then, not before."""

import sqlite3
from contextlib import closing
from pathlib import Path

from bridge.ledger.sqlite import SqliteLedger


def wait_until_packed(ledger: Path) -> None:
    """Wait until the daemon that runs on a ledger has packed every record as small as it will be.

    Every record is packed in the commit that files it: there is nothing to wait for but that commit.
    """
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as rows:
        rows.execute("SELECT count(*) FROM payloads").fetchone()


def pack_what_waits(ledger: SqliteLedger) -> None:
    """Do in a ledger without a daemon what the daemon does in quiet moments, until nothing waits for it.

    Every record is packed in the commit that files it: there is nothing to do.
    """
    del ledger
