"""The Zoho connector: the conformance suite, and what is Zoho's own."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tests.crm.conformance.bench import ConnectorCase, bench_of
from tests.crm.conformance.cases import ZOHO, zoho
from tests.crm.conformance.online import found_online
from tests.crm.conformance.suite import Conformance
from tests.servers.base import Field, VendorServer
from tests.servers.clock import Clock
from tests.servers.openapi import specs_folder
from tests.servers.zoho import LEAD, Zoho


@pytest.mark.long
class TestConformance(Conformance):
    case: ClassVar[ConnectorCase] = ZOHO


def test_leads_are_linked_by_what_id(tmp_path: Path) -> None:
    def serve(clock: Clock) -> VendorServer:
        server = zoho(clock)
        assert isinstance(server, Zoho)
        server.fields[LEAD]["Callbridge_Phone"] = Field("Callbridge_Phone", unique=True)
        server.settings["contact_module"] = "Leads"
        return server

    with bench_of(tmp_path, replace(ZOHO, server=serve)) as one:
        assert isinstance(one.server, Zoho)
        there = one.server.seed_lead(Last_Name="王", Phone="158 9977 0637")
        one.send()
        call = one.call()
        assert (call["What_Id"], call["$se_module"], one.server.contacts()) == ({"id": there}, "Leads", [])


def test_refused_refresh_token_is_named(tmp_path: Path) -> None:
    with bench_of(tmp_path, ZOHO) as one:
        good = one.server.secrets["refresh_token"]
        one.server.secrets["refresh_token"] = "1000.another-one-of-the-tests"
        one.feed()
        one.attempt()
        assert one.state() in ("due", "parked")
        assert "invalid_code" in one.reason()
        assert "refresh token" in one.reason()
        one.server.secrets["refresh_token"] = good


def test_check_online_reports_missing_fields() -> None:
    clock = Clock()
    with zoho(clock) as server:
        assert found_online(ZOHO, server, clock) == []
    with Zoho(clock=clock) as bare:
        told = " ".join(found_online(ZOHO, bare, clock))
    assert "create the field that the setting contact_key names" in told
    assert "create the field that the setting call_key names" in told


@pytest.mark.skipif(specs_folder() is None, reason="the vendors' OpenAPI files are not there")
def test_requests_are_valid_by_zohos_own_api_description() -> None:
    with zoho(Clock()) as server:
        assert server.validating
