"""Group commit: bodies that arrive while the ledger commits share the next commit."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import structlog

from bridge.ledger import IntakeLedger
from bridge.lib.errors import LedgerError
from bridge.model.calls import Arrival, Filed

log = structlog.get_logger("bridge.receive")

# With 10,000 bodies waiting for a commit, further ones are answered 503.
MOST_WAITING = 10_000
# Also with 256 MiB of them: while the ledger is locked, waiting bodies must not fill the memory.
MOST_WAITING_BYTES = 1 << 28
# Eight bodies or more in one commit are a burst: other threads then give way to the door.
PRESSED = 8


class NotFiled(Exception):
    """The body is not on disk, or not all of it: the sender must send it again."""


class GroupCommit:
    """Hands all bodies that wait to the ledger, in one commit."""

    def __init__(self, ledger: IntakeLedger, filed: Callable[[Sequence[Filed]], None]) -> None:
        self._ledger = ledger
        self._filed = filed
        self._waiting: list[tuple[Sequence[Arrival], asyncio.Future[Sequence[Filed]]]] = []
        self._bytes = 0
        """Of those that wait."""
        self._committing = False
        self._last = 0
        self.closed = False

    @property
    def pressed(self) -> bool:
        """Whether a commit of many is under way."""
        return self._committing and self._last >= PRESSED

    async def file(self, arrivals: Sequence[Arrival]) -> Sequence[Filed]:
        """Return once all records of a body are on disk and may be acknowledged.

        Raises:
            NotFiled: they are not; the message says why.
        """
        if self.closed:
            raise NotFiled("shutting down")
        if len(self._waiting) >= MOST_WAITING or self._bytes >= MOST_WAITING_BYTES:
            raise NotFiled("too many callbacks wait for the ledger")
        self._bytes += sum(len(arrival.payload) for arrival in arrivals)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Sequence[Filed]] = loop.create_future()
        self._waiting.append((arrivals, done))
        if not self._committing:
            self._commit(loop)
        try:
            return await done
        except LedgerError as error:
            raise NotFiled(str(error)) from error
        except Exception as error:
            # An unexpected fault: nothing was committed, so the platform must send the body again.
            log.exception("callback.fault", source=arrivals[0].source)
            raise NotFiled("a fault in callbridge, see its log") from error

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._waiting, self._bytes = self._waiting, [], 0
        self._committing, self._last = True, len(batch)
        committed = self._ledger.submit([arrival for arrivals, _ in batch for arrival in arrivals])
        committed.add_done_callback(lambda future: loop.call_soon_threadsafe(self._end, loop, batch, future))

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Sequence[Arrival], asyncio.Future[Sequence[Filed]]]],
        committed: Future[list[Filed]],
    ) -> None:
        self._committing = False
        if self._waiting:
            self._commit(loop)
        error = committed.exception()
        results = [] if error else committed.result()
        place = 0
        for arrivals, done in batch:
            filed = results[place : place + len(arrivals)]
            place += len(arrivals)
            if done.cancelled():
                continue
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(filed)
        if error is None:
            self._filed(results)
