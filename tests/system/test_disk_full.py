"""A disk that fills up under the ledger: 503, never a false SUCCESS, and back to work once there is room."""

import base64
import json
import os
import random
import re
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import EXAMPLE, DaemonProcess, callbridge_json, wait_until, write_config

pytestmark = pytest.mark.long

SEED = 6
SMALL, LARGE = "16m", "64m"
MOST_POSTS = 2000
POSTS_WHILE_FULL = 60
LEFT = 48 * 1024
OPEN = """
SELECT (SELECT count(*) FROM deliveries WHERE state <> 'delivered')
     + (SELECT count(*) FROM receipts WHERE verdict IS NULL)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = _run("mount", "-t", "tmpfs", "-o", f"size={SMALL}", "callbridge-test", str(place))
    if made.returncode:
        pytest.skip(f"mounting is not permitted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        assert _run("umount", "-l", str(place)).returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Sender:
    """Posts calls that do not compress, and remembers what was said to each."""

    def __init__(self, daemon: DaemonProcess, client: httpx.Client) -> None:
        self._rng = random.Random(SEED)  # noqa: S311  -- sample data, not secrets
        self._record = json.loads(EXAMPLE.read_bytes()) | {"call_from_type": 0, "is_deleted": 0}
        self._daemon = daemon
        self._client = client
        self.acknowledged: list[str] = []
        self.refused: list[dict[str, Any]] = []

    def post_new(self, size: int) -> int:
        """A call with about that many bytes to keep; the answer's status."""
        name = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        noise = base64.b85encode(self._rng.randbytes(size * 4 // 5)).decode()
        return self.post(self._record | {"uuid": name, "base_info": f"{name}out", "sn": name, "ext2": noise})

    def post(self, record: dict[str, Any]) -> int:
        """Send a record."""
        answer = self._client.post(self._daemon.callback_url, json=record)
        assert (answer.status_code == 200) == (answer.content == b"SUCCESS"), answer.text
        if answer.status_code == 200:
            self.acknowledged.append(record["uuid"])
        else:
            self.refused.append(record)
        return answer.status_code

    def post_until_refused(self) -> None:
        """Fill the disk with calls."""
        for _ in range(MOST_POSTS):
            if (status := self.post_new(self._rng.choice((500, 20_000, 60_000)))) != 200:
                break
        assert status == 503

    def post_while_full(self) -> Counter[int]:
        """All sizes, also such as might still find a place."""
        sizes = (100_000, 20_000, 3000, 10)
        return Counter(self.post_new(sizes[number % 4]) for number in range(POSTS_WHILE_FULL))

    def post_refused_again(self) -> None:
        """As the platform does."""
        refused, self.refused = self.refused, []
        assert {self.post(record) for record in refused} == {200}


def fill_and_grow(disk: Path, min_free: str, fill: Callable[[Sender], None]) -> tuple[set[str], Counter[int]]:
    """Fill the disk, make room, and see that nothing acknowledged was lost on the way.

    What comes back are the reasons of the refusals, and the answers while the disk was full.
    """
    crm = SandboxCrm()
    with LocalServer(crm.app) as server, httpx.Client(timeout=30) as client:
        config = write_config(disk, server.url)
        daemon = DaemonProcess(config, {"CALLBRIDGE_LEDGER__MIN_FREE": min_free})
        try:
            sender = Sender(daemon, client)
            ready = f"{daemon.admin_url}/readyz"
            assert [sender.post_new(20_000) for _ in range(10)] == [200] * 10
            wait_until(lambda: daemon.count(OPEN) == 0, "all is calm")
            fill(sender)
            # The disk is looked at once a second; each question before that would write a page.
            looked = time.monotonic() + 1.1
            wait_until(
                lambda: time.monotonic() > looked and client.get(ready).status_code == 503,
                "not ready any more",
                within=5,
            )
            filled = len(sender.acknowledged)
            answers = sender.post_while_full()
            assert answers.keys() <= {200, 503}
            receipts = "SELECT count(*) FROM receipts"
            assert daemon.count(receipts) == len(sender.acknowledged)
            assert client.get(ready).status_code == 503
            assert client.get(f"{daemon.admin_url}/healthz").status_code == 200

            grown = _run("mount", "-o", f"remount,size={LARGE}", str(disk))
            assert grown.returncode == 0, grown.stderr
            wait_until(lambda: client.get(ready).status_code == 200, "ready again by itself", within=5)
            sender.post_refused_again()
            assert [sender.post_new(20_000) for _ in range(20)] == [200] * 20
            wait_until(lambda: daemon.count(OPEN) == 0, "everything is judged and delivered")
            assert daemon.count(receipts) == len(sender.acknowledged)
            assert daemon.stop() == 0
        finally:
            daemon.kill()
        held = Counter(call["call_key"] for call in crm.contents()["calls"])
    print(f"{filled} calls filled the disk, then {dict(answers)}, {held.total()} calls in the CRM")
    assert set(held) == set(sender.acknowledged)
    assert set(held.values()) == {1}
    assert daemon.count("SELECT count(*) FROM calls") == len(set(sender.acknowledged))
    balance = callbridge_json("audit", "--local", cwd=disk)
    assert (balance["balanced"], balance["destinations"]["crm"]["delivered"]) == (True, len(held))
    assert not [line for line in daemon.log if "level=error" in line or "Traceback" in line]
    return refusals(daemon), answers


def refusals(daemon: DaemonProcess) -> set[str]:
    """What the log gives as the reasons of refused callbacks."""
    return {
        found[1] for line in daemon.log if (found := re.search(r'callback\.refused.*reason="([^"]*)"', line))
    }


def test_callbacks_are_refused_before_the_disk_is_full(disk: Path) -> None:
    def fill(_sender: Sender) -> None:
        """Somebody else's file leaves less than the floor, and enough for a callback."""
        space = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(space.f_bavail * space.f_frsize - LEFT))

    reasons, answers = fill_and_grow(disk, "64KiB", fill)
    assert answers.keys() == {503}
    assert len(reasons) == 1
    assert "left on the ledger's disk" in reasons.pop()


def test_full_disk_met_by_sqlite_loses_nothing(disk: Path) -> None:
    """Nothing is kept free, so that commits fail in the middle."""
    reasons, answers = fill_and_grow(disk, "1B", Sender.post_until_refused)
    assert answers[503] > 0
    # A look at the disk may come before the commit that would have found it full.
    expected = ("full", "I/O", "left on the ledger's disk")
    assert any(words in reason for reason in reasons for words in expected), reasons
