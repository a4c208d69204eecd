"""The HubSpot connector: the conformance suite, and what is HubSpot's own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from bridge.mapping import load_mapping, run_tests
from tests.crm.conformance.bench import EXAMPLE, ConnectorCase, bench_of, phone_of
from tests.crm.conformance.cases import HUBSPOT, hubspot
from tests.crm.conformance.online import found_online
from tests.crm.conformance.suite import Conformance
from tests.fixtures.origins import MAIN
from tests.servers.base import Field, VendorServer
from tests.servers.clock import Clock
from tests.servers.hubspot import HubSpot
from tests.servers.openapi import specs_folder


class TestConformance(Conformance):
    case: ClassVar[ConnectorCase] = HUBSPOT


def test_example_contact_and_call_are_written(tmp_path: Path) -> None:
    """A mapping as a user would write it, with a rule, a value map, a default and a link."""
    text = """
connector = "hubspot"

[[rules]]
name = "answered"
when = "{{ call.talk_seconds > 0 }}"

[objects.contact]
key = { phone = "{{ call.phone | e164 }}" }
on_missing_key = "unlinked"
[objects.contact.fields]
firstname = { value = "{{ call.name or '未知' }}", write = "if_empty" }
ai_grade  = { value = "{{ call.grade }}", map = { A = "hot", B = "warm" }, default = "cold" }

[objects.call]
key = { call_uuid = "{{ call.key }}" }
link = { contact = "contact" }
[objects.call.fields]
hs_timestamp = "{{ call.connected_at | iso8601 }}"
hs_call_body = "{{ call.dialogue | transcript }}"

[[tests]]
record = "callback.json"
expect.contact.phone = "+8615899770637"
"""
    folder = tmp_path / "mappings"
    folder.mkdir()
    (folder / "hubspot.toml").write_text(text, "utf-8")
    (folder / "callback.json").write_text(json.dumps(EXAMPLE), "utf-8")
    mapping = load_mapping(folder / "hubspot.toml")
    assert [case.differences for case in run_tests(mapping, MAIN)] == [()]

    def serve(clock: Clock) -> VendorServer:
        contact = [Field("callbridge_phone", unique=True), Field("ai_grade")]
        return HubSpot(
            clock=clock, contact_fields=contact, call_fields=[Field("callbridge_call", unique=True)]
        )

    case = replace(HUBSPOT, server=serve, changes={}, starter=folder / "hubspot.toml")
    with bench_of(tmp_path / "bench", case) as one:
        one.send()
        one.settled()
        assert (one.contact()["firstname"], one.contact()["ai_grade"]) == ("未知", "warm")
        assert one.call()["hs_timestamp"] == "2025-04-14T02:19:21Z"


def test_dated_api_paths_are_used(tmp_path: Path) -> None:
    def serve(clock: Clock) -> VendorServer:
        server = hubspot(clock)
        dated = "crm/objects/2026-09"
        server.settings |= {"objects": dated, "links": dated, "associations": "crm/associations/2026-09"}
        server.settings |= {"properties": "crm/properties/2026-09"}
        return server

    with bench_of(tmp_path, replace(HUBSPOT, server=serve)) as one:
        # In a batch it says 200 even where an item was refused.
        one.server.refuse_value("ai_remark", "拒绝")
        for number in (1, 2, 3):
            one.feed(number, phone=phone_of(number), mark="拒绝" if number == 2 else "好")
        one.attempt()
        assert [one.state(number) for number in (1, 2, 3)] == ["delivered", "parked", "delivered"]
        assert "VALIDATION_ERROR" in one.reason(2)
        assert {entry.path.split("/")[3] for entry in one.server.log()} == {"2026-09"}


def test_number_of_another_country_is_not_matched(tmp_path: Path) -> None:
    with bench_of(tmp_path, HUBSPOT) as one:
        other = one.server.seed_contact(phone="+1 589 977 0637")
        one.send(phone="5899770637")
        assert one.call()["contact_ids"] != [other]


@pytest.mark.parametrize("phones", [("15899770637", "+8615899770637")])
def test_oldest_of_several_contacts_is_used(tmp_path: Path, phones: tuple[str, str]) -> None:
    with bench_of(tmp_path, HUBSPOT) as one:
        oldest = one.server.seed_contact(phone=phones[0])
        one.clock.pass_by(3600)
        one.server.seed_contact(phone=phones[1])
        one.send()
        assert one.call()["contact_ids"] == [oldest]


def test_missing_scope_is_named(tmp_path: Path) -> None:
    with bench_of(tmp_path, HUBSPOT) as one:
        assert isinstance(one.server, HubSpot)
        one.server.scopes.remove("crm.objects.contacts.write")
        one.feed()
        one.drain()
        assert one.state() == "parked"
        assert "crm.objects.contacts.write" in one.reason()


def test_check_online_reports_missing_properties() -> None:
    clock = Clock()
    with hubspot(clock) as server:
        assert found_online(HUBSPOT, server, clock) == []
    with HubSpot(clock=clock, call_fields=[Field("callbridge_call")]) as bare:
        told = " ".join(found_online(HUBSPOT, bare, clock))
    assert "create the contact property that the setting contact_key names" in told
    assert "create the call property that the setting call_key names" in told


@pytest.mark.skipif(specs_folder() is None, reason="the vendors' OpenAPI files are not there")
def test_requests_are_valid_by_hubspots_own_api_description() -> None:
    with hubspot(Clock()) as server:
        assert server.validating
