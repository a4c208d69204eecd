"""How much room the ledger takes, and how much its disk has left."""

import os
from pathlib import Path

from bridge.ledger.upkeep import Space


def space(path: Path, min_free: int) -> Space:
    """Bytes of the file and its log, what is left on the disk, and the floor below which nothing is taken."""
    disk = os.statvfs(path.parent)
    log = path.with_name(path.name + "-wal")
    # On a small disk a floor in bytes would never let anything in.
    floor = min(min_free, disk.f_blocks * disk.f_frsize // 20)
    return Space(file_size(path), file_size(log), disk.f_bavail * disk.f_frsize, floor)


def file_size(path: Path) -> int:
    """Bytes of a file; the log goes while one looks, where the ledger is being closed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
