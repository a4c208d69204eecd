"""What a call costs: bytes in the ledger, time to start, memory while callbacks come.

    python -m benchmarks.footprint [--calls 100000] [--minute 60] [--only ledger,start,memory]

Budgets: all tables and indexes after delivery at most 3.0 KB a call, with texts that the shipped
dictionary never saw, both with that dictionary alone and in a ledger that learns from its own calls
as the daemon's does (after 1,000 of them for the first time); start to ready under 1.5 s with
1,000,000 calls; resident memory under 110 MB at 1,000 callbacks/s for a minute, while they are
delivered.
"""

import argparse
import itertools
import json
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.load import burst
from benchmarks.texts import Record, compact, escaped, spaced, varied_bodies, varied_records
from bridge.intake.judge import Judge, SourceRules
from bridge.ledger import EndedAttempt
from bridge.ledger.sqlite import SqliteLedger, leasing, settle
from bridge.ledger.sqlite.connection import connect
from bridge.model.calls import Via
from bridge.model.crm_objects import FieldWrite, KnownObject, SyncedObject
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from bridge.model.field_digests import SHORT_SIZE
from bridge.record.arrival import arrival_of
from tests.fixtures.daemon_process import DaemonProcess, environment, write_config
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN

BYTES_A_CALL = 3000
START_WITHIN = 1.5
START_CALLS = 1_000_000
RESIDENT = 110.0
RATE = 1000
BATCH = 200
AFTER_TRAINING = 20_000
AGAIN = 5000

ZONE = ZoneInfo("Asia/Shanghai")
ROUTES = {"main": ("crm",)}

ACCOUNT = "sandbox http://127.0.0.1:8490"
# What the starting mapping writes to a contact: the ledger keeps who last wrote each.
CONTACT_FIELDS = ("name", "company", "area", "grade", "interest", "tags")
# The fields of a call that the sandbox's mapping fills as a rule.
_FILLED = (
    *("phone", "direction", "grade", "score", "tags", "started_at", "connected_at", "ended_at"),
    *("talk_seconds", "answered", "hangup_by", "task", "agent", "transcript"),
)


@dataclass
class Feeder:
    """Takes calls through a ledger as the daemon does: filed, judged, leased and settled in groups."""

    path: Path
    learns: bool = True
    ledger: SqliteLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = SqliteLedger(self.path, create=True)
        self.ledger.start_destinations(ROUTES, datetime.now(UTC))
        rules = SourceRules(MAIN, ROUTES["main"], frozenset({"grade", "name", "phone", "talk_info"}))
        self._judge = Judge(self.ledger, {"main": rules}, destinations_since={})
        self._writer = connect(self.path)
        self._rng = random.Random(5)  # noqa: S311 -- how deliveries fare, no secret

    def feed(self, records: Iterable[Record]) -> None:
        """Calls as callbacks, to their deliveries' end."""
        rest = iter(records)
        while batch := list(itertools.islice(rest, BATCH)):
            now = datetime.now(UTC)
            arrivals = [arrival_of(MAIN, Via.CALLBACK, spaced(record), now) for record in batch]
            filed_all(self.ledger, arrivals)
            while self._judge.judge_waiting(now):
                pass
            self._deliver({str(record["uuid"]): str(record["phone"]) for record in batch})
            # As the daemon's upkeep does: a dictionary of its own at each tenfold of calls.
            if self.learns:
                self.ledger.retrain(now)

    def _deliver(self, phones: dict[str, str]) -> None:
        """What the delivery workers leave behind, without their HTTP."""
        now = datetime.now(UTC)
        self._writer.execute("BEGIN IMMEDIATE")
        wish = leasing.Wish(ROUTES["main"], ("main",), now, 1)
        while taken := leasing.lease_due(self._writer, wish):
            row = taken[0].row
            ended = now + timedelta(milliseconds=self._rng.randrange(20, 400))
            lease = Lease(
                delivery_id=row["id"],
                call_id=row["call_id"],
                key=row["key"],
                source=row["source"],
                destination=row["destination"],
                revision=row["wanted"],
                attempt=row["tries"] + 1,
                owed_at=now,
                first_seen_at=now,
                values={},
            )
            settle.settle_all(
                self._writer, [EndedAttempt(lease, self._outcome(lease, phones, now), now)], ended
            )
        self._writer.execute("COMMIT")

    def _outcome(self, lease: Lease, phones: dict[str, str], now: datetime) -> Settlement:
        """Delivered to contact and call; a few are skipped by a rule, a few need a second attempt."""
        chance = self._rng.random()
        if chance < 0.03:
            return Settlement(DeliveryState.SKIPPED, "no voice tests")
        if chance < 0.06 and lease.attempt == 1:
            reason = "destination crm, PUT /contacts: 429 Too Many Requests, asks to wait 1.0 s"
            return Settlement(DeliveryState.DUE, reason, "rate limited", now)
        event = f"{round(now.timestamp() * 1000):011x} {lease.key[:16]}"
        last_writes = {name: FieldWrite(event, self._rng.randbytes(8)) for name in CONTACT_FIELDS}
        contact_id, call_id = (f"{self._rng.randrange(10**11):011d}" for _ in range(2))
        contact = SyncedObject(
            "contact",
            "contact",
            f"+86{phones[lease.key]}",
            KnownObject(contact_id, self._rng.randbytes(8), last_writes=last_writes),
        )
        call = SyncedObject(
            "call",
            "call",
            lease.key,
            KnownObject(
                call_id,
                self._rng.randbytes(8),
                {"contact": contact_id},
                {name: self._sent() for name in _FILLED},
            ),
            shared=False,
        )
        return Settlement(DeliveryState.DELIVERED, account=ACCOUNT, done=(contact, call))

    def _sent(self) -> FieldWrite:
        return FieldWrite("", self._rng.randbytes(SHORT_SIZE))

    def size(self) -> int:
        """Bytes of the file once all of the log is in it, without free pages."""
        self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        free, page = (
            int(self._writer.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("freelist_count", "page_size")
        )
        return self.path.stat().st_size - free * page

    def close(self) -> None:
        self._writer.close()
        self.ledger.close()


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
        print(f"shipped dictionary alone: {cost:.0f} bytes a call (budget {BYTES_A_CALL}), {calls} calls")
        breakdown(path, calls)
    return cost <= BYTES_A_CALL


def learning(path: Path, calls: int) -> bool:
    """Bytes a call as the daemon keeps them; and of what comes when it has learnt."""
    records = varied_records(calls + AFTER_TRAINING)
    with closing(Feeder(path)) as feeder:
        encodings(path)
        empty, started = feeder.size(), time.perf_counter()
        feeder.feed(itertools.islice(records, calls))
        cost = ((full := feeder.size()) - empty) / calls
        print(f"{calls} calls fed in {time.perf_counter() - started:.0f} s")
        print(f"as it learns: {cost:.0f} bytes a call (budget {BYTES_A_CALL})")
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
    return cost <= BYTES_A_CALL


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


# -- memory ---------------------------------------------------------------------------
@contextmanager
def sandbox_crm() -> Iterator[str]:
    """`callbridge simulate crm` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "simulate", "crm", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.communicate()


def process_of(ledger: Path) -> int:
    """The daemon that owns a ledger."""
    return int(ledger.with_name(ledger.name + ".lock").read_text())


def status_megabytes(process: int, name: str) -> float:
    """A figure of /proc/PID/status, in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(name)


def memory(folder: Path, seconds: int) -> bool:
    """Resident memory of the daemon while callbacks come and are delivered."""
    payloads = varied_bodies(RATE * seconds, seed=7)
    with sandbox_crm() as crm:
        daemon = DaemonProcess(write_config(folder, crm))
        process, seen, done = process_of(daemon.ledger), [], threading.Event()

        def watch() -> None:
            while not done.wait(2.0):
                seen.append(status_megabytes(process, "VmRSS"))

        watcher = threading.Thread(target=watch)
        try:
            idle = status_megabytes(process, "VmRSS")
            watcher.start()
            outcome = burst(daemon.callback_url, payloads, 64, RATE)
            assert outcome.answers == {200: len(payloads)}, outcome.answers
            waiting = daemon.count("SELECT count(*) FROM receipts WHERE verdict IS NULL")
            delivered = daemon.count("SELECT count(*) FROM deliveries WHERE state = 'delivered'")
            peak, last = status_megabytes(process, "VmHWM"), status_megabytes(process, "VmRSS")
        finally:
            done.set()
            watcher.join()
            daemon.stop()
    print(
        f"memory: idle {idle:.0f} MB, at the end {last:.0f}, peak {peak:.0f} (budget {RESIDENT:.0f});"
        f" {outcome.rate:.0f} callbacks/s, p95 {outcome.percentile(0.95):.1f} ms,"
        f" {waiting} unjudged and {delivered} delivered at the end"
    )
    print("  every 2 s: " + " ".join(f"{megabytes:.0f}" for megabytes in seen))
    return peak < RESIDENT


def main() -> int:
    """Print all figures; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--minute", type=int, default=60, help="seconds of callbacks")
    parser.add_argument("--only", default="ledger,start,memory")
    options = parser.parse_args()
    parts, kept = options.only.split(","), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "start").mkdir()
        (folder / "memory").mkdir()
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
        if "memory" in parts:
            kept.append(memory(folder / "memory", options.minute))
    print("budgets kept" if all(kept) else "a budget is MISSED")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
