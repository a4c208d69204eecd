"""A ledger that an earlier version wrote is opened, migrated, balanced and delivered on."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

from bridge.ledger import Window
from bridge.ledger.sqlite import SqliteLedger
from bridge.ledger.sqlite.schema import migration_scripts
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import DaemonProcess, callbridge_json, wait_until, write_config
from tests.fixtures.earlier_ledgers import earlier_ledger
from tests.fixtures.ledger_rows import rows

BALANCED = {
    "crm": {"ledger": 40, "delivered": 29, "skipped": 7, "parked": 1, "under_way": 3},
    "plain": {"ledger": 40, "delivered": 32, "skipped": 4, "parked": 1, "under_way": 3},
}
PLAIN = Path(__file__).parents[1] / "data" / "plain"


def test_an_earlier_ledger_migrates_and_balances(tmp_path: Path) -> None:
    path = earlier_ledger(tmp_path)
    with closing(SqliteLedger(path)) as ledger:
        assert {name: asdict(ledger.balance(name, ["main"], Window())) for name in BALANCED} == BALANCED
        assert len(rows(path, "SELECT 1 FROM _sqlite_migrations")) == len(migration_scripts())
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_every_record_of_an_earlier_ledger_can_be_read(tmp_path: Path) -> None:
    with closing(SqliteLedger(earlier_ledger(tmp_path))) as ledger:
        shown = [ledger.show_call(call.id) for call in ledger.list_calls([], 100)]
        assert len(shown) == 40
        judged = [call for call in shown if call.revision]
        assert {call.record["uuid"] for call in judged} == {call.key for call in judged}
        entries = [ledger.show_quarantine(row.id) for row in ledger.list_quarantine(None, 100)]
        assert [bool(entry and entry.body) for entry in entries] == [True] * 5


@pytest.mark.long
def test_daemon_continues_with_an_earlier_ledger(tmp_path: Path) -> None:
    earlier_ledger(tmp_path)
    crm, plain = SandboxCrm(), SandboxCrm(upserts=False)
    with LocalServer(crm.app) as crm_server, LocalServer(plain.app) as plain_server:
        config = write_config(tmp_path, crm_server.url)
        text = config.read_text("utf-8").replace("base_url =", 'account = "sandbox"\nbase_url =', 1)
        config.write_text(
            f"""{text}
[destinations.plain]
account = "plain"
mapping = "{PLAIN / "mapping.toml"}"
connector = "{PLAIN / "connector.toml"}"
base_url = "{plain_server.url}"
secrets = {{ token = {{ env = "CRM_TOKEN" }} }}
""",
            "utf-8",
        )
        before = callbridge_json("audit", "--local", cwd=tmp_path)
        assert (before["balanced"], before["destinations"]) == (True, BALANCED)
        daemon = DaemonProcess(config)
        try:
            open_deliveries = "SELECT count(*) FROM deliveries WHERE state IN ('due', 'leased')"
            wait_until(lambda: daemon.count(open_deliveries) == 0, "all is delivered")
            assert daemon.stop() == 0
        finally:
            daemon.kill()
    after = callbridge_json("audit", "--local", cwd=tmp_path)
    assert after["balanced"]
    # One had made its contact before the CRM answered 503. This CRM has no such contact: parked.
    assert after["destinations"] == {
        "crm": {"ledger": 40, "delivered": 31, "skipped": 7, "parked": 2, "under_way": 0},
        "plain": {"ledger": 40, "delivered": 35, "skipped": 4, "parked": 1, "under_way": 0},
    }
    # Only what was under way: nothing that had been delivered was sent again.
    assert (len(crm.contents()["calls"]), len(plain.contents()["calls"])) == (3, 3)
