"""The parts that a daemon cannot do without, each alone: a bare ASGI application, and bare inserts."""

import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.bodies import StoredBodies
from benchmarks.load import flood
from bridge.sandbox.server import LocalServer


def _serve_bare(connection: Any) -> None:
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
    """The application in a process of its own, as the daemon is; its address."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve_bare, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def asgi_rate(bodies: StoredBodies, concurrency: int, seconds: float) -> float:
    """Requests a second that the bare application answers."""
    with bare_asgi() as url:
        flood(url, bodies.part(0, 500), concurrency, seconds)
        return flood(url, bodies.endlessly(), concurrency, seconds).rate


def insert_rate(folder: Path, bodies: StoredBodies, rows: int, seconds: float) -> float:
    """Rows a second into one table, `rows` a commit, WAL and FULL."""
    path = folder / f"insert-{rows}.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (key TEXT PRIMARY KEY, body BLOB)")
    numbered = ((f"{number:032}", body) for number, body in zip(count(), bodies.endlessly()))
    inserted, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO t VALUES (?, ?)", islice(numbered, rows))
        connection.execute("COMMIT")
        inserted += rows
    rate = inserted / (time.perf_counter() - started)
    connection.close()
    path.unlink()
    return rate
