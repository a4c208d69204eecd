"""The daemons that are measured: their configuration, and what they have to do before they are at rest."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.packing import wait_until_packed
from benchmarks.processes import daemon_of, processor_seconds
from tests.fixtures.daemon_process import ROOT, DaemonProcess, write_config

ONE_REQUEST = ROOT / "benchmarks" / "one_request.toml"
"""A mapping that makes one request a call."""
THREE_REQUESTS = ROOT / "mappings" / "sandbox.toml"
"""A contact, a call and the link of the two, each by a request of its own."""
UNJUDGED = "SELECT EXISTS (SELECT 1 FROM receipts WHERE verdict IS NULL)"
PENDING = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state IN ('due', 'leased'))"
_EVERY = 0.05


@dataclass(frozen=True)
class Delivering:
    """Where a daemon delivers, and how."""

    url: str
    mapping: Path = ONE_REQUEST
    workers: int | None = None
    """None leaves the number to the daemon."""
    connector: str = ""
    """A line of the destination that names a connector of our own."""

    def write(self, folder: Path) -> Path:
        """The configuration's file."""
        config = write_config(folder, self.url, f"workers = {self.workers}" if self.workers else "")
        text = config.read_text("utf-8").replace("[delivery]", f"{self.connector}\n[delivery]")
        config.write_text(text.replace(str(THREE_REQUESTS), str(self.mapping)), "utf-8")
        return config


def receiving(folder: Path) -> Path:
    """The configuration of a daemon without a destination: callbacks are taken and judged, and go nowhere."""
    config = write_config(folder, "http://127.0.0.1:9")
    text = config.read_text("utf-8")
    start, end = text.index("[destinations.crm]"), text.index("[delivery]")
    config.write_text(text[:start] + text[end:], "utf-8")
    return config


@dataclass
class MeasuredDaemon:
    """A daemon that runs, and the processor time that it has taken since it was ready."""

    daemon: DaemonProcess
    process: int
    before: float

    @property
    def processor_seconds(self) -> float:
        return processor_seconds(self.process) - self.before

    def wait_while(self, condition: str, within: float = 900.0) -> None:
        """Wait until a query of the ledger answers 0; a TimeoutError after so many seconds."""
        deadline = time.monotonic() + within
        while self.daemon.count(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(condition)
            time.sleep(_EVERY)

    def wait_until_packed(self) -> None:
        """Wait until nothing that was filed is still to be packed smaller."""
        wait_until_packed(self.daemon.ledger)


@contextmanager
def running(config: Path) -> Iterator[MeasuredDaemon]:
    """Start a daemon, and stop it at the end; where it was killed meanwhile, that is its end."""
    daemon = DaemonProcess(config)
    process = daemon_of(daemon.ledger)
    try:
        yield MeasuredDaemon(daemon, process, processor_seconds(process))
    finally:
        if Path(f"/proc/{process}").exists():
            daemon.stop()
