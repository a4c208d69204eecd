"""kill -9 while eight senders push: whatever was acknowledged is in the CRM, once."""

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.records import generate
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import DaemonProcess, wait_until, write_config

pytestmark = pytest.mark.long

ROUNDS = 5
SENDERS = 8
ACKNOWLEDGED_PER_ROUND = 70
OPEN = """
SELECT (SELECT count(*) FROM deliveries WHERE state IN ('due', 'leased'))
     + (SELECT count(*) FROM receipts WHERE verdict IS NULL)
"""


class Senders:
    """Threads that push records until told to stop, and remember what was acknowledged."""

    def __init__(self, url: str, records: Iterator[dict[str, Any]]) -> None:
        self.acknowledged: list[str] = []
        self._url = url
        self._records = records
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._unanswered = 0
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    @property
    def unanswered(self) -> int:
        return self._unanswered

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with httpx.Client(timeout=5) as client:
            while not self._stop.is_set():
                with self._lock:
                    record = next(self._records)
                    self._unanswered += 1
                try:
                    answer = client.post(self._url, json=record).content
                except httpx.HTTPError:
                    answer = b""
                with self._lock:
                    self._unanswered -= 1
                    if answer == b"SUCCESS":
                        self.acknowledged.append(record["uuid"])


def test_kill_9_loses_and_doubles_nothing(tmp_path: Path) -> None:
    made = generate(5000, seed=9, now=datetime.now(UTC))
    records = iter([record | {"call_from_type": 0, "is_deleted": 0} for record in made])
    crm = SandboxCrm()
    acknowledged: list[str] = []
    unanswered = leased = 0
    with LocalServer(crm.app) as server:
        config = write_config(tmp_path, server.url)
        crm.add_fault(delay=0.02, times=-1)
        for _ in range(ROUNDS):
            daemon = DaemonProcess(config)
            senders = Senders(daemon.callback_url, records)
            wait_until(
                lambda senders=senders: len(senders.acknowledged) >= ACKNOWLEDGED_PER_ROUND,  # type: ignore[misc]
                "enough was acknowledged",
            )
            wait_until(lambda senders=senders: senders.unanswered > 0, "a push is under way")  # type: ignore[misc]
            open_pushes = senders.unanswered
            daemon.kill()
            senders.stop()
            unanswered += open_pushes
            leased += daemon.count("SELECT count(*) FROM deliveries WHERE state = 'leased'")
            acknowledged += senders.acknowledged
        crm.clear_faults()
        daemon = DaemonProcess(config)
        wait_until(lambda: daemon.count(OPEN) == 0, "everything is delivered", within=60)
        assert daemon.stop() == 0
    print(f"{len(acknowledged)} acknowledged, {unanswered} unanswered and {leased} leased at the kills")
    assert len(acknowledged) >= 300
    assert unanswered >= 1
    assert leased >= 1
    held = Counter(call["call_key"] for call in crm.contents()["calls"])
    assert not set(acknowledged) - held.keys()
    assert set(held.values()) == {1}
