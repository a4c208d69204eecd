"""Plain steps for the tests of a walk: a list without a wire, and a taker that notes what came."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec

from bridge.model.calls import stamp
from bridge.reconcile.paging import Shown, Walk
from bridge.reconcile.window import Between, Walked
from bridge.sandbox.platform_faults import Disturbances
from bridge.sandbox.platform_list import ListLogin, PlatformList
from bridge.sandbox.records import PLATFORM_ZONE, Record
from bridge.source import Page
from bridge.source.outcall.answers import whole
from tests.source_steps import NOW

SECOND = timedelta(seconds=1)
USERS = ("demo", "branch")


def row(number: int, at: datetime, user: str = "demo") -> Record:
    """A record as small as a walk can tell it apart."""
    local = f"{at.astimezone(PLATFORM_ZONE):%Y-%m-%d %H:%M:%S}"
    return {
        "uuid": f"{number:08x}-18d6-11f0-88c8-2f2b0aba51d7",
        "sn": f"sn{number}",
        "created_at": local,
        "started_at": local,
        "updated_at": local,
        "user_sn": f"SYSUSER|{user}",
        "id": number,
    }


def spread(
    count: int, over: timedelta, seed: int = 1, user: str = "demo", start: int = 0, *, bursts: bool = True
) -> list[Record]:
    """So many rows before now, some of them in one second."""
    chance = random.Random(seed)  # noqa: S311 -- sample data
    seconds = over.total_seconds()
    burst = chance.uniform(0, seconds)
    moments = [
        burst if bursts and chance.random() < 0.2 else chance.uniform(1, seconds) for _ in range(count)
    ]
    return [
        row(start + number, NOW - timedelta(seconds=int(at) + 1), user) for number, at in enumerate(moments)
    ]


class Shelf:
    """A source whose platform stands beside it."""

    def __init__(self, platform: PlatformList, user: str = "demo") -> None:
        self._platform = platform
        self._session: Any = None
        self._user = user
        self.asked: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return self._user

    @property
    def user(self) -> str | None:
        return f"SYSUSER|{self._user}"

    def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
        start, end = (
            f"{at.astimezone(PLATFORM_ZONE):%Y-%m-%d %H:%M:%S}" for at in (since - SECOND, until + SECOND)
        )
        session: Any = type("Session", (), {"login": ListLogin("", (self._user,))})()
        entry: dict[str, Any] = {"since": since, "until": until, "page": index, "size": size}
        data = self._platform._page(session, (start, end), index, size, entry)
        self.asked.append(entry)
        return Page([msgspec.json.encode(one) for one in data["list"]], whole(data.get("total")))

    def close(self) -> None:
        """Nothing is open."""


def shelf(rows: Iterable[Record], disturbances: Disturbances | None = None, seed: int = 1) -> PlatformList:
    platform = PlatformList(
        lambda: NOW,
        logins={user: ListLogin("", (user,)) for user in USERS},
        disturbances=disturbances,
        seed=seed,
    )
    for one in rows:
        platform.put(one)
    return platform


@dataclass
class Notes:
    """A taker that notes what came inside the window."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    check: Callable[[], None] = lambda: None

    def ask(self) -> None:
        self.check()

    def take(self, window: Between, rows: Sequence[bytes]) -> Sequence[Shown]:
        found = [msgspec.json.decode(one) for one in rows]
        shown: list[Shown] = []
        for one in found:
            at = datetime.fromisoformat(one["created_at"]).replace(tzinfo=PLATFORM_ZONE)
            if window.since <= at < window.until:
                self.rows[one["uuid"]] = one
            shown.append(Shown(one["uuid"], stamp(at)))
        return shown


def walk_all(
    platform: PlatformList, whole: Between, page_size: int = 100, users: Sequence[str] = ("demo",)
) -> tuple[Notes, list[tuple[Between, Walked]], list[Shelf]]:
    """A walk to its end: what was seen, the windows, and the logins with what they asked."""
    notes = Notes()
    shelves = [Shelf(platform, user) for user in users]
    windows = list(Walk(shelves, page_size, notes).windows([whole]))
    assert windows[0][0].since == whole.since
    assert windows[-1][0].until == whole.until
    for (before, _), (after, _) in pairwise(windows):
        assert before.until == after.since
    return notes, windows, shelves
