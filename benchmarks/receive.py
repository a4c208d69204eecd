"""How fast callbacks are acknowledged and judged, beside what the parts alone can do here.

    python -m benchmarks.receive [--runs 5] [--seconds 20] [--quick]

No two bodies are of one call or say the same. They come as fast as they are answered for 20 seconds, so that
nothing can be put off; then the benchmark waits until each has its verdict. The limit is
1 / (1/asgi + 1/insert): a bare ASGI application on the same server that parses with orjson, and the better of
50 and 200 rows a commit, both with the same bodies, for seconds, in the same run. Told apart: what the first
two seconds acknowledged, what all did, and calls judged a second from the first request to the last verdict.

Judged at 64 connections, the median of all runs: calls judged a second as a share of the limit, without a
destination and while calls are delivered to a CRM that answers after 20 ms (one request a call, 16 workers);
processor time, of all processes, of a call that is taken in and judged; memory of all processes at rest and
at the peak. The other numbers of connections are shown once, for a quarter of the time.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare import asgi_rate, insert_rate
from benchmarks.bodies import StoredBodies, stored_bodies
from benchmarks.crm import serving
from benchmarks.daemons import UNJUDGED, Delivering, receiving, running
from benchmarks.figures import Budget, Figures, load_now
from benchmarks.load import flood
from benchmarks.processes import memory_of, memory_watched

WORKERS = 16
DELAY = 0.02
JUDGED_AT = 64
CONCURRENCIES = (1, 16, 256)
BURST = 2.0
ENOUGH = 5000
"""So many bodies a second are made; a daemon that takes them all is done sooner, and no less measured."""
BUDGETS = (
    Budget("judged, share of the limit", at_least=0.50),
    Budget("judged while delivering, share of the limit", at_least=0.35),
    Budget("ms of processor time a call taken in and judged", at_most=0.28),
    Budget("MB at rest", at_most=85),
    Budget("MB at the peak", at_most=130),
)


@dataclass(frozen=True)
class Taken:
    """What one daemon made of the calls that came at once."""

    calls: int
    burst: float
    """Acknowledged a second in the first two seconds."""
    acknowledged: float
    judged: float
    p99: float
    busy: float
    """Seconds of processor time until each call had its verdict."""
    packing: float
    """Seconds of processor time from then on until all was packed, where that was waited for.

    The making of a dictionary is among them.
    """
    at_rest: float
    peak: float
    memory: str

    def shown(self, limit: float) -> str:
        """For people."""
        return (
            f"{self.calls} calls: {self.burst:.0f}/s in the first {BURST:.0f} s, {self.acknowledged:.0f}"
            f" acknowledged/s, {self.judged:.0f} judged/s ({self.judged / limit:.2f} of the limit),"
            f" p99 {self.p99:.1f} ms; {1000 * self.busy / self.calls:.3f} ms of processor time a call"
            f" and {1000 * self.packing / self.calls:.3f} afterwards; {self.memory}"
        )


def take(
    config: Path, bodies: StoredBodies, concurrency: int, seconds: float, *, until_packed: bool = False
) -> Taken:
    """Send for so many seconds to a daemon of its own, and wait until all is judged, or packed as well."""
    with running(config) as measured:
        at_rest = memory_of(measured.process)
        with memory_watched(measured.process) as watch:
            outcome = flood(measured.daemon.callback_url, bodies, concurrency, seconds)
            measured.wait_while(UNJUDGED)
            judged_within, busy = time.perf_counter() - outcome.started, measured.processor_seconds
        with memory_watched(measured.process) as afterwards:
            if until_packed:
                measured.wait_until_packed()
            packing = measured.processor_seconds - busy
        calls = sum(outcome.answers.values())
        assert outcome.answers == {200: calls}, outcome.answers
        assert measured.daemon.count("SELECT count(*) FROM calls") == calls
    return Taken(
        calls,
        outcome.rate_until(min(BURST, seconds)),
        outcome.rate,
        calls / judged_within,
        outcome.percentile(0.99),
        busy,
        packing,
        at_rest.whole,
        watch.lasting_peak.whole,
        f"at rest {at_rest.shown()}, at the peak {watch.lasting_peak.shown()},"
        f" afterwards {afterwards.peak.whole:.0f} MB with processes that soon ended",
    )


def limit_of(folder: Path, bodies: StoredBodies, seconds: float) -> float:
    """Calls a second that a door and an insert could take, if each were all there is to do."""
    insert = max(insert_rate(folder, bodies, rows, seconds) for rows in (50, 200))
    asgi = asgi_rate(bodies, JUDGED_AT, seconds)
    limit = 1 / (1 / asgi + 1 / insert)
    print(f"  asgi {asgi:.0f}/s, insert {insert:.0f}/s, limit {limit:.0f}/s", flush=True)
    return limit


def run_once(bodies: StoredBodies, seconds: float, figures: Figures) -> float:
    """One run of what is judged, noted and printed; the limit."""
    with tempfile.TemporaryDirectory() as name, serving("upserts", DELAY) as crm:
        for part in ("bare", "alone", "delivering"):
            (Path(name) / part).mkdir()
        limit = limit_of(Path(name) / "bare", bodies, seconds / 4)
        alone = take(receiving(Path(name) / "alone"), bodies, JUDGED_AT, seconds, until_packed=True)
        print(f"  c{JUDGED_AT}: {alone.shown(limit)}", flush=True)
        config = Delivering(crm, workers=WORKERS).write(Path(name) / "delivering")
        delivering = take(config, bodies, JUDGED_AT, seconds)
        print(f"  c{JUDGED_AT} while delivering: {delivering.shown(limit)}", flush=True)
    figures.note("limit, calls/s", limit)
    figures.note("acknowledged/s in the first seconds", alone.burst)
    figures.note("acknowledged/s", alone.acknowledged)
    figures.note("judged/s", alone.judged)
    figures.note("judged, share of the limit", alone.judged / limit)
    figures.note("judged while delivering, share of the limit", delivering.judged / limit)
    figures.note("ms of processor time a call taken in and judged", 1000 * alone.busy / alone.calls)
    figures.note(
        "ms of processor time a call to pack it then, a dictionary included",
        1000 * alone.packing / alone.calls,
    )
    figures.note("MB at rest", max(alone.at_rest, delivering.at_rest))
    figures.note("MB at the peak", max(alone.peak, delivering.peak))
    return limit


def beside(bodies: StoredBodies, concurrency: int, seconds: float, limit: float) -> None:
    """What is not judged: another number of connections, without a destination and while delivering."""
    with tempfile.TemporaryDirectory() as name, serving("upserts", DELAY) as crm:
        for part in ("alone", "delivering"):
            (Path(name) / part).mkdir()
        alone = take(receiving(Path(name) / "alone"), bodies, concurrency, seconds)
        print(f"  c{concurrency}: {alone.shown(limit)}", flush=True)
        config = Delivering(crm, workers=WORKERS).write(Path(name) / "delivering")
        delivering = take(config, bodies, concurrency, seconds)
        print(f"  c{concurrency} while delivering: {delivering.shown(limit)}", flush=True)


def main() -> int:
    """Print all figures; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of callbacks")
    parser.add_argument("--quick", action="store_true", help="one run of 5 s, for trials")
    options = parser.parse_args()
    runs, seconds = (1, 5.0) if options.quick else (options.runs, options.seconds)
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        bodies = stored_bodies(Path(name), round(seconds * ENOUGH))
        for number in range(1, runs + 1):
            print(f"run {number} of {runs}, {load_now()}", flush=True)
            limit = run_once(bodies, seconds, figures)
        for concurrency in CONCURRENCIES:
            beside(bodies, concurrency, seconds / 4, limit)
    return 0 if figures.print(BUDGETS) else 1


if __name__ == "__main__":
    sys.exit(main())
