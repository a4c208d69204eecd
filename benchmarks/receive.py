"""How fast callbacks are acknowledged and judged, beside what the parts alone can do here.

    python -m benchmarks.receive

The limit is 1 / (1/asgi + 1/insert): a bare ASGI application on the same server that parses
with orjson, and the better of 50 and 200 rows a commit of the same bytes, in the same run.
Budgets at concurrency 64: acknowledged/s at least 0.6 of the limit, and the rate until every
call has its verdict at least 0.35 of it.
"""

import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import Outcome, bodies, burst
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import DaemonProcess, write_config

COUNT = 6000
CONCURRENCIES = (1, 16, 64, 256)


def serve_bare(connection: Any) -> None:
    """A bare ASGI application that parses with orjson."""
    import orjson  # noqa: PLC0415 -- only this peer needs it

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        chunks = []
        while True:
            message = await receive()
            chunks.append(message["body"])
            if not message["more_body"]:
                break
        orjson.loads(b"".join(chunks))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
        await send({"type": "http.response.body", "body": b"SUCCESS"})

    server = LocalServer(app)
    connection.send(server.url)
    server.serve_forever()


@contextmanager
def bare_asgi() -> Iterator[str]:
    """The peer in a process of its own, as the daemon is."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_bare, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def insert_rate(folder: Path, payloads: list[bytes], rows: int) -> float:
    """Rows a second into one table, `rows` a commit, WAL and FULL."""
    connection = sqlite3.connect(folder / f"insert-{rows}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (key TEXT PRIMARY KEY, body BLOB)")
    started = time.perf_counter()
    for start in range(0, len(payloads), rows):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?)",
            ((str(start + index), body) for index, body in enumerate(payloads[start : start + rows])),
        )
        connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return len(payloads) / seconds


def receive_rate(folder: Path, crm: str, concurrency: int, *, deliver: bool) -> tuple[Outcome, float]:
    """The burst's outcome, and calls a second until each had its verdict."""
    config = write_config(folder, crm)
    if not deliver:
        text = config.read_text("utf-8")
        start, end = text.index("[destinations.crm]"), text.index("[delivery]")
        config.write_text(text[:start] + text[end:], "utf-8")
    daemon = DaemonProcess(config)
    try:
        payloads = bodies(COUNT if concurrency > 1 else COUNT // 6)
        started = time.perf_counter()
        outcome = burst(daemon.callback_url, payloads, concurrency)
        while daemon.count("SELECT EXISTS (SELECT 1 FROM receipts WHERE verdict IS NULL)"):
            time.sleep(0.02)
        judged = len(payloads) / (time.perf_counter() - started)
        assert outcome.answers == {200: len(payloads)}, outcome.answers
        assert daemon.count("SELECT count(*) FROM calls") == len(payloads)
    finally:
        daemon.stop()
    return outcome, judged


def main() -> int:
    """Print all figures; 1 when a budget is not kept."""
    with tempfile.TemporaryDirectory() as folder_name, LocalServer(SandboxCrm().app) as crm:
        folder = Path(folder_name)
        payloads = bodies(COUNT)
        insert = max(insert_rate(folder, payloads, rows) for rows in (50, 200))
        with bare_asgi() as url:
            burst(url, payloads[:500], 64)
            asgi = statistics.median(burst(url, payloads, 64).rate for _ in range(3))
        limit = 1 / (1 / asgi + 1 / insert)
        print(f"asgi {asgi:.0f}/s, insert {insert:.0f}/s, limit {limit:.0f}/s")
        kept = True
        for number, (concurrency, deliver) in enumerate(
            [*((one, False) for one in CONCURRENCIES), (64, True)]
        ):
            run = folder / str(number)
            run.mkdir()
            outcome, judged = receive_rate(run, crm.url, concurrency, deliver=deliver)
            print(
                f"c{concurrency}{' while delivering' if deliver else ''}:"
                f" {outcome.rate:.0f} acknowledged/s ({outcome.rate / limit:.2f} of the limit),"
                f" {judged:.0f} judged/s ({judged / limit:.2f}), p99 {outcome.percentile(0.99):.1f} ms"
            )
            if concurrency == 64 and not deliver:
                kept = outcome.rate >= 0.6 * limit and judged >= 0.35 * limit
        print(f"budget {'kept' if kept else 'MISSED'}: 0.60 acknowledged, 0.35 judged at c64")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
