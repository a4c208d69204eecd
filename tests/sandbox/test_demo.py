"""The demo fills what was never pushed, balances by the audit, and says so when the CRM does not agree."""

import json
from pathlib import Path

import pytest

from tests.fixtures.daemon_process import callbridge
from tests.fixtures.json_documents import DOCUMENTS
from tests.fixtures.json_shapes import differences


@pytest.mark.long
def test_demo_run_once_balances(tmp_path: Path) -> None:
    finished = callbridge("demo", "--once", "--json", cwd=tmp_path)
    balance = json.loads(finished.stdout)
    assert finished.returncode == 0, finished.stderr
    assert balance["balanced"] is True
    main, crm = balance["sources"]["main"], balance["destinations"]["crm"]
    assert main["platform"] == main["ledger"] >= 200
    assert balance["pushes"] > main["platform"]
    assert (main["platform_only"], main["ledger_only"]) == (0, 0)
    assert balance["reconciled"] == 4
    assert crm["ledger"] == crm["delivered"] + crm["skipped"]
    assert balance["crm"]["calls"] == crm["delivered"]
    assert crm["parked"] == crm["under_way"] == 0


def test_call_missing_in_the_crm_is_found(tmp_path: Path) -> None:
    finished = callbridge("demo", "--once", "--spoil", "--count", "30", "--json", cwd=tmp_path)
    balance = json.loads(finished.stdout)
    assert finished.returncode == 1
    assert differences(DOCUMENTS["demo"], balance) == []
    assert balance["balanced"] is False
    assert balance["crm"]["missing"] == 1
    assert any("missing in the CRM" in finding for finding in balance["findings"])
