"""Lines: what is never served twice at once, (account, type, key) of each object of a delivery."""

import itertools
import threading
from collections.abc import Iterable
from datetime import datetime

from bridge.model.plan import Plan

Line = tuple[str, str, str]


class Lines:
    """The lines of one daemon; a delivery takes all of its own together, or none.

    A delivery that is in doubt keeps its lines while it waits for its look-up.
    """

    def __init__(self) -> None:
        self._held: dict[Line, int] = {}
        self._by_owner: dict[int, set[Line]] = {}
        self._waits: dict[int, datetime] = {}
        self._turns: dict[int, int] = {}
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()

    def begin(self, owner: int) -> int:
        """A delivery is leased: what ended its turn before has no say over the lines of this one."""
        with self._changed:
            turn = self._turns[owner] = next(self._numbers)
            return turn

    def take(self, owner: int, lines: Iterable[Line], patience: float) -> bool:
        """Take all lines for a delivery, waiting so many seconds; what it has already stays its own."""
        wanted = set(lines)
        with self._changed:
            self._changed.wait_for(lambda: self._free(owner, wanted) or self._vain(owner, wanted), patience)
            free = self._free(owner, wanted)
            if free:
                self._held.update(dict.fromkeys(wanted, owner))
                self._by_owner.setdefault(owner, set()).update(wanted)
                self._waits.pop(owner, None)
            return free

    def wait(self, owner: int, until: datetime, turn: int | None = None) -> None:
        """A delivery keeps its lines, and goes on only then: till then nobody waits for them in a worker."""
        with self._changed:
            if turn in (None, self._turns.get(owner)):
                self._waits[owner] = until
                self._changed.notify_all()

    def free_at(self, owner: int, lines: Iterable[Line]) -> datetime | None:
        """When those go on that keep these lines from a delivery and wait themselves; None: nobody does."""
        with self._changed:
            holders = {self._held.get(line, owner) for line in lines} - {owner}
            return max((self._waits[each] for each in holders if each in self._waits), default=None)

    def release(self, owner: int, turn: int | None = None) -> None:
        """Give back all lines of a delivery; of a `turn` that is over only if none has begun since.

        It may be due again, and in another worker's hands, before the one that had it gets here.
        """
        with self._changed:
            if turn is not None and self._turns.get(owner) != turn:
                return
            self._turns.pop(owner, None)
            for line in self._by_owner.pop(owner, ()):
                del self._held[line]
            self._waits.pop(owner, None)
            self._changed.notify_all()

    def held(self) -> dict[Line, int]:
        """Who holds which line."""
        with self._changed:
            return dict(self._held)

    def _free(self, owner: int, wanted: set[Line]) -> bool:
        return all(self._held.get(line, owner) == owner for line in wanted)

    def _vain(self, owner: int, wanted: set[Line]) -> bool:
        holders = {self._held.get(line, owner) for line in wanted} - {owner}
        return any(holder in self._waits for holder in holders)


def lines_of(account: str, plan: Plan) -> list[Line]:
    """The lines of a plan; the objects of one call alone are lines too, which nobody else wants."""
    return [(account, planned.type, planned.key_text) for planned in plan.objects]
