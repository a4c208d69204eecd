"""What the tests share."""

import json
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def example() -> dict[str, Any]:
    """The platform's documented record; each test has its own."""
    record: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "callback.json").read_text("utf-8"))
    return record
