"""The demo: a sandbox platform, a sandbox CRM and the daemon between them, on loopback."""

import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from bridge import starters
from bridge.audit import local_balance
from bridge.config import Config, load_config, resolve_secrets
from bridge.daemon import Daemon
from bridge.errors import CallbridgeError
from bridge.ledger import Ledger, Window, open_ledger
from bridge.phone import mask_phone
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.platform import SandboxPlatform
from bridge.sandbox.server import LocalServer

SETTLE_WITHIN = 90.0
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
    """All three, started and stopped together; nothing is left on the machine."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="callbridge-demo-")
        self.crm = SandboxCrm()
        self._crm_server = LocalServer(self.crm.app).start()
        self.config = self._write_config(Path(self._folder.name), self._crm_server.url)
        token = secrets.token_urlsafe(24)
        self.ledger: Ledger = open_ledger(self.config.ledger.file(self.config.base_dir), create=True)
        self.daemon = Daemon(self.config, resolve_secrets(self.config, {"TOKEN": token}), self.ledger)
        self.platform = SandboxPlatform(f"{self.daemon.url}/callback/main/{token}", retry_delay=0.2)
        self._platform_server = LocalServer(self.platform.app).start()
        self._stop: Callable[[], None] = lambda: None
        self._ready = threading.Event()
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
        self.platform.stop()
        self._stop()
        self._thread.join(SETTLE_WITHIN)
        self.ledger.close()
        self._platform_server.stop()
        self._crm_server.stop()
        self._folder.cleanup()

    @staticmethod
    def _write_config(folder: Path, crm_url: str) -> Config:
        mapping = starters.shipped("mappings/sandbox.toml")
        (folder / "sandbox.toml").write_text(mapping, "utf-8")
        (folder / "config.toml").write_text(_CONFIG.format(crm=crm_url), "utf-8")
        return load_config(folder / "config.toml", {})

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where one may look."""
        return {
            "platform": self._platform_server.url,
            "crm": self._crm_server.url,
            "daemon": self.daemon.admin_url,
        }

    def once(self, count: int, *, spoil: bool = False) -> dict[str, Any]:
        """Push a batch with all the platform's habits, let it settle, count on all three sides.

        `spoil` deletes one call in the settled CRM, to show what an imbalance looks like.
        """
        self.crm.add_fault(status=429, retry_after=1, path="/contacts")
        self.crm.add_fault(status=503, path="/calls")
        self.platform.push_batch(count)
        self._settle()
        if spoil:
            key = self.crm.contents()["calls"][0]["call_key"]
            url = f"{self._crm_server.url}/calls/{key}"
            httpx.delete(url, headers={"Authorization": "Bearer demo"}).raise_for_status()
        return self._balance()

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_WITHIN
        while self.local_balance()["destinations"]["crm"]["under_way"]:
            if time.monotonic() > deadline:
                raise CallbridgeError("the demo's calls did not settle")
            time.sleep(0.1)

    def local_balance(self) -> dict[str, Any]:
        """The ledger's side of the balance."""
        return local_balance(self.ledger, ["main"], {"crm": ["main"]}, Window())

    def _balance(self) -> dict[str, Any]:
        """The balance, its three sides counted each where it stands."""
        balance = self.local_balance()
        records = self.platform.records()["records"]
        pushed = {entry["uuid"] for entry in records}
        known = set(self.ledger.keys("main"))
        source = balance["sources"]["main"]
        source["platform"] = len(pushed)
        source["platform_only"], source["ledger_only"] = len(pushed - known), len(known - pushed)
        wanted = {entry["uuid"] for entry in records if _belongs_in_crm(entry["record"])}
        held = Counter(call["call_key"] for call in self.crm.contents()["calls"])
        findings = [
            *(f"call {key} is on the platform, not in the ledger" for key in sorted(pushed - known)),
            *(f"call {key} is missing in the CRM" for key in sorted(wanted - held.keys())),
            *(f"call {key} should not be in the CRM" for key in sorted(held.keys() - wanted)),
            *(f"call {key} is in the CRM {times} times" for key, times in held.items() if times > 1),
        ]
        source["ids"] = {"platform_only": sorted(pushed - known), "ledger_only": sorted(known - pushed)}
        counted = {"calls": held.total(), "contacts": len(self.crm.contents()["contacts"])}
        balance["crm"] = counted | {"missing": len(wanted - held.keys())}
        balance["pushes"] = len(self.platform.pushes())
        balance["findings"] = findings
        balance["balanced"] = balance["balanced"] and not findings
        return balance


def _belongs_in_crm(record: Mapping[str, Any]) -> bool:
    """What the starting mapping's rules say, told from the platform's record alone."""
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
            time.sleep(0.5)
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
