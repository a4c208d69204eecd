"""How a daemon that starts with a long backlog behaves, and what it says of its end.

    python -m benchmarks.backlog [--calls 100000] [--seconds 120]

A CRM that answers after 20 ms, three requests a call, and so many calls owed at the start. Meanwhile
two callbacks a second come. Printed: how even the pace is (the slowest ten seconds as a share of the
fastest), how long a live call takes from its receipt to the CRM as a multiple of its three answers, how
far `status` is off when it says when all will be done, and what the daemon's memory has grown to from the
first ten seconds to the last. Each ratio has a budget.
"""

import argparse
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

from benchmarks.crm import serving
from benchmarks.deliver import DELAY, REQUESTS_A_CALL, WORKERS
from benchmarks.load import steady
from benchmarks.owing import owe
from benchmarks.processes import daemon_of, memory_of
from benchmarks.texts import spaced, varied_records
from tests.fixtures.daemon_process import DaemonProcess, callbridge_json, wait_until, write_config

EVEN, LIVE, FORECAST, GROWN = 0.5, 50.0, 0.2, 1.2
WINDOW = 10.0
LIVE_A_SECOND = 2
DELIVERED = "SELECT count(*) FROM deliveries WHERE state IN ('delivered', 'skipped')"


def paces(daemon: DaemonProcess, seconds: float, resident: list[float]) -> list[float]:
    """Deliveries a second, every ten seconds; the megabytes that the daemon takes are noted beside them."""
    found: list[float] = []
    process = daemon_of(daemon.ledger)
    pause, until = threading.Event(), time.monotonic() + seconds
    done, at = daemon.count(DELIVERED), time.monotonic()
    while time.monotonic() < until:
        pause.wait(WINDOW)
        now_done, now = daemon.count(DELIVERED), time.monotonic()
        found.append((now_done - done) / (now - at))
        resident.append(memory_of(process).whole)
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


def measure(folder: Path, calls: int, seconds: float) -> bool:
    """One cold start; whether all budgets are kept."""
    owe(folder, calls)
    resident: list[float] = []
    live = [spaced(record) for record in varied_records(int(seconds * LIVE_A_SECOND), seed=11)]
    with serving("upserts", DELAY) as url:
        daemon = DaemonProcess(write_config(folder, url, f"workers = {WORKERS}"))
        try:
            wait_until(lambda: daemon.count(DELIVERED) > 0, "it delivers")
            sending = threading.Thread(target=steady, args=(daemon.callback_url, live, LIVE_A_SECOND))
            sending.start()
            found = paces(daemon, seconds / 2, resident)
            owed, told = forecast(folder)
            found += paces(daemon, seconds / 2, resident)
            sending.join()
        finally:
            daemon.stop()
    # As fast as it went after the forecast, less what came meanwhile.
    later = found[len(found) // 2 :]
    real = owed / (sum(later) / len(later))
    took = live_seconds(folder / "ledger.db", calls)
    p95 = took[int(len(took) * 0.95)] / (REQUESTS_A_CALL * DELAY)
    even, off = min(found) / max(found), abs(told - real) / real
    print(
        f"backlog of {calls}: {min(found):.0f} to {max(found):.0f} calls/s ({even:.2f});"
        f" {len(took)} of {len(live)} live calls delivered, half within {took[len(took) // 2]:.2f} s, p95"
        f" {p95:.0f} times their answers; status said {told:.0f} s, at its pace it is {real:.0f}"
        f" ({off:.2f} off); memory {resident[0]:.0f} MB, then {min(resident):.0f} to {max(resident):.0f},"
        f" {resident[-1]:.0f} at the end"
    )
    grown = resident[-1] / resident[0]
    return even >= EVEN and p95 <= LIVE and off <= FORECAST and grown <= GROWN and len(took) == len(live)


def main() -> int:
    """Print the figures; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = measure(Path(folder), options.calls, options.seconds)
    print(
        f"budget {'kept' if kept else 'MISSED'}: evenness {EVEN}, live p95 {LIVE:.0f} times its answers,"
        f" forecast {FORECAST} off, memory {GROWN} times the first"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
