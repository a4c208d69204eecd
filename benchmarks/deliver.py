"""How fast calls are delivered, beside what the CRM's answers alone would allow.

    python -m benchmarks.deliver [--calls 3000] [--backfill 10000] [--only single,batches,both]

single: a CRM that answers after 20 ms, 16 workers, three requests a call: calls/s as a share
of 16 / (3 x 20 ms). batches: HubSpot's shape and the shipped connector without its limits:
calls/s as a share of what the bare HTTP client reaches with the same bodies in the same run, one
after the other, and requests a call in a backfill; beside it, not judged, the share of what as many
bare clients reach as the daemon sends batches on, and sixteen, and the processor time that a call
takes of the daemon, which is what bounds it there. both: callbacks come while a backlog is delivered.
"""

import argparse
import itertools
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from benchmarks.crm import serving
from benchmarks.footprint import process_of
from benchmarks.load import burst
from benchmarks.texts import spaced, varied_records
from bridge.crm.connector import shipped_connectors
from bridge.delivery.batch_gate import WORKERS_AT_ONCE
from bridge.intake.judge import Judge, SourceRules
from bridge.ledger.sqlite import SqliteLedger
from bridge.model.calls import Via
from bridge.record.arrival import arrival_of
from tests.fixtures.daemon_process import ROOT, DaemonProcess, wait_until, write_config
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN

ZONE = ZoneInfo("Asia/Shanghai")
DELAY = 0.02
WORKERS = 16
REQUESTS_A_CALL = 3
CALLS_A_CONTACT = 3
SINGLE, BATCHES, A_CALL = 0.70, 0.50, 0.05
PENDING = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state IN ('due', 'leased'))"


def owe(folder: Path, calls: int, calls_a_contact: int) -> None:
    """A ledger that owes so many calls, spread over time and customers."""
    ledger, routes = SqliteLedger(folder / "ledger.db", create=True), {"main": ("crm",)}
    ledger.start_destinations(routes, datetime.now(UTC))
    judge = Judge(ledger, {"main": SourceRules(MAIN, ("crm",), frozenset())}, destinations_since={})
    contacts = max(1, calls // calls_a_contact)
    records = (
        record | {"phone": f"139{number % contacts:08}", "call_from_type": 1, "is_deleted": 0}
        for number, record in enumerate(varied_records(calls))
    )
    while batch := list(itertools.islice(records, 500)):
        now = datetime.now(UTC)
        filed_all(ledger, [arrival_of(MAIN, Via.CALLBACK, spaced(record), now) for record in batch])
        while judge.judge_waiting(now):
            pass
    ledger.close()


def deliver(
    folder: Path, url: str, extra: str = "", mapping: Path | None = None, workers: int = WORKERS
) -> tuple[int, float, float]:
    """Run a daemon until nothing is owed.

    Calls delivered, the seconds from the first to the last, and the processor's seconds.
    """
    config = write_config(folder, url, f"workers = {workers}")
    text = config.read_text("utf-8").replace("[delivery]", f"{extra}\n[delivery]")
    if mapping is not None:
        text = text.replace(str(ROOT / "mappings" / "sandbox.toml"), str(mapping))
    config.write_text(text, "utf-8")
    daemon = DaemonProcess(config)
    try:
        wait_until(lambda: not daemon.count(PENDING), "all is delivered", 900)
        process = process_of(daemon.ledger)
        # Fields 14 and 15, behind a name in brackets: time in the program and in the system for it.
        ticks = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[11:13]
        busy = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    finally:
        daemon.stop()
    with closing(sqlite3.connect(folder / "ledger.db")) as rows:
        states = dict(rows.execute("SELECT state, count(*) FROM deliveries GROUP BY 1").fetchall())
        began, ended = rows.execute("SELECT min(started_at), max(ended_at) FROM attempts").fetchone()
        causes = rows.execute("SELECT DISTINCT reason FROM deliveries WHERE state = 'parked' LIMIT 3")
        assert set(states) == {"delivered"}, (states, causes.fetchall())
    return states["delivered"], (ended - began) / 1e6, busy


def single(folder: Path, calls: int) -> bool:
    """Three requests a call, each of its own."""
    owe(folder, calls, 1)
    with serving("upserts", DELAY) as url:
        delivered, seconds, busy = deliver(folder, url)
        asked = len(httpx.get(f"{url}/_log", timeout=60).json())
    limit, rate = WORKERS / (REQUESTS_A_CALL * DELAY), delivered / seconds
    print(
        f"single: {rate:.0f} calls/s, {rate / limit:.2f} of {limit:.0f};"
        f" {asked / delivered:.2f} requests a call, {1000 * busy / delivered:.2f} ms of processor time"
    )
    return rate >= SINGLE * limit


def hubspot(folder: Path) -> tuple[str, Path]:
    """The shipped connector and mapping without the limits of HubSpot's smallest edition."""
    text = shipped_connectors()["hubspot"].read_text("utf-8")
    for declared, wide in (('"100/10s"', '"100000/10s"'), ('"5/s"', '"10000/s"'), ("250_000", "2_500_000")):
        assert declared in text
        text = text.replace(declared, wide)
    (folder / "hubspot.toml").write_text(text, "utf-8")
    return f'connector = "{folder / "hubspot.toml"}"', ROOT / "mappings" / "hubspot.toml"


def bare(url: str, asked: list[list[str]], clients: int) -> float:
    """Seconds in which so many bare clients send the same bodies."""
    left, lock = iter(asked), threading.Lock()

    def work() -> None:
        with httpx.Client(base_url=url, headers={"Content-Type": "application/json"}) as client:
            while True:
                with lock:
                    one = next(left, None)
                if one is None:
                    return
                client.request(one[0], one[1], content=one[2].encode()).json()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def batches(folder: Path, calls: int) -> bool:
    """A backfill by the hundred."""
    owe(folder, calls, CALLS_A_CONTACT)
    connector, mapping = hubspot(folder)
    with serving("batches", DELAY) as url:
        delivered, seconds, busy = deliver(folder, url, connector, mapping)
        asked = httpx.get(f"{url}/_log", timeout=60).json()
    alone: dict[int, float] = {}
    for clients in (1, WORKERS_AT_ONCE, WORKERS):
        with serving("batches", DELAY) as url:
            alone[clients] = bare(url, asked, clients)
    kinds = Counter(one[1].split("?")[0].removeprefix("/crm/") for one in asked)
    print(
        f"batches: {delivered / seconds:.0f} calls/s, {1000 * busy / delivered:.2f} ms of processor time a"
        " call; "
        + ", ".join(
            f"{taken / seconds:.2f} of the {delivered / taken:.0f} of {clients} bare"
            for clients, taken in alone.items()
        )
    )
    print(
        f"  {len(asked) / delivered:.3f} requests a call: "
        + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    )
    return alone[1] / seconds >= BATCHES and len(asked) / delivered <= A_CALL


def both(folder: Path, calls: int) -> bool:
    """Callbacks by the clock while a backlog is delivered."""
    owe(folder, calls, 1)
    with serving("upserts", DELAY) as url:
        config = write_config(folder, url, f"workers = {WORKERS}")
        daemon = DaemonProcess(config)
        try:
            done = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"
            wait_until(lambda: daemon.count(done) > 0, "it delivers")
            payloads = [spaced(record) for record in varied_records(1500, seed=9)]
            before, started = daemon.count(done), time.perf_counter()
            outcome = burst(daemon.callback_url, payloads, 16, 100)
            seconds = time.perf_counter() - started
            rate = (daemon.count(done) - before) / seconds
        finally:
            daemon.stop()
    print(
        f"both: {rate:.0f} calls/s delivered while {outcome.rate:.0f} callbacks/s come,"
        f" p95 {outcome.percentile(0.95):.1f} ms"
    )
    return outcome.answers == {200: len(payloads)}


PARTS: dict[str, Any] = {"single": single, "batches": batches, "both": both}


def main() -> int:
    """Print all figures; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--backfill", type=int, default=10_000)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    kept = True
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            calls = options.backfill if name == "batches" else options.calls
            kept = PARTS[name](Path(folder), calls) and kept
    print(
        f"budget {'kept' if kept else 'MISSED'}: {SINGLE} single, {BATCHES} batches, {A_CALL} requests a call"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
