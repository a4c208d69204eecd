"""How much room the ledger takes, and how much its disk has left."""

import os
from pathlib import Path

from bridge.ledger import Row


def space(path: Path, min_free: int) -> Row:
    """Bytes of the file and its log, what is left on the disk, and the floor below which nothing is taken."""
    disk = os.statvfs(path.parent)
    log = path.with_name(path.name + "-wal")
    # On a small disk a floor in bytes would never let anything in.
    floor = min(min_free, disk.f_blocks * disk.f_frsize // 20)
    return {
        "ledger_bytes": file_size(path),
        "wal_bytes": file_size(log),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "floor_bytes": floor,
    }


def file_size(path: Path) -> int:
    """Bytes of a file; the log goes while one looks, where the ledger is being closed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
