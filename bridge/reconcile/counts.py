"""What a reconciliation counts: for one window, and for all windows of a run."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.model.jobs import JobResult
from bridge.reconcile.diff import DiffOutcome, ListedRow, stronger_outcome

IDS_PER_HEADING = 1000
"""So many ids of each heading are kept in a run's result; all are counted."""

SHORT_LISTS_FROM = 20
"""With so many calls here, a list that shows less than half of them is not believed."""


def is_suspiciously_short(ours: int, listed: int) -> bool:
    """Whether a list shows so few of `ours` calls that it proves nothing about the others."""
    return ours >= SHORT_LISTS_FROM and 2 * listed < ours


@dataclass(slots=True)
class RowState:
    """What is known of one listed row so far."""

    digest: bytes = b""
    edited_at: str | None = None
    created_at: str | None = None
    outcome: DiffOutcome | None = None
    call_id: int | None = None
    filled: bool = False
    detail: str = ""


class WindowCounts:
    """What the list showed of one window, and of later ones so far."""

    def __init__(self, entries: Mapping[str, RowState] | None = None) -> None:
        self.entries: dict[str, RowState] = dict(entries or {})
        self.users: set[str] = set()

    def needs_comparing(self, listed: ListedRow) -> bool:
        """Whether a row must be compared: not again where only its spelling has changed since."""
        entry = self.entries.setdefault(listed.key, RowState())
        same = entry.digest == listed.digest or (
            entry.outcome is not None and entry.edited_at == listed.edited_at is not None
        )
        entry.digest, entry.edited_at = listed.digest, listed.edited_at
        entry.created_at = listed.arrival.created_at
        return not same

    def note(self, listed: ListedRow, outcome: DiffOutcome, detail: str = "") -> None:
        """What has been found out about a row."""
        entry = self.entries[listed.key]
        entry.outcome = stronger_outcome(entry.outcome, outcome)
        if outcome is DiffOutcome.CONFLICTING:
            entry.detail = detail

    def until(self, end: str) -> "tuple[WindowCounts, WindowCounts]":
        """Two parts: what counts for the window that ends at `end`, and what was seen of later windows."""
        later = {
            key: entry for key, entry in self.entries.items() if entry.created_at and entry.created_at >= end
        }
        ended = WindowCounts({key: entry for key, entry in self.entries.items() if key not in later})
        ended.users = self.users
        return ended, WindowCounts(later)

    def calls(self, *, filled: bool = False) -> set[int]:
        """The ids of the listed calls that the ledger has; with `filled` only of those filed by this run."""
        found = self.entries.values()
        return {
            entry.call_id for entry in found if entry.call_id is not None and (entry.filled or not filled)
        }

    def result(self) -> JobResult:
        """The counts under each heading, and the keys under each heading that needs an explanation."""
        counted = Counter(entry.outcome for entry in self.entries.values())
        ids: dict[str, list[str]] = {one.value: [] for one in DiffOutcome if one is not DiffOutcome.MATCHED}
        for key, entry in self.entries.items():
            listed = ids.get(entry.outcome or "")
            if listed is not None and len(listed) < IDS_PER_HEADING:
                listed.append(key)
        return {
            "seen": counted.total() - counted[None],
            **{outcome.value: counted[outcome] for outcome in DiffOutcome},
            "filled": sum(entry.filled for entry in self.entries.values()),
            "ids": ids,
            "explanations": {key: self.entries[key].detail for key in ids[DiffOutcome.CONFLICTING]},
        }


COUNT_NAMES = ("seen", *(one.value for one in DiffOutcome), "filled", "unlisted", "ours_only")


class RunCounts:
    """The counts of all windows of a run."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(COUNT_NAMES, 0)
        self.complete = True
        self.reasons: list[str] = []
        self.users: set[str] = set()
        self.ours_users: set[str] = set()
        self._ids: dict[str, list[str]] = {}
        self._explanations: dict[str, str] = {}

    def add(self, window: Mapping[str, Any]) -> None:
        """Add what one window has come to, in the form of `WindowCounts.result`."""
        for name in COUNT_NAMES:
            self.counts[name] += window[name]
        self.complete = self.complete and window["complete"]
        self.reasons = _some(self.reasons, window["reasons"])
        self.users.update(window["users"])
        self.ours_users.update(window["ours_users"])
        for name, keys in window["ids"].items():
            self._ids[name] = _some(self._ids.get(name, []), keys)
        for key, why in window["explanations"].items():
            if len(self._explanations) < 2 * IDS_PER_HEADING:
                self._explanations[key] = why

    def shown(self) -> JobResult:
        """The counts of all windows so far, as the job's result has them."""
        return {
            **self.counts,
            "complete": self.complete,
            "reasons": self.reasons,
            "ids": self._ids,
            "explanations": self._explanations,
        }


def _some(known: Collection[str], more: Collection[str]) -> list[str]:
    return [*known, *more][:IDS_PER_HEADING]
