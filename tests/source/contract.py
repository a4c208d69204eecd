"""What every source promises, whatever platform it asks: one class, run once for each."""

import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest

from bridge.lib.errors import SourceRefused, SourceUnreachable
from bridge.source import Source
from bridge.source.outcall.names import names_of

SECOND = timedelta(seconds=1)


class Platform(Protocol):
    """What the suite needs of a platform of its own to ask."""

    records: list[tuple[str, datetime]]
    """The uuid and the creation of 25 calls, a few seconds apart."""

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
    def served(self) -> AbstractContextManager[Platform]:
        """The platform."""

    @pytest.fixture
    def platform(self) -> Iterator[Platform]:
        with self.served() as platform:
            yield platform

    @pytest.fixture
    def source(self, platform: Platform) -> Iterator[Source]:
        source = platform.source()
        yield source
        source.close()

    @staticmethod
    def uuids(rows: Any) -> list[str]:
        return [names_of(row.get("uuid"), row.get("base_info"))[0] for row in map(json.loads, rows)]

    @staticmethod
    def whole(platform: Platform) -> tuple[datetime, datetime]:
        times = [at for _, at in platform.records]
        return min(times), max(times) + SECOND

    def test_one_page_holds_all_of_a_small_window(self, platform: Platform, source: Source) -> None:
        page = source.page(*self.whole(platform), 0, 100)
        assert sorted(self.uuids(page.rows)) == sorted(uuid for uuid, _ in platform.records)
        assert page.total == 25

    def test_pages_begin_at_0_and_share_no_row_while_nothing_moves(
        self, platform: Platform, source: Source
    ) -> None:
        pages = [source.page(*self.whole(platform), index, 10) for index in range(4)]
        assert [len(page.rows) for page in pages] == [10, 10, 5, 0]
        assert len({uuid for page in pages for uuid in self.uuids(page.rows)}) == 25

    def test_the_first_second_is_in_and_what_is_far_outside_is_not(
        self, platform: Platform, source: Source
    ) -> None:
        times = sorted(platform.records, key=lambda one: one[1])
        uuid, at = times[12]
        listed = self.uuids(source.page(at, at + SECOND, 0, 100).rows)
        assert uuid in listed
        assert times[0][0] not in listed
        assert times[-1][0] not in listed

    def test_a_window_without_calls_is_an_empty_page(self, platform: Platform, source: Source) -> None:
        later = self.whole(platform)[1] + timedelta(days=1)
        page = source.page(later, later + SECOND, 0, 100)
        assert not page.rows
        assert page.total in (0, None)

    def test_the_user_is_known_once_it_was_asked(self, platform: Platform, source: Source) -> None:
        row = json.loads(source.page(*self.whole(platform), 0, 1).rows[0])
        assert source.user == row["user_sn"]

    def test_a_session_that_is_over_is_renewed(self, platform: Platform, source: Source) -> None:
        source.page(*self.whole(platform), 0, 100)
        platform.end_sessions()
        assert len(source.page(*self.whole(platform), 0, 100).rows) == 25

    def test_a_wrong_secret_is_refused_and_never_shown(self, platform: Platform) -> None:
        source = platform.source(right=False)
        with pytest.raises(SourceRefused) as refused:
            source.page(*self.whole(platform), 0, 100)
        source.close()
        assert "wrong-secret" not in str(refused.value)

    def test_a_platform_that_is_down_is_unreachable_and_comes_back(
        self, platform: Platform, source: Source
    ) -> None:
        platform.down(down=True)
        with pytest.raises(SourceUnreachable):
            source.page(*self.whole(platform), 0, 100)
        assert platform.requests() < 20
        platform.down(down=False)
        assert len(source.page(*self.whole(platform), 0, 100).rows) == 25
