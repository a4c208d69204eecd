"""What a program costs, seen from outside: processor time and memory of all its processes.

A program is its main process and all that descend from it. Those that have ended count as well: their
parent carries their time from the moment it has waited for them.
"""

import os
import threading
from collections import Counter
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
class ProcessMemory:
    """Megabytes that one process takes."""

    own: float
    """What no file backs; of what processes share, each counts its part."""
    files: float
    """Resident pages of files, such as the interpreter's."""
    proportional: float
    """The kernel's PSS: pages that others map too, such as our own Python, count in part."""
    resident: float


@dataclass(frozen=True)
class Memory:
    """What a program takes at one moment, by process; the main one comes first."""

    processes: dict[int, ProcessMemory]

    @property
    def whole(self) -> float:
        """Megabytes of all processes: what is their own, and the files that they map, once."""
        each = self.processes.values()
        return sum(one.own for one in each) + max((one.files for one in each), default=0.0)

    def only(self, processes: frozenset[int]) -> "Memory":
        """The same without all other processes."""
        return Memory({process: one for process, one in self.processes.items() if process in processes})

    def shown(self) -> str:
        """For people."""
        each = list(self.processes.values())
        return (
            f"{self.whole:.0f} MB in {len(each)} process{'es' * (len(each) > 1)}"
            f" (PSS {sum(one.proportional for one in each):.0f}, RSS of the main one {each[0].resident:.0f})"
        )


def memory_of(main: int) -> Memory:
    """Look once."""
    found = {}
    for process in processes_of(main):
        with suppress(*_GONE):
            shares = _megabytes(f"/proc/{process}/smaps_rollup")
            status = _megabytes(f"/proc/{process}/status")
            # One that has ended and is not waited for yet has neither.
            if "Pss" in shares and "VmRSS" in status:
                own = shares["Pss_Anon"] + shares["Pss_Shmem"]
                found[process] = ProcessMemory(own, status["RssFile"], shares["Pss"], status["VmRSS"])
    return Memory(found)


def _megabytes(path: str) -> dict[str, float]:
    """The lines `Name: number kB` of a file in /proc."""
    parts = (line.split() for line in Path(path).read_text("utf-8").splitlines())
    return {
        each[0].rstrip(":"): int(each[1]) * 1024 / 1e6 for each in parts if len(each) == 3 and each[2] == "kB"
    }


@dataclass
class MemoryWatch:
    """Every look at a program's memory, in order."""

    main: int
    seen: list[Memory] = field(default_factory=list)

    def look(self) -> None:
        """Look once more."""
        self.seen.append(memory_of(self.main))

    @property
    def peak(self) -> Memory:
        """The look at which the whole was largest."""
        return max(self.seen, key=lambda one: one.whole)

    @property
    def lasting(self) -> list[Memory]:
        """Every look, without the processes that were there at less than half of them.

        The process that makes a dictionary is such a one.
        """
        times = Counter(process for one in self.seen for process in one.processes)
        lasting = frozenset(process for process, count in times.items() if 2 * count >= len(self.seen))
        return [one.only(lasting) for one in self.seen]

    @property
    def lasting_peak(self) -> Memory:
        """The largest of them."""
        return max(self.lasting, key=lambda one: one.whole)


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
