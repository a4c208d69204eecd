"""What a walk learns of one login's list: how many rows a page has, and whether its totals can be used."""

from dataclasses import dataclass
from datetime import timedelta

from bridge.reconcile.window import ListWindow
from bridge.source import Source

NO_SHARED_ROWS = timedelta(seconds=3)
"""Windows overlap where they are asked for; with so much between them they have no row in common."""
TIMES_TO_BELIEVE = 3
"""A pass ends after three answers in a row that show no new row."""

IMPLAUSIBLE = 3
"""A total beyond three times the rows shown is not believed: deleted rows, which it may count, are fewer."""


@dataclass(slots=True)
class ListProfile:
    """What was learnt of one login's list."""

    source: Source
    size: int
    """How many rows to ask for at once."""
    cap: int
    """How many rows an answer has at most."""
    longest: int = 0
    """How many rows the longest answer had: one that is no shorter may have been cut."""
    suspected: int = 0
    lies: int = 0
    vague: bool = False
    """Totals are the same whatever is asked for, and say nothing of how short a window should be."""
    _told: tuple[int, ListWindow] | None = None
    """A total that was far too much for a page, and the shortest window that it was told of."""
    _alike: int = 0

    def overflows(self, rows: int, total: int | None) -> bool:
        """Whether a window has more than a page: its total says so, or there is none beside a full page."""
        return rows >= self.cap if total is None else total > self.cap

    def doubt(self, window: ListWindow, total: int) -> None:
        """The same total of windows that have no row in common, again and again, is one of something else."""
        if total <= 2 * self.cap:
            return
        told = self._told
        if told is None or told[0] != total:
            self._alike = 0
        elif window.since >= told[1].until + NO_SHARED_ROWS:
            self._alike += 1
        elif window.until >= told[1].until:
            return
        self._told = total, window
        self.vague = self.vague or self._alike >= TIMES_TO_BELIEVE

    def compare(self, seen: int, total: int) -> None:
        """A window that cannot be cut further: three totals far beyond what was seen say nothing."""
        if total > IMPLAUSIBLE * max(seen, self.size):
            self.lies += 1
            self.vague = self.vague or self.lies >= TIMES_TO_BELIEVE

    def ask_for_less(self) -> None:
        """A page held more than is read at once, but its halves did not."""
        self.size = max(1, self.size // 2)
        self.cap = min(self.cap, self.size)

    def asked_too_much(self, size: int) -> None:
        """Asking for less showed more; twice at the same size is no chance."""
        if self.suspected == size:
            self.size = self.cap = size
        self.suspected = size
