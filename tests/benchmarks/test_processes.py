"""What a program costs is told of all its processes."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.processes import (
    Memory,
    MemoryWatch,
    ProcessMemory,
    memory_of,
    processes_of,
    processor_seconds,
)

BURN = "import time\nwhile time.process_time() < 0.1: pass"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-S", "-c", {BURN!r}], check=True)
waits = "print('up', flush=True); input()"
child = subprocess.Popen([sys.executable, "-S", "-c", waits], stdin=subprocess.PIPE)
input()
child.communicate(b"\\n")
"""


@pytest.fixture(scope="module")
def program() -> Iterator[int]:
    """A program whose first child has used 0.1 s and ended, and whose second one lives."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process.pid
        process.communicate(b"\n")


def test_a_program_is_its_main_process_and_all_that_descend_from_it(program: int) -> None:
    main, *children = processes_of(program)

    assert main == program
    assert len(children) == 1


def test_the_time_of_a_child_that_has_ended_counts(program: int) -> None:
    assert processor_seconds(program) >= 0.1


def test_memory_is_of_all_processes_and_the_files_that_they_map_count_once(program: int) -> None:
    seen = memory_of(program)

    main, child = seen.processes.values()
    assert seen.whole == pytest.approx(main.own + child.own + max(main.files, child.files))
    assert min(main.own, child.own, main.files, child.files) > 0


def test_a_process_that_is_soon_gone_is_told_apart() -> None:
    lasting, passing = ProcessMemory(70.0, 10.0, 75.0, 80.0), ProcessMemory(100.0, 20.0, 110.0, 120.0)
    watch = MemoryWatch(1, [Memory({1: lasting}), Memory({1: lasting, 2: passing}), Memory({1: lasting})])

    assert watch.peak.whole == 190.0
    assert watch.lasting_peak.whole == 80.0


def test_a_second_process_that_stays_counts() -> None:
    each = ProcessMemory(50.0, 10.0, 55.0, 60.0)
    watch = MemoryWatch(1, [Memory({1: each}), Memory({1: each, 2: each}), Memory({1: each, 2: each})])

    assert watch.lasting_peak.whole == 110.0
