"""A platform of another vendor is one package and one line of the registry: everything else reads by it."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from bridge.config.load import load_config
from bridge.config.secrets import resolve_secrets
from bridge.daemon.delivering import build_delivering
from bridge.daemon.loop import DeliveryWakeups, ReceivingWakeups
from bridge.daemon.receiving import build_receiving
from bridge.daemon.wiring import load_destinations
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib.clocks import Clocks
from bridge.mapping import load_mapping
from bridge.record.call import CALL_FIELDS
from bridge.record.dialect import Dialect
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from bridge.source import Source
from bridge.source.list_api import ListApi
from bridge.source.platforms import PLATFORMS
from tests.fixtures.door import TLS, SharedListener
from tests.fixtures.second_platform import SECOND_DIALECT, SECRET, SecondList, SecondPlatform
from tests.fixtures.served_platform import NAMES
from tests.source.contract import ListedPlatform, SourceContract

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2025, 4, 14, 9, 30, tzinfo=UTC)
TOKEN = "second-token-of-24-chars"
CONFIG = """
[sources.berlin]
platform = "second"
callback_token = "second-token-of-24-chars"
timezone = "Europe/Berlin"
country = "DE"
reconcile.settle = "0s"
[sources.berlin.api]
base_url = "https://second.invalid"
access_id = "north"
access_secret = "secret-of-second"
[destinations.crm]
mapping = "crm.toml"
base_url = "CRM_URL"
[destinations.crm.secrets]
token = "token-of-crm"
"""
MAPPING = """
connector = "sandbox"
[[rules]]
name = "answered"
when = "{{ call.answered and not call.is_deleted }}"
[objects.contact]
key = { phone = "{{ call.phone | e164 }}" }
[objects.contact.fields]
name = "{{ call.name }}"
grade = "{{ call.grade }}"
[objects.call]
key = { call_key = "{{ call.key }}" }
link = { contact = "contact" }
[objects.call.fields]
started_at = "{{ call.started_at | iso8601 }}"
talk_seconds = "{{ call.talk_seconds }}"
direction = "{{ call.direction }}"
transcript = "{{ call.dialogue | transcript('Bot', 'Caller') }}"
remark = "{{ record.agency }}"
"""
CALL: dict[str, Any] = {
    "callNo": "K-2041",
    "agency": "north",
    "party": {"tel": "030 901820", "fullName": "Erika"},
    "rating": "hot",
    "spokenMs": 61500,
    "born": "14.04.2025 10:19:00",
    "dialled": "14.04.2025 10:19:05",
    "touched": "14.04.2025 10:21:00",
    "trail": "Bot: Guten Tag | Caller: Hallo",
}
RATED_LATER = {**CALL, "rating": "cold", "touched": "14.04.2025 11:00:00"}
NEVER_PUSHED = {**CALL, "callNo": "K-2042", "party": {"tel": "030 901821", "fullName": "Max"}}


class Listed:
    """The second platform, as the contract wants it."""

    dialect = SECOND_DIALECT

    def __init__(self) -> None:
        self._second = SecondPlatform()
        times = [NOW - timedelta(seconds=3 * number) for number in range(25)]
        self.records = [(f"k-{number}", at) for number, at in enumerate(times)]
        self._second.calls += [
            {**CALL, "callNo": name, "born": f"{at.astimezone(BERLIN):%d.%m.%Y %H:%M:%S}"}
            for name, at in self.records
        ]

    def source(self, *, right: bool = True) -> Source:
        secret = SECRET if right else "wrong-secret"
        api = ListApi("https://second.invalid", "north", secret, BERLIN, NAMES)
        return SecondList(api, self._second)

    def end_sessions(self) -> None:
        self._second.sessions += 1

    def down(self, *, down: bool) -> None:
        self._second.down = down

    def requests(self) -> int:
        return self._second.requests


class TestItsList(SourceContract):
    def served(self) -> AbstractContextManager[ListedPlatform]:
        return nullcontext(Listed())


class Bridge:
    """One daemon's stages over a ledger of its own, the CRM, and what the platform's list shows."""

    def __init__(self, folder: Path, crm: SandboxCrm, url: str, listener: SharedListener) -> None:
        (folder / "crm.toml").write_text(MAPPING, "utf-8")
        path = folder / "config.toml"
        path.write_text(CONFIG.replace("CRM_URL", url), "utf-8")
        self.second = SecondPlatform()
        config = load_config(path, {}, {**PLATFORMS, "second": self.second.platform})
        self.crm = crm
        self.now = NOW
        self.ledger = SqliteLedger(folder / "ledger.db", create=True)
        secrets = resolve_secrets(config, {})
        destinations = load_destinations(config, secrets)
        self.receiving = build_receiving(
            config, secrets, destinations, self.ledger, self.clock, ReceivingWakeups()
        )
        self._wakeups = DeliveryWakeups()
        self.delivering = build_delivering(
            config, destinations, self.ledger, Clocks(self.clock, self.clock), self._wakeups
        )
        self._worker = self.delivering.pipeline.new_worker()
        self._listener = listener
        listener.door = self.receiving.door

    def clock(self) -> datetime:
        return self.now

    def push(self, call: dict[str, Any]) -> str:
        """The platform tells of a call; what it is answered, once the verdict is given."""
        body = {"event": "call.finished", "call": call}
        with httpx.Client(verify=TLS) as client:
            url = f"{self._listener.url}/callback/berlin/{TOKEN}"
            answer = client.post(url, content=json.dumps(body).encode())
        self.settle()
        return answer.text

    def settle(self) -> None:
        """Every verdict is given, and all that is due is delivered."""
        while self.receiving.judge.judge_waiting(self.now):
            pass
        self._wakeups.wake()
        worker, completer = self._worker, self.delivering.pipeline.completer
        while worker.deliver_one(self.now) or completer.settle_ended():
            pass

    def carry_out(self, kind: str) -> dict[str, Any]:
        """A job of the source to its end: its result."""
        job_id = self.ledger.request_job(kind, {"source": "berlin"}, self.now)
        assert self.receiving.reconcilers["berlin"].carry_out()
        self.settle()
        return dict(self.ledger.job(job_id).result)

    def verdicts(self) -> dict[str, int]:
        return {name: count for name, count in self.ledger.counts().receipts.items() if count}

    def close(self) -> None:
        self._worker.close()
        self.ledger.close()


@pytest.fixture
def bridge(tmp_path: Path, shared_listener: SharedListener) -> Iterator[Bridge]:
    crm = SandboxCrm()
    with (
        LocalServer(crm.app) as server,
        closing(Bridge(tmp_path, crm, server.url, shared_listener)) as bridge,
    ):
        yield bridge


def test_a_pushed_call_is_filed_mapped_and_delivered(bridge: Bridge) -> None:
    assert bridge.push(CALL) == "SUCCESS"
    (call,) = bridge.crm.contents()["calls"]
    assert call["call_key"] == "k-2041"
    assert (call["talk_seconds"], call["direction"], call["remark"]) == (61, "outbound", "north")
    assert call["started_at"] == "2025-04-14T08:19:05Z"
    assert call["transcript"] == "Bot: Guten Tag\nCaller: Hallo"
    (contact,) = bridge.crm.contents()["contacts"]
    assert (contact["phone"], contact["name"], contact["grade"]) == ("+4930901820", "Erika", "hot")


def test_verdicts_use_the_second_platforms_stamps_and_fields(bridge: Bridge) -> None:
    for call in (CALL, CALL, {**CALL, "touched": "14.04.2025 10:30:00"}, RATED_LATER, CALL):
        assert bridge.push(call) == "SUCCESS"
    assert bridge.verdicts() == {"new": 1, "duplicate": 2, "revision": 1, "stale": 1}
    (contact,) = bridge.crm.contents()["contacts"]
    assert contact["grade"] == "cold"


def test_second_platforms_list_is_reconciled_and_audited(bridge: Bridge) -> None:
    bridge.push(CALL)
    bridge.second.calls += [CALL, NEVER_PUSHED]
    bridge.now += timedelta(minutes=1)
    found = bridge.carry_out("reconcile")
    assert {name: found[name] for name in ("seen", "matched", "missing", "filled")} == {
        "seen": 2,
        "matched": 1,
        "missing": 1,
        "filled": 1,
    }
    assert {call["talk_seconds"] for call in bridge.crm.contents()["calls"]} == {61}
    assert len(bridge.crm.contents()["calls"]) == 2
    audit = bridge.carry_out("audit")
    assert (audit["platform"], audit["ledger"], audit["platform_only"], audit["complete"]) == (2, 2, 0, True)


def test_call_deleted_on_the_platform_explains_its_absence_from_the_list(bridge: Bridge) -> None:
    bridge.push({**CALL, "binned": 1})
    bridge.now += timedelta(minutes=1)
    audit = bridge.carry_out("audit")
    assert audit["explanations"] == {"k-2041": "deleted there"}


def test_mapping_reads_the_raw_field_behind_a_normalised_value(tmp_path: Path) -> None:
    path = tmp_path / "crm.toml"
    path.write_text(MAPPING.replace("call.direction", "call.updated_at | iso8601"), "utf-8")
    assert load_mapping(path).fields_read(SECOND_DIALECT) == {"agency", "touched"}
    assert load_mapping(path).fields_read(PLATFORMS["outcall"].dialect) == {"agency", "updated_at"}


def test_a_record_that_names_no_call_waits_in_quarantine(bridge: Bridge) -> None:
    assert bridge.push({"agency": "north", "party": {"tel": "030 901820"}}) == "SUCCESS"
    (entry,) = bridge.ledger.list_quarantine("waiting", 10)
    assert entry.reason == "unidentified"


@pytest.mark.parametrize(
    "dialect", [*(one.dialect for one in PLATFORMS.values()), SECOND_DIALECT], ids=[*PLATFORMS, "second"]
)
def test_dialect_names_only_known_attributes_and_fields(dialect: Dialect) -> None:
    attributes = dialect.attributes.direct.keys() | dialect.attributes.computed.keys()
    assert attributes <= CALL_FIELDS.keys()
    assert not dialect.attributes.direct.keys() & dialect.attributes.computed.keys()
    fields = {field for name in attributes for field in dialect.fields_of(name)}
    assert fields <= dialect.kinds.keys()
    assert dialect.bookkeeping.keys() <= dialect.kinds.keys()
    in_head = dict(zip(dialect.head.__struct_fields__, dialect.head.__struct_encode_fields__, strict=True))
    for attribute in ("sn", "started_at", "created_at", "updated_at"):
        assert dialect.fields_of(attribute) in ((in_head[attribute],), ())
    assert dialect.fields_of("user_sn") in ((in_head["user"],), ())
