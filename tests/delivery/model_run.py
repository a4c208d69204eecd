"""One run of the delivery model: steps and faults in any order, on a simulated clock."""

import shutil
import sys
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from structlog.testing import capture_logs

from bridge.model.calls import Via
from tests.delivery.simulated_parts import Parts, Trouble
from tests.delivery.simulated_world import PHONES, World, body_of

STEPS = 50

SEED = 13

FAULTS = ("429", "503", "500", "502", "500 late", "502 late", "lost", "cut")

GRADES = st.sampled_from("ABC")

TROUBLES = st.tuples(st.sampled_from(FAULTS), st.integers(0, 4), st.sampled_from(["any", "write"]))


class DeliveryMachine(RuleBasedStateMachine):
    """See `World`; rules are what the platform, the network, the CRM, people and power cuts do."""

    parts = Parts()
    shown: ClassVar[Counter[str]] = Counter()
    """How many examples each kind of thing happened in."""
    examples = 0
    """How many there were of at least `STEPS` steps."""

    def __init__(self) -> None:
        super().__init__()
        shm = Path("/dev/shm")  # noqa: S108 -- a disk in memory, where there is one
        self.folder = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
        self.taken = 0
        self.stamp = 10
        self.bodies: list[dict[str, Any]] = []
        self.world: World | None = None
        self.quiet = capture_logs()
        self.quiet.__enter__()

    @initialize(
        batches=st.booleans(),
        on_deleted=st.sampled_from(["park", "recreate"]),
        grades=st.lists(GRADES, min_size=3, max_size=5),
        troubles=st.lists(TROUBLES, min_size=3, max_size=6),
    )
    def begin(self, batches: bool, on_deleted: str, grades: list[str], troubles: list[Any]) -> None:
        self.world = World(self.folder, batches=batches, on_deleted=on_deleted, parts=self.parts)
        self.world.happened["batch"] = int(batches)
        self.world.troubles += [Trouble(*each) for each in troubles]
        for number, grade in enumerate(grades):
            fields = {"status": grade, "mark": "x", "talktimes": number, "source": f"task {number}"}
            self.world.record(body_of(number, self.stamp, PHONES[number % 2], **fields))
        self.world.judge()

    @property
    def here(self) -> World:
        assert self.world is not None
        return self.world

    def teardown(self) -> None:
        failed = sys.exc_info()[0] is not None
        cls = type(self)
        try:
            if self.world is not None:
                if not failed:
                    self.world.drain()
                    self.world.check_quiet()
                # Hypothesis throws some away before they are long; they are checked, and not counted.
                if self.taken - 1 >= STEPS:
                    cls.examples += 1
                    cls.shown.update({name: 1 for name, count in self.world.happened.items() if count})
        finally:
            self.quiet.__exit__(None, None, None)
            if self.world is not None:
                self.world.close()
            shutil.rmtree(self.folder)

    # -- the platform ----------------------------------------------------------------------
    def _arrive(self, body: dict[str, Any], via: Via) -> None:
        self.bodies.append(body)
        self.here.attempt(lambda: self.here.record(body, via))

    @rule(
        number=st.integers(0, 4),
        other_phone=st.sampled_from([0, 0, 0, 1, 2]),
        grade=st.sampled_from("ABC"),
        remark=st.sampled_from(["x", "y", "z"]),
        talk=st.integers(0, 3),
        voice=st.sampled_from([0, 0, 0, 0, 0, 3]),
        late=st.sampled_from([0, 0, 0, 5]),
        via=st.sampled_from(Via),
        judged=st.booleans(),
    )
    def arrive(
        self,
        number: int,
        other_phone: int,
        grade: str,
        remark: str,
        talk: int,
        voice: int,
        late: int,
        via: Via,
        judged: bool,
    ) -> None:
        self.stamp += 1
        phone = PHONES[(number + other_phone) % 2 if other_phone < 2 else 2]
        fields = {"status": grade, "mark": remark, "talktimes": talk, "call_from_type": voice}
        fields |= {"unit": f"company {number}", "source": f"task {number}"}
        self.here.happened["late revision" if late else "arrival"] += 1
        self._arrive(body_of(number, self.stamp - late, phone, **fields), via)
        if judged:
            self.here.attempt(self.here.judge)

    @precondition(lambda self: self.world is not None and self.world.under_way)
    @rule(grade=GRADES, talk=st.integers(4, 9))
    def revise_what_is_under_way(self, grade: str, talk: int) -> None:
        keys = [row["key"] for row in self.here.deliveries() if row["state"] == "leased"]
        if keys:
            self.here.happened["revision under way"] += 1
            self.stamp += 1
            number = int(keys[0][:8], 16)
            fields = {"status": grade, "mark": "x", "talktimes": talk, "source": f"task {number}"}
            self._arrive(body_of(number, self.stamp, PHONES[number % 2], **fields), Via.CALLBACK)
            self.here.attempt(self.here.judge)

    @precondition(lambda self: self.bodies)
    @rule(which=st.integers(0, 100), via=st.sampled_from(Via))
    def arrive_again(self, which: int, via: Via) -> None:
        self.here.happened["duplicate"] += 1
        self._arrive(self.bodies[which % len(self.bodies)], via)

    @rule()
    def judge(self) -> None:
        self.here.attempt(self.here.judge)

    # -- our workers --------------------------------------------------------------------------
    @rule(
        number=st.integers(0, 1),
        requests=st.sampled_from([1, 2, 3, 100]),
        seconds=st.sampled_from([0.0, 0.0, 0.3, 60.0]),
    )
    def deliver(self, number: int, requests: int, seconds: float) -> None:
        world = self.here
        world.clock.pass_by(seconds)
        if world.under_way and number not in world.under_way:
            world.happened["interleaved"] += 1
        world.attempt(lambda: world.go_on(number, requests))

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 12.0, 60.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        if seconds < 0.3:
            self.here.happened["lag"] += 1
        self.here.clock.pass_by(seconds)

    @rule(days=st.sampled_from([-400, -30, -2, -1, 1, 2, 30, 400]), more=st.booleans())
    def clock_jumps(self, days: int, more: bool) -> None:
        self.here.jump(timedelta(days=days, hours=days if more else 0))

    # -- what goes wrong -----------------------------------------------------------------------
    @rule(number=st.integers(0, 1), requests=st.sampled_from([2, 100]), trouble=TROUBLES)
    def deliver_through(self, number: int, requests: int, trouble: tuple[str, int, str]) -> None:
        self.here.troubles.append(Trouble(*trouble))
        self.deliver(number=number, requests=requests, seconds=0.0)

    @rule(number=st.integers(0, 1), after=st.integers(0, 30))
    def deliver_to_a_crash(self, number: int, after: int) -> None:
        self.here.fuse.left = after
        self.deliver(number=number, requests=100, seconds=0.0)

    @rule()
    def tokens_expire(self) -> None:
        self.here.happened["expiry"] += 1
        self.here.desk.expire()

    @rule(after=st.integers(0, 12))
    def crash_soon(self, after: int) -> None:
        self.here.fuse.left = after

    @rule(after=st.integers(0, 8))
    def ledger_is_busy_soon(self, after: int) -> None:
        self.here.fuse.busy = after

    @rule(late_effects=st.booleans())
    def restart(self, late_effects: bool) -> None:
        self.here.restart(late_effects=late_effects)

    @rule()
    def mapping_changes(self) -> None:
        self.here.happened["mapping change"] += 1
        self.here.changed_mapping = not self.here.changed_mapping
        self.here.restart()

    # -- people --------------------------------------------------------------------------------
    @rule(phone=st.sampled_from(PHONES), name=st.sampled_from(["grade", "remark", "company"]))
    def edit_by_hand(self, phone: str, name: str) -> None:
        self.stamp += 1
        self.here.edit(f"+86{phone}", name, f"by hand {self.stamp}")

    @rule(phone=st.sampled_from(PHONES))
    def delete_by_hand(self, phone: str) -> None:
        self.here.delete(f"+86{phone}")

    @rule()
    def retry_all(self) -> None:
        self.here.happened["retry"] += 1
        self.here.ledger.retry([], self.here.clock())

    @rule(which=st.integers(0, 9))
    def skip_one(self, which: int) -> None:
        self.here.attempt(lambda: self.here.skip(which))

    @rule(force=st.booleans())
    def replay(self, force: bool) -> None:
        self.here.attempt(lambda: self.here.replay(force=force))

    @invariant()
    def holds(self) -> None:
        self.taken += 1
        if self.world is not None:
            self.world.check()


def run(
    examples: int, number: int, parts: Parts | None = None, *, shrink: bool = True
) -> type[DeliveryMachine]:
    """So many examples of a seed."""

    class Machine(DeliveryMachine):
        shown: ClassVar[Counter[str]] = Counter()
        examples = 0

    Machine.parts = parts or Parts()
    print(f"seed {number}")
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    run_state_machine_as_test(
        seed(number)(Machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS + 2,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            report_multiple_bugs=False,
        ),
    )
    return Machine
