"""What the tests share."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.log import mask_phones
from tests.canary import leaks

# As in a daemon: what is logged here is searched for phone numbers that are not masked.
structlog.configure(
    processors=[
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        mask_phones,
        structlog.processors.LogfmtRenderer(),
    ]
)

for steps in (
    "conformance",
    "conformance_steps",
    "ledger_contract",
    "ledger_contract_identity",
    "ledger_contract_intake",
    "ledger_steps",
    "verdict_steps",
):
    pytest.register_assert_rewrite(f"tests.{steps}")


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
def example() -> dict[str, Any]:
    """The platform's documented record; each test has its own."""
    record: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "callback.json").read_text("utf-8"))
    return record
