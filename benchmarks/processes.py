"""What a program costs, seen from outside: processor time and memory of all its processes.

A program is its main process and all that descend from it. Those that have ended count as well: their
parent carries their time from the moment it has waited for them.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 0.5
"""Seconds from one look at the memory to the next."""
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError)
"""What reading /proc raises where a process ends meanwhile."""


def daemon_of(ledger: Path) -> int:
    """The number of the main process that owns a ledger."""
    return int(ledger.with_name(ledger.name + ".lock").read_text("ascii"))


def processes_of(main: int) -> list[int]:
    """The main process and all that descend from it, as they live at this moment."""
    found = [main]
    for process in found:
        with suppress(*_GONE):
            for task in Path(f"/proc/{process}/task").iterdir():
                with suppress(*_GONE):
                    found += map(int, (task / "children").read_text("ascii").split())
    return found


def processor_seconds(main: int) -> float:
    """Seconds of processor time, user and system, of all processes since each began; in steps of 10 ms."""
    total = 0
    for process in processes_of(main):
        with suppress(*_GONE):
            # Fields 14 to 17 are utime, stime, cutime, cstime; the name before them may hold spaces.
            fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total * _TICK


@dataclass(frozen=True)
class Memory:
    """Megabytes that a program takes at one moment."""

    whole: float
    """Of all processes: what each has for itself, what they share once, and the files that they map once."""
    proportional: float
    """The sum of the kernel's PSS, where pages that others map too, such as our own Python, count in part."""
    main: float
    """The resident memory of the main process alone."""
    processes: int

    def shown(self) -> str:
        """For people."""
        return (
            f"{self.whole:.0f} MB in {self.processes} process{'es' * (self.processes > 1)}"
            f" (PSS {self.proportional:.0f}, RSS of the main one {self.main:.0f})"
        )


def memory_of(main: int) -> Memory:
    """Look once."""
    own = files = proportional = resident = 0.0
    count = 0
    for process in processes_of(main):
        with suppress(*_GONE):
            shares = _kilobytes(f"/proc/{process}/smaps_rollup")
            status = _kilobytes(f"/proc/{process}/status")
            if "Pss" not in shares or "VmRSS" not in status:
                continue  # It has ended and is not waited for yet.
            own += shares["Pss_Anon"] + shares["Pss_Shmem"]
            proportional += shares["Pss"]
            files = max(files, status["RssFile"])
            resident = resident or status["VmRSS"]
            count += 1
    megabyte = 1e6 / 1024
    return Memory((own + files) / megabyte, proportional / megabyte, resident / megabyte, count)


def _kilobytes(path: str) -> dict[str, int]:
    """The lines `Name: number kB` of a file in /proc."""
    parts = (line.split() for line in Path(path).read_text("utf-8").splitlines())
    return {each[0].rstrip(":"): int(each[1]) for each in parts if len(each) == 3 and each[2] == "kB"}


@dataclass
class MemoryWatch:
    """Every look at a program's memory, in order."""

    main: int
    seen: list[Memory] = field(default_factory=list)

    def look(self) -> Memory:
        """Look once more."""
        self.seen.append(memory_of(self.main))
        return self.seen[-1]

    @property
    def peak(self) -> Memory:
        """The look at which the whole was largest."""
        return max(self.seen, key=lambda one: one.whole)

    @property
    def peak_without_passing(self) -> Memory:
        """The same, of the looks at which there were no more processes than most of the time."""
        counts = sorted(one.processes for one in self.seen)
        return max(
            (one for one in self.seen if one.processes <= counts[len(counts) // 2]), key=lambda one: one.whole
        )


@contextmanager
def memory_watched(main: int, every: float = EVERY) -> Iterator[MemoryWatch]:
    """Look at the memory every so many seconds until the end, and once at the end."""
    watch, done = MemoryWatch(main), threading.Event()

    def look_on() -> None:
        while not done.wait(every):
            watch.look()

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()
        watch.look()
