"""How fast calls are delivered, beside what the CRM's answers alone would allow.

    python -m benchmarks.deliver [--runs 5] [--seconds 20] [--only single,three,batches,both] [--quick]

The calls are owed when the daemon starts, as many as the limit's rate would deliver in the seconds.
single: a CRM that answers after 20 ms and gets one request a call (`one_request.toml`), 16 workers: calls/s
as a share of 16 / 20 ms, and processor time a call; not judged, the same with no number of workers.
three: a contact, a call and their link, each by a request of its own: calls/s as a share of 16 / (3 x 20 ms).
batches: HubSpot's shape and the shipped connector without its limits: calls/s as a share of what four bare
HTTP clients reach at once with the same bodies in the same run, and requests a call, reads included; beside
it, not judged, the shares of one and of sixteen bare clients.
both: callbacks come at 100/s while a backlog is delivered; not judged.
Processor time is of all processes of the daemon, from when it is ready until nothing is owed.
"""

import argparse
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx

from benchmarks.crm import serving, told
from benchmarks.daemons import PENDING, THREE_REQUESTS, Delivering, running
from benchmarks.figures import Budget, Figures, load_now
from benchmarks.load import burst
from benchmarks.owing import copied, owe
from benchmarks.texts import varied_bodies
from bridge.crm.connector import shipped_connectors
from tests.fixtures.daemon_process import ROOT, wait_until

DELAY = 0.02
WORKERS = 16
REQUESTS_A_CALL = 3
CALLS_A_CONTACT = 3
CLIENTS = 4
BUDGETS = {
    "single": (
        Budget("one request a call, share of 800/s", at_least=0.75),
        Budget("one request a call, ms of processor time", at_most=1.6),
    ),
    "three": (Budget("three requests a call, share of 267/s", at_least=0.9),),
    "batches": (
        Budget("batches, share of four bare clients", at_least=0.4),
        Budget("batches, requests a call", at_most=0.05),
    ),
    "both": (),
}
DELIVERED = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"


@dataclass(frozen=True)
class Delivered:
    """What a daemon that owed calls has done."""

    calls: int
    seconds: float
    """From the start of the first attempt to the end of the last."""
    busy: float
    """Seconds of processor time of all processes since the daemon was ready."""
    timed: int
    """Calls that were delivered in those."""

    @property
    def rate(self) -> float:
        return self.calls / self.seconds

    @property
    def milliseconds(self) -> float:
        """Of processor time a call."""
        return 1000 * self.busy / self.timed


def deliver(folder: Path, crm: Delivering) -> Delivered:
    """Run a daemon on the folder's ledger until nothing is owed."""
    with running(crm.write(folder)) as measured:
        before = measured.daemon.count(DELIVERED)
        measured.wait_while(PENDING)
        busy = measured.processor_seconds
    with closing(sqlite3.connect(folder / "ledger.db")) as rows:
        states = dict(rows.execute("SELECT state, count(*) FROM deliveries GROUP BY 1").fetchall())
        began, ended = rows.execute("SELECT min(started_at), max(ended_at) FROM attempts").fetchone()
        causes = rows.execute("SELECT DISTINCT reason FROM deliveries WHERE state = 'parked' LIMIT 3")
        assert set(states) == {"delivered"}, (states, causes.fetchall())
    calls = states["delivered"]
    return Delivered(calls, (ended - began) / 1e6, busy, calls - before)


class Ledgers:
    """The ledgers that the runs begin with, each made when it is first needed."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds

    def _owing(self, name: str, rate: float, calls_a_contact: int = 1) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return owe(folder, round(rate * self._seconds), calls_a_contact)

    @cached_property
    def single(self) -> Path:
        return self._owing("single", WORKERS / DELAY)

    @cached_property
    def three(self) -> Path:
        return self._owing("three", WORKERS / DELAY / REQUESTS_A_CALL)

    @cached_property
    def batches(self) -> Path:
        return self._owing("batches", 1500, CALLS_A_CONTACT)


@contextmanager
def of_a_run(ledger: Path) -> Iterator[Path]:
    """A folder with a copy of a ledger."""
    with tempfile.TemporaryDirectory() as name:
        copied(ledger, Path(name))
        yield Path(name)


def single(ledgers: Ledgers, figures: Figures) -> None:
    """One request a call, with 16 workers and with as many as the daemon takes by itself."""
    limit = WORKERS / DELAY
    for workers in (WORKERS, None):
        with of_a_run(ledgers.single) as folder, serving("upserts", DELAY) as url:
            done = deliver(folder, Delivering(url, workers=workers))
            asked = told(url, "count") / done.calls
        print(
            f"  single, {workers or 'no number of'} workers: {done.rate:.0f} calls/s,"
            f" {done.rate / limit:.2f} of {limit:.0f}; {asked:.2f} requests a call,"
            f" {done.milliseconds:.2f} ms of processor time",
            flush=True,
        )
        beside = "" if workers else ", no number of workers"
        figures.note(f"one request a call{beside}, share of 800/s", done.rate / limit)
        figures.note(f"one request a call{beside}, ms of processor time", done.milliseconds)
        assert asked < 1.01, asked


def three(ledgers: Ledgers, figures: Figures) -> None:
    """Three requests a call, each of its own."""
    limit = WORKERS / (REQUESTS_A_CALL * DELAY)
    with of_a_run(ledgers.three) as folder, serving("upserts", DELAY) as url:
        done = deliver(folder, Delivering(url, THREE_REQUESTS, WORKERS))
        asked = told(url, "count") / done.calls
    print(
        f"  three: {done.rate:.0f} calls/s, {done.rate / limit:.2f} of {limit:.0f};"
        f" {asked:.2f} requests a call, {done.milliseconds:.2f} ms of processor time",
        flush=True,
    )
    figures.note("three requests a call, share of 267/s", done.rate / limit)
    figures.note("three requests a call, ms of processor time", done.milliseconds)
    assert 2.99 < asked < 3.03, asked


def hubspot(folder: Path, url: str) -> Delivering:
    """The shipped connector and mapping without the limits of HubSpot's smallest edition."""
    text = shipped_connectors()["hubspot"].read_text("utf-8")
    for declared, wide in (('"100/10s"', '"100000/10s"'), ('"5/s"', '"10000/s"'), ("250_000", "2_500_000")):
        assert declared in text
        text = text.replace(declared, wide)
    (folder / "hubspot.toml").write_text(text, "utf-8")
    connector = f'connector = "{folder / "hubspot.toml"}"'
    return Delivering(url, ROOT / "mappings" / "hubspot.toml", WORKERS, connector)


def bare(url: str, asked: list[list[str]], clients: int) -> float:
    """Seconds in which so many bare clients send the same bodies."""
    left, lock = iter(asked), threading.Lock()

    def work() -> None:
        with httpx.Client(base_url=url, headers={"Content-Type": "application/json"}) as client:
            while True:
                with lock:
                    each = next(left, None)
                if each is None:
                    return
                client.request(each[0], each[1], content=each[2].encode()).json()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def batches(ledgers: Ledgers, figures: Figures) -> None:
    """A backfill by the hundred."""
    with of_a_run(ledgers.batches) as folder, serving("batches", DELAY) as url:
        done = deliver(folder, hubspot(folder, url))
        asked = told(url, "log")
    alone: dict[int, float] = {}
    for clients in (1, CLIENTS, WORKERS):
        with serving("batches", DELAY) as url:
            alone[clients] = bare(url, asked, clients)
    kinds = Counter(each[1].split("?")[0].removeprefix("/crm/") for each in asked)
    print(
        f"  batches: {done.rate:.0f} calls/s, {done.milliseconds:.2f} ms of processor time a call; "
        + ", ".join(
            f"{taken / done.seconds:.2f} of the {done.calls / taken:.0f} of {clients} bare"
            for clients, taken in alone.items()
        )
    )
    print(
        f"    {len(asked) / done.calls:.3f} requests a call: "
        + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8)),
        flush=True,
    )
    figures.note("batches, calls/s", done.rate)
    figures.note("batches, share of four bare clients", alone[CLIENTS] / done.seconds)
    figures.note("batches, share of one bare client", alone[1] / done.seconds)
    figures.note("batches, requests a call", len(asked) / done.calls)
    figures.note("batches, ms of processor time", done.milliseconds)


def both(ledgers: Ledgers, figures: Figures) -> None:
    """Callbacks by the clock while a backlog is delivered."""
    payloads = varied_bodies(1500, seed=9)
    with (
        of_a_run(ledgers.three) as folder,
        serving("upserts", DELAY) as url,
        running(Delivering(url, THREE_REQUESTS, WORKERS).write(folder)) as measured,
    ):
        daemon = measured.daemon
        wait_until(lambda: daemon.count(DELIVERED) > 0, "it delivers")
        before, started = daemon.count(DELIVERED), time.perf_counter()
        outcome = burst(daemon.callback_url, payloads, 16, 100)
        rate = (daemon.count(DELIVERED) - before) / (time.perf_counter() - started)
    assert outcome.answers == {200: len(payloads)}, outcome.answers
    p95 = outcome.percentile(0.95)
    print(f"  both: {rate:.0f} calls/s delivered while {outcome.rate:.0f} callbacks/s come, p95 {p95:.1f} ms")
    figures.note("both, calls/s delivered while 100 callbacks/s come", rate)
    figures.note("both, ms of an answer (p95)", p95)


PARTS = {"single": single, "three": three, "batches": batches, "both": both}


def main() -> int:
    """Print all figures; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of deliveries at the limit's rate")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="one run of 4 s, for trials")
    options = parser.parse_args()
    runs, seconds = (1, 4.0) if options.quick else (options.runs, options.seconds)
    parts, figures = options.only.split(","), Figures()
    with tempfile.TemporaryDirectory() as name:
        ledgers = Ledgers(Path(name), seconds)
        for number in range(1, runs + 1):
            print(f"run {number} of {runs}, {load_now()}", flush=True)
            for part in parts:
                PARTS[part](ledgers, figures)
    return 0 if figures.print(budget for part in parts for budget in BUDGETS[part]) else 1


if __name__ == "__main__":
    sys.exit(main())
