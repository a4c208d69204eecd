"""What a CRM's refusals cost, beside what they asked for.

    python -m benchmarks.limits [--calls 5000] [--workers 4]

A CRM that answers after 15 ms and declares no rate refuses 0, 0.5 and 2 % of all requests with 429 and
`Retry-After: 1`. The time that it takes to deliver the same varied calls is held against the time without
refusals and the pauses that were asked for, those that overlap counted once.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.crm import serving, told
from benchmarks.daemons import THREE_REQUESTS, Delivering
from benchmarks.deliver import deliver
from benchmarks.owing import owe

DELAY = 0.015
SHARES = (0.0, 0.005, 0.02)
PAUSE = 1.0
WORTH = 0.8


def paused(refused: list[float]) -> float:
    """The seconds in which at least one of the pauses ran."""
    total, until = 0.0, 0.0
    for at in sorted(refused):
        total += at + PAUSE - max(until, at)
        until = at + PAUSE
    return total


def measure(calls: int, workers: int, share: float) -> tuple[float, float, int, float]:
    """Seconds of delivering, seconds of pauses, refusals, processor seconds."""
    with tempfile.TemporaryDirectory() as name, serving(f"refusing {share}", DELAY) as url:
        folder = Path(name)
        owe(folder, calls)
        done = deliver(folder, Delivering(url, THREE_REQUESTS, workers))
        assert done.calls == calls
        refused = told(url, "refused")
    return done.seconds, paused(refused), len(refused), done.busy


def main() -> int:
    """Run it; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    alone, kept = 0.0, True
    for share in SHARES:
        seconds, pauses, refusals, busy = measure(options.calls, options.workers, share)
        alone = alone or seconds
        ratio = (alone + pauses) / seconds
        kept = kept and ratio >= WORTH
        print(
            f"{share:.1%} refused: {options.calls / seconds:.0f} calls/s in {seconds:.1f} s; {refusals}"
            f" refusals asked for {pauses:.1f} s of pauses; {ratio:.2f} of what they left (budget {WORTH});"
            f" {1000 * busy / options.calls:.2f} ms of processor time a call"
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
