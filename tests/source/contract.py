"""What the list of every platform promises: one class, run once for each."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

import pytest

from bridge.lib.errors import SourceRefused, SourceUnreachable
from bridge.record.arrival import read_head
from bridge.record.dialect import Dialect
from bridge.record.head import Head
from bridge.record.unwrap_body import read_record
from bridge.source import Source

SECOND = timedelta(seconds=1)


class ListedPlatform(Protocol):
    """A platform that the suite can ask and disturb."""

    dialect: Dialect
    records: list[tuple[str, datetime]]
    """The first name and the creation of 25 calls, a few seconds apart."""

    def source(self, *, right: bool = True) -> Source:
        """A new login, with the right secret or a wrong one."""

    def end_sessions(self) -> None:
        """Whatever was granted to a login holds no more."""

    def down(self, *, down: bool) -> None:
        """Every request fails until further notice."""

    def requests(self) -> int:
        """How often the list was asked."""


class SourceContract:
    """One platform, 25 calls."""

    @abstractmethod
    def served(self) -> AbstractContextManager[ListedPlatform]:
        """The platform."""

    @pytest.fixture
    def platform(self) -> Iterator[ListedPlatform]:
        with self.served() as platform:
            yield platform

    @pytest.fixture
    def source(self, platform: ListedPlatform) -> Iterator[Source]:
        source = platform.source()
        yield source
        source.close()

    @staticmethod
    def heads(platform: ListedPlatform, rows: Iterable[bytes]) -> list[Head]:
        return [read_head(read_record(row, platform.dialect), platform.dialect) for row in rows]

    def names(self, platform: ListedPlatform, rows: Iterable[bytes]) -> list[str]:
        return [head.names()[0] for head in self.heads(platform, rows)]

    @staticmethod
    def whole(platform: ListedPlatform) -> tuple[datetime, datetime]:
        times = [at for _, at in platform.records]
        return min(times), max(times) + SECOND

    def test_one_page_holds_all_of_a_small_window(self, platform: ListedPlatform, source: Source) -> None:
        page = source.page(*self.whole(platform), 0, 100)
        assert sorted(self.names(platform, page.rows)) == sorted(name for name, _ in platform.records)
        assert page.total == 25

    def test_pages_begin_at_0_and_share_no_row_while_nothing_moves(
        self, platform: ListedPlatform, source: Source
    ) -> None:
        pages = [source.page(*self.whole(platform), index, 10) for index in range(4)]
        assert [len(page.rows) for page in pages] == [10, 10, 5, 0]
        assert len({name for page in pages for name in self.names(platform, page.rows)}) == 25

    def test_window_includes_its_first_second_and_nothing_far_outside(
        self, platform: ListedPlatform, source: Source
    ) -> None:
        times = sorted(platform.records, key=lambda one: one[1])
        name, at = times[12]
        listed = self.names(platform, source.page(at, at + SECOND, 0, 100).rows)
        assert name in listed
        assert times[0][0] not in listed
        assert times[-1][0] not in listed

    def test_a_window_without_calls_is_an_empty_page(self, platform: ListedPlatform, source: Source) -> None:
        later = self.whole(platform)[1] + timedelta(days=1)
        page = source.page(later, later + SECOND, 0, 100)
        assert not page.rows
        assert page.total in (0, None)

    def test_user_is_known_after_the_first_page(self, platform: ListedPlatform, source: Source) -> None:
        (head,) = self.heads(platform, source.page(*self.whole(platform), 0, 1).rows)
        assert source.user == head.user

    def test_expired_session_is_renewed(self, platform: ListedPlatform, source: Source) -> None:
        source.page(*self.whole(platform), 0, 100)
        platform.end_sessions()
        assert len(source.page(*self.whole(platform), 0, 100).rows) == 25

    def test_a_wrong_secret_is_refused_and_never_shown(self, platform: ListedPlatform) -> None:
        source = platform.source(right=False)
        with pytest.raises(SourceRefused) as refused:
            source.page(*self.whole(platform), 0, 100)
        source.close()
        assert "wrong-secret" not in str(refused.value)

    def test_platform_that_is_down_is_unreachable_until_it_is_back(
        self, platform: ListedPlatform, source: Source
    ) -> None:
        platform.down(down=True)
        with pytest.raises(SourceUnreachable):
            source.page(*self.whole(platform), 0, 100)
        assert platform.requests() < 20
        platform.down(down=False)
        assert len(source.page(*self.whole(platform), 0, 100).rows) == 25
