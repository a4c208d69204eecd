"""A day on which everything goes wrong at once: lost answers, 429s, expired tokens, kills, and an outage.

By hand: it takes minutes, and prints what came of it. `STORM_CALLS=3000` is the whole of it.
"""

import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.faults import Rates
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import DaemonProcess, callbridge, wait_until, write_config
from tests.fixtures.delivery_simulation import DATA, body_of

pytestmark = pytest.mark.slow

SEED = 11
CALLS = int(os.environ.get("STORM_CALLS", "3000"))
KILLS = 6
OUTAGE = 60.0
RATES = Rates(lost=0.05, errors=0.03, limited=0.01, delay=0.01, seed=SEED)
OPEN = "SELECT count(*) FROM deliveries WHERE state NOT IN ('delivered', 'skipped')"
UNJUDGED = "SELECT count(*) FROM receipts WHERE verdict IS NULL"


class Platform:
    """Pushes calls until each is acknowledged; some twice, and some in two states."""

    def __init__(self, rng: random.Random) -> None:
        self.newest: dict[str, dict[str, Any]] = {}
        self.url = ""
        self._rng = rng

    def bodies(self, count: int) -> list[bytes]:
        """All pushes, in their order."""
        pushes: list[dict[str, Any]] = []
        for number in range(count):
            phone = f"1589{self._rng.randrange(count // 3):07}"
            fields = {"mark": self._rng.choice("xyz"), "talktimes": number % 100, "source": f"task {number}"}
            first, later = (
                body_of(number, stamp, phone, status=self._rng.choice("ABC"), **fields) for stamp in (1, 2)
            )
            chosen = [first, later] if self._rng.random() < 0.2 else [first]
            self.newest[first["uuid"]] = chosen[-1]
            pushes += chosen
            if self._rng.random() < 0.1:
                pushes.append(self._rng.choice(chosen))
        return [json.dumps(push).encode() for push in pushes]

    def push(self, bodies: list[bytes], acknowledged: "itertools.count[int]") -> None:
        """One pusher's share."""
        pause = threading.Event()
        with httpx.Client(timeout=10) as client:
            for body in bodies:
                while True:
                    try:
                        if client.post(self.url, content=body).text == "SUCCESS":
                            next(acknowledged)
                            break
                    except httpx.HTTPError:
                        pass
                    pause.wait(0.1)


def test_storm_of_callbacks_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(SEED)  # noqa: S311 -- chance, no secret
    crm = SandboxCrm("crm-token-of-the-tests", upserts=False, lag=0.3, token_uses=200, rates=RATES)
    server = LocalServer(crm.app).start()
    config = write_config(tmp_path, server.url, "workers = 8")
    text = config.read_text("utf-8").replace(
        'mapping = "', f'connector = "{DATA / "connector.toml"}"\nmapping = "{DATA / "mapping.toml"}" # '
    )
    config.write_text(text, "utf-8")
    platform = Platform(rng)
    bodies = platform.bodies(CALLS)
    daemon = DaemonProcess(config)
    platform.url = daemon.callback_url
    acknowledged = itertools.count(1)
    pushers = [
        threading.Thread(target=platform.push, args=(bodies[part::4], acknowledged)) for part in range(4)
    ]
    began = time.monotonic()
    for pusher in pushers:
        pusher.start()
    pause = threading.Event()
    for _ in range(KILLS):
        pause.wait(rng.uniform(3, 8))
        daemon.kill()
        daemon = DaemonProcess(config)
        platform.url = daemon.callback_url
    server.stop()
    pause.wait(OUTAGE)
    server = LocalServer(crm.app, port=server.port).start()
    for pusher in pushers:
        pusher.join()
    wait_until(lambda: not daemon.count(UNJUDGED), "all have a verdict", 300)
    wait_until(lambda: not daemon.count(OPEN), "all is delivered", 1800)
    seconds = time.monotonic() - began
    audit = json.loads(callbridge("audit", "--local", "--json", cwd=tmp_path).stdout)
    daemon.stop()
    server.stop()
    assert audit["balanced"]
    contents = crm.contents()
    calls = Counter(call["call_key"] for call in contents["calls"])
    contacts = Counter(contact["phone"] for contact in contents["contacts"])
    lost = set(platform.newest) - set(calls)
    doubled = [key for key, count in (*calls.items(), *contacts.items()) if count > 1]
    print(
        f"{CALLS} calls in {len(bodies)} pushes, {KILLS} kills, {OUTAGE:.0f} s of outage: {len(lost)} lost,"
        f" {len(doubled)} doubled, {seconds:.0f} s; {sum(crm.requests()['by'].values())} requests"
    )
    assert lost == set()
    assert doubled == []
