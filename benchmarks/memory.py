"""How much memory the daemon takes while callbacks come, looked at every half second.

    python -m benchmarks.memory [--minute 60] [--rate 1000] [--only off,on]

Every body is another call, sent by the clock: 1,000 a second for a minute, however fast the answers are. Once
without a destination, and once while the calls are delivered to a CRM that answers after 20 ms, one request
a call, with no number of workers given. Budgets, of all processes of the daemon: 85 MB at rest and 130 MB at
the peak, with every callback acknowledged. The process that makes a dictionary is there for some seconds, and
told beside them.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.bodies import StoredBodies, stored_bodies
from benchmarks.crm import serving
from benchmarks.daemons import Delivering, receiving, running
from benchmarks.figures import Budget, Figures, load_now
from benchmarks.load import steady
from benchmarks.processes import memory_of, memory_watched

DELAY = 0.02
BUDGETS = (
    Budget("MB at rest, all processes", at_most=85),
    Budget("MB at the peak, all processes", at_most=130),
    Budget("callbacks that were not acknowledged", at_most=0),
)


def measure(config: Path, bodies: StoredBodies, rate: float, figures: Figures, what: str) -> None:
    """One run, noted and printed."""
    with running(config) as measured:
        at_rest = memory_of(measured.process)
        with memory_watched(measured.process) as watch:
            outcome, connections = steady(measured.daemon.callback_url, bodies, rate)
        waiting = measured.daemon.count("SELECT count(*) FROM receipts WHERE verdict IS NULL")
        delivered = measured.daemon.count("SELECT count(*) FROM deliveries WHERE state = 'delivered'")
    peak = watch.lasting_peak
    print(f"  {what}: at rest {at_rest.shown()}, at the peak {peak.shown()}")
    print(f"    with processes that soon ended {watch.peak.shown()}")
    print(
        f"    {outcome.rate:.0f}/s over {outcome.seconds:.0f} s, {connections} connections,"
        f" {outcome.answers}, p50 {outcome.percentile(0.5):.1f} ms, p99 {outcome.percentile(0.99):.1f} ms,"
        f" {waiting} unjudged and {delivered} delivered at the end"
    )
    print("    every second: " + " ".join(f"{one.whole:.0f}" for one in watch.seen[::2]), flush=True)
    figures.note("MB at rest, all processes", at_rest.whole)
    figures.note("MB at the peak, all processes", peak.whole)
    figures.note("MB at the peak, with processes that soon ended", watch.peak.whole)
    figures.note("callbacks that were not acknowledged", len(bodies) - outcome.answers.get(200, 0))


def main() -> int:
    """Print all figures; 1 when the budget is not kept, by the worse of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minute", type=int, default=60, help="seconds of callbacks")
    parser.add_argument("--rate", type=int, default=1000, help="callbacks a second")
    parser.add_argument("--only", default="off,on", help="deliveries")
    options = parser.parse_args()
    kept = True
    with tempfile.TemporaryDirectory() as name, serving("upserts", DELAY) as crm:
        bodies = stored_bodies(Path(name), options.rate * options.minute)
        for part in options.only.split(","):
            folder, figures = Path(name) / part, Figures()
            folder.mkdir()
            config = Delivering(crm).write(folder) if part == "on" else receiving(folder)
            print(f"deliveries {part}, {load_now()}")
            measure(config, bodies, options.rate, figures, f"deliveries {part}")
            kept = figures.print(BUDGETS) and kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
