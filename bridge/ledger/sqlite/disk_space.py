"""How much room the ledger takes, and how much its disk has left."""

import os
from pathlib import Path

from bridge.ledger.upkeep import Space


def space(path: Path, min_free: int) -> Space:
    """Returns the ledger's and its log's bytes, those free, and the floor below which nothing is accepted."""
    disk = os.statvfs(path.parent)
    log = path.with_name(path.name + "-wal")
    # At most 5 % of the disk: on a small one the configured bytes would refuse everything.
    floor = min(min_free, disk.f_blocks * disk.f_frsize // 20)
    return Space(file_size(path), file_size(log), disk.f_bavail * disk.f_frsize, floor)


def file_size(path: Path) -> int:
    """Returns a file's bytes; 0 where it is missing, as the log is once the ledger has been closed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
