"""Putting deliveries right, by commands and a real daemon: causes, retry, park, skip, replay, map plan."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from bridge.sandbox.upsert_crm import UpsertCrmState
from tests.fixtures.daemon_process import (
    EXAMPLE,
    ROOT,
    DaemonProcess,
    callbridge,
    callbridge_json,
    wait_until,
    write_config,
)

pytestmark = pytest.mark.long

LONG = "object call, upsert: answered 422 fault_on_demand"
SETTLED = "SELECT count(*) = {} FROM deliveries WHERE state = '{}'"


class Site:
    """A configuration, a CRM that this process holds, and a daemon where one is wanted."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.crm = SandboxCrm()
        self.mapping = folder / "own.toml"
        self.mapping.write_text((ROOT / "mappings/sandbox.toml").read_text("utf-8"), "utf-8")
        self.config = write_config(folder, stack.enter_context(LocalServer(self.crm.app)).url)
        text = self.config.read_text("utf-8").replace(str(ROOT / "mappings/sandbox.toml"), str(self.mapping))
        self.config.write_text(text, "utf-8")
        self._stack = stack
        self._daemon: DaemonProcess | None = None

    def start(self) -> DaemonProcess:
        self.stop()
        self._daemon = DaemonProcess(self.config)
        self._stack.callback(self.stop)
        return self._daemon

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def feed(self, count: int) -> None:
        assert self._daemon is not None
        record = json.loads(EXAMPLE.read_bytes())
        for number in range(count):
            key = f"{number:08x}{record['uuid'][8:]}"
            phone = f"1589977{number:04}"
            body = json.dumps(record | {"uuid": key, "base_info": key, "phone": phone})
            assert httpx.post(self._daemon.callback_url, content=body).text == "SUCCESS"

    def until(self, count: int, state: str) -> None:
        assert self._daemon is not None
        daemon = self._daemon
        wait_until(lambda: bool(daemon.count(SETTLED.format(count, state))), f"{count} {state}")

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return callbridge(*args, cwd=self.folder)

    def json(self, *args: str) -> Any:
        return callbridge_json(*args, cwd=self.folder)

    def change(self, before: str, after: str) -> None:
        text = self.mapping.read_text("utf-8")
        assert before in text
        self.mapping.write_text(text.replace(before, after), "utf-8")

    def equation(self) -> dict[str, int]:
        audit = self.json("audit", "--local")
        assert audit["balanced"]
        found: dict[str, int] = audit["destinations"]["crm"]
        return {name: count for name, count in found.items() if count}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_failures_of_one_cause_are_listed_and_retried_together(site: Site) -> None:
    site.crm.add_fault(status=422, path="/calls/", times=3)
    site.start()
    site.feed(4)
    site.until(3, "parked")
    site.until(1, "delivered")
    status = site.run("status")
    assert status.returncode == 1
    assert f"parked for crm: 3 calls: {LONG}, since " in status.stdout
    assert "such as delivery " in status.stdout
    (group,) = site.json("deliveries", "list", "--cause", "fault_on")["causes"]
    assert (group["count"], group["cause"]) == (3, LONG)
    assert "callbridge deliveries retry" in group["remedy"]
    assert site.json("deliveries", "retry", "--cause", "422", "--dry-run")["retried"] == 3
    assert site.equation() == {"ledger": 4, "delivered": 1, "parked": 3}
    assert site.json("deliveries", "retry", "--cause", "422")["retried"] == 3
    site.until(4, "delivered")
    nothing = site.run("deliveries", "retry", "--cause", "422")
    assert (nothing.returncode, "nothing failed by" in nothing.stderr) == (3, True)
    assert site.run("deliveries", "retry", "--cause", "x", "--all").returncode == 2
    assert site.run("deliveries", "retry", "--cause", "x", "--destination", "y").returncode == 2


@pytest.mark.parametrize("living", [True, False], ids=["daemon", "no daemon"])
def test_operators_skip_holds_until_retry(site: Site, living: bool) -> None:
    site.crm.add_fault(status=422, path="/calls/", times=2)
    site.start()
    site.feed(2)
    site.until(2, "parked")
    if not living:
        site.stop()
    assert site.json("deliveries", "skip", "1", "--reason", "a test") == {"skipped": 1, "later": 0}
    assert site.json("deliveries", "retry", "--all") == {"retried": 1, "in_doubt": 0}
    if not living:
        site.start()
    site.until(1, "delivered")
    assert site.equation() == {"ledger": 2, "delivered": 1, "skipped": 1}
    (row,) = site.json("deliveries", "list", "--state", "skipped")["deliveries"]
    assert (row["reason"], row["person"]) == ("skipped by a person: a test", "skipped")
    assert site.run("deliveries", "park", "1").returncode == 3
    assert site.json("deliveries", "retry", "1") == {"retried": 1, "in_doubt": 0}
    site.until(2, "delivered")


def test_delivery_parked_by_an_operator_is_retried_by_id_or_whole_cause(site: Site) -> None:
    site.crm.add_fault(status=503, path="/calls/", times=100)
    site.start()
    site.feed(2)
    site.until(2, "due")
    site.stop()
    assert site.json("deliveries", "park", "1") == {"parked": 1, "later": 0}
    assert site.json("deliveries", "retry", "--all")["retried"] == 0
    assert site.run("deliveries", "retry", "--cause", "parked by").returncode == 3
    mistyped = site.run("deliveries", "retry", "1", "99")
    assert (mistyped.returncode, "1 of these ids were left alone" in mistyped.stderr) == (0, True)
    (row,) = [one for one in site.json("deliveries", "list")["deliveries"] if one["id"] == 1]
    assert (row["state"], row["reason"]) == ("due", None)


def test_replay_sends_what_a_changed_mapping_changes_once(site: Site) -> None:
    site.start()
    site.feed(3)
    site.until(3, "delivered")
    window = ("--since", "2020-01-01")
    assert site.json("replay", *window)["due"] == 0
    site.change("interest = {", 'city = "上海"\ninterest = {')

    planned = site.json("map", "plan")["destinations"]["crm"]
    assert (planned["changed"], planned["objects"]) == (3, {"contact": 3})
    change = planned["examples"][0]["changes"]["contact"]
    assert (change["why"], change["fields"]) == (
        "other values",
        {"city": {"before": None, "value": "上海"}},
    )
    named = site.json("map", "plan", "own.toml", "--destination", "crm")["destinations"]["crm"]
    assert named | {"mapping": planned["mapping"]} == planned

    before = len(site.crm.log())
    assert site.json("replay", *window)["due"] == 0, "the daemon goes by the mapping that it started with"
    site.start()
    assert site.json("replay", *window, "--dry-run")["due"] == 3
    assert len(site.crm.log()) == before
    found = site.json("replay", *window)
    assert (found["due"], found["destinations"]["crm"]["changed"]) == (3, 3)
    site.until(3, "delivered")
    assert {contact["city"] for contact in site.crm.contents()["contacts"]} == {"上海"}
    assert len(site.crm.log()) == before + 3, "the calls themselves are as they were"
    assert site.json("replay", *window)["due"] == 0
    assert site.json("replay", "--since", "2025-05-01")["destinations"]["crm"]["calls"] == 0


def test_forced_replay_refills_a_crm_restored_from_backup(site: Site) -> None:
    site.start()
    site.feed(3)
    site.until(3, "delivered")
    before, asked = site.crm.contents(), len(site.crm.log())
    site.crm._state = UpsertCrmState()
    assert site.crm.contents()["calls"] == []
    assert site.json("replay", "--since", "2020-01-01", "--force")["due"] == 3
    site.until(3, "delivered")
    wait_until(lambda: len(site.crm.log()) >= asked * 2, "all is sent again")

    def told(contents: dict[str, Any]) -> list[Any]:
        own = ("id", "contact_id", "created_at", "updated_at", "revision")
        rows = [*contents["contacts"], *contents["calls"]]
        return sorted(str({name: row[name] for name in row if name not in own}) for row in rows)

    assert told(site.crm.contents()) == told(before)
    assert {row["contact_id"] for row in site.crm.contents()["calls"]} == {
        row["id"] for row in site.crm.contents()["contacts"]
    }


def test_replay_applies_removed_and_new_rules(site: Site) -> None:
    rule = '[[rules]]\nname = "long ones"\nwhen = "{{ call.talk_seconds > 10000 }}"\n'
    text = site.mapping.read_text("utf-8")
    site.change("[objects.contact]", f"{rule}\n[objects.contact]")
    site.start()
    site.feed(2)
    site.until(2, "skipped")
    site.mapping.write_text(text, "utf-8")
    assert site.json("map", "plan")["destinations"]["crm"]["released_from"] == {"long ones": 2}
    site.start()
    assert site.json("replay", "--since", "2020-01-01")["due"] == 2
    site.until(2, "delivered")
    asked = len(site.crm.log())
    site.change("[objects.contact]", f"{rule}\n[objects.contact]")
    assert site.json("map", "plan")["destinations"]["crm"]["rules"] == {"long ones": 2}
    site.start()
    assert site.json("replay", "--since", "2020-01-01")["due"] == 2
    site.until(2, "skipped")
    assert (len(site.crm.log()), site.json("replay", "--since", "2020-01-01")["due"]) == (asked, 0)


def test_replay_plan_lists_unfilled_fields_and_unknown_codes(site: Site) -> None:
    site.start()
    site.feed(2)
    site.until(2, "delivered")
    site.change(
        "interest = {",
        'odd = { value = "{{ record.nobody }}" }\n'
        'mark = { value = "{{ call.grade }}", map = { Z = "last" }, unknown = "omit" }\ninterest = {',
    )
    found = site.json("map", "plan")["destinations"]["crm"]
    assert {"contact.odd", "contact.mark"} <= set(found["never_filled"])
    assert found["unknown_codes"]["contact.mark"] == {"B": 2}
    site.change('unknown = "omit"', 'unknown = "park"')
    (fault,) = site.json("map", "plan")["destinations"]["crm"]["faults"]
    assert "objects.contact.fields.mark in own.toml" in fault


def test_paused_account_is_shown_and_survives_a_restart(site: Site) -> None:
    site.crm.add_fault(status=401, times=-1)
    site.start()
    site.feed(1)
    wait_until(lambda: any(one["paused"] for one in site.json("status")["accounts"]), "it is paused")
    site.stop()
    (account,) = site.json("status")["accounts"]
    assert "answered 401" in account["paused"]["why"]
    assert "is paused, next asked at" in site.run("status").stdout
    site.crm.clear_faults()
    site.start()
    site.until(1, "delivered")
    wait_until(lambda: not any(one["paused"] for one in site.json("status")["accounts"]), "it is well")
    assert site.json("status")["owed"] == {}
