"""The demo: a sandbox platform, a sandbox CRM and the daemon between them, on loopback.

Begin at `Demo.once()`.
"""

import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from bridge.config import starters
from bridge.config.load import Config, load_config
from bridge.config.secrets import resolve_secrets
from bridge.daemon.app import daemon_on_threads
from bridge.ledger import Ledger, Window, open_ledger
from bridge.lib.clocks import now_utc
from bridge.lib.errors import CallbridgeError
from bridge.lib.phone import mask_phone
from bridge.model.jobs import AUDIT, RECONCILE, JobState
from bridge.reconcile.balance import local_balance, whole_balance
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.platform import ACCESS_ID, ACCESS_SECRET, Pushing, SandboxPlatform
from bridge.sandbox.server import LocalServer

SETTLE_WITHIN = 90.0
RECONCILED_WITHIN = timedelta(days=1)
UNPUSHED_SHARE = 0.02
"""The share of a batch that the platform never pushes, for reconciliation to find."""
_VOICE_TEST = 3

_CONFIG = """
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[ledger]
url = "sqlite:///ledger.db"
[sources.main]
callback_token = {{ env = "TOKEN" }}
[sources.main.api]
base_url = "{platform}"
access_id = "{access_id}"
access_secret = {{ env = "PLATFORM_SECRET" }}
[sources.main.reconcile]
settle = "0s"
[destinations.crm]
mapping = "sandbox.toml"
base_url = "{crm}"
secrets = {{ token = {{ env = "TOKEN" }} }}
[delivery]
first_retry = "1s"
"""


class Demo:
    """Starts and stops platform, CRM and daemon together; leaves nothing on the machine."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="callbridge-demo-")
        self.crm = SandboxCrm()
        self._crm_server = LocalServer(self.crm.app).start()
        self.platform = SandboxPlatform(pushing=Pushing(retry_delay=0.2))
        self._platform_server = LocalServer(self.platform.app).start()
        self.config = self._write_config(Path(self._folder.name))
        token = secrets.token_urlsafe(24)
        self.ledger: Ledger = open_ledger(self.config.ledger.file(self.config.base_dir), create=True)
        environ = {"TOKEN": token, "PLATFORM_SECRET": ACCESS_SECRET}
        self.daemon = daemon_on_threads(self.config, resolve_secrets(self.config, environ), self.ledger)
        self.platform.callback_url = f"{self.daemon.url}/callback/main/{token}"
        self._stop: Callable[[], None] = lambda: None
        self._ready, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self.daemon.run, args=(self._take_stop,), daemon=True)
        self._thread.start()
        if not self._ready.wait(SETTLE_WITHIN):
            raise CallbridgeError("the demo's daemon did not start")
        return self

    def _take_stop(self, stop: Callable[[], None], _hurry: Callable[[], None]) -> None:
        self._stop = stop
        self._ready.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.platform.stop()
        self._stop()
        self._thread.join(SETTLE_WITHIN)
        self.ledger.close()
        self._platform_server.stop()
        self._crm_server.stop()
        self._folder.cleanup()

    def _write_config(self, folder: Path) -> Config:
        mapping = starters.shipped("mappings/sandbox.toml")
        (folder / "sandbox.toml").write_text(mapping, "utf-8")
        urls = {"crm": self._crm_server.url, "platform": self._platform_server.url}
        (folder / "config.toml").write_text(_CONFIG.format(access_id=ACCESS_ID, **urls), "utf-8")
        return load_config(folder / "config.toml", {})

    @property
    def addresses(self) -> Mapping[str, str]:
        """The URLs of platform, CRM and daemon."""
        return {
            "platform": self._platform_server.url,
            "crm": self._crm_server.url,
            "daemon": self.daemon.admin_url,
        }

    def once(self, count: int, *, spoil: bool = False) -> dict[str, Any]:
        """Push a batch, reconcile, wait for all deliveries, and return the balance of all three sides.

        `spoil` deletes one call in the settled CRM, to show what an imbalance looks like.
        """
        self.crm.add_fault(status=429, retry_after=1, path="/contacts")
        self.crm.add_fault(status=503, path="/calls")
        self.platform.push_batch(count, lost=UNPUSHED_SHARE)
        self._run(RECONCILE)
        self._settle()
        if spoil:
            key = self.crm.contents()["calls"][0]["call_key"]
            url = f"{self._crm_server.url}/calls/{key}"
            httpx.delete(url, headers={"Authorization": "Bearer demo"}).raise_for_status()
        return self._balance()

    def _settle(self) -> None:
        self._until(
            lambda: not self.local_balance()["destinations"]["crm"]["under_way"], "calls did not settle"
        )

    def _run(self, kind: str) -> dict[str, Any]:
        """Ask the daemon for a job and return its result."""
        job_id = self.ledger.request_job(kind, {"source": "main"}, now_utc())
        self._until(lambda: not self.ledger.job(job_id).is_open, f"{kind} did not end")
        job = self.ledger.job(job_id)
        if job.state != JobState.DONE:
            raise CallbridgeError(f"the demo's {kind}: {job.result.get('error')}")
        return dict(job.result)

    def _until(self, reached: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + SETTLE_WITHIN
        while not reached():
            if time.monotonic() > deadline:
                raise CallbridgeError(f"the demo's {otherwise}")
            self._ended.wait(0.1)

    def local_balance(self) -> dict[str, Any]:
        """The balance by the ledger alone."""
        return local_balance(self.ledger, ["main"], {"crm": ["main"]}, Window())

    def _balance(self) -> dict[str, Any]:
        """The audit's balance, compared with what the CRM itself holds."""
        balance = whole_balance({"main": self._run(AUDIT)}, {}, None)
        records, now = self.platform.records()["records"], now_utc()
        wanted = {entry["uuid"] for entry in records if _belongs_in_crm(entry["record"])}
        held = Counter(call["call_key"] for call in self.crm.contents()["calls"])
        findings = [
            *(f"call {key} is missing in the CRM" for key in sorted(wanted - held.keys())),
            *(f"call {key} should not be in the CRM" for key in sorted(held.keys() - wanted)),
            *(f"call {key} is in the CRM {times} times" for key, times in held.items() if times > 1),
        ]
        counted = {"calls": held.total(), "contacts": len(self.crm.contents()["contacts"])}
        return balance | {
            "crm": counted | {"missing": len(wanted - held.keys())},
            "pushes": len(self.platform.pushes()),
            "reconciled": self.ledger.coverage("main", now - RECONCILED_WITHIN, now).gaps,
            "findings": findings,
            "balanced": balance["balanced"] and not findings,
        }


def _belongs_in_crm(record: Mapping[str, Any]) -> bool:
    """Whether the mapping of the demo delivers this record, decided by the platform's fields alone."""
    return int(record["call_from_type"] or 0) != _VOICE_TEST and not int(record["is_deleted"] or 0)


def watch(running: Demo, say: Callable[[str], None]) -> None:
    """Push a call a second and show each as it appears in the CRM, until Ctrl-C."""
    for name, url in running.addresses.items():
        say(f"{name}: {url}")
    say("Calls as they appear in the CRM (Ctrl-C ends):")
    stop = threading.Event()
    pushing = threading.Thread(target=running.platform.run, args=(stop,), kwargs={"rate": 2.0}, daemon=True)
    pushing.start()
    seen: set[str] = set()
    try:
        while pushing.is_alive():
            _show_new(running, seen, say)
            stop.wait(0.5)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        stop.set()


def _show_new(running: Demo, seen: set[str], say: Callable[[str], None]) -> None:
    for call in running.crm.contents()["calls"]:
        if call["call_key"] in seen:
            continue
        seen.add(call["call_key"])
        phone = mask_phone(call["phone"]) if call.get("phone") else "no number"
        said = (call.get("transcript") or "not answered").splitlines()[-1][:48]
        say(f"  {call['call_key'][:8]}  {phone:<16} grade {call.get('grade') or '-'}  {said}")
