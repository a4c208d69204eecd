"""Plain steps for tests of whole commands: a platform and a CRM on sockets, and a ledger between them."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bridge.ledger import open_ledger
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.platform import ACCESS_ID, ACCESS_SECRET, SandboxPlatform
from bridge.sandbox.records import Record, generate
from bridge.sandbox.server import LocalServer
from tests.reconcile_steps import differences
from tests.running import DaemonProcess, callbridge, environment, wait_until, write_config


class Both:
    """A platform and a CRM on sockets, and a configuration between them."""

    def __init__(
        self, folder: Path, platform: LocalServer, crm: LocalServer, sandbox: SandboxPlatform
    ) -> None:
        self.folder = folder
        self.platform = sandbox
        self.crm_url = crm.url
        extra = f"""
[sources.main.api]
base_url = "{platform.url}"
access_id = "{ACCESS_ID}"
access_secret = {{ env = "PLATFORM_SECRET" }}
page_size = 500
requests_per_second = 1000
[sources.main.reconcile]
settle = "0s"
schedule = "0 0 1 1 *"
deep_schedule = "0 0 1 1 *"
weekly_schedule = "0 0 1 1 *"
"""
        self.config = write_config(folder, crm.url, extra)

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return callbridge(*args, cwd=self.folder, env=self.environment, timeout=900)

    @property
    def secrets(self) -> dict[str, str]:
        return {"PLATFORM_SECRET": ACCESS_SECRET}

    @property
    def environment(self) -> dict[str, str]:
        return environment() | self.secrets

    def reconcile(self, *args: str, code: int = 0) -> dict[str, Any]:
        done = self.run("reconcile", "--since", "1d", "--json", *args)
        assert done.returncode == code, done.stderr + done.stdout
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def audit(self, *args: str, code: int = 0) -> dict[str, Any]:
        """The balance; its equations hold whatever it says."""
        done = self.run("audit", "--since", "1d", "--json", *args)
        assert done.returncode == code, done.stderr + done.stdout
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["balanced"] is (code == 0)
        for one in found["sources"].values():
            if one["platform"] is not None:
                ours = one["ledger"] + one["quarantined"] + one["platform_only"]
                assert one["platform"] + one["ledger_only"] == ours
        for one in found["destinations"].values():
            assert one["ledger"] == one["delivered"] + one["skipped"] + one["parked"] + one["under_way"]
        return found

    def daemon(self) -> DaemonProcess:
        daemon = DaemonProcess(self.config, self.secrets)
        # A daemon looks at the list as soon as it lives.
        wait_until(
            lambda: bool(daemon.count("SELECT count(*) FROM runs WHERE state = 'done'")), "a first run"
        )
        return daemon

    def asked(self) -> list[dict[str, Any]]:
        return [one for one in self.platform.list.log if one["path"] == "/api/crmList"]

    def requests_at_crm(self) -> dict[str, int]:
        counts: dict[str, int] = httpx.get(f"{self.crm_url}/_requests").json()
        return counts

    def states(self) -> dict[str, dict[str, Any]]:
        """What the ledger knows of every call."""
        ledger = open_ledger(self.folder / "ledger.db", read_only=True)
        try:
            found = ledger.list_calls([], 10**6)
            return {one["key"]: ledger.show_call(one["id"])["record"] for one in found}
        finally:
            ledger.close()

    def assert_agrees(self) -> set[str]:
        """Record by record; the calls that appeared while the list was walked, and are not here."""
        states, listed = self.states(), self.platform.list.records()
        late = listed.keys() - states.keys()
        assert late <= set(self.platform.list._appeared), "calls that were listed all the time are missing"
        seen = {key: record for key, record in listed.items() if key not in late}
        wrong = {key: found for key, record in seen.items() if (found := differences(record, states[key]))}
        assert wrong == {}
        return late


@contextmanager
def both_sides(folder: Path) -> Iterator[Both]:
    """Both, served on loopback."""
    platform = SandboxPlatform()
    with LocalServer(platform.app) as served, LocalServer(SandboxCrm().app) as crm:
        yield Both(folder, served, crm, platform)


def empty_ledger(both: Both) -> None:
    open_ledger(both.folder / "ledger.db", create=True).close()


def made(count: int, seed: int = 1) -> list[Record]:
    return generate(count, seed, datetime.now(UTC))
