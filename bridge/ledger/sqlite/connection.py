"""Opening the file: pragmas, migrations, and whose it is."""

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlite_utils import Database, Migrations

from bridge.ledger.sqlite.files import FileLock
from bridge.ledger.sqlite.park_kinds import name_park_kinds
from bridge.ledger.sqlite.payloads import ship_first
from bridge.lib.errors import LedgerLocked, LedgerUnusable
from bridge.lib.system_users import user_name

# How long a commit waits for another process that writes, before callbacks are answered 503.
BUSY_TIMEOUT_MS = 3000
# Records fill a large page better than a small one: less of the file is air.
PAGE_SIZE = 16384
# 8 MiB of log, as SQLite would take for pages of half the size.
CHECKPOINT_PAGES = 500
# The WAL is cut back to this after a checkpoint, so that one burst does not keep the disk.
JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024


# A daemon that starts waits so long for a command to give way; it does so between two pages.
GIVES_WAY_WITHIN = 60.0
ASKED_EVERY = 0.05
GUEST = "command"
_OPEN = stat.S_IRUSR | stat.S_IWUSR


def migrations() -> Migrations:
    """The numbered SQL files, as a sqlite-utils migration set."""
    known = Migrations("callbridge")
    for name, sql in migration_scripts().items():
        _register(known, name, sql)
    return known


def migration_scripts() -> dict[str, str]:
    """The SQL of every migration by its name, in the order in which they are applied."""
    folder = resources.files("bridge.ledger.sqlite") / "migrations"
    files = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return {
        file.name.removesuffix(".sql"): file.read_text("utf-8")
        for file in files
        if file.name.endswith(".sql")
    }


def _register(known: Migrations, name: str, sql: str) -> None:
    @known(name=name)
    def migrate(database: Database) -> None:
        # executescript() would commit the transaction that holds the version's row.
        for statement in statements(sql):
            database.conn.execute(statement)


def statements(sql: str) -> list[str]:
    """Split a script at the semicolons that end a statement."""
    found: list[str] = []
    current = ""
    for line in sql.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current.strip())
            current = ""
    return found


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
    known = migrations()
    refuse_newer(connection, path)
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        database.enable_wal()
    if known.pending(database):
        known.apply(database)
    ship_first(connection, datetime.now(UTC))
    name_park_kinds(connection)


def refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    """A file that a newer program has changed is not ours to touch."""
    ours = migration_scripts()
    newer = [done.name for done in migrations().applied(Database(connection)) if done.name not in ours]
    if newer:
        raise LedgerUnusable(
            f"the ledger at {path} was written by a newer callbridge ({', '.join(newer)}): upgrade this one"
        )


class OwnerLock:
    """The right to own a ledger, held by one living process.

    The kernel lets go of it when the process dies, however it dies; that is why a lease
    of a previous owner is known to be dead.
    """

    def __init__(self, ledger: Path, *, guest: bool = False) -> None:
        """`guest`: a command that does a daemon's work while none lives; it gives way to one that starts."""
        self._ledger = ledger
        self._guest = guest
        self._path = ledger.with_name(ledger.name + ".lock")
        self._wanted = ledger.with_name(ledger.name + ".wanted")
        self._file: int | None = None
        self._of_the_file = FileLock()

    @property
    def path(self) -> Path:
        """The lock's own file."""
        return self._path

    def hold_file(self) -> None:
        """Lock the ledger's file itself too, where it is there by now.

        Raises:
            LedgerLocked: another living process has it, though not by this lock.
        """
        with usable(self._ledger):
            self._of_the_file.take(self._ledger)

    def acquire(self) -> None:
        """Take the lock; what a guest owns is waited for.

        Raises:
            LedgerLocked: another living process has it.
            LedgerUnusable: the ledger is another user's, or its folder cannot be written.
        """
        with usable(self._ledger):
            # Asked first, so that the wrong user leaves no file behind.
            if self._ledger.exists():
                check_owner(self._ledger)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._guest and self.is_wanted():
                raise LedgerLocked(f"a callbridge that starts wants {self._ledger}")
            self._file = _locked(self._path)
            if self._file is None and not self._guest:
                self._file = self._wait()
            if self._file is None:
                raise LedgerLocked(f"another callbridge (process {self._owner()[0]}) owns {self._ledger}")
            try:
                self.hold_file()
            except LedgerLocked:
                self.release()
                raise
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}{' ' + GUEST if self._guest else ''}\n".encode())

    def is_wanted(self) -> bool:
        """Whether a daemon waits for a guest to give way."""
        if not self._wanted.exists():
            return False
        file = _locked(self._wanted)
        if file is not None:
            os.close(file)
        return file is None

    def _wait(self) -> int | None:
        """Wait for a guest to give way; None where the owner is none, or does not."""
        claim: int | None = None
        try:
            until = time.monotonic() + GIVES_WAY_WITHIN
            while time.monotonic() < until and self._owner()[1]:
                # Who only looks whether it is wanted has it for a moment.
                claim = _locked(self._wanted) if claim is None else claim
                time.sleep(ASKED_EVERY)
                if (file := _locked(self._path)) is not None:
                    return file
        finally:
            if claim is not None:
                os.close(claim)
        return None

    def _owner(self) -> tuple[str, bool]:
        """The process that owns it, and whether that is a guest, or one that is only just coming or going."""
        process, _, kind = self._path.read_text(errors="replace").strip().partition(" ")
        return process or "unknown", kind == GUEST or not _lives(process)

    def release(self) -> None:
        """Let go; the file stays, an empty promise."""
        self._of_the_file.release()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lives(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def _locked(path: Path) -> int | None:
    """A file with its lock, until it is closed; None: another has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
