"""The servers that stand for HubSpot, Zoho and Salesforce answer as the cited facts say."""

import json
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from tests.servers.base import CALL, CONTACT, Field, VendorServer
from tests.servers.hubspot import HubSpot
from tests.servers.openapi import load
from tests.servers.salesforce import Salesforce
from tests.servers.zoho import Zoho

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
PHONE = "+8615899770637"
# These servers speak plain HTTP; a trust store for each client would cost more than the test.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SOBJECTS = "/services/data/v67.0/sobjects"


class Hands:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def hubspot(clock: Hands) -> Iterator[HubSpot]:
    calls = [Field("call_key", unique=True), Field("grade", type="choice", options=("A", "B"))]
    with HubSpot(contact_fields=[Field("phone_key", unique=True)], call_fields=calls, clock=clock) as server:
        yield server


@pytest.fixture
def zoho(clock: Hands) -> Iterator[Zoho]:
    with Zoho(call_fields=[Field("Call_UUID", unique=True)], clock=clock) as server:
        yield server


@pytest.fixture
def salesforce(clock: Hands) -> Iterator[Salesforce]:
    calls = [Field("Call_UUID__c", unique=True), Field("Loose__c", external=True)]
    with Salesforce(call_fields=calls, clock=clock) as server:
        yield server


def post(url: str, **content: Any) -> httpx.Response:
    """One request without a session."""
    with httpx.Client(verify=PLAIN) as http:
        return http.post(url, **content)


def client(server: VendorServer) -> httpx.Client:
    """Logged in."""
    secrets = server.secrets
    match server:
        case Zoho():
            reply = post(f"{server.url}/oauth/v2/token", data={"grant_type": "refresh_token", **secrets})
            header = f"Zoho-oauthtoken {reply.json()['access_token']}"
        case Salesforce():
            form = {"grant_type": "client_credentials", **secrets}
            reply = post(f"{server.url}/services/oauth2/token", data=form)
            assert "expires_in" not in reply.json()
            assert reply.json()["instance_url"] == server.url
            header = f"Bearer {reply.json()['access_token']}"
        case _:
            header = f"Bearer {secrets['token']}"
    return httpx.Client(base_url=server.url, headers={"authorization": header}, verify=PLAIN)


def a_read(server: VendorServer, http: httpx.Client) -> httpx.Response:
    """Some request that reads."""
    match server:
        case Zoho():
            return http.get("/crm/v8/Contacts/1")
        case Salesforce():
            return http.get(f"{SOBJECTS}/Contact/describe")
    return http.get("/crm/v3/properties/contacts")


def a_write(server: VendorServer, http: httpx.Client, last_name: str = "Li") -> httpx.Response:
    """A new contact."""
    match server:
        case Zoho():
            return http.post("/crm/v8/Contacts", json={"data": [{"Last_Name": last_name, "Phone": PHONE}]})
        case Salesforce():
            return http.post(f"{SOBJECTS}/Contact", json={"LastName": last_name, "Phone": PHONE})
    properties = {"lastname": last_name, "phone": PHONE}
    return http.post("/crm/v3/objects/contacts", json={"properties": properties, "associations": []})


@pytest.fixture(params=["hubspot", "zoho", "salesforce"])
def server(request: pytest.FixtureRequest) -> VendorServer:
    found: VendorServer = request.getfixturevalue(request.param)
    return found


def test_healthy_server_stores_and_logs_requests(server: VendorServer) -> None:
    with client(server) as http:
        assert a_write(server, http).status_code == 201
    [contact] = server.contacts()
    assert {"Li", PHONE, contact["id"]} <= set(contact.values())
    assert [(entry.kind, entry.status) for entry in server.log()][-1] == ("write", 201)
    assert server.violations == []


def test_tokens_expire_at_once_or_after_some_requests(server: VendorServer) -> None:
    with client(server) as http:
        server.expire_token(after=1)
        answers = [a_read(server, http), a_read(server, http)]
    assert answers[0].status_code != 401
    assert answers[1].status_code == 401
    code = {"HubSpot": "INVALID_AUTHENTICATION", "Zoho": "INVALID_TOKEN", "Salesforce": "INVALID_SESSION_ID"}
    assert code[server.name] in answers[1].text
    assert isinstance(answers[1].json(), list) is (server.name == "Salesforce")
    server.unexpire()
    with client(server) as http:
        assert a_read(server, http).status_code != 401


def test_each_server_has_rate_limits_and_quotas(server: VendorServer) -> None:
    with client(server) as http:
        server.limit_next(wait=7)
        limited = a_read(server, http)
        server.quota_next()
        spent = a_read(server, http)
        assert a_read(server, http).is_success
    body = limited.json()
    match server:
        case HubSpot():
            assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
            assert body["policyName"] == "TEN_SECONDLY_ROLLING"
            assert (spent.status_code, spent.json()["policyName"]) == (429, "DAILY")
        case Zoho():
            assert (limited.status_code, body["code"]) == (429, "TOO_MANY_REQUESTS")
            reset = (NOW + timedelta(seconds=7)).timestamp() * 1000
            assert int(limited.headers["x-ratelimit-reset"]) == reset
            assert (spent.status_code, spent.json()["code"]) == (429, "LIMIT_EXCEEDED")
        case _:
            assert [entry["errorCode"] for entry in body + spent.json()] == ["REQUEST_LIMIT_EXCEEDED"] * 2
            assert {limited.status_code, spent.status_code} == {403}
            assert "retry-after" not in limited.headers
            assert re.fullmatch(r"api-usage=\d+/5000", limited.headers["sforce-limit-info"])


def test_connections_can_be_cut_before_or_after_the_effect(server: VendorServer) -> None:
    with client(server) as http:
        server.cut_next()
        server.lose_next_answer()
        for kept in (0, 1):
            with pytest.raises(httpx.RemoteProtocolError):
                a_write(server, http, f"L{kept}")
            assert len(server.contacts()) == kept
        assert [entry.status for entry in server.log()[-2:]] == [None, None]
        assert a_write(server, http, "L2").status_code == 201


def test_answers_can_drip(server: VendorServer) -> None:
    with client(server) as http:
        server.drip_next(2, pause=0.0005)
        assert a_write(server, http).json()
        server.heal()
        server.drip_next(pause=0.05)
        with http.stream("GET", "/crm/v3/properties/contacts") as answer:
            assert len(next(answer.iter_raw(1))) == 1


def test_failed_requests_have_no_effect(server: VendorServer) -> None:
    with client(server) as http:
        server.fail_next(2, status=502, on="write", after=1)
        assert [a_write(server, http, f"L{n}").status_code for n in range(4)] == [201, 502, 502, 201]
    assert len(server.contacts()) == 2


def test_refusals_are_permanent_and_dropped_fields_succeed(server: VendorServer) -> None:
    phone = {"HubSpot": "phone"}.get(server.name, "Phone")
    last = {"HubSpot": "lastname", "Zoho": "Last_Name", "Salesforce": "LastName"}[server.name]
    with client(server) as http:
        server.refuse_next(field=phone)
        refused = a_write(server, http)
        assert refused.status_code == 400
        assert phone in refused.text
        server.refuse_value(last, "Bad")
        assert [a_write(server, http, "Bad").status_code for _ in range(2)] == [400, 400]
        server.drop_field(phone)
        assert a_write(server, http).status_code == 201
    assert [phone in contact for contact in server.contacts()] == [False]


def test_user_can_edit_and_delete(server: VendorServer) -> None:
    name = {"HubSpot": "lastname", "Zoho": "Last_Name", "Salesforce": "LastName"}[server.name]
    contact = server.seed_contact(**{name: "Li"})
    server.edit(CONTACT, contact, **{name: "Wang"})
    assert server.contacts() == [{"id": contact, name: "Wang"}]
    server.delete(CONTACT, contact)
    assert server.contacts() == []


# HubSpot.


def search(field: str, value: str, **more: Any) -> dict[str, Any]:
    group = {"filters": [{"propertyName": field, "operator": "EQ", "value": value}]}
    return {"filterGroups": [group], "properties": ["phone"], "limit": 2, "after": "", "sorts": [], **more}


@pytest.mark.parametrize("generation", ["/crm/v3/objects", "/crm/objects/2026-09"])
def test_hubspot_searches_national_digits_in_an_index_that_lags(
    hubspot: HubSpot, clock: Hands, generation: str
) -> None:
    hubspot.index_lag = 5
    with client(hubspot) as http:
        made = a_write(hubspot, http).json()["id"]
        body = search("hs_searchable_calculated_phone_number", "15899770637")
        url = f"{generation}/contacts/search"
        assert http.post(url, json=body).json()["total"] == 0
        clock.now += timedelta(seconds=5)
        found = http.post(url, json=body)
        assert [entry["id"] for entry in found.json()["results"]] == [made]
        assert "x-hubspot-ratelimit-max" not in found.headers
        assert hubspot.violations == []
        del body["sorts"]
        assert http.post(url, json=body).status_code == 400
        assert http.post(url, json=search("nothing", "1")).status_code == 400
    assert bool(hubspot.violations) is hubspot.validating


def upsert(key: str, trace: str | None, **properties: Any) -> dict[str, Any]:
    named = {} if trace is None else {"objectWriteTraceId": trace}
    call = {"hs_timestamp": "2026-11-22T08:00:00Z", **properties}
    return {"id": key, "idProperty": "call_key", "properties": call, **named}


def test_hubspot_batches_answer_by_parts_only_when_inputs_name_themselves(hubspot: HubSpot) -> None:
    url = "/crm/v3/objects/calls/batch/upsert"
    with client(hubspot) as http:
        inputs = [upsert("a", "1"), upsert("b", "2", grade="Z"), upsert("c", "3")]
        partial = http.post(url, json={"inputs": inputs})
        body = partial.json()
        assert (partial.status_code, body["numErrors"]) == (207, 1)
        assert body["errors"][0]["context"] == {"objectWriteTraceId": ["2"]}
        assert [entry["objectWriteTraceId"] for entry in body["results"]] == ["3", "1"]
        assert all(entry["new"] for entry in body["results"])
        dated = http.post("/crm/objects/2026-09/calls/batch/upsert", json={"inputs": inputs})
        assert (dated.status_code, dated.json()["numErrors"]) == (200, 1)
        assert not any(entry["new"] for entry in dated.json()["results"])
        whole = http.post(url, json={"inputs": [upsert("d", None), upsert("e", None, grade="Z")]})
        assert (whole.status_code, whole.json()["category"]) == (400, "VALIDATION_ERROR")
        assert "INVALID_OPTION" in whole.json()["message"]
        many = http.post(url, json={"inputs": [upsert(str(n), str(n)) for n in range(101)]})
        assert many.status_code == 400
        wrong = [upsert("f", "1", hs_call_duration=1000)]
        assert http.post(url, json={"inputs": wrong}).json()["numErrors"] == 1
        read = {"inputs": [{"id": "a"}, {"id": "x"}], "idProperty": "call_key"}
        read.update(properties=["grade"], propertiesWithHistory=[])
        found = http.post("/crm/v3/objects/calls/batch/read", json=read)
        assert (found.status_code, found.json()["errors"][0]["context"]) == (207, {"ids": ["x"]})
    assert {call["call_key"] for call in hubspot.calls()} == {"a", "c"}


def test_hubspot_refuses_what_it_does_not_know_and_links_what_it_does(hubspot: HubSpot) -> None:
    contact = hubspot.seed_contact(email="a@example.com", phone_key="1")
    with client(hubspot) as http:
        new = {"properties": {"email": "a@example.com"}, "associations": []}
        twice = http.post("/crm/v3/objects/contacts", json=new)
        assert twice.status_code == 409
        assert twice.json()["message"] == f"Contact already exists. Existing ID: {contact}"
        clash = {"properties": {"phone_key": "1"}, "associations": []}
        assert f"{contact} already has that value" in http.post("/crm/v3/objects/contacts", json=clash).text
        unknown = http.patch(f"/crm/v3/objects/contacts/{contact}", json={"properties": {"none": "1"}})
        assert (unknown.status_code, "PROPERTY_DOESNT_EXIST" in unknown.text) == (400, True)
        link = {
            "to": {"id": contact},
            "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 194}],
        }
        call = {"properties": {"hs_timestamp": "1795334400000"}, "associations": [link]}
        calls = [http.post("/crm/v3/objects/calls", json=call).json()["id"]]
        calls += [
            http.post("/crm/v3/objects/calls", json={**call, "associations": []}).json()["id"] for _ in "12"
        ]
        one = f"/crm/v4/objects/calls/{calls[1]}/associations/default/contacts/{contact}"
        assert http.put(one).status_code == 200
        pair = {"inputs": [{"from": {"id": calls[2]}, "to": {"id": contact}}]}
        url = "/crm/associations/2026-09/calls/contacts/batch/associate/default"
        assert http.post(url, json=pair).json()["status"] == "COMPLETE"
        assert [call["contact_ids"] for call in hubspot.calls()] == [[contact]] * 3
        got = http.get(
            "/crm/v3/objects/contacts/1", params={"idProperty": "phone_key", "properties": "email"}
        )
        assert got.json()["properties"] == {"email": "a@example.com", "hs_object_id": contact}
        hubspot.fail_next(status=423)
        assert a_read(hubspot, http).json()["category"] == "LOCKED"
        hubspot.scopes.remove("crm.objects.contacts.write")
        missing = a_write(hubspot, http)
        assert (missing.status_code, missing.json()["category"]) == (403, "MISSING_SCOPES")
    assert hubspot.violations == []


# Zoho.


def a_call(**more: Any) -> dict[str, Any]:
    start = {"Call_Start_Time": "2026-11-22T16:00:00+08:00", "Call_Duration": "01:05"}
    return {"Subject": "Call", "Call_Type": "Outbound", **start, **more}


def test_zoho_fails_to_give_tokens_with_200_and_gives_ten_in_ten_minutes(zoho: Zoho, clock: Hands) -> None:
    form = {"grant_type": "refresh_token", **zoho.secrets}
    url = f"{zoho.url}/oauth/v2/token"
    wrong = post(url, data={**form, "refresh_token": "old"})
    assert (wrong.status_code, wrong.json()) == (200, {"error": "invalid_code"})
    given = [post(url, params=form) for _ in range(11)]
    assert [answer.status_code for answer in given] == [200] * 10 + [400]
    assert given[0].json()["api_domain"] == zoho.url
    clock.now += timedelta(minutes=11)
    assert "access_token" in post(url, data=form).json()
    assert zoho.token_requests() == 13
    with client(zoho) as http:
        http.headers["authorization"] = http.headers["authorization"].replace("Zoho-oauthtoken", "Bearer")
        assert a_read(zoho, http).status_code == 401
    with client(zoho) as http:
        clock.now += timedelta(hours=1)
        assert a_read(zoho, http).json()["code"] == "INVALID_TOKEN"


def test_zoho_judges_each_record_by_itself(zoho: Zoho) -> None:
    contact, lead = zoho.seed_contact(Last_Name="Li"), zoho.seed_lead(Last_Name="Wu", Company="C")
    bad = [
        {"Subject": "Call"},
        a_call(Call_Duration="65"),
        a_call(Call_Start_Time="2026-11-22T08:00:00.000+00:00"),
        a_call(Who_Id={"id": lead}),
        a_call(What_Id={"id": lead}),
        a_call(Call_UUID="u-1"),
    ]
    good = [
        a_call(Call_UUID="u-1", Who_Id={"id": contact}, Nonsense=1),
        a_call(What_Id={"id": lead}, **{"$se_module": "Leads"}),
    ]
    with client(zoho) as http:
        mixed = http.post("/crm/v8/Calls", json={"data": [*good, *bad]})
        assert mixed.status_code == 207
        items = mixed.json()["data"]
        codes = ["SUCCESS"] * 2 + ["MANDATORY_NOT_FOUND"] + ["INVALID_DATA"] * 3
        assert [item["code"] for item in items] == [*codes, "DEPENDENT_FIELD_MISSING", "DUPLICATE_DATA"]
        assert items[7]["details"]["duplicate_record"]["id"] == items[0]["details"]["id"]
        assert http.post("/crm/v8/Calls", json={"data": bad[:1]}).status_code == 400
        again = {"data": [a_call(Call_UUID="u-1", Subject="2")], "duplicate_check_fields": ["Call_UUID"]}
        [item] = http.post("/crm/v8/Calls/upsert", json=again).json()["data"]
        assert (item["action"], item["duplicate_field"]) == ("update", "Call_UUID")
        again["duplicate_check_fields"] = ["Subject"]
        assert http.post("/crm/v8/Calls/upsert", json=again).status_code == 400
        assert http.post("/crm/v8/Calls", json={"data": [a_call()] * 101}).status_code == 400
        update = {"data": [{"id": item["details"]["id"], "Description": "x"}, {"id": "1"}]}
        assert http.put("/crm/v8/Calls", json=update).status_code == 207
    first = zoho.calls()[0]
    assert "Nonsense" not in first
    assert (first["Subject"], first["Description"], first["contact_ids"]) == ("2", "x", [contact])
    assert zoho.violations == []


def test_zoho_searches_an_index_and_queries_the_database(zoho: Zoho, clock: Hands) -> None:
    zoho.index_lag = 60
    with client(zoho) as http:
        a_write(zoho, http, "O'Li (a,b)")
        params: list[dict[str, str]] = [{"phone": PHONE}, {"criteria": r"((Last_Name:equals:O'Li \(a\,b\)))"}]
        for param in params:
            nothing = http.get("/crm/v8/Contacts/search", params=param)
            assert (nothing.status_code, nothing.content) == (204, b"")
        query = {"select_query": r"select id, Phone from Contacts where Last_Name = 'O\'Li (a,b)' limit 2"}
        [found] = http.post("/crm/v8/coql", json=query).json()["data"]
        assert found["Phone"] == PHONE
        clock.now += timedelta(minutes=1)
        for param in params:
            [by_index] = http.get("/crm/v8/Contacts/search", params=param).json()["data"]
            assert by_index["id"] == found["id"]
        # A plus that was not encoded is a blank, and finds nothing.
        assert http.get(f"/crm/v8/Contacts/search?phone={PHONE}").status_code == 204
        broken = http.get("/crm/v8/Contacts/search", params={"criteria": "(Last_Name:equals:a(b)"})
        assert (broken.status_code, broken.json()["code"]) == (400, "INVALID_QUERY")
        assert (
            http.post("/crm/v8/coql", json={"select_query": "select id from Leads where"}).status_code == 400
        )
        fields = http.get("/crm/v8/settings/fields", params={"module": "Calls"}).json()["fields"]
        assert any(field["api_name"] == "Call_UUID" and field["unique"] for field in fields)
        assert zoho.violations == []
        http.post("/crm/v8/coql", json={"query": "x"})
    assert bool(zoho.violations) is zoho.validating


# Salesforce.


def test_salesforce_takes_a_signed_assertion(clock: Hands) -> None:
    with Salesforce(assertions=True, clock=clock) as server:
        claims = {"iss": server.secrets["client_id"], "sub": server.settings["username"]}
        claims["aud"] = server.settings["audience"]

        def ask(minutes: int) -> httpx.Response:
            exp = int((NOW + timedelta(minutes=minutes)).timestamp())
            assertion = jwt.encode({**claims, "exp": exp}, server.secrets["private_key"], algorithm="RS256")
            grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
            form = {"grant_type": grant, "assertion": assertion}
            return post(f"{server.url}/services/oauth2/token", data=form)

        assert "refresh_token" not in ask(3).json()
        assert (ask(60).status_code, ask(60).json()["error"]) == (400, "invalid_grant")
        claims["sub"] = "somebody@example.com"
        assert ask(3).json()["error"] == "invalid_grant"


def test_salesforce_upserts_by_external_id(salesforce: Salesforce) -> None:
    url = f"{SOBJECTS}/Task/Call_UUID__c/u%2F1"
    with client(salesforce) as http:
        made, again = (http.patch(url, json={"Subject": name, "TaskSubtype": "Call"}) for name in "ab")
        assert (made.status_code, made.json()["created"]) == (201, True)
        # Only on create.
        assert again.json()[0]["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"
        assert http.patch(url, json={"Subject": "c"}).status_code == 200
        assert http.patch(f"{SOBJECTS}/Task/{made.json()['id']}", json={"Priority": "Low"}).status_code == 204
        assert http.patch(url, json={"Call_UUID__c": "u/1"}).json()[0]["errorCode"] == "INVALID_FIELD"
        twice = http.post(f"{SOBJECTS}/Task", json={"Call_UUID__c": "u/1"}).json()[0]
        assert twice["errorCode"] == "DUPLICATE_VALUE"
        assert twice["message"].endswith(f"record with id: {made.json()['id']}")
        for _ in "12":
            http.post(f"{SOBJECTS}/Task", json={"Loose__c": "x"})
        assert http.patch(f"{SOBJECTS}/Task/Loose__c/x", json={}).status_code == 300
        task = http.get(url.rpartition("/")[0].replace("Call_UUID__c", made.json()["id"]))
        assert task.json()["Subject"] == "c"
        salesforce.delete(CALL, made.json()["id"])
        gone = http.patch(f"{SOBJECTS}/Task/{made.json()['id']}", json={})
        assert (gone.status_code, gone.json()[0]["errorCode"]) == (404, "ENTITY_IS_DELETED")


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"Nonsense": "1"}, "INVALID_FIELD", None),
        ({"Subject": "x" * 256}, "STRING_TOO_LONG", ["Subject"]),
        ({"CallType": "Sideways"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", ["CallType"]),
        ({"ActivityDate": "2026-11-22T08:00:00Z"}, "JSON_PARSER_ERROR", []),
        ({"WhoId": "0035g00000000999AA"}, "INVALID_CROSS_REFERENCE_KEY", ["WhoId"]),
    ],
)
def test_salesforce_refuses_in_an_array(
    salesforce: Salesforce, fields: dict[str, Any], code: str, named: list[str] | None
) -> None:
    with client(salesforce) as http:
        answer = http.post(f"{SOBJECTS}/Task", json=fields)
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)
        assert answer.json()[0].get("fields") == named
        assert http.post(f"{SOBJECTS}/Contact", json={}).json()[0]["errorCode"] == "REQUIRED_FIELD_MISSING"
        assert http.get("/services/data/v30.0/limits").status_code == 410


def test_salesforce_collections_answer_in_order_and_can_be_atomic(salesforce: Salesforce) -> None:
    url = "/services/data/v67.0/composite/sobjects"
    records = [{"attributes": {"type": "Task"}, "Subject": name} for name in ("a", "x" * 300, "b")]
    with client(salesforce) as http:
        atomic = http.post(url, json={"allOrNone": True, "records": records})
        assert atomic.status_code == 200
        codes = [entry["errors"][0]["statusCode"] for entry in atomic.json()]
        assert codes == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "STRING_TOO_LONG", codes[0]]
        assert salesforce.calls() == []
        parts = http.post(url, json={"allOrNone": False, "records": records}).json()
        assert [entry["success"] for entry in parts] == [True, False, True]
        keyed = [{"attributes": {"type": "Task"}, "Call_UUID__c": "1", "Subject": "k"}]
        for created in (True, False):
            answer = http.patch(f"{url}/Task/Call_UUID__c", json={"allOrNone": False, "records": keyed})
            assert [entry["created"] for entry in answer.json()] == [created]
        assert http.post(url, json={"records": records * 70}).status_code == 400


def test_salesforce_queries(salesforce: Salesforce) -> None:
    names = ["O'Li\\", "Wu", "He"]
    ids = [salesforce.seed_contact(LastName=name, Phone="(158) 9977") for name in names]
    with client(salesforce) as http:

        def ask(query: str) -> httpx.Response:
            return http.get("/services/data/v67.0/query", params={"q": query})

        escaped = (
            r"SELECT Id, Name FROM Contact WHERE LastName IN ('O\'Li\\', 'x') OR LastName = 'Wu' LIMIT 5"
        )
        found = ask(escaped).json()
        assert (found["totalSize"], found["done"]) == (2, True)
        assert [record["Id"] for record in found["records"]] == ids[:2]
        assert ask("SELECT Id FROM Contact WHERE Phone = '1589977'").json()["records"] == []
        assert ask("SELECT Nope FROM Contact").json()[0]["errorCode"] == "INVALID_FIELD"
        assert (
            ask("SELECT Id FROM Contact WHERE LastName = 'O'Li'").json()[0]["errorCode"] == "MALFORMED_QUERY"
        )
        salesforce._page_size = 2
        first = ask("SELECT Id FROM Contact").json()
        rest = http.get(first["nextRecordsUrl"]).json()
        assert (len(first["records"]), len(rest["records"]), rest["done"]) == (2, 1, True)
        sosl = "FIND {1589977} IN PHONE FIELDS RETURNING Contact(Id,Name)"
        assert len(http.get("/services/data/v67.0/search", params={"q": sosl}).json()["searchRecords"]) == 3
        described = http.get(f"{SOBJECTS}/Task/describe").json()["fields"]
        assert any(field["name"] == "Call_UUID__c" and field["externalId"] for field in described)


def test_salesforce_duplicate_rules_name_the_others(clock: Hands) -> None:
    with Salesforce(duplicate_rule=("Phone",), clock=clock) as server, client(server) as http:
        contact = server.seed_contact(LastName="Li", Phone=PHONE)
        refused = a_write(server, http)
        assert (refused.status_code, refused.json()[0]["errorCode"]) == (400, "DUPLICATES_DETECTED")
        result = refused.json()[0]["duplicateResult"]["matchResults"][0]
        assert result["matchRecords"][0]["record"]["Id"] == contact
        http.headers["sforce-duplicate-rule-header"] = "allowSave=true"
        assert a_write(server, http).status_code == 201


# The description files.


def test_api_description_rejects_invalid_requests() -> None:
    description = load("hubspot", "contacts.json")
    if description is None:
        pytest.skip("the vendors' OpenAPI files are not here: set CALLBRIDGE_SPECS")
    kind = {"content-type": "application/json"}
    body = json.dumps({"properties": {"phone": 1}}).encode()
    url = "/crm/v3/objects/contacts"
    sentences = description.violations("POST", url, [("x", "1")], kind, body)
    assert sentences == [
        "unknown query parameter x",
        "properties/phone: 1 is not of type 'string'",
        "the value: 'associations' is a required property",
    ]
    assert description.violations("PUT", url, [], kind, b"") == ["no such operation"]
    assert description.violations("PATCH", f"{url}/1", [], {}, body)[0].startswith("content type missing")


def test_requests_are_not_validated_without_description_files(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBRIDGE_SPECS", str(tmp_path / "none"))
    with HubSpot() as server, client(server) as http:
        assert not server.validating
        http.post("/crm/v3/objects/contacts", json={})
        assert server.violations == []
