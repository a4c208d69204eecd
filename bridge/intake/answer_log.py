"""The answers to callbacks: counted for metrics, and logged without a line for each request."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

log = structlog.get_logger("bridge.receive")

EVERY = 60.0
"""Seconds between two lines about the same kind of answer."""
NO_SOURCE = ""
"""The source of a request whose address names none."""
_LEFT = 0
# Addresses counted for a kind of answer: whoever sends from many must not fill the memory.
_MOST_ADDRESSES = 1_000
_SHOWN_ADDRESSES = 5

CallLater = Callable[[float, Callable[[], None]], Any]


def _call_later(delay: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(delay, call)


@dataclass(slots=True)
class _AnswersOfKind:
    """Answers of one kind since the line that was logged first in this minute."""

    answers: int = 0
    records: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    addresses: Counter[str] = field(default_factory=Counter)


class AnswerLog:
    """Counts every answer, and logs the first of a kind at once, the others as one line a minute.

    A kind is a source and a status: whoever sends a thousand wrong tokens makes two lines.
    """

    def __init__(self, expected: Mapping[str, Iterable[int]], schedule: CallLater = _call_later) -> None:
        """`expected`: the statuses that a source can be answered with, whose counts begin at 0.

        A counter that appears with its first event looks to Prometheus as if it had never grown.
        """
        self.counts: dict[tuple[str, int], int] = {
            (source, status): 0 for source, statuses in expected.items() for status in statuses
        }
        """How many requests were answered, by source and status, since the start."""
        self._schedule = schedule
        self._kinds: dict[tuple[str, int], _AnswersOfKind] = {}

    def left(self, source: str) -> None:
        """Count a sender that closed its connection before its body was complete, so no answer was given."""
        kind = self._kind(source, _LEFT)
        if kind is None:
            log.info("callback.left", source=source)
        else:
            kind.answers += 1

    def accepted(self, source: str, status: int, records: int) -> None:
        """Count a body that was filed and acknowledged."""
        kind = self._count(source, status)
        if kind is None:
            log.info("callback.accepted", source=source, records=records)
        else:
            kind.answers += 1
            kind.records += records

    def refused(self, status: int, reason: str, source: str, address: str) -> None:
        """Count a request that was answered with anything but the acknowledgement."""
        kind = self._count(source, status)
        if kind is None:
            log.warning(
                "callback.refused",
                status=status,
                reason=reason,
                source=source or None,
                address=address or None,
            )
            return
        kind.answers += 1
        kind.reasons[reason if len(kind.reasons) < _SHOWN_ADDRESSES else "other reasons"] += 1
        if address in kind.addresses or len(kind.addresses) < _MOST_ADDRESSES:
            kind.addresses[address] += 1

    def _count(self, source: str, status: int) -> _AnswersOfKind | None:
        """Count an answer. None: it is the first of its kind in this minute, and gets a line of its own."""
        which = (source, status)
        self.counts[which] = self.counts.get(which, 0) + 1
        return self._kind(source, status)

    def _kind(self, source: str, status: int) -> _AnswersOfKind | None:
        which = (source, status)
        kind = self._kinds.get(which)
        if kind is None:
            if not self._kinds:
                self._schedule(EVERY, self.flush)
            self._kinds[which] = _AnswersOfKind()
        return kind

    def flush(self) -> None:
        """Log one line for each kind that came again since its first line, and begin a new minute."""
        kinds, self._kinds = self._kinds, {}
        for (source, status), kind in kinds.items():
            if not kind.answers:
                continue
            if status == _LEFT:
                log.info("callback.left", source=source, more=kind.answers)
            elif not kind.reasons:
                log.info("callback.accepted", source=source, more=kind.answers, records=kind.records)
            else:
                log.warning(
                    "callback.refused",
                    status=status,
                    reason=kind.reasons.most_common(1)[0][0],
                    source=source or None,
                    address=_shown(kind.addresses) or None,
                    more=kind.answers,
                )


def _shown(addresses: Counter[str]) -> str:
    """The most frequent ones with their counts, as text."""
    shown = [f"{address} ×{count}" for address, count in addresses.most_common(_SHOWN_ADDRESSES) if address]
    others = len(addresses) - len(shown)
    return ", ".join(shown) + (f" and {others} more" if others > 0 and shown else "")
