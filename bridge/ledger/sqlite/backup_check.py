"""Checks a copy of the ledger by reading all of it, in a process with the lowest priority.

It is run as a file, so that it starts within milliseconds: nothing of callbridge is imported.
How many calls the copy holds goes to stdout; what is wrong with it to stderr, and exit 1.
"""

import os
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path


def main(path: str) -> int:
    """Check the copy at `path`; returns the exit code."""
    # A sandbox may forbid it (systemd, by `~@resources`); then it goes on at the priority that it has.
    with suppress(PermissionError):
        os.nice(19)
    try:
        uri = f"{Path(path).as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as copy:
            problems = [row[0] for row in copy.execute("PRAGMA quick_check(1)")]
            if problems == ["ok"]:
                calls = copy.execute("SELECT count(*) FROM calls").fetchone()[0]
                sys.stdout.write(f"{calls}\n")
                return 0
    except sqlite3.DatabaseError as error:
        problems = [str(error)]
    sys.stderr.write(f"{problems[0]}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
