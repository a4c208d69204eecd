"""Plans what the sandbox platform pushes: new calls, duplicates, edits, and states out of order."""

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
    """The first pushes of all calls, and those to send after them, so that each call's order is certain."""
    first = [PlannedPush("new", record) for record in records]
    count = len(first)
    chosen = rng.sample(range(count), count)
    edited, reordered = max(1, round(count * EDITS)), max(1, round(count * REORDERED))
    duplicated = max(1, round(count * DUPLICATES))
    then = [PlannedPush("edit", later_edit(first[index].record, rng, now)) for index in chosen[:edited]]
    for index in chosen[edited : edited + reordered]:
        older = first[index].record
        first[index] = PlannedPush("new", later_edit(older, rng, now))
        then.append(PlannedPush("late", older))
    repeated = chosen[edited + reordered : edited + reordered + duplicated]
    then += [PlannedPush("duplicate", first[index].record) for index in repeated]
    rng.shuffle(then)
    return first, then


def endless(
    records: Iterator[Record], rng: random.Random, clock: Callable[[], datetime]
) -> Iterator[PlannedPush]:
    """Pushes without end: each new record, and some calls later its duplicate, edit or older state."""
    waiting: deque[tuple[int, str, Record]] = deque()
    for number, made in enumerate(records):
        record, drawn = made, rng.random()
        if drawn < REORDERED:
            waiting.append((number + 2, "late", record))
            record = later_edit(record, rng, clock())
        elif drawn < REORDERED + EDITS:
            waiting.append((number + 5, "edit", record))
        elif drawn < REORDERED + EDITS + DUPLICATES:
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
        # After a slow receiver at most one second of pushes is made up for, so that it is not flooded.
        due = max(due + 1 / rate, time.monotonic() - 1)
