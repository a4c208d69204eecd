"""Platforms: how each writes its records, and how its list is asked. One package a platform.

Owns what differs between platforms: a `Platform` is a `Dialect` (`bridge.record.dialect`), by which
everything
else reads its records, and what opens its list.
May import `record`, `model` and `lib`.
Begin at `Platform` below. To add one: a package beside `outcall` with both, and a line in `platforms.py`;
its
list is held by the suite in `tests/source/contract.py`.
"""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bridge.lib.errors import SourceUnreachable
from bridge.record.dialect import Dialect
from bridge.source.list_api import ListApi


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the list, each as JSON, and how many rows the platform says there are in all."""

    rows: Sequence[bytes]
    total: int | None
    broken: str = ""
    """Why rows may be missing that this page should hold, though it was asked for several times."""


class PageTooLarge(SourceUnreachable):
    """A page of so many rows is more than is read at once."""


class Source(Protocol):
    """One login of one platform. It belongs to one thread."""

    @property
    def name(self) -> str:
        """Which login it is, in messages."""

    @property
    def user(self) -> str | None:
        """The user whose rows it is shown, as rows name it; None before the first page."""

    def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
        """One page of the calls created from `since` until before `until`; the first has index 0.

        Rows from outside may be among them, and count in the total. Nothing is promised of order,
        of the number of rows, or of the total: that is the walk's affair.

        Raises:
            SourceUnreachable: no answer, though it was tried for some seconds.
            PageTooLarge: a page of fewer rows may do.
            SourceRefused: the platform says no.
        """

    def close(self) -> None:
        """Close the connection."""


class OpenList(Protocol):
    """Opens the list of a platform with one login; nothing is asked before the first page is."""

    def __call__(
        self, api: ListApi, *, clock: Callable[[], datetime], rng: random.Random, stop: threading.Event
    ) -> Source:
        """A list that gives up waiting when `stop` is set."""


@dataclass(frozen=True, slots=True)
class Platform:
    """One call platform."""

    dialect: Dialect
    open_list: OpenList
