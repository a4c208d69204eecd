"""The Salesforce connector: the conformance suite, and what is Salesforce's own."""

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from bridge.crm.connector import shipped_connectors
from tests.crm.conformance.bench import OTHER_PHONE, ConnectorCase, bench_of, phone_of, uuid_of
from tests.crm.conformance.cases import SALESFORCE, salesforce
from tests.crm.conformance.online import found_online
from tests.crm.conformance.suite import Conformance
from tests.servers.base import CALL, Field, VendorServer
from tests.servers.clock import Clock
from tests.servers.salesforce import LEAD, Salesforce


@pytest.mark.long
class TestConformance(Conformance):
    case: ClassVar[ConnectorCase] = SALESFORCE


def test_leads_are_found_as_customers(tmp_path: Path) -> None:
    def serve(clock: Clock) -> VendorServer:
        server = salesforce(clock)
        assert isinstance(server, Salesforce)
        server.fields[LEAD]["Callbridge_Phone__c"] = Field("Callbridge_Phone__c", unique=True)
        server.settings["contact_object"] = "Lead"
        return server

    company = {"objects.contact.fields.Company": "{{ call.company or '未知' }}"}
    gone = {"objects.contact.fields.MailingCity": None}
    with bench_of(tmp_path, replace(SALESFORCE, server=serve), company | gone) as one:
        assert isinstance(one.server, Salesforce)
        there = one.server.seed_lead(LastName="王", Company="乙", Phone="158 9977 0637")
        one.send()
        assert one.call()["WhoId"] == there
        one.send(2, phone=OTHER_PHONE)
        assert one.call(2)["WhoId"].startswith("00Q")
        assert one.server.contacts() == []


def test_obeyed_duplicate_rule_that_names_a_namesake_parks(tmp_path: Path) -> None:
    def serve(clock: Clock) -> VendorServer:
        server = Salesforce(
            clock=clock,
            contact_fields=[Field("Callbridge_Phone__c", unique=True)],
            call_fields=[Field("Callbridge_Call__c", unique=True), Field("AI_Remark__c")],
            duplicate_rule=("LastName",),
        )
        server.settings["duplicate_rule"] = "allowSave=false"
        return server

    with bench_of(tmp_path, replace(SALESFORCE, server=serve)) as one:
        there = one.server.seed_contact(LastName="王芳", Phone="+8613900000001")
        # Alone and in a batch, where the answer does not name it.
        one.feed(1, name="王芳")
        one.drain()
        for number in (2, 3):
            one.feed(number, phone=phone_of(number), name="王芳")
        one.drain()
        assert [one.state(number) for number in (1, 2, 3)] == ["parked"] * 3
        assert one.server.calls() == []
        for number in (1, 2, 3):
            assert f"a duplicate of crm_id={there}, which has another key" in one.reason(number)
            assert "+86139****0001" in one.reason(number)


def test_duplicate_rule_on_numbers_names_the_contact(tmp_path: Path) -> None:
    with bench_of(tmp_path, SALESFORCE) as one:
        # Its number stands where the look-ups of the connector see it only once the index has caught up.
        there = one.server.seed_contact(LastName="王芳", Phone="158 9977-0637")
        one.send(1, name="王芳")
        assert {each["WhoId"] for each in one.server.calls()} == {there}


def test_signed_assertion_replaces_the_client_secret(tmp_path: Path) -> None:
    """The connector's commented lines, as an operator would take them in."""
    text = shipped_connectors()["salesforce"].read_text("utf-8")
    text = text.replace('grant = "client_credentials"\n', "", 1)
    text = re.sub(r"(?m)^# (grant = |jwt = )", r"\1", text)
    found = re.search(r"secrets = \[\"client_id\", \"private_key\", \"username\"\]", text)
    assert found is not None
    text = text.replace('secrets = ["client_id", "client_secret"]', found[0], 1)
    own = tmp_path / "salesforce.toml"
    own.write_text(text, "utf-8")

    def serve(clock: Clock) -> VendorServer:
        server = Salesforce(
            clock=clock,
            contact_fields=[Field("Callbridge_Phone__c", unique=True)],
            call_fields=[Field("Callbridge_Call__c", unique=True), Field("AI_Remark__c")],
            assertions=True,
        )
        server.secrets["username"] = server.settings.pop("username")
        return server

    with bench_of(tmp_path / "b", replace(SALESFORCE, own=own, server=serve)) as one:
        one.send()
        one.settled()


def test_call_created_at_the_same_moment_is_used(tmp_path: Path) -> None:
    with bench_of(tmp_path, SALESFORCE) as one:
        one.send()

        def meanwhile() -> None:
            one.server.create(CALL, {"Callbridge_Call__c": uuid_of(2), "Subject": "theirs"})

        one.ledger.meanwhile = meanwhile
        one.send(2, mark="好")
        assert one.call(2)["AI_Remark__c"] == "好"
        one.settled(2)


def test_check_online_reports_missing_fields() -> None:
    clock = Clock()
    with salesforce(clock) as server:
        assert found_online(SALESFORCE, server, clock) == []
    with Salesforce(clock=clock) as bare:
        told = " ".join(found_online(SALESFORCE, bare, clock))
    assert "create the field that the setting contact_key names" in told
    assert "create the field on Activity that the setting call_key names" in told
