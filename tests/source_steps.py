"""Plain steps for the tests of sources: a platform whose list is served, and a login to it."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from bridge.config.schema import ApiNames
from bridge.sandbox.platform import ACCESS_ID, ACCESS_SECRET, SandboxPlatform
from bridge.sandbox.platform_faults import Disturbances
from bridge.sandbox.records import PLATFORM_ZONE, Record, generate
from bridge.sandbox.server import LocalServer
from bridge.source.outcall.answers import Names
from bridge.source.outcall.client import ListApi, OutcallList

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
CHANCE = random.Random(1)  # noqa: S311 -- spreads waits that nobody waits
NAMES = Names(**ApiNames().model_dump())


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class ServedPlatform:
    """A platform on a socket."""

    platform: SandboxPlatform
    url: str
    clock: Clock = field(default_factory=Clock)

    def api(self, **changes: Any) -> ListApi:
        api = ListApi(self.url, ACCESS_ID, ACCESS_SECRET, PLATFORM_ZONE, NAMES, requests_per_second=1e9)
        return replace(api, **changes)

    def asked(self, path: str = "/api/crmList") -> list[dict[str, Any]]:
        """What reached it, and what it answered."""
        return [entry for entry in self.platform.list.log if entry["path"] == path]

    def disturb(self, **faults: Any) -> None:
        self.platform.list.disturbances = Disturbances(**faults)


@contextmanager
def served_platform(records: Sequence[Record] = (), **options: Any) -> Iterator[ServedPlatform]:
    """A platform with these records."""
    clock = Clock()
    platform = SandboxPlatform(clock=clock, **options)
    platform.add(records)
    with LocalServer(platform.app) as server:
        yield ServedPlatform(platform, server.url, clock)


def log_in(served: ServedPlatform, waits: list[float] | None = None, **changes: Any) -> OutcallList:
    """A login to it that never waits; what it would have waited is in `waits`."""
    return OutcallList(
        served.api(**changes),
        clock=served.clock,
        chance=CHANCE,
        stop=threading.Event(),
        sleep=(waits if waits is not None else []).append,
        transport=httpx.HTTPTransport(verify=False),
    )


def made(count: int, seed: int = 1, before: datetime = NOW) -> list[Record]:
    """Records of the last two hours."""
    return generate(count, seed, before)


def created(record: Record) -> datetime:
    return datetime.fromisoformat(record["created_at"]).replace(tzinfo=PLATFORM_ZONE).astimezone(UTC)
