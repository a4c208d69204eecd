"""What a call costs on the disk, and what a large ledger costs at the start.

    python -m benchmarks.footprint [--calls 100000] [--only ledger,start]

Budgets, once all is packed as small as it will be: all tables and indexes after delivery at most 2.99 KB a
call with texts that the shipped dictionary never saw and that dictionary alone, and at most 2.25 KB in a
ledger that learns from its own calls as the daemon's does (after 1,000 of them for the first time); start to
ready under 1.5 s with 1,000,000 calls.
"""

import argparse
import itertools
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.feeding import ROUTES, Feeder
from benchmarks.texts import compact, escaped, spaced, varied_records
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.connection import connect
from tests.fixtures.daemon_process import DaemonProcess, write_config

SHIPPED_BYTES, LEARNT_BYTES = 2990, 2250
START_WITHIN = 1.5
START_CALLS = 1_000_000
AFTER_TRAINING = 20_000
AGAIN = 5000

ZONE = ZoneInfo("Asia/Shanghai")


# -- bytes ----------------------------------------------------------------------------
def breakdown(path: Path, calls: int) -> None:
    """Bytes a call of each table and index, with what its pages leave empty."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT name, sum(pgsize), sum(unused) FROM dbstat GROUP BY name ORDER BY 2 DESC"
        ).fetchall()
        average = connection.execute("SELECT avg(length(body)) FROM payloads").fetchone()[0]
    for name, size, unused in rows:
        if size >= calls:
            print(f"    {name:<24} {size / calls:7.1f}  (of it empty {unused / calls:.1f})")
    print(f"    compressed payload, average {average:.0f}")


def encodings(ledger: Path) -> None:
    """The payload by who wrote the JSON: the shipped dictionary must fit each."""
    from bridge.ledger.sqlite.payloads import Payloads  # noqa: PLC0415 -- only here

    payloads, sample = Payloads(), list(varied_records(2000, seed=99))
    with closing(connect(ledger, read_only=True)) as connection:
        payloads.load(connection)
    for style in (spaced, compact, escaped):
        texts = [style(record) for record in sample]
        raw = statistics.mean(map(len, texts))
        packed = statistics.mean(len(body) for _, body in payloads.pack_all(texts))
        print(f"  JSON {style.__name__:<8} {raw:6.0f} bytes, packed {packed:5.0f}")


def shipped_only(path: Path, calls: int) -> bool:
    """Bytes a call while the ledger has learnt nothing from its own."""
    with closing(Feeder(path, learns=False)) as feeder:
        empty = feeder.size()
        feeder.feed(varied_records(calls, seed=3))
        cost = (feeder.size() - empty) / calls
        print(f"shipped dictionary alone: {cost:.0f} bytes a call (budget {SHIPPED_BYTES}), {calls} calls")
        breakdown(path, calls)
    return cost <= SHIPPED_BYTES


def learning(path: Path, calls: int) -> bool:
    """Bytes a call as the daemon keeps them; and of what comes when it has learnt."""
    records = varied_records(calls + AFTER_TRAINING)
    with closing(Feeder(path)) as feeder:
        encodings(path)
        empty, started = feeder.size(), time.perf_counter()
        feeder.feed(itertools.islice(records, calls))
        cost = ((full := feeder.size()) - empty) / calls
        print(f"{calls} calls fed in {time.perf_counter() - started:.0f} s")
        print(f"as it learns: {cost:.0f} bytes a call (budget {LEARNT_BYTES})")
        breakdown(path, calls)
        last = list(itertools.islice(records, AFTER_TRAINING))
        feeder.feed(last)
        after = feeder.size()
        print(f"the next {len(last)}: {(after - full) / len(last):.0f} bytes a call")
        feeder.feed(last[:AGAIN])
        again = feeder.size()
        print(f"a duplicate: {(again - after) / AGAIN:.0f} bytes")
        later = str(datetime.now(ZONE).replace(tzinfo=None, microsecond=0))
        edit = {"mark": "下周再联系", "status_manual": "A", "updated_at": later}
        feeder.feed(record | edit for record in last[:AGAIN])
        print(f"a revision: {(feeder.size() - again) / AGAIN:.0f} bytes")
    return cost <= LEARNT_BYTES


# -- start ----------------------------------------------------------------------------
def multiply(path: Path, calls: int) -> int:
    """Copy the ledger's rows inside it, with new ids and names, until it has so many calls."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        highest = {
            table: connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]  # noqa: S608 -- our own
            for table in ("calls", "receipts", "deliveries", "attempts")
        }
        copies = -(-calls // highest["calls"])
        for copy in range(1, copies):
            connection.execute("BEGIN IMMEDIATE")
            for sql in _copies(connection, highest, copy):
                connection.execute(sql)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        count: int = connection.execute("SELECT count(*) FROM calls").fetchone()[0]
    return count


def _copies(connection: sqlite3.Connection, highest: dict[str, int], copy: int) -> Iterator[str]:
    """One more copy of each table's first rows; keys stay what they are, but for eight digits."""
    call, receipt, delivery, attempt = (
        f"+ {copy * highest[table]}" for table in ("calls", "receipts", "deliveries", "attempts")
    )
    digits = f"printf('%08x', ({{}} * 2654435761 + {copy * 40503}) & 0xffffffff)"
    tables: dict[str, tuple[str, dict[str, str]]] = {
        "calls": (
            f"id <= {highest['calls']}",
            {
                "id": f"id {call}",
                "state_receipt": f"state_receipt {receipt}",
                "key": f"{digits.format('id')} || substr(key, 9)",
                "sn": f"substr(sn, 1, 8) || {digits.format('id')} || substr(sn, 17)",
            },
        ),
        "call_names": (
            f"call_id <= {highest['calls']}",
            {"call_id": f"call_id {call}", "name": f"{digits.format('call_id')} || substr(name, 9)"},
        ),
        "receipts": (f"id <= {highest['receipts']}", {"id": f"id {receipt}", "call_id": f"call_id {call}"}),
        "payloads": (f"receipt_id <= {highest['receipts']}", {"receipt_id": f"receipt_id {receipt}"}),
        "deliveries": (
            f"id <= {highest['deliveries']}",
            {"id": f"id {delivery}", "call_id": f"call_id {call}"},
        ),
        "attempts": (
            f"id <= {highest['attempts']}",
            {"id": f"id {attempt}", "delivery_id": f"delivery_id {delivery}"},
        ),
        "delivery_objects": (
            f"delivery_id <= {highest['deliveries']}",
            {"delivery_id": f"delivery_id {delivery}"},
        ),
    }
    for table, (which, changed) in tables.items():
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        columns = ", ".join(changed.get(name, name) for name in names)
        yield f"INSERT INTO {table} SELECT {columns} FROM {table} WHERE {which}"  # noqa: S608 -- our own


def start_seconds(config: Path, times: int) -> float:
    """Seconds from the process's start to `daemon.ready`, the median."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        daemon = DaemonProcess(config)
        taken.append(time.perf_counter() - started)
        daemon.stop()
    return statistics.median(taken)


def start(folder: Path, filled: Path) -> bool:
    """Start to ready, with an empty ledger and with a full one; and what a full one slows down."""
    small, large = folder / "empty", folder / "full"
    for place in (small, large):
        place.mkdir()
        write_config(place, "http://127.0.0.1:9")
    ledger = large / "ledger.db"
    shutil.copyfile(filled, ledger)
    started = time.perf_counter()
    calls = multiply(ledger, START_CALLS)
    size = ledger.stat().st_size / 2**20
    print(f"{calls} calls, {size:.0f} MiB, built in {time.perf_counter() - started:.0f} s")
    start_seconds(small / "config.toml", 1)
    empty, full = (start_seconds(place / "config.toml", 5) for place in (small, large))
    print(f"start to ready: {full:.2f} s, {full / empty:.2f} of an empty ledger's (budget {START_WITHIN} s)")
    slowed(ledger)
    return full < START_WITHIN


def slowed(path: Path) -> None:
    """Milliseconds of what must not grow with the ledger."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE deliveries SET state = 'due', owed_at = changed_at, due_at = changed_at"
            " WHERE id % 200000 = 7 AND state = 'delivered'"
        )
    ledger = SqliteLedger(path)
    try:
        for name, work in (
            ("a lease", lambda: ledger.lease(ROUTES["main"], ("main",), datetime.now(UTC), 1)),
            ("release_leases", ledger.release_leases),
            ("counts, for /metrics", ledger.counts),
        ):
            started = time.perf_counter()
            assert work() is not None
            print(f"  {name}: {(time.perf_counter() - started) * 1000:.1f} ms")
    finally:
        ledger.close()


def main() -> int:
    """Print all figures; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--only", default="ledger,start")
    options = parser.parse_args()
    parts, kept = options.only.split(","), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "start").mkdir()
        filled = folder / "filled.db"
        if "ledger" in parts:
            shipped = folder / "shipped.db"
            kept.append(shipped_only(shipped, options.calls))
            shipped.unlink()
            kept.append(learning(filled, options.calls))
        elif "start" in parts:
            feeder = Feeder(filled)
            feeder.feed(varied_records(options.calls))
            feeder.size()
            feeder.close()
        if "start" in parts:
            kept.append(start(folder / "start", filled))
    print("budgets kept" if all(kept) else "a budget is MISSED")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
