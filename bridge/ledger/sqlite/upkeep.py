"""Upkeep of the SQLite ledger: removes old rows, makes copies and dictionaries, watches the disk."""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from bridge.ledger.sqlite import backup, dictionaries, retention
from bridge.ledger.sqlite.access import Access, looks
from bridge.ledger.sqlite.dictionary_training import train
from bridge.ledger.sqlite.disk_space import space
from bridge.ledger.sqlite.quickly_packed import next_quickly_packed, packed_smaller, replace_packed
from bridge.ledger.sqlite.repacking import Repacking
from bridge.ledger.sqlite.writer import heartbeat
from bridge.ledger.upkeep import BackupCopy, Space
from bridge.lib.errors import LedgerBusy, LedgerUnusable
from bridge.lib.system_users import user_name


class UpkeepPart(Access):
    """See `bridge.ledger.UpkeepLedger`, which says what each method promises."""

    _taught_nothing_at = 0
    """How many calls the ledger had when its records made no dictionary."""
    _repacking: Repacking | None = None
    """How far `repack` has come in this process."""

    def prune(self, name: str, before: datetime, pause: Callable[[float], bool]) -> int:
        """Remove old rows in commits of at most 500 rows, then give free pages back to the file system."""
        removed, after_id = 0, 0
        while True:
            started = time.monotonic()
            step = partial(retention.prune_step, name=name, before=before, after_id=after_id)
            further, count = self._write().run(step)
            removed += count
            if not pause(time.monotonic() - started):
                return removed
            if further is None:
                break
            after_id = further
        left = -1
        # A file that was created without auto_vacuum gives nothing back, however often it is asked.
        while (free := self._write().run(retention.free_step)) and free != left:
            left = free
            if not pause(0.01):
                break
        return removed

    def backup(self, target: Path, go_on: Callable[[], bool]) -> BackupCopy:
        """Copy the ledger in another process, check the copy, and give it its name once it is whole."""
        try:
            backup.check_target(target, self._path)
        except OSError as error:
            raise _not_copied(target, error) from error
        unfinished = backup.unfinished(target)
        try:
            unfinished.unlink(missing_ok=True)
            # A copy holds people's data like the ledger itself: only its owner may read it.
            unfinished.touch(mode=0o600)
            backup.copy_to(unfinished, self._path, go_on)
            with unfinished.open("rb") as copy:
                os.fsync(copy.fileno())
            calls = backup.check_copy(unfinished, go_on)
            unfinished.replace(target)
            backup.keep_name(target)
        except (OSError, sqlite3.Error) as error:
            raise _not_copied(target, error) from error
        finally:
            with suppress(OSError):
                unfinished.unlink()
        return BackupCopy(target.stat().st_size, calls)

    @looks
    def retrain(self, now: datetime) -> bool:
        """Make a dictionary in another process where one is due; True once records are packed with it."""
        calls = dictionaries.calls_in(self._reader)
        if not dictionaries.training_due(self._reader) or calls < 2 * self._taught_nothing_at:
            return False
        body = train(dictionaries.sample(self._reader, self._payloads))
        if body is not None:
            self._write().run(lambda c: dictionaries.add_trained(c, body, now))
        elif dictionaries.newest_has_to_go(self._reader):
            self._write().run(lambda c: dictionaries.add_shipped(c, now))
        else:
            # Maintenance asks every 30 s, and the same records would teach nothing: the next try waits until
            # the ledger has twice as many calls.
            self._taught_nothing_at = calls
            return False
        # Loaded only after the commit: were the dictionary lost in a crash, its records could not be read.
        self._write().run(self._payloads.load)
        return True

    @looks
    def repack(self, pause: Callable[[float], bool]) -> int:
        """Pack records again whose dictionary has to go, and remove the dictionary after the last of them."""
        outdated = dictionaries.that_have_to_go(self._reader)
        if not outdated:
            return 0
        if self._repacking is None or self._repacking.outdated != outdated:
            self._repacking = Repacking(outdated, self._payloads.for_another_thread())
        repacked, go_on = 0, True
        while go_on and not self._repacking.is_done:
            started = time.monotonic()
            repacked += self._repacking.step(self._reader, self._replace_rows)
            go_on = pause(time.monotonic() - started)
        if self._repacking.is_done:
            self._write().run(lambda c: dictionaries.remove(c, outdated))
            self._repacking = None
        return repacked

    @looks
    def pack_smaller(self, pause: Callable[[float], bool]) -> int:
        """Replace quickly packed records by small ones, in commits of 200 rows."""
        packer, packed, go_on = self._payloads.for_another_thread(), 0, True
        while go_on and (read := next_quickly_packed(self._reader)):
            started = time.monotonic()
            replace = partial(replace_packed, read=read, smaller=packed_smaller(packer, read))
            packed += self._write().run(replace)
            go_on = pause(time.monotonic() - started)
        return packed

    def _replace_rows(self, update: str, rows: Sequence[Sequence[object]]) -> None:
        self._write().run(lambda c: c.executemany(update, rows).rowcount)

    def writable(self) -> bool:
        """Commit one row, to see whether a commit succeeds now."""
        if self._low_disk():
            return False
        try:
            self._write().run(heartbeat)
        except LedgerBusy:
            return False
        return True

    def space(self) -> Space:
        """Measure the ledger's files and its disk."""
        return space(self._path, self._min_free)


def _not_copied(target: Path, error: OSError | sqlite3.Error) -> LedgerUnusable:
    """Why there is no copy; the daemon makes it with its own rights, so it needs a folder of its own."""
    message = f"cannot copy the ledger to {target}: "
    if isinstance(error, OSError) and not os.access(target.parent, os.W_OK | os.X_OK):
        what = "there is no folder" if not target.parent.exists() else "it may not write in the folder"
        user = user_name(os.geteuid())
        message += (
            f"callbridge runs as user {user}, and {what} {target.parent}: name a file in one of its own"
        )
    else:
        message += str(error)
    return LedgerUnusable(message)
