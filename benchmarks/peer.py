"""callbridge and Node-RED in turns: the same calls, the same load generator, the same CRM.

    python -m benchmarks.peer [--runs 5] [--seconds 20] [--only speed,loss] [--quick]

Node-RED is installed by npm into a temporary folder; where that cannot be done the benchmark says so in one
sentence, and is done. The CRM answers after 20 ms and gets one request a call; every body is another call.

accepted: `SUCCESS` a second at 16 and 64 connections, for 20 seconds. Node-RED answers first and sends to the
CRM beside (its flow `/accepted`); callbridge delivers meanwhile, with no number of workers given.
delivered: calls a second from the first callback to the last answer of the CRM, of as many calls as 800/s
(16 connections) and 1,150/s (64) make in 20 seconds. For Node-RED this is the flow that answers when the CRM
has (`/delivered`): it is its best case, since no more is under way than it has connections. callbridge
answers when a call is in its ledger, and goes on after the last callback; that time counts. It runs with no
number of workers given; beside it, not judged, with 16.
Processor time a call is of all processes of each, from the first callback until all is delivered; that of
callbridge in `accepted` is of what it had done when the flood ended.

loss: acknowledged calls that the CRM never got, of Node-RED's `/accepted` and of callbridge: by SIGKILL in
the middle of a flood and a start after it, by 4 seconds in which the CRM answers 503, and by SIGKILL in those
seconds. Node-RED's `/delivered` loses none that it acknowledged: there a callback fails while the CRM does.
"""

import argparse
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmarks.bodies import StoredBodies, stored_bodies
from benchmarks.crm import serving, told
from benchmarks.daemons import PENDING, UNJUDGED, Delivering, running
from benchmarks.figures import Budget, Figures, load_now
from benchmarks.load import Outcome, flood
from benchmarks.node_red import NoNodeRedError, install, node_red
from benchmarks.processes import processor_seconds

DELAY = 0.02
WORKERS = 16
ENOUGH = 5000
"""So many bodies a second are made."""
RATES = {16: 800, 64: 1150}
"""What Node-RED delivers a second at so many connections, about: so many calls last for the seconds."""
OUTAGE, LOSS_SECONDS = 4.0, 8.0
SPEED = (
    Budget("accepted c64, callbridge / Node-RED", at_least=2.5),
    Budget("delivered c16, callbridge / Node-RED", at_least=1.0),
    Budget("delivered c64, callbridge / Node-RED", at_least=0.8),
)


@dataclass(frozen=True)
class Done:
    """What came of one flood."""

    rate: float
    milliseconds: float
    """Of processor time a call."""


@dataclass(frozen=True)
class Peers:
    """Where both are, and what they are sent."""

    installed: Path
    bodies: StoredBodies

    def node_red_accepts(self, concurrency: int, seconds: float) -> Done:
        """Answers first."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            crm = stack.enter_context(serving("upserts", DELAY))
            peer = stack.enter_context(node_red(self.installed, folder, crm))
            before = processor_seconds(peer.process.pid)
            outcome = flood(f"{peer.url}/accepted", self.bodies, concurrency, seconds)
            _quiet(crm)
            return _done(outcome, processor_seconds(peer.process.pid) - before)

    def callbridge_accepts(self, concurrency: int, seconds: float) -> Done:
        """Delivering meanwhile; what is owed at the end of the flood stays owed."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            crm = stack.enter_context(serving("upserts", DELAY))
            measured = stack.enter_context(running(Delivering(crm).write(folder)))
            outcome = flood(measured.daemon.callback_url, self.bodies, concurrency, seconds)
            return _done(outcome, measured.processor_seconds)

    def node_red_delivers(self, concurrency: int, calls: int) -> Done:
        """Answers when the CRM has."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            crm = stack.enter_context(serving("upserts", DELAY))
            peer = stack.enter_context(node_red(self.installed, folder, crm))
            before = processor_seconds(peer.process.pid)
            url = f"{peer.url}/delivered"
            outcome = flood(url, self.bodies.part(0, calls), concurrency, float("inf"))
            return _delivered(crm, outcome, calls, processor_seconds(peer.process.pid) - before)

    def callbridge_delivers(self, concurrency: int, calls: int, workers: int | None) -> Done:
        """Until the last call is in the CRM."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            crm = stack.enter_context(serving("upserts", DELAY))
            measured = stack.enter_context(running(Delivering(crm, workers=workers).write(folder)))
            url = measured.daemon.callback_url
            outcome = flood(url, self.bodies.part(0, calls), concurrency, float("inf"))
            measured.wait_while(UNJUDGED)
            measured.wait_while(PENDING)
            return _delivered(crm, outcome, calls, measured.processor_seconds)


def _done(outcome: Outcome, busy: float) -> Done:
    calls = sum(outcome.answers.values())
    assert outcome.answers == {200: calls}, outcome.answers
    return Done(outcome.rate, 1000 * busy / calls)


def _delivered(crm: str, outcome: Outcome, calls: int, busy: float) -> Done:
    assert outcome.answers == {200: calls}, outcome.answers
    seen = told(crm, "seen")
    assert len({path for _, path in seen}) == calls, len(seen)
    last = max(moment for moment, _ in seen) + DELAY
    return Done(calls / (last - outcome.started), 1000 * busy / calls)


def _quiet(crm: str) -> None:
    """Wait until the CRM gets no more requests."""
    count, before = told(crm, "count"), -1
    while count != before:
        time.sleep(1.0)
        count, before = told(crm, "count"), count


def speed(peers: Peers, seconds: float, figures: Figures) -> None:
    """One run of each in turns."""
    for concurrency in RATES:
        theirs = peers.node_red_accepts(concurrency, seconds)
        ours = peers.callbridge_accepts(concurrency, seconds)
        _compare(figures, f"accepted c{concurrency}", theirs, ours)
    for concurrency, rate in RATES.items():
        calls = round(rate * seconds)
        theirs = peers.node_red_delivers(concurrency, calls)
        ours = peers.callbridge_delivers(concurrency, calls, None)
        _compare(figures, f"delivered c{concurrency}", theirs, ours)
        beside = peers.callbridge_delivers(concurrency, calls, WORKERS)
        _compare(figures, f"delivered c{concurrency} with {WORKERS} workers", theirs, beside)


def _compare(figures: Figures, what: str, theirs: Done, ours: Done) -> None:
    ratio = ours.rate / theirs.rate
    print(
        f"  {what}: Node-RED {theirs.rate:.0f}/s at {theirs.milliseconds:.2f} ms of processor time a call,"
        f" callbridge {ours.rate:.0f}/s at {ours.milliseconds:.2f} ms: {ratio:.2f}",
        flush=True,
    )
    if not what.endswith("workers"):
        figures.note(f"{what}, Node-RED, calls/s", theirs.rate)
        figures.note(f"{what}, Node-RED, ms of processor time", theirs.milliseconds)
    figures.note(f"{what}, callbridge, calls/s", ours.rate)
    figures.note(f"{what}, callbridge, ms of processor time", ours.milliseconds)
    figures.note(f"{what}, callbridge / Node-RED", ratio)


class Disaster(Enum):
    """What happens in the middle of a flood."""

    KILL = "SIGKILL"
    OUTAGE = "an outage of the CRM"
    KILL_IN_OUTAGE = "SIGKILL in an outage of the CRM"

    @property
    def kills(self) -> bool:
        return self is not Disaster.OUTAGE


def _flood_until(
    disaster: Disaster, url: str, bodies: StoredBodies, crm: str, kill: Callable[[], None]
) -> Outcome:
    """A flood at 64 connections, and what happens after its first two seconds."""

    def happen() -> None:
        if disaster is not Disaster.KILL:
            told(crm, f"outage/{OUTAGE}")
        if disaster is Disaster.KILL_IN_OUTAGE:
            time.sleep(1.0)
        if disaster.kills:
            kill()

    timer = threading.Timer(2.0, happen)
    timer.start()
    try:
        return flood(url, bodies, 64, LOSS_SECONDS, may_break=True)
    finally:
        timer.join()


def _lost(bodies: StoredBodies, crm: str, outcome: Outcome) -> tuple[int, int]:
    """How many calls were acknowledged, and how many of those the CRM never got."""
    there = {path.rsplit("/", 1)[1] for _, path in told(crm, "seen")}
    return len(outcome.acknowledged), sum(_key(bodies[each]) not in there for each in outcome.acknowledged)


def _key(body: bytes) -> str:
    found = re.search(rb'"uuid": "([^"]+)"', body)
    assert found
    return found[1].decode()


def node_red_loses(peers: Peers, disaster: Disaster) -> tuple[int, int]:
    """With the flow that answers first."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        crm = stack.enter_context(serving("upserts", DELAY))
        peer = stack.enter_context(node_red(peers.installed, folder, crm))
        outcome = _flood_until(disaster, f"{peer.url}/accepted", peers.bodies, crm, peer.kill)
        if disaster.kills:
            stack.enter_context(node_red(peers.installed, folder, crm))
        # Longer than the outage, should anything be tried again.
        time.sleep(OUTAGE)
        _quiet(crm)
        return _lost(peers.bodies, crm, outcome)


def callbridge_loses(peers: Peers, disaster: Disaster) -> tuple[int, int]:
    """Until nothing is owed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        crm = stack.enter_context(serving("upserts", DELAY))
        config = Delivering(crm, workers=WORKERS).write(folder)
        measured = stack.enter_context(running(config))
        daemon = measured.daemon
        outcome = _flood_until(disaster, daemon.callback_url, peers.bodies, crm, daemon.kill)
        if disaster.kills:
            measured = stack.enter_context(running(config))
        measured.wait_while(UNJUDGED)
        measured.wait_while(PENDING)
        return _lost(peers.bodies, crm, outcome)


def loss(peers: Peers, figures: Figures) -> None:
    """What each loses."""
    for disaster in Disaster:
        for name, loses in (("Node-RED", node_red_loses), ("callbridge", callbridge_loses)):
            acknowledged, lost = loses(peers, disaster)
            print(
                f"  {name}: {lost} of {acknowledged} acknowledged calls lost by {disaster.value}", flush=True
            )
            figures.note(f"{name}, calls lost by {disaster.value}", lost)


def main() -> int:
    """Print all figures; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of callbacks in each flood")
    parser.add_argument("--only", default="speed,loss", help="loss is run once")
    parser.add_argument("--quick", action="store_true", help="one run of 4 s, for trials")
    options = parser.parse_args()
    runs, seconds = (1, 4.0) if options.quick else (options.runs, options.seconds)
    parts, figures, budgets = options.only.split(","), Figures(), list[Budget]()
    with tempfile.TemporaryDirectory() as name:
        try:
            print(f"Node-RED {install(Path(name))}")
        except NoNodeRedError as error:
            print(f"The comparison with Node-RED is skipped: {error}.")
            return 0
        peers = Peers(Path(name), stored_bodies(Path(name), round(max(seconds, LOSS_SECONDS) * ENOUGH)))
        if "loss" in parts:
            loss(peers, figures)
            budgets += [Budget(f"callbridge, calls lost by {one.value}", at_most=0) for one in Disaster]
        if "speed" in parts:
            budgets += SPEED
            for number in range(1, runs + 1):
                print(f"run {number} of {runs}, {load_now()}", flush=True)
                speed(peers, seconds, figures)
    return 0 if figures.print(budgets) else 1


if __name__ == "__main__":
    sys.exit(main())
