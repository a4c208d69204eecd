"""Deliveries in a process of their own, so that the door keeps its interpreter to itself.

The process is a fork: it shares the pages of all that was loaded before. Both sides tell each other single
bytes over a pair of sockets; when one end closes, its process is dead. Begin at `DeliveryProcess`.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import NoReturn, Self

import structlog

from bridge.daemon.deliveries import Deliveries
from bridge.ledger import Ledger
from bridge.lib.memory import give_memory_back

log = structlog.get_logger("bridge.daemon")

STOP_WITHIN = 20.0
"""Seconds. systemd's TimeoutStopSec is longer: what is under way ends before the process is killed."""
KILLED_AFTER = 2.0
"""Seconds that the process has beyond that, or once it was hurried, before it is killed."""
ANSWERS_WITHIN = 25.0
"""Seconds. systemd is told every 30 s that all is well, and waits 60 s."""

# What the daemon tells the process. Several may be read at once.
START, WAKE, ASK, STOP, HURRY = b"s", b"w", b"a", b"e", b"h"
ANSWER = b"a"
"""What the process says once it has started, and to `ASK`."""
READ_AT_ONCE = 4096

SWITCH_INTERVAL = 0.0005
"""Seconds. Many threads want the interpreter here, and nobody waits for one of them: with the door's 0.1 ms
a call takes 0.90 ms of processor time, with this 0.81."""

NAME = b"cb-deliveries"
"""What `ps -e` and `top` call the process; the kernel keeps 15 letters."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


PART = "deliveries"
"""What the log calls it."""


class DeliveryProcess:
    """Deliveries in a fork of this process. See `Deliveries`, which says what each method promises."""

    def __init__(
        self, open_ledger: Callable[[], Ledger], deliveries_on: Callable[[Ledger], Deliveries]
    ) -> None:
        """Fork: there must be no thread, no connection to the ledger and no event loop in this process yet.

        The fork opens the ledger for itself, once the daemon has started.
        """
        self._link, its_link = socket.socketpair()
        self._answered, self._ended = threading.Event(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name=PART, daemon=True)
        self._give_up: Callable[[], None] = lambda: None
        self._stopping = self._killed = False
        self._hurried_at = float("inf")
        self.failed = ""
        # What is free now would be taken by both. The garbage collector marks what it looks at, which
        # would make shared pages private.
        gc.collect()
        give_memory_back()
        gc.freeze()
        parent = os.getpid()
        self.process_id = os.fork()
        if self.process_id == 0:
            self._link.close()
            _live_as_fork(its_link, parent, open_ledger, deliveries_on)
        its_link.close()

    def start(self, give_up: Callable[[], None]) -> None:
        """Let it open the ledger and deliver; returns once it does, or has died."""
        self._give_up = give_up
        self._watcher.start()
        self._tell(START)
        self._answered.wait()

    def wake(self) -> None:
        """Costs one system call, 2 µs."""
        self._tell(WAKE)

    def respond(self) -> bool:
        """Whether its thread that writes the ledger answers within 25 s."""
        self._answered.clear()
        self._tell(ASK)
        return self._answered.wait(ANSWERS_WITHIN) and not self._ended.is_set()

    def stop(self) -> None:
        """Tell it to end."""
        self._stopping = True
        self._tell(STOP)

    def hurry(self) -> None:
        """Tell it not to wait for what is under way."""
        self._stopping = True
        self._hurried_at = time.monotonic()
        self._tell(HURRY)

    def join(self, within: float) -> None:
        """Wait for its end; where it does not end in time, it is killed."""
        deadline = time.monotonic() + within + KILLED_AFTER
        while not self._ended.wait(0.05):
            if time.monotonic() > min(deadline, self._hurried_at + KILLED_AFTER):
                log.warning("daemon.stopped_late", part=PART)
                self._kill()
                self._ended.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, where `join` has not: the daemon did not start."""
        if not self._ended.is_set():
            self._kill()
            if self._watcher.is_alive():
                self._ended.wait()
            else:
                os.waitpid(self.process_id, 0)
        self._link.close()

    def _kill(self) -> None:
        self._killed = True
        # It may have ended just now.
        with suppress(ProcessLookupError):
            os.kill(self.process_id, signal.SIGKILL)

    def _tell(self, what: bytes) -> None:
        # Where nothing can be sent, the process is dead, which `_watch` sees, or has enough to read already.
        with suppress(OSError):
            self._link.send(what, socket.MSG_DONTWAIT)

    def _watch(self) -> None:
        """Wait for answers, and then for the end."""
        with suppress(OSError):
            while self._link.recv(READ_AT_ONCE):
                self._answered.set()
        code = os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])
        if not self._stopping or (code and not self._killed):
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            log.error("daemon.part_failed", part=PART, exception=how)
            self.failed = PART
        self._ended.set()
        self._answered.set()
        if not self._stopping:
            self._give_up()


def _live_as_fork(
    link: socket.socket,
    parent: int,
    open_ledger: Callable[[], Ledger],
    deliveries_on: Callable[[Ledger], Deliveries],
) -> NoReturn:
    """The whole life of the process; never returns into what the parent was doing when it forked."""
    code = 1
    try:
        _die_with(parent)
        sys.setswitchinterval(SWITCH_INTERVAL)
        # Ctrl-C and systemd signal all processes; the parent says when to stop. A function in place of
        # SIG_IGN, which the programs started from here would inherit.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        if link.recv(1) == START:
            code = deliver_as_told(link, open_ledger(), deliveries_on, parent_gone=partial(os._exit, 1))
    except Exception:
        log.exception("daemon.part_failed", part=PART)
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however it dies."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It died before it was said.
        os._exit(1)
    libc.prctl(_PR_SET_NAME, NAME)


def deliver_as_told(
    link: socket.socket,
    ledger: Ledger,
    deliveries_on: Callable[[Ledger], Deliveries],
    *,
    parent_gone: Callable[[], None],
) -> int:
    """Deliver until told to stop, then close the ledger; returns the exit code."""
    deliveries, stopping = deliveries_on(ledger), threading.Event()
    deliveries.start(stopping.set)
    link.send(ANSWER)

    def listen() -> None:
        try:
            while told := link.recv(READ_AT_ONCE):
                if WAKE in told:
                    deliveries.wake()
                if STOP in told:
                    stopping.set()
                if HURRY in told:
                    deliveries.hurry()
                if ASK in told and deliveries.respond():
                    link.send(ANSWER)
        except Exception:
            log.exception("daemon.part_failed", part=PART)
        finally:
            parent_gone()

    threading.Thread(target=listen, name="listen", daemon=True).start()
    stopping.wait()
    deliveries.stop()
    deliveries.join(STOP_WITHIN)
    ledger.close()
    return 1 if deliveries.failed else 0
