"""Key locks: two deliveries that feed the same CRM object never run side by side.

What operators call a line is a key here: (CRM account, object type, rendered key).
"""

import itertools
import threading
from collections.abc import Iterable
from datetime import datetime

from bridge.model.deliveries import LockKey
from bridge.model.plan import Plan


class KeyLocks:
    """The key locks of one daemon. A delivery, named by its id, takes all of its keys at once, or none.

    So two deliveries never wait for each other. One in doubt keeps its keys until a look-up has settled it.
    """

    def __init__(self) -> None:
        self._holders: dict[LockKey, int] = {}
        self._keys_of: dict[int, set[LockKey]] = {}
        self._holds_until: dict[int, datetime] = {}
        self._turns: dict[int, int] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def begin_turn(self, owner: int) -> int:
        """Note that a delivery was leased; returns the turn's number, which `release` asks for."""
        with self._lock:
            turn = self._turns[owner] = next(self._numbers)
            return turn

    def acquire(self, owner: int, keys: Iterable[LockKey]) -> bool:
        """Take all keys, or none where another delivery has one; the owner's own stay its own."""
        wanted = set(keys)
        with self._lock:
            free = all(self._holders.get(key, owner) == owner for key in wanted)
            if free:
                self._holders.update(dict.fromkeys(wanted, owner))
                self._keys_of.setdefault(owner, set()).update(wanted)
                self._holds_until.pop(owner, None)
            return free

    def hold_until(self, owner: int, until: datetime, turn: int | None = None) -> None:
        """Mark a delivery's keys as held until then, so that nothing is kept leased for them before.

        A `turn` that is over changes nothing.
        """
        with self._lock:
            if turn in (None, self._turns.get(owner)):
                self._holds_until[owner] = until

    def free_at(self, owner: int, keys: Iterable[LockKey]) -> datetime | None:
        """When the last holder of these keys that `hold_until` has marked goes on; None: there is none."""
        with self._lock:
            holders = self._others(owner, keys)
            return max(
                (self._holds_until[each] for each in holders if each in self._holds_until), default=None
            )

    def release(self, owner: int, turn: int | None = None) -> None:
        """Release all keys of a delivery; a `turn` that is over releases nothing.

        A settled delivery may be due again, and leased by another worker, before the worker that settled it
        releases its keys.
        """
        with self._lock:
            if turn is not None and self._turns.get(owner) != turn:
                return
            self._turns.pop(owner, None)
            self._free(owner)

    def holds(self, owner: int, keys: Iterable[LockKey]) -> bool:
        """Whether a delivery holds all these keys already."""
        with self._lock:
            return self._keys_of.get(owner, frozenset()).issuperset(keys)

    def free_while_waiting(self, owner: int) -> bool:
        """Release all keys of a delivery that waits for more; its turn goes on. False: it had none."""
        with self._lock:
            had_some = owner in self._keys_of
            self._free(owner)
            return had_some

    def _free(self, owner: int) -> None:
        for key in self._keys_of.pop(owner, ()):
            del self._holders[key]
        self._holds_until.pop(owner, None)

    def holders(self) -> dict[LockKey, int]:
        """Which delivery holds which key."""
        with self._lock:
            return dict(self._holders)

    def others(self, owner: int, keys: Iterable[LockKey]) -> set[int]:
        """The other deliveries that hold some of these keys."""
        with self._lock:
            return self._others(owner, keys)

    def _others(self, owner: int, keys: Iterable[LockKey]) -> set[int]:
        return {self._holders.get(key, owner) for key in keys} - {owner}


def lock_keys_of(account: str, plan: Plan) -> list[LockKey]:
    """The keys that a plan's delivery locks: of every object, also those that belong to one call only."""
    return [(account, planned.type, planned.key_text) for planned in plan.objects]
