"""Two processes that write to one ledger by turns: neither waits for more than one commit of the other."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

TURNS = """
import os, sqlite3, sys
from bridge.ledger.sqlite.write_turns import WriteTurns

path, count = sys.argv[1], int(sys.argv[2])
turns = WriteTurns()
child = os.fork()
who = "child" if child == 0 else "parent"
db = sqlite3.connect(path, isolation_level=None, timeout=0)
db.execute("PRAGMA synchronous = OFF")
for _ in range(count):
    before = db.execute("SELECT count(*) FROM turns WHERE who <> ?", (who,)).fetchone()[0]
    with turns:
        # Without a busy timeout: with turns nobody finds the lock taken.
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO turns SELECT ?, count(*) - ? FROM turns WHERE who <> ?", (who, before, who))
        db.execute("COMMIT")
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
DIES_IN_ITS_TURN = """
import os
from bridge.ledger.sqlite.write_turns import WriteTurns

turns, begun = WriteTurns(), os.pipe()
if os.fork() == 0:
    with turns:
        os.write(begun[1], b".")
        os._exit(0)
os.read(begun[0], 1)
with turns:
    print("its turn")
"""


def run(code: str, *args: str) -> str:
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_writers_without_a_pause_starve_neither(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE turns (who TEXT, others INTEGER)")
        db.commit()
        run(TURNS, str(path), "300")
        assert db.execute("SELECT count(*) FROM turns").fetchone()[0] == 600
        others = sorted(row[0] for row in db.execute("SELECT others FROM turns"))
    # One commit may be under way, and one may fall between the count and the queue. The machine may stop a
    # process between the two for longer, which happens to few.
    assert others[len(others) * 9 // 10] <= 2, others


def test_turn_ends_with_its_process() -> None:
    assert run(DIES_IN_ITS_TURN) == "its turn\n"
