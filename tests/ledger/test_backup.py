"""Backups: what is in them, what they overwrite, and what an interrupted one leaves behind."""

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from bridge.ledger.sqlite import (
    SqliteLedger,
    backup,
)
from bridge.lib.errors import LedgerBusy, LedgerUnusable
from bridge.model.deliveries import DeliveryState, Settlement
from bridge.model.jobs import JobState
from tests.fixtures.ledger_calls import (
    CLOSED,
    NOW,
    arrival,
    filed_all,
    leased,
    news,
    settle,
    uuid,
)
from tests.fixtures.ledger_counters import assert_counters_match_rows


def fill(ledger: SqliteLedger, calls: Sequence[int]) -> None:
    rng = random.Random(len(calls))  # noqa: S311 -- sample data
    filed_all(ledger, [arrival(uuid(one), payload=rng.randbytes(6000)) for one in calls])


def test_commit_during_a_backup_is_in_it_wholly_or_not_at_all(ledger: SqliteLedger, tmp_path: Path) -> None:
    fill(ledger, range(600))
    written = iter(range(600, 10_000))

    def while_calls_come() -> bool:
        filed_all(ledger, [arrival(uuid(next(written)))])
        return True

    target = tmp_path / "copy.db"
    told = ledger.backup(target, while_calls_come)
    assert told.bytes == target.stat().st_size
    with closing(sqlite3.connect(target)) as copy:
        keys = [key for (key,) in copy.execute("SELECT key FROM calls ORDER BY id")]
        # One moment: all up to one, with all that belongs to it.
        assert keys == [uuid(number) for number in range(len(keys))]
        assert told.calls == len(keys) > 600
        for table in ("receipts", "payloads", "call_names"):
            assert copy.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(keys),)  # noqa: S608 -- our own
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_backup_holds_everything_but_tokens_and_open_jobs(
    ledger: SqliteLedger, ledger_path: Path, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        news(ledger, name)
    settle(ledger, leased(ledger), Settlement(DeliveryState.DELIVERED, account="hub"), NOW, NOW)
    # The row moves with each token, and leaves the one before in its page's free space.
    for number in range(40):
        ledger.save_token("hub", {"outputs": {"access_token": f"SECRET-{number}-" + "x" * (number * 700)}})
        ledger.save_token(f"other {number}", {"outputs": {"refresh_token": f"SECRET-{number}"}})
    ledger.save_budget("hub", {"breaker": CLOSED, "classes": {}}, NOW)
    for kind in ("retry", "backup", "prune"):
        ledger.request_job(kind, {}, NOW)
    done = ledger.take_job(NOW)
    assert done is not None
    ledger.end_job(done.id, JobState.DONE, {}, NOW)
    ledger.take_job(NOW)
    copy = tmp_path / "copy.db"
    ledger.backup(copy, lambda: True)

    assert b"SECRET" not in copy.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]
    with closing(sqlite3.connect(copy)) as copied, closing(sqlite3.connect(ledger_path)) as own:
        schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2"
        assert copied.execute(schema).fetchall() == own.execute(schema).fetchall()
        names = [name for kind, name, *_ in own.execute(schema).fetchall() if kind == "table"]
        for name in set(names) - {"accounts", "runs"}:
            rows = f'SELECT * FROM "{name}"'  # noqa: S608 -- our own
            assert copied.execute(rows).fetchall() == own.execute(rows).fetchall(), name
        kept = "SELECT id, name, budget FROM accounts"
        assert copied.execute(kept).fetchall() == own.execute(kept).fetchall()
        assert copied.execute("SELECT kind, state FROM runs").fetchall() == [("retry", "done")]
        for pragma in ("page_size", "auto_vacuum", "user_version"):
            told = f"PRAGMA {pragma}"
            assert copied.execute(told).fetchall() == own.execute(told).fetchall(), pragma
    with closing(SqliteLedger(copy)) as restored:
        assert restored.load_token("hub") is None
        assert restored.release_leases(NOW) == 0
        assert restored.take_job(NOW) is None
        assert_counters_match_rows(restored, copy)
        assert restored.counts().deliveries == ledger.counts().deliveries
    # Read last: whoever closes the file ends the locks of its process.
    assert b"SECRET" in ledger_path.read_bytes() + ledger_path.with_name("ledger.db-wal").read_bytes()


def test_interrupted_backup_job_fails_instead_of_running_again(ledger: SqliteLedger) -> None:
    run = ledger.request_job("backup", {"file": "/x"}, NOW)
    again = ledger.request_job("retry", {"ids": []}, NOW)
    ledger.take_job(NOW)
    ledger.take_job(NOW)
    ledger.release_leases(NOW)
    ended = ledger.job(run)
    assert (ended.state, "ask for it again" in ended.result["error"]) == ("failed", True)
    taken = ledger.take_job(NOW)
    assert taken is not None
    assert taken.id == again


def test_backup_overwrites_nothing_but_a_backup(
    ledger: SqliteLedger, ledger_path: Path, tmp_path: Path
) -> None:
    news(ledger, "a")
    folder = tmp_path / "copies"
    folder.mkdir()
    note, copy, empty = folder / "note.txt", folder / "copy.db", folder / "empty"
    note.write_text("keep me")
    empty.touch()
    for target in (copy, copy, empty):
        assert ledger.backup(target, lambda: True).calls == 1
    other = folder / "other.db.unfinished"
    other.write_text("keep me too")
    in_use = folder / "used.db"
    with closing(sqlite3.connect(in_use)) as used:
        used.execute("PRAGMA journal_mode = WAL")
        used.execute("CREATE TABLE a (b)")
        linked = folder / "linked.db"
        linked.hardlink_to(ledger_path)
        pointing = folder / "pointing.db"
        pointing.symlink_to(note)
        for target, why in (
            (note, "no SQLite file"),
            (pointing, "no SQLite file"),
            (folder / "other.db", "no SQLite file"),
            (in_use, "is in use"),
            (linked, "is the ledger itself"),
            (ledger_path, "is the ledger itself"),
            (ledger_path.with_name("ledger.db-wal"), "is the ledger itself"),
            (folder, "cannot copy"),
        ):
            with pytest.raises(LedgerUnusable, match=why):
                ledger.backup(target, lambda: True)
    assert (note.read_text(), other.read_text()) == ("keep me", "keep me too")
    # Nobody has closed the ledger's own file, which would have ended its locks.
    assert filed_all(ledger, [arrival("b")])[0].key == "b"


def test_cancelled_backup_leaves_nothing_behind(
    ledger: SqliteLedger, ledger_path: Path, tmp_path: Path
) -> None:
    fill(ledger, range(600))
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    ledger.backup(target, lambda: True)
    yesterday = target.read_bytes()
    fill(ledger, range(600, 601))
    for answers in ([False], [True, False]):
        with pytest.raises(LedgerBusy, match="ask for it again"):
            ledger.backup(target, iter(answers).__next__)
    assert [path.read_bytes() for path in target.parent.iterdir()] == [yesterday]
    assert_counters_match_rows(ledger, ledger_path)


def test_damaged_backup_is_detected(ledger: SqliteLedger, tmp_path: Path) -> None:
    fill(ledger, range(100))
    copy = tmp_path / "a copy?#%.db"
    ledger.backup(copy, lambda: True)
    assert backup.check_copy(copy, lambda: True) == 100
    with copy.open("r+b") as file:
        file.seek(5 * 16384)
        file.write(bytes(3 * 16384))
    with pytest.raises(LedgerUnusable, match="is damaged"):
        backup.check_copy(copy, lambda: True)
    copy.write_bytes(b"no ledger at all, but long enough to be looked at" * 1000)
    with pytest.raises(LedgerUnusable, match="is damaged"):
        backup.check_copy(copy, lambda: True)
