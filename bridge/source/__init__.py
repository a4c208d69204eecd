"""A source's list: what a walk asks of a platform. One module a platform, and one contract suite.

To teach callbridge a second platform: a module here with a `Source` in it, whose rows carry the field
names of `bridge.record`; a class in `tests/source/test_source.py` that inherits the suite of
`tests/source/contract.py`; and its name in `bridge.daemon.wiring`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bridge.lib.errors import SourceUnreachable


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
