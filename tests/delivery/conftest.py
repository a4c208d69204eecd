"""What the tests of syncs share: a CRM of a few lines behind a socket, and a ledger beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.crm_steps import ALL
from tests.fixtures.small_crm import Bench, MadeBench, MakesBench, SearchCrm, Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


@pytest.fixture
def make(tmp_path: Path, server: Server) -> Iterator[MakesBench]:
    made: list[Bench] = []

    def bench(text: str = ALL, lag: float = 30) -> MadeBench:
        server.log.clear()
        made.append(Bench(tmp_path / "ledger.db", text, server))
        return made[0], SearchCrm(server, made[0].clock, lag)

    yield bench
    for one in made:
        one.close()
