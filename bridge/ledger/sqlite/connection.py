"""Opens the ledger's file: creates it, sets its pragmas, and says who may use it."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from bridge.ledger.sqlite.park_kinds import name_park_kinds
from bridge.ledger.sqlite.payloads import ship_first
from bridge.ledger.sqlite.schema import note_needed, pending_migrations, refuse_newer
from bridge.lib.errors import LedgerUnusable
from bridge.lib.system_users import user_name

BUSY_TIMEOUT_MS = 3000
"""A commit waits so long for another process that writes; then callbacks are answered 503."""
PAGE_SIZE = 16384
"""Bytes. Records of 1 to 2 KB fill a large page better: SQLite's 4 KiB would leave more of each empty."""
CHECKPOINT_PAGES = 500
"""The log is put back into the file once it has 8 MiB."""
JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes. The log is cut back to this after a checkpoint, so that one burst does not keep the disk."""

_OPEN = stat.S_IRUSR | stat.S_IWUSR


def check_owner(path: Path) -> None:
    """Refuse another user's ledger: files that this one makes beside it would lock that user out.

    Raises:
        LedgerUnusable: missing, or another user's.
    """
    if not path.exists():
        raise LedgerUnusable(_absent(path))
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise LedgerUnusable(_of_another(path, owner, f"{path}*"))


def _absent(path: Path) -> str:
    """That there is no ledger; what is left beside its place shows that one was moved or deleted."""
    for end in ("-wal", ".last"):
        left = path.with_name(path.name + end)
        if left.exists():
            return (
                f"there is no ledger at {path}, but {left} shows that there was one:"
                f" put it back if it was moved, or restore a backup to {path}"
            )
    return f"there is no ledger at {path}: `callbridge run` creates it"


def _of_another(path: Path, owner: int, files: object) -> str:
    """Whose file it is, and what to do: one of root's is handed over, so that no daemon need run as root."""
    name, me = user_name(owner), user_name(os.geteuid())
    remedy = f"put `sudo -u {name}` before the command" if owner else f"sudo chown {me}: {files}"
    return f"{path} belongs to user {name}: {remedy}"


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection of the calling thread; transactions are begun by hand."""
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_MS / 1000,
        cached_statements=256,
    )
    with closed_on_failure(connection):
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}")
            # Deleted rows are overwritten with zeros in the file. Many builds of SQLite do so anyway, and it
            # costs nothing that can be measured: 8.3 µs of processor time a call with it and without it.
            connection.execute("PRAGMA secure_delete = ON")
    return connection


def connect_writer(path: Path) -> sqlite3.Connection:
    """The connection of the writer's thread."""
    connection = connect(path)
    with closed_on_failure(connection):
        # Before SQLite changes a page, it copies it so that a savepoint can be undone. From the fifth page on
        # the copies would go to a file in /var/tmp, opened anew in each transaction: 80 µs of processor time.
        # Migrations sort whole tables, so their connection keeps the file.
        connection.execute("PRAGMA temp_store = MEMORY")
    return connection


@contextmanager
def closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    """Close a connection that turns out to be unusable: nobody else will."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def prepare(path: Path, *, create: bool) -> None:
    """Create the file where allowed, and bring it to this program's version."""
    with usable(path):
        if create and not path.exists():
            _refuse_orphans(path)
            _create(path)
        check_owner(path)
        with closing(connect(path)) as connection:
            _migrate(connection, path)


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """What SQLite or the system finds wrong with the file, as a sentence for the operator."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        why = _closed_file(path) or _damaged(path, error) or str(error)
        raise LedgerUnusable(f"cannot use the ledger at {path}: {why}") from error
    except OSError as error:
        user = user_name(os.geteuid())
        if why := _closed_folder(path.parent):
            raise LedgerUnusable(f"cannot use the ledger at {path}: {why}") from error
        raise LedgerUnusable(f"user {user} cannot use the ledger at {path}: {error.strerror}") from error


def _closed_file(path: Path) -> str:
    """Which of a ledger's files this user may not write, and what to do; SQLite names the ledger for all."""
    closed: dict[Path, int] = {}
    for end in ("", "-wal", "-shm"):
        file = path.with_name(path.name + end)
        try:
            found = file.stat()
        except OSError:
            continue
        if found.st_uid != os.geteuid():
            me = user_name(os.geteuid())
            if end:
                # The ledger itself is this user's.
                return f"{file} belongs to user {user_name(found.st_uid)}: sudo chown {me}: {file}"
            return _of_another(file, found.st_uid, file)
        if found.st_mode & _OPEN != _OPEN:
            closed[file] = stat.S_IMODE(found.st_mode)
    if closed:
        modes = " and ".join(f"{file} has the mode {mode:04o}" for file, mode in closed.items())
        return f"{modes}: chmod 600 {' '.join(map(str, closed))}"
    return _closed_folder(path.parent)


def _closed_folder(folder: Path) -> str:
    """Why this user cannot make files in a folder, and what to do; empty: it can."""
    me = user_name(os.geteuid())
    if not folder.exists():
        return f"there is no folder {folder}: sudo install -d -o {me} -m 0700 {folder}"
    if os.access(folder, os.W_OK | os.X_OK):
        return ""
    if folder.stat().st_uid == os.geteuid():
        return f"user {me} may not write in the folder {folder}: chmod u+wx {folder}"
    owner = user_name(folder.stat().st_uid)
    return (
        f"user {me} may not write in the folder {folder}, which belongs to user {owner}:"
        f" let ledger.url name a file in a folder of {me}"
    )


def _damaged(path: Path, error: sqlite3.DatabaseError) -> str:
    """What to do about a file that is no ledger any more; empty: it is something else."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return ""
    return f"{error}: it is no ledger, or damaged; stop callbridge and restore a backup to {path}"


def _refuse_orphans(path: Path) -> None:
    """A new ledger beside another's log would be the end of that log."""
    left = path.with_name(path.name + "-wal")
    if left.exists() and left.stat().st_size:
        raise LedgerUnusable(
            f"there is no ledger at {path}, but its log {left} is there: put the ledger back beside it,"
            " or move the log away to begin anew"
        )


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    database = Database(connection)
    refuse_newer(connection, path)
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        database.enable_wal()
    for pending in pending_migrations(connection):
        pending.apply(database)
    note_needed(connection)
    ship_first(connection, datetime.now(UTC))
    name_park_kinds(connection)
