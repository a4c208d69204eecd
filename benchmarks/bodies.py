"""Callbacks that are all different, made before the run and read from a file while it runs.

Making a body costs as much as a daemon needs to take it in, and the load generator shares the cores with the
daemon. So all are made first, into a file that is read through the page cache: a body then costs the load
generator one copy of 15 KB, and the benchmark holds none of them in memory.
"""

import mmap
import multiprocessing
import os
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.texts import spaced, varied_records

CHUNK = 10_000
"""So many bodies are made by one process from one seed; a chunk has its own campaigns."""


class StoredBodies:
    """Bodies in a file, by number; no two are of one call."""

    def __init__(self, path: Path, ends: "array[int]") -> None:
        self._ends = ends
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> bytes:
        return self._mapped[self._ends[number - 1] if number else 0 : self._ends[number]]

    def __iter__(self) -> Iterator[bytes]:
        return self.part(0, len(self))

    def part(self, start: int, count: int) -> Iterator[bytes]:
        """So many bodies from one on, each read when it is asked for; an IndexError where there are fewer."""
        if start + count > len(self):
            raise IndexError(start + count)
        return (self[number] for number in range(start, start + count))

    def endlessly(self) -> Iterator[bytes]:
        """All bodies again and again, for a server that keeps none of them."""
        while True:
            yield from self


def stored_bodies(folder: Path, count: int, seed: int = 7) -> StoredBodies:
    """Make so many bodies into a file of the folder, on all cores, and wait until the disk has them."""
    path, ends, started = folder / f"bodies-{seed}", array("Q"), time.perf_counter()
    chunks = [(seed * 1000 + start // CHUNK, min(CHUNK, count - start)) for start in range(0, count, CHUNK)]
    context = multiprocessing.get_context("spawn")
    with path.open("wb") as file, ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for bodies in pool.map(_bodies_of, chunks):
            for body in bodies:
                file.write(body)
                ends.append((ends[-1] if ends else 0) + len(body))
        # Else the kernel would write them in the middle of the run, before the daemon's own commits.
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    print(f"{count} bodies, {ends[-1] / count / 1000:.1f} KB each, all different, made in {seconds:.0f} s")
    return StoredBodies(path, ends)


def _bodies_of(chunk: tuple[int, int]) -> list[bytes]:
    seed, count = chunk
    return [spaced(record) for record in varied_records(count, seed)]
