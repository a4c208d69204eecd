"""How much memory the daemon takes while callbacks come, sampled every second.

    python -m benchmarks.memory [--minute 60] [--rate 1000] [--only off,on]

`callbridge run` as shipped, every body another call, sent by the clock: 1,000 a second for a
minute, however fast the answers are. Once without a destination, and once while the calls are
delivered to `callbridge simulate crm`. Budget: resident memory of the daemon under 110 MB at its
peak, with every callback acknowledged. The process that makes a dictionary is told beside it.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.footprint import RESIDENT, process_of, sandbox_crm, status_megabytes
from benchmarks.load import steady
from benchmarks.texts import varied_bodies
from tests.fixtures.daemon_process import DaemonProcess, write_config

EVERY = 1.0


@dataclass
class Watch:
    """What a process and its children take, every second."""

    process: int
    resident: list[float] = field(default_factory=list)
    children: float = 0.0

    def look(self) -> None:
        """One sample."""
        self.resident.append(status_megabytes(self.process, "VmRSS"))
        for task in Path(f"/proc/{self.process}/task").iterdir():
            try:
                for child in (task / "children").read_text("ascii").split():
                    self.children = max(self.children, status_megabytes(int(child), "VmHWM"))
            except (OSError, ValueError):
                # It has ended meanwhile.
                continue


@contextmanager
def watched(process: int) -> Iterator[Watch]:
    """Look every second until the end."""
    watch, done = Watch(process), threading.Event()

    def look_on() -> None:
        while not done.wait(EVERY):
            watch.look()

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


def without_destination(config: Path) -> None:
    """Callbacks are taken and judged, and go nowhere."""
    text = config.read_text("utf-8")
    start, end = text.index("[destinations.crm]"), text.index("[delivery]")
    config.write_text(text[:start] + text[end:], "utf-8")


def measure(folder: Path, payloads: list[bytes], rate: float, crm: str, *, deliver: bool) -> bool:
    """One run, printed; whether it kept to the budget."""
    config = write_config(folder, crm)
    if not deliver:
        without_destination(config)
    daemon = DaemonProcess(config)
    process = process_of(daemon.ledger)
    try:
        idle = status_megabytes(process, "VmRSS")
        with watched(process) as watch:
            outcome, connections = steady(daemon.callback_url, payloads, rate)
        waiting = daemon.count("SELECT count(*) FROM receipts WHERE verdict IS NULL")
        delivered = daemon.count("SELECT count(*) FROM deliveries WHERE state = 'delivered'")
        peak, parts = (
            status_megabytes(process, "VmHWM"),
            [f"{status_megabytes(process, name):.0f} {name}" for name in ("RssAnon", "RssFile", "RssShmem")],
        )
    finally:
        daemon.stop()
    print(
        f"deliveries {'on' if deliver else 'off'}: idle {idle:.0f} MB, peak {peak:.0f}"
        f" (budget {RESIDENT:.0f}), at the end {', '.join(parts)};"
        f" the process that learns {watch.children:.0f}"
    )
    print(
        f"  {outcome.rate:.0f}/s over {outcome.seconds:.0f} s, {connections} connections, {outcome.answers},"
        f" p50 {outcome.percentile(0.5):.1f} ms, p99 {outcome.percentile(0.99):.1f} ms,"
        f" {waiting} unjudged and {delivered} delivered at the end"
    )
    print("  every second: " + " ".join(f"{megabytes:.0f}" for megabytes in watch.resident), flush=True)
    return peak < RESIDENT and outcome.answers == {200: len(payloads)}


def main() -> int:
    """Print all figures; 1 when the budget is not kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minute", type=int, default=60, help="seconds of callbacks")
    parser.add_argument("--rate", type=int, default=1000, help="callbacks a second")
    parser.add_argument("--only", default="off,on", help="deliveries")
    options = parser.parse_args()
    payloads, kept = varied_bodies(options.rate * options.minute, seed=7), []
    with tempfile.TemporaryDirectory() as name:
        for part in options.only.split(","):
            folder = Path(name) / part
            folder.mkdir()
            with sandbox_crm() as crm:
                kept.append(measure(folder, payloads, options.rate, crm, deliver=part == "on"))
    print("budget kept" if all(kept) else "the budget is MISSED")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
