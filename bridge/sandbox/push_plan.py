"""What the sandbox platform pushes and in which order: new calls, duplicates, edits, states out of order."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from bridge.sandbox.records import Record, later_edit

DUPLICATES = 0.08
EDITS = 0.06
REORDERED = 0.04


@dataclass(frozen=True, slots=True)
class PlannedPush:
    """One state of one call to push, and why: `new`, `duplicate`, `edit`, `late` (an older state)."""

    reason: str
    record: Record


def plan_batch(
    records: Iterable[Record], rng: random.Random, now: datetime
) -> tuple[list[PlannedPush], list[PlannedPush]]:
    """Each call's first push, and what comes when those are through, so that order on the wire is certain."""
    first = [PlannedPush("new", record) for record in records]
    count = len(first)
    chosen = rng.sample(range(count), count)
    edited, reordered = max(1, round(count * EDITS)), max(1, round(count * REORDERED))
    duplicated = max(1, round(count * DUPLICATES))
    then = [PlannedPush("edit", later_edit(first[place].record, rng, now)) for place in chosen[:edited]]
    for place in chosen[edited : edited + reordered]:
        older = first[place].record
        first[place] = PlannedPush("new", later_edit(older, rng, now))
        then.append(PlannedPush("late", older))
    repeated = chosen[edited + reordered : edited + reordered + duplicated]
    then += [PlannedPush("duplicate", first[place].record) for place in repeated]
    rng.shuffle(then)
    return first, then


def endless(
    records: Iterator[Record], rng: random.Random, clock: Callable[[], datetime]
) -> Iterator[PlannedPush]:
    """First pushes as the records come, with the same troubles mixed in some calls later."""
    waiting: deque[tuple[int, str, Record]] = deque()
    for number, made in enumerate(records):
        record, luck = made, rng.random()
        if luck < REORDERED:
            waiting.append((number + 2, "late", record))
            record = later_edit(record, rng, clock())
        elif luck < REORDERED + EDITS:
            waiting.append((number + 5, "edit", record))
        elif luck < REORDERED + EDITS + DUPLICATES:
            waiting.append((number + 3, "duplicate", record))
        yield PlannedPush("new", record)
        for _ in range(len(waiting)):
            due, reason, older = waiting.popleft()
            if due > number:
                waiting.append((due, reason, older))
            else:
                yield PlannedPush(reason, later_edit(older, rng, clock()) if reason == "edit" else older)


def paced(records: Iterator[Record], rate: float, stop: threading.Event) -> Iterator[Record]:
    """The records as they fall due, `rate` a second, until `stop` is set."""
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        yield next(records)
        # A receiver that was slow is not flooded afterwards: at most a second is made up for.
        due = max(due + 1 / rate, time.monotonic() - 1)
