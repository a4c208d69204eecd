"""A small CRM behind a socket and a bench beside it, for tests of one object's sync."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.crm_connector_parts import ALL
from tests.fixtures.small_crm import BenchAndCrm, MakesBench, SearchCrm, Server, SyncBench, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


@pytest.fixture
def make(tmp_path: Path, server: Server) -> Iterator[MakesBench]:
    made: list[SyncBench] = []

    def bench(text: str = ALL, lag: float = 30) -> BenchAndCrm:
        server.log.clear()
        made.append(SyncBench(tmp_path / "ledger.db", text, server))
        return made[0], SearchCrm(server, made[0].clock, lag)

    yield bench
    for one in made:
        one.close()
