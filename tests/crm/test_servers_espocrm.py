"""The local EspoCRM answers as the real ones did."""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.servers.base import CONTACT
from tests.servers.clock import Clock
from tests.servers.espocrm import EspoCrm

PHONE = "+8615800000637"
CALLED = {"name": "AI call", "dateStart": "2026-11-22 08:00:00", "dateEnd": "2026-11-22 08:01:05"}


@pytest.fixture
def espo() -> Iterator[EspoCrm]:
    with EspoCrm(clock=Clock()) as server:
        yield server


@pytest.fixture
def site(espo: EspoCrm) -> Iterator[httpx.Client]:
    headers = {"x-api-key": espo.secrets["api_key"]}
    with httpx.Client(base_url=f"{espo.url}/api/v1/", headers=headers) as client:
        yield client


def espo_call(espo: EspoCrm, **fields: Any) -> dict[str, Any]:
    return {**CALLED, "assignedUserId": espo.settings["user_id"], **fields}


def test_espocrm_server_creates_reads_and_updates_whole_records(espo: EspoCrm, site: httpx.Client) -> None:
    made = site.post("Contact", json={"lastName": "王", "phoneNumber": PHONE, "id": "mine", "wrong": 1})
    assert made.status_code == 200
    record = made.json()
    assert len(record["id"]) == 17
    assert "wrong" not in record
    assert record["emailAddress"] is None
    assert site.put(f"Contact/{record['id']}", json={"title": "CEO"}).json()["title"] == "CEO"
    assert site.get(f"Contact/{record['id']}").json()["phoneNumber"] == PHONE
    assert site.get("Contact/nobody").status_code == 404
    assert espo.contacts() == [{"id": record["id"], "lastName": "王", "phoneNumber": PHONE, "title": "CEO"}]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"where[0][type]": "equals", "where[0][attribute]": "phoneNumber", "where[0][value]": PHONE}, 1),
        ({"whereGroup[0][type]": "equals", "whereGroup[0][attribute]": "phoneNumber"}, 0),
        (
            {
                "where[0][type]": "or",
                "where[0][value][0][type]": "equals",
                "where[0][value][0][attribute]": "phoneNumberNumeric",
                "where[0][value][0][value]": "8615900000000",
                "where[0][value][1][type]": "endsWith",
                "where[0][value][1][attribute]": "phoneNumberNumeric",
                "where[0][value][1][value]": "5900000000",
            },
            1,
        ),
        ({"searchParams": '{"where":[{"type":"like","attribute":"name","value":"王%"}],"maxSize":5}'}, 1),
        ({}, 2),
    ],
)
def test_espocrm_server_searches(
    espo: EspoCrm, site: httpx.Client, where: dict[str, str], found: int
) -> None:
    espo.seed_contact(lastName="王", phoneNumber=PHONE)
    both = [{"phoneNumber": "+8613700000000", "primary": True}, {"phoneNumber": "+8615900000000"}]
    espo.seed_contact(lastName="李", phoneNumberData=both)
    answer = site.get("Contact", params={**where, "select": "id,name"}).json()
    assert answer["total"] == len(answer["list"]) == found
    assert all(set(one) == {"id", "name"} for one in answer["list"])


def test_espocrm_server_refuses_large_pages_and_unknown_attributes(site: httpx.Client, espo: EspoCrm) -> None:
    espo.seed_contact()
    assert site.get("Contact", params={"maxSize": "201"}).status_code == 403
    where = {"where[0][type]": "equals", "where[0][attribute]": "fone", "where[0][value]": "1"}
    assert site.get("Contact", params=where).status_code == 400


def test_espocrm_server_reports_duplicates_and_conflicting_changes(espo: EspoCrm, site: httpx.Client) -> None:
    held = espo.seed_contact(firstName="伟", lastName="王")
    again = {"firstName": "伟", "lastName": "王"}
    refused = site.post("Contact", json=again)
    assert (refused.status_code, refused.headers["x-status-reason"]) == (409, "duplicate")
    assert [one["id"] for one in refused.json()] == [held]
    assert site.post("Contact", json=again, headers={"x-skip-duplicate-check": "true"}).status_code == 200
    espo.edit(CONTACT, held, title="CEO")
    late = site.put(f"Contact/{held}", json={"title": "CTO"}, headers={"x-version-number": "1"})
    assert (late.status_code, late.headers["x-status-reason"]) == (409, "modified")


@pytest.mark.parametrize(
    ("fields", "field", "fault"),
    [
        ({"name": "a < b"}, "name", "pattern"),
        ({"name": "x" * 101}, "name", "maxLength"),
        ({"dateStart": "2026-11-22T08:00:00Z"}, "dateStart", "valid"),
        ({"dateEnd": None}, "dateEnd", "required"),
        ({"dateEnd": "2026-11-22 07:59:59"}, "dateEnd", "after"),
        ({"status": "Done"}, "status", "valid"),
        ({"assignedUserId": None}, "assignedUser", "required"),
    ],
)
def test_espocrm_server_names_an_invalid_field(
    espo: EspoCrm, site: httpx.Client, fields: dict[str, Any], field: str, fault: str
) -> None:
    refused = site.post("Call", json=espo_call(espo, **fields))
    assert (refused.status_code, refused.headers["x-status-reason"]) == (400, "validationFailure")
    assert refused.json()["messageTranslation"]["data"] == {"field": field, "type": fault}
    assert not espo.calls()


def test_espocrm_server_links_calls(espo: EspoCrm, site: httpx.Client) -> None:
    contact = espo.seed_contact()
    call = site.post("Call", json=espo_call(espo, contactsIds=[contact], cCallUuid="u-1")).json()
    assert call["duration"] == 65
    where = {"where[0][type]": "equals", "where[0][attribute]": "cCallUuid", "where[0][value]": "u-1"}
    assert [one["id"] for one in site.get("Call", params=where).json()["list"]] == [call["id"]]
    other = espo.seed_contact()
    assert site.post(f"Call/{call['id']}/contacts", json={"id": other}).json() is True
    assert espo.calls()[0]["contact_ids"] == [contact, other]
    assert site.post("Call", json=espo_call(espo, contactsIds=["gone"])).status_code == 403
    assert site.post("Call", json=espo_call(espo, assignedUserId="another")).status_code == 403


def test_espocrm_server_requires_a_plus_in_numbers_since_9(site: httpx.Client) -> None:
    body = {"lastName": "王", "phoneNumber": "15800000637"}
    assert site.post("Contact", json=body).json()["messageTranslation"]["data"]["field"] == "phoneNumber"
    with EspoCrm(version=(7, 4, 6)) as old:
        headers = {"x-api-key": old.secrets["api_key"]}
        assert httpx.post(f"{old.url}/api/v1/Contact", json=body, headers=headers).status_code == 200


def test_espocrm_server_checks_signatures_and_keys() -> None:
    with EspoCrm(login="hmac") as server:
        secret, key = server.secrets["secret_key"], server.secrets["api_key"]
        signed = hmac.new(secret.encode(), b"GET /Contact", hashlib.sha256).hexdigest()
        headers = {"x-hmac-authorization": base64.b64encode(f"{key}:{signed}".encode()).decode()}
        address = f"{server.url}/api/v1/Contact?maxSize=5"
        assert httpx.get(address, headers=headers).status_code == 200
        for _ in range(10):
            bad = httpx.get(address, headers={"x-api-key": key})
            assert (bad.status_code, bad.content) == (401, b"")
        assert httpx.get(address, headers=headers).status_code == 403


def test_espocrm_server_describes_its_fields(espo: EspoCrm, site: httpx.Client) -> None:
    about = site.get("Metadata", params={"key": "entityDefs.Call.fields"}).json()
    assert about["name"] == {"type": "varchar", "maxLength": 100, "required": True}
    assert about["cCallUuid"]["type"] == "varchar"
    assert site.get("OpenApi").status_code == 404
    assert site.get("App/user").json()["user"]["id"] == espo.settings["user_id"]


def test_espocrm_server_reports_faults_like_espocrm(espo: EspoCrm, site: httpx.Client) -> None:
    espo.limit_next(wait=2)
    limited = site.get("Contact")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
    assert site.post("Contact", content=b"{").status_code == 500
    espo.drop_field("title")
    assert site.post("Contact", json={"lastName": "王", "title": "CEO"}).json()["title"] is None
    espo.refuse_next(field="title")
    assert site.post("Contact", json={"lastName": "李"}).headers["x-status-reason"] == "validationFailure"
    espo.lose_next_answer()
    with pytest.raises(httpx.RemoteProtocolError):
        site.post("Contact", json={"lastName": "张"})
    assert [one["lastName"] for one in espo.contacts()] == ["王", "张"]
    espo.expire_token()
    assert site.get("Contact").status_code == 401
    with pytest.raises(NotImplementedError):
        espo.quota_next()
