"""kill -9 in the middle of deliveries to a CRM without upserts: nothing twice, nothing missing."""

import json
import random
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.faults import Rates
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import DaemonProcess, callbridge, wait_until, write_config
from tests.fixtures.delivery_simulation import DATA, body_of

pytestmark = pytest.mark.long

SEED = 5
PHONES = [f"158997706{number:02}" for number in range(12)]
A_ROUND = 10
RATES = Rates(lost=0.10, errors=0.05, limited=0.02, delay=0.02, seed=SEED)
OPEN = "SELECT count(*) FROM deliveries WHERE state NOT IN ('delivered', 'skipped')"
UNJUDGED = "SELECT count(*) FROM receipts WHERE verdict IS NULL"


class Calls:
    """What the platform tells: calls of a few people, and what became of them later."""

    def __init__(self, chance: random.Random) -> None:
        self.newest: dict[str, dict[str, Any]] = {}
        self._chance = chance
        self._stamp = 0

    def next(self) -> dict[str, Any]:
        """A new call, or a later state of an earlier one."""
        self._stamp += 1
        again = self.newest and self._chance.random() < 0.3
        count = len(self.newest)
        number = self._chance.randrange(count) if again else count
        body = body_of(
            number,
            self._stamp,
            PHONES[number % len(PHONES)],
            status=self._chance.choice("ABC"),
            mark=self._chance.choice("xyz"),
            talktimes=self._chance.randrange(100),
            source=f"task {number}",
        )
        self.newest[body["uuid"]] = body
        return body


def on_the_wire(crm: SandboxCrm, at: datetime) -> int:
    """How many requests had been sent and not answered at a moment, by the CRM's own log."""
    log = [(entry["time"], entry["ended"]) for entry in crm.log()]
    moment = at.isoformat()
    return sum(began <= moment and (ended is None or ended > moment) for began, ended in log)


def pending(crm: SandboxCrm) -> bool:
    """Whether a request is on the wire now."""
    return any(entry["ended"] is None for entry in crm.log()[-20:])


def crash(folder: Path, seed: int, rounds: int) -> None:
    """Kill the daemon so many times while it delivers; then let it finish, and look at the CRM."""
    chance = random.Random(seed)  # noqa: S311 -- moments, not secrets
    calls, pause = Calls(chance), threading.Event()
    crm = SandboxCrm("crm-token-of-the-tests", upserts=False, lag=0.3, token_uses=50, rates=RATES)
    with LocalServer(crm.app) as server:
        config = write_config(folder, server.url, "workers = 3")
        config.write_text(for_plain(config.read_text("utf-8")), "utf-8")
        hits = 0
        for _ in range(rounds):
            daemon = DaemonProcess(config)
            for _ in range(A_ROUND):
                assert httpx.post(daemon.callback_url, json=calls.next()).content == b"SUCCESS"
            pause.wait(chance.random() * 0.4)
            wait_until(lambda: pending(crm) or daemon.count(OPEN) == 0, "a moment to kill")  # noqa: B023
            killed_at = datetime.now(UTC)
            daemon.kill()
            hits += on_the_wire(crm, killed_at) > 0
        daemon = DaemonProcess(config)
        crm.clear_faults()
        wait_until(lambda: daemon.count(OPEN) + daemon.count(UNJUDGED) == 0, "all is delivered", within=25)
        assert daemon.stop() == 0
    log = crm.log()
    print(
        f"seed {seed}: {rounds} kills, {hits} with a request on the wire; {len(calls.newest)} calls;"
        f" of the last {len(log)} requests {Counter(entry['status'] for entry in log)}"
    )
    assert hits >= rounds / 2
    check(crm, calls, daemon)
    done = callbridge("audit", "--local", "--json", cwd=folder)
    assert json.loads(done.stdout)["balanced"] is True


def for_plain(text: str) -> str:
    """The configuration with the connector of this CRM, and a mapping that has a field of every policy."""
    lines = text.split("\n")
    place = next(number for number, line in enumerate(lines) if line.startswith("mapping = "))
    lines[place] = f'mapping = "{DATA / "mapping.toml"}"\nconnector = "{DATA / "connector.toml"}"'
    return "\n".join(lines)


def check(crm: SandboxCrm, calls: Calls, daemon: DaemonProcess) -> None:
    """Each call once and as it was told last; each contact once and as the rules say."""
    contents = crm.contents()
    held = {each["call_key"]: each for each in contents["calls"]}
    contacts = {each["phone"]: each for each in contents["contacts"]}
    doubled = len(contents["calls"]) - len(held) + len(contents["contacts"]) - len(contacts)
    missing = set(calls.newest) - set(held)
    assert (doubled, missing) == (0, set()), daemon.log[-20:]
    with closing(sqlite3.connect(f"file:{daemon.ledger}?mode=ro", uri=True)) as ledger:
        names = Counter(row[0] for row in ledger.execute("SELECT state FROM deliveries"))
    assert names == {"delivered": len(calls.newest)}
    of: dict[str, list[dict[str, Any]]] = {}
    for key, body in calls.newest.items():
        one = held[key]
        told = {"grade": body["status"], "remark": body["mark"], "talk_seconds": body["talktimes"]}
        assert {name: one.get(name) for name in told} == told
        assert one["contact_id"] == contacts[f"+86{body['phone']}"]["id"]
        of.setdefault(f"+86{body['phone']}", []).append(body)
    assert contacts.keys() == of.keys()
    for phone, bodies in of.items():
        one = contacts[phone]
        newest = max(bodies, key=lambda body: (body["started_at"], body["uuid"]))
        assert (one["grade"], one["remark"]) == (newest["status"], newest["mark"]), (one, newest)
        # Each call once, as it was when its text was added.
        added = [line.partition(" ")[0] for line in one["notes"].split("\n")]
        assert sorted(added) == sorted(body["uuid"] for body in bodies)
        assert one["longest"] >= max(body["talktimes"] for body in bodies)
        assert one["task"] in {body["source"] for body in bodies}


def test_five_kills_deliver_every_call_once(tmp_path: Path) -> None:
    crash(tmp_path, SEED, 5)


@pytest.mark.slow
def test_hundred_kills_deliver_every_call_once(tmp_path: Path) -> None:
    crash(tmp_path, SEED + 1, 100)
