"""What long jobs do to those who wait at the door: `prune` and `backup` while callbacks come.

    python -m benchmarks.interference [--duplicates 1000000] [--calls 100000]

A ledger of 100,000 calls with 1,000,000 old duplicate receipts; 200 callbacks/s; the 95th
percentile answer while each command runs against the living daemon, as a ratio to that of the
seconds before and after it. Above 5 is a fault.
"""

import argparse
import itertools
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.daemons import receiving
from benchmarks.feeding import Feeder
from benchmarks.footprint import multiply
from benchmarks.load import Outcome, burst
from benchmarks.texts import spaced, varied_records
from bridge.ledger.sqlite.times import micros
from tests.fixtures.daemon_process import DaemonProcess, environment, wait_until

RATE = 200
CONCURRENCY = 16
LARGEST_RATIO = 5.0
CALM_SECONDS = 15
FED = 5000
FEWEST = 10
"""Seconds of callbacks that each figure rests on; a command that is done sooner is run again."""


def build(path: Path, calls: int, duplicates: int) -> None:
    """A ledger as a busy year leaves it: calls delivered, and old receipts that changed nothing."""
    feeder = Feeder(path)
    feeder.feed(varied_records(FED))
    feeder.close()
    multiply(path, calls)
    now = datetime.now(UTC)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE receipts SET received_at = ?", (micros(now - timedelta(days=80)),))
        connection.execute(
            "INSERT INTO receipts (call_id, via, received_at, verdict, stamp)"
            " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " SELECT 1 + i % ?, 'callback', ?, 'duplicate', 1744596050 FROM n",
            (duplicates, calls, micros(now - timedelta(days=60))),
        )
        # The daemon's own daily run would come between.
        connection.execute(
            "INSERT INTO runs (kind, args, state, requested_at, ended_at)"
            " VALUES ('prune', '{}', 'done', ?, ?)",
            (micros(now), micros(now)),
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class Door:
    """Sends a second of callbacks at a time, no call twice."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self._bodies: Iterator[bytes] = (spaced(record) for record in varied_records(10**9, seed=11))

    def second(self, into: Outcome) -> None:
        payloads = list(itertools.islice(self._bodies, RATE))
        outcome = burst(self._daemon.callback_url, payloads, CONCURRENCY, RATE)
        assert outcome.answers == {200: RATE}, outcome.answers
        into.latencies += outcome.latencies
        into.seconds += outcome.seconds

    def calm(self) -> Outcome:
        """Nothing else runs."""
        outcome = Outcome()
        for _ in range(CALM_SECONDS):
            self.second(outcome)
        return outcome

    def during(self, command: Callable[[], tuple[str, ...]], config: Path) -> tuple[Outcome, Any, float]:
        """While a command runs, again where it is done soon; with its last document and seconds a run."""
        outcome, documents, runs, spent = Outcome(), [], 0, 0.0
        while outcome.seconds < FEWEST:
            args = command()
            ended = self._daemon.count("SELECT count(*) FROM runs WHERE state = 'done'")
            process = subprocess.Popen(
                [sys.executable, "-m", "bridge", *args, "--json", "-c", str(config)],
                env=environment(),
                stdout=subprocess.PIPE,
                text=True,
            )
            wait_until(lambda: self._at_work(ended), f"{args[0]} runs")  # noqa: B023 -- called at once
            began = time.perf_counter()
            while process.poll() is None:
                self.second(outcome)
            spent += time.perf_counter() - began
            runs += 1
            documents.append(json.loads(process.communicate()[0]))
            assert process.returncode == 0, args
        return outcome, documents[0], spent / runs

    def _at_work(self, ended: int) -> bool:
        return bool(
            self._daemon.count(
                "SELECT sum(state = 'running') > 0 OR sum(state = 'done') > "  # noqa: S608 -- a number
                f"{ended} FROM runs"
            )
        )


def report(name: str, outcome: Outcome, calm: list[Outcome]) -> float:
    """One command's figures, and its ratio to the calm before and after it."""
    around = Outcome(latencies=[latency for one in calm for latency in one.latencies])
    ratio = outcome.percentile(0.95) / around.percentile(0.95)
    print(
        f"{name}: p95 {outcome.percentile(0.95):.1f} ms, {ratio:.1f} times the calm"
        f" {around.percentile(0.95):.1f} ms; p99 {outcome.percentile(0.99):.1f} ms,"
        f" longest {max(outcome.latencies):.0f} ms (calm {max(around.latencies):.0f} ms),"
        f" {len(outcome.latencies)} callbacks"
    )
    return ratio


def main() -> int:
    """Print all figures; 1 when a ratio is above the limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--duplicates", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = receiving(folder)
        started = time.perf_counter()
        build(folder / "ledger.db", options.calls, options.duplicates)
        size = (folder / "ledger.db").stat().st_size / 2**20
        print(f"{size:.0f} MiB of ledger, built in {time.perf_counter() - started:.0f} s")
        daemon = DaemonProcess(config)
        try:
            door, copies = Door(daemon), itertools.count()
            door.calm()  # warms up
            calm = [door.calm()]
            copying, copied, seconds = door.during(
                lambda: ("backup", str(folder / f"{next(copies)}.db")), config
            )
            print(f"backup: {copied['bytes'] / 2**20:.0f} MiB in {seconds:.1f} s")
            calm.append(door.calm())
            pruning, pruned, seconds = door.during(lambda: ("prune",), config)
            print(f"prune: {pruned['removed']} in {seconds:.1f} s")
            calm.append(door.calm())
        finally:
            daemon.stop()
    assert pruned["removed"]["duplicates"] == options.duplicates, pruned
    ratios = report("backup", copying, calm[:2]), report("prune", pruning, calm[1:])
    kept = max(ratios) <= LARGEST_RATIO
    print(f"limit {'kept' if kept else 'MISSED'}: {LARGEST_RATIO:.0f} times")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
