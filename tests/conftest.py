"""What the tests share.

Which test runs when is said by its marks:

- no mark: the default run (`make test`). Its examples are fixed, it waits for events and not for the clock,
  and a test takes less than 0.3 seconds unless it needs a whole daemon.
- `long`: whole programs, fuzz and long walks (`make long`, which `.ci/run` runs too).
- `slow`: soaks that take minutes (`make slow`, by hand).
- `hypothesis`, which Hypothesis sets itself: tests of drawn examples. `make test` draws few, always the same;
  `make long` runs them again with many new ones and prints the seed: `make long SEED=<it>` repeats them.
  A test says how many with `tests.fixtures.examples.examples(fixed, searched)`.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.log import mask
from tests.fixtures import examples
from tests.fixtures.canary import leaks
from tests.fixtures.door import Served, SharedListener, served

examples.register()

# As in a daemon: what is logged here is searched for phone numbers that are not masked.
structlog.configure(
    processors=[
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        mask,
        structlog.processors.LogfmtRenderer(),
    ]
)

for asserting in (
    "crm.conformance.steps",
    "crm.conformance.suite",
    "fixtures.ledger_calls",
    "fixtures.verdicts",
    "ledger.contract.accounts",
    "ledger.contract.delivery",
    "ledger.contract.identity",
    "ledger.contract.inspection",
    "ledger.contract.intake",
    "ledger.contract.jobs",
    "ledger.contract.operators",
    "ledger.contract.ownership",
    "ledger.contract.quarantine",
    "ledger.contract.reconciliation",
    "ledger.contract.steps",
    "ledger.contract.upkeep",
):
    pytest.register_assert_rewrite(f"tests.{asserting}")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A search that was given no seed has one all the same, so that it can be repeated."""
    searches = config.getoption("--hypothesis-profile") == examples.SEARCH
    if searches and config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(examples.any_seed())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what repeats a search."""
    seed = config.getoption("--hypothesis-seed")
    if seed is not None:
        terminalreporter.write_line(f"examples drawn with seed {seed}: `make long SEED={seed}` repeats them")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that passes must not have logged or printed what nobody may see."""
    report = yield
    if report.passed and call.when == "call":
        said = "".join(text for name, text in report.sections if name.startswith("Captured"))
        found = leaks(said)
        if found:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} shows {found} in what it logged"
    return report


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[SqliteLedger]:
    """An empty ledger, opened to write."""
    with closing(SqliteLedger(ledger_path, create=True)) as opened:
        yield opened


@pytest.fixture
def example() -> dict[str, Any]:
    """The platform's documented record; each test has its own."""
    record: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "callback.json").read_text("utf-8"))
    return record


@pytest.fixture(scope="module")
def shared_listener() -> Iterator[SharedListener]:
    """What the doors of a module's tests share: one loop, one listener."""
    with SharedListener() as one:
        yield one


@pytest.fixture
def door(shared_listener: SharedListener, ledger_path: Path) -> Iterator[Served]:
    """A door over a ledger of its own."""
    with served(shared_listener, ledger_path) as opened:
        yield opened
