"""What it costs to compare the platform's list with the ledger, and to audit.

    python -m benchmarks.reconcile [--calls 20000] [--records 1000000] [--only rates,memory]

`rates`: calls/s of a reconciliation whose pages lie ready in memory, beside what `orjson.loads` alone
needs for the same pages: budget 0.5 of it when every row is as last seen. `memory`: `callbridge
reconcile` and `callbridge audit` as commands, over HTTP, with a ledger of 1,000,000 calls: at most
300 MB at the peak.
"""

import argparse
import itertools
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from benchmarks.listing import BASE, Catalogue
from bridge.ledger.sqlite.connection import connect
from bridge.lib.iso_times import stamp
from bridge.lib.log import configure
from bridge.model.calls import DIGEST_SIZE
from bridge.source import Page
from bridge.source.outcall.answers import AnswerReader
from tests.fixtures.daemon_process import environment, write_config
from tests.fixtures.reconciliation_bench import RULES, ReconciliationBench, reconciliation_bench
from tests.fixtures.served_platform import NAMES, NOW

SHARE = 0.5
RESIDENT = 300.0
PAGE = 1000
SECOND = timedelta(seconds=1)


class Stored:
    """A list whose pages are made once, and lie ready from then on."""

    name, user = "stored", "u"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._reader = AnswerReader(NAMES)
        self.pages: dict[tuple[datetime, datetime, int], bytes] = {}
        self.asked: list[bytes] = []
        self.making = 0.0
        """Seconds that no platform's client would have spent."""

    def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
        key = (since, until, index)
        if key not in self.pages:
            started = time.perf_counter()
            self.pages[key] = self._catalogue.content(since - SECOND, until + SECOND, index, size)
            self.making += time.perf_counter() - started
        self.asked.append(self.pages[key])
        answer = self._reader.read(self.pages[key])
        return Page(answer.rows or (), answer.total)

    def close(self) -> None:
        """Nothing is open."""


def rates(folder: Path, calls: int) -> bool:
    """Calls/s, by what has to be found out of each."""
    catalogue = Catalogue(calls, NOW)
    source = Stored(catalogue)
    with reconciliation_bench(folder / "rates.db") as world:
        world.rules = replace(RULES, page_size=PAGE)
        world.log_in = lambda: [source]  # type: ignore[method-assign]
        first = (row for number in range(calls) if number % 10 for row in [catalogue.row(number)])
        _feed(world, first)
        since = stamp(catalogue.began - SECOND)

        def go(name: str, work: Callable[..., dict[str, Any]]) -> float:
            source.asked, source.making = [], 0.0
            started = time.perf_counter()
            work(since=since)
            taken = time.perf_counter() - started - source.making
            print(f"  {name}: {calls / taken:.0f} calls/s, {taken / calls * 1e6:.0f} µs each")
            return calls / taken

        print(f"{calls} calls of {len(catalogue.row(0)) / 1000:.0f} KB and like it, {PAGE} a page")
        go("first comparison: 90 % by meaning, 10 % missing and filed", world.reconcile)
        _forget(folder / "rates.db")
        go("first comparison: all known, by meaning", world.reconcile)
        seen = max(go("all as last seen, by digest", world.reconcile) for _ in range(3))
        bare = max(_bare(source.asked, calls) for _ in range(3))
        go("audit", world.audit)
    print(f"  orjson.loads of the same pages: {bare:.0f} calls/s")
    print(f"  by digest: {seen / bare:.2f} of that (budget {SHARE})")
    return seen / bare >= SHARE


def _feed(world: ReconciliationBench, rows: Iterator[bytes]) -> None:
    while batch := list(itertools.islice(rows, 200)):
        world.push(*map(orjson.loads, batch))


def _forget(path: Path) -> None:
    """As if the list had never been looked at."""
    with closing(connect(path)) as connection, connection:
        connection.execute("DELETE FROM listed")


def _bare(contents: Sequence[bytes], calls: int) -> float:
    started = time.perf_counter()
    for content in contents:
        orjson.loads(content)
    return calls / (time.perf_counter() - started)


# -- a million -------------------------------------------------------------------------
def memory(folder: Path, records: int) -> bool:
    """Both commands over HTTP, with as many calls."""
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    with _served(records, end) as url:
        _configure(folder, url)
        since = stamp(end - 2 * records * SECOND - SECOND)
        _build(folder, Catalogue(records, end))
        args = ("--since", since, "--until", stamp(end), "--json")
        good = True
        for name, most in (("reconcile", RESIDENT), ("audit", RESIDENT)):
            document, taken, resident = _measured(folder, name, *args)
            main = document["sources"]["main"]
            shown = {key: main[key] for key in ("matched", "missing", "platform", "ledger") if key in main}
            print(f"  {name} of {records} calls: {taken:.0f} s; {shown}")
            print(f"    resident at the peak: {resident:.0f} MB (budget {most:.0f})")
            good = good and resident < most and records in shown.values()
            started = time.perf_counter()
        _measured(folder, "audit", "--local", "--json")
        print(f"  audit --local: {time.perf_counter() - started:.1f} s")
    return good


@contextmanager
def _served(records: int, end: datetime) -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.listing",
        "--records",
        str(records),
        "--end",
        end.isoformat(),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _configure(folder: Path, url: str) -> None:
    write_config(
        folder,
        "http://127.0.0.1:9",
        f"""
[sources.main.api]
base_url = "{url}"
access_id = "bench"
access_secret = {{ env = "TOKEN" }}
page_size = {PAGE}
requests_per_second = 1000
""",
    )


def _measured(folder: Path, *args: str) -> tuple[dict[str, Any], float, float]:
    """A command's document, its seconds, and its resident memory at the peak in MB."""
    started, highest = time.perf_counter(), 0.0
    with (folder / "printed").open("w+b") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", *args], cwd=folder, env=environment(), stdout=printed
        )
        while process.poll() is None:
            # Not the usage that wait4() tells: a child begins with its parent's peak.
            highest = max(highest, _peak(process.pid))
            time.sleep(0.05)
        printed.seek(0)
        document = printed.read()
    assert process.returncode == 0, document
    return orjson.loads(document), time.perf_counter() - started, highest


def _peak(pid: int) -> float:
    """A process's highest resident memory so far; 0 at its very end."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _build(folder: Path, catalogue: Catalogue) -> None:
    """A ledger that has every listed call, and has seen each as it is listed."""
    started, path = time.perf_counter(), folder / "ledger.db"
    base = Catalogue(BASE, catalogue.began + 2 * BASE * SECOND)
    with reconciliation_bench(path) as world:
        _feed(world, map(base.row, range(BASE)))
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for copy in range(1, catalogue.count // BASE):
            connection.execute("BEGIN IMMEDIATE")
            for sql in _copies(connection, copy):
                connection.execute(sql)
            connection.execute("COMMIT")
        ids = dict(connection.execute("SELECT key, id FROM calls").fetchall())
        connection.execute("BEGIN IMMEDIATE")
        for number in range(catalogue.count):
            digest = blake2b(catalogue.row(number), digest_size=DIGEST_SIZE).digest()
            call_id = ids[catalogue.uuid(number)]
            connection.execute("INSERT INTO listed VALUES (?, ?, 0, ?)", (call_id, call_id, digest))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    print(f"{len(ids)} calls, built in {time.perf_counter() - started:.0f} s")


def _copies(connection: sqlite3.Connection, copy: int) -> Iterator[str]:
    """One more copy of the first calls: the same records under other names, at another time."""
    more, later = copy * BASE, copy * BASE * 2_000_000
    number = "printf('%08x', {0} - 1 + " + str(more) + ") || substr({1}, 9)"
    tables: dict[str, tuple[str, dict[str, str]]] = {
        "calls": (
            "id",
            {"id": f"id + {more}", "key": number.format("id", "key"), "created_at": f"created_at + {later}"},
        ),
        "call_names": ("call_id", {"call_id": f"call_id + {more}", "name": number.format("call_id", "name")}),
        "receipts": ("id", {"id": f"id + {more}", "call_id": f"call_id + {more}"}),
        "deliveries": ("id", {"id": f"id + {more}", "call_id": f"call_id + {more}"}),
    }
    for table, (which, changed) in tables.items():
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        columns = ", ".join(changed.get(name, name) for name in names)
        yield f"INSERT INTO {table} SELECT {columns} FROM {table} WHERE {which} <= {BASE}"  # noqa: S608 -- our own


def main() -> int:
    """Print the figures; 1 where a budget is missed."""
    configure("warning", "text")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--only", default="rates,memory")
    asked = parser.parse_args()
    good = True
    for name, work, count in (("rates", rates, asked.calls), ("memory", memory, asked.records)):
        if name in asked.only.split(","):
            with tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder:
                good = work(Path(folder), count) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
