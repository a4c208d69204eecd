"""What paging learns about one login's list: how many rows an answer holds, and if its totals are true."""

from dataclasses import dataclass
from datetime import timedelta

from bridge.reconcile.window import ListWindow
from bridge.source import Source

NO_SHARED_ROWS = timedelta(seconds=3)
"""Windows are asked for a second wider on each side; two with so much between them share no row."""
TIMES_TO_BELIEVE = 3
"""One odd answer may be chance: what shows three times is how the list works."""
IMPLAUSIBLE_FACTOR = 3
"""A total beyond three times the rows shown is not believed: deleted rows, which it may count, are fewer."""


@dataclass(slots=True)
class ListProfile:
    """How one login's list behaves, as far as its answers have shown."""

    source: Source
    page_size: int
    """How many rows are asked for at once."""
    most_rows: int
    """How many rows an answer holds at most: some platforms send fewer than they are asked for."""
    longest_answer: int = 0
    """Rows of the longest answer so far: one that is no shorter may have been cut."""
    totals_useless: bool = False
    """Whether totals are the same whatever is asked for: then they do not tell how short a window must be."""
    _implausible_totals: int = 0
    _suspected_size: int = 0
    _repeated_total: tuple[int, ListWindow] | None = None
    """A total that was far too much for a page, and the latest window that it was told of."""
    _times_repeated: int = 0

    def overflows(self, rows: int, total: int | None) -> bool:
        """Whether a window holds more than a page: by its total, or, where there is none, by a full page."""
        return rows >= self.most_rows if total is None else total > self.most_rows

    def note_large_total(self, window: ListWindow, total: int) -> None:
        """Count equal totals of windows that share no row: three in a row are not totals of the windows."""
        if total <= 2 * self.most_rows:
            return
        last = self._repeated_total
        if last is None or last[0] != total:
            self._times_repeated = 0
        elif window.since >= last[1].until + NO_SHARED_ROWS:
            self._times_repeated += 1
        elif window.until >= last[1].until:
            return
        self._repeated_total = total, window
        self.totals_useless = self.totals_useless or self._times_repeated >= TIMES_TO_BELIEVE

    def note_total_of_shortest(self, seen: int, total: int) -> None:
        """Count implausible totals of windows that cannot be cut further: three of them say nothing."""
        if total > IMPLAUSIBLE_FACTOR * max(seen, self.page_size):
            self._implausible_totals += 1
            self.totals_useless = self.totals_useless or self._implausible_totals >= TIMES_TO_BELIEVE

    def halve_page_size(self) -> None:
        """Ask for fewer rows: a page was too large to be read, and its halves were not."""
        self.page_size = max(1, self.page_size // 2)
        self.most_rows = min(self.most_rows, self.page_size)

    def note_less_showed_more(self, size: int) -> None:
        """Note that asking for `size` rows showed more than asking for more; the second time it is kept."""
        if self._suspected_size == size:
            self.page_size = self.most_rows = size
        self._suspected_size = size
