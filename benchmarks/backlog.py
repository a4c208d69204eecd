"""How a daemon that starts with a long backlog behaves, and what it says of its end.

    python -m benchmarks.backlog [--calls 100000] [--seconds 120] [--only answers,pace]

The CRM answers after 20 ms, 16 workers, and so many calls are owed at the start.
answers: one request a call, while 200 callbacks a second come by the clock: the 99th percentile of their
answers, as a multiple of the same of a daemon of the same kind that owes nothing when they begin to come.
pace: three requests a call, while two callbacks a second come. Told: how even the pace is (the slowest ten
seconds as a share of the fastest), how long a live call takes from its receipt to the CRM as a multiple of
its three answers, how far `status` is off when it says when all will be done, and what the memory of all
processes has grown to from the first ten seconds to the last. Each ratio has a budget.
"""

import argparse
import itertools
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

from benchmarks.bodies import StoredBodies, stored_bodies
from benchmarks.crm import serving
from benchmarks.daemons import THREE_REQUESTS, Delivering, MeasuredDaemon, running
from benchmarks.deliver import DELAY, REQUESTS_A_CALL, WORKERS
from benchmarks.figures import Budget, Figures, load_now
from benchmarks.load import steady
from benchmarks.owing import copied, owe
from benchmarks.processes import memory_watched
from benchmarks.texts import varied_bodies
from tests.fixtures.daemon_process import callbridge_json, wait_until

BUDGETS = {
    "answers": (Budget("p99 of answers while a backlog drains, times the quiet", at_most=5),),
    "pace": (
        Budget("pace, slowest ten seconds as a share of the fastest", at_least=0.5),
        Budget("live calls, p95 as a multiple of their answers", at_most=50),
        Budget("forecast, share that it is off", at_most=0.2),
        Budget("memory, times that of the first ten seconds", at_most=1.2),
        Budget("live calls that were not delivered", at_most=0),
    ),
}
WINDOW = 10.0
LIVE_A_SECOND = 2
CALLBACKS_A_SECOND = 200
WARM_UP = 5
"""Seconds of callbacks that come before those that count."""
DONE = "SELECT count(*) FROM deliveries WHERE state IN ('delivered', 'skipped')"
OWED = "SELECT count(*) FROM deliveries WHERE state IN ('due', 'leased')"


def answers(backlog: Path, seconds: float, figures: Figures) -> None:
    """Callbacks by the clock, to a daemon without a backlog and to one with it."""
    count = round(CALLBACKS_A_SECOND * (seconds / 2 + WARM_UP))
    with tempfile.TemporaryDirectory() as name:
        bodies = stored_bodies(Path(name), 2 * count)
        quiet = answered(None, bodies, 0)
        drained = answered(backlog, bodies, count)
    figures.note("p99 of answers without a backlog, ms", quiet)
    figures.note("p99 of answers while a backlog drains, ms", drained)
    figures.note("p99 of answers while a backlog drains, times the quiet", drained / quiet)


def answered(backlog: Path | None, bodies: StoredBodies, start: int) -> float:
    """The 99th percentile of the answers, in milliseconds, of half of the bodies."""
    count, warm_up = len(bodies) // 2, CALLBACKS_A_SECOND * WARM_UP
    with tempfile.TemporaryDirectory() as name, serving("upserts", DELAY) as url:
        if backlog:
            copied(backlog, Path(name))
        with running(Delivering(url, workers=WORKERS).write(Path(name))) as measured:
            callbacks, daemon = measured.daemon.callback_url, measured.daemon
            steady(callbacks, bodies.part(start, warm_up), CALLBACKS_A_SECOND)
            before, began = daemon.count(DONE), time.perf_counter()
            rest = bodies.part(start + warm_up, count - warm_up)
            outcome, connections = steady(callbacks, rest, CALLBACKS_A_SECOND)
            rate = (daemon.count(DONE) - before) / (time.perf_counter() - began)
            owed = daemon.count(OWED)
    assert outcome.answers == {200: count - warm_up}, outcome.answers
    assert not backlog or owed, "the backlog was done before the callbacks were"
    print(
        f"  {'with' if backlog else 'without'} a backlog: {outcome.rate:.0f} callbacks/s over {connections}"
        f" connections, p50 {outcome.percentile(0.5):.1f} ms, p99 {outcome.percentile(0.99):.1f} ms, longest"
        f" {max(outcome.latencies):.0f} ms; {rate:.0f} calls/s delivered, {owed} owed at the end",
        flush=True,
    )
    return outcome.percentile(0.99)


def paces(measured: MeasuredDaemon, seconds: float, taken: list[float]) -> list[float]:
    """Deliveries a second, every ten seconds; the megabytes that the daemon takes are noted beside them."""
    found: list[float] = []
    until = time.monotonic() + seconds
    done, at = measured.daemon.count(DONE), time.monotonic()
    while time.monotonic() < until:
        with memory_watched(measured.process) as watch:
            time.sleep(WINDOW)
        now_done, now = measured.daemon.count(DONE), time.monotonic()
        found.append((now_done - done) / (now - at))
        # The least of a window: a dictionary's process, which takes as much again, is soon gone.
        taken.append(min(one.whole for one in watch.seen))
        done, at = now_done, now
    return found


def live_seconds(ledger: Path, backlog: int) -> list[float]:
    """From the receipt of each call behind the backlog to its delivery."""
    with closing(sqlite3.connect(ledger)) as rows:
        found = rows.execute(
            "SELECT min(a.ended_at) - min(r.received_at) FROM calls c JOIN receipts r ON r.call_id = c.id"
            " JOIN deliveries d ON d.call_id = c.id JOIN attempts a ON a.delivery_id = d.id"
            " WHERE c.id > ? GROUP BY c.id",
            (backlog,),
        ).fetchall()
    return sorted(row[0] / 1e6 for row in found)


def forecast(folder: Path) -> tuple[int, float]:
    """What is owed, and in how many seconds `status` says that it will be done."""
    asked_at = time.time()
    owed = callbridge_json("status", cwd=folder)["owed"]["crm"]
    return owed["count"], datetime.fromisoformat(owed["done_at"]).timestamp() - asked_at


def pace(backlog: Path, seconds: float, figures: Figures) -> None:
    """One cold start."""
    taken: list[float] = []
    live = varied_bodies(int(seconds * LIVE_A_SECOND), seed=11)
    with tempfile.TemporaryDirectory() as name, serving("upserts", DELAY) as url:
        folder = Path(name)
        copied(backlog, folder)
        with running(Delivering(url, THREE_REQUESTS, WORKERS).write(folder)) as measured:
            daemon, before = measured.daemon, measured.daemon.count("SELECT max(id) FROM calls")
            wait_until(lambda: daemon.count(DONE) > 0, "it delivers")
            sending = threading.Thread(target=steady, args=(daemon.callback_url, live, LIVE_A_SECOND))
            sending.start()
            found = paces(measured, seconds / 2, taken)
            owed, told = forecast(folder)
            found += paces(measured, seconds / 2, taken)
            sending.join()
        took = live_seconds(folder / "ledger.db", before)
    # As fast as it went after the forecast, less what came meanwhile.
    later = found[len(found) // 2 :]
    real = owed / (sum(later) / len(later))
    p95 = took[int(len(took) * 0.95)] / (REQUESTS_A_CALL * DELAY)
    print(
        f"  pace: {min(found):.0f} to {max(found):.0f} calls/s; {len(took)} of {len(live)} live calls"
        f" delivered, half within {took[len(took) // 2]:.2f} s; status said {told:.0f} s, at its pace it is"
        f" {real:.0f}; memory {taken[0]:.0f} MB, then {min(taken):.0f} to {max(taken):.0f},"
        f" {taken[-1]:.0f} at the end",
        flush=True,
    )
    figures.note("pace, slowest ten seconds as a share of the fastest", min(found) / max(found))
    figures.note("live calls, p95 as a multiple of their answers", p95)
    figures.note("forecast, share that it is off", abs(told - real) / real)
    figures.note("memory, times that of the first ten seconds", taken[-1] / taken[0])
    figures.note("live calls that were not delivered", len(live) - len(took))


PARTS = {"answers": answers, "pace": pace}


def main() -> int:
    """Print the figures; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    parts, figures = options.only.split(","), Figures()
    with tempfile.TemporaryDirectory() as folder:
        backlog = owe(Path(folder), options.calls)
        for part in parts:
            print(f"{part}, {load_now()}", flush=True)
            PARTS[part](backlog, options.seconds, figures)
    budgets = itertools.chain.from_iterable(BUDGETS[part] for part in parts)
    return 0 if figures.print(budgets) else 1


if __name__ == "__main__":
    sys.exit(main())
