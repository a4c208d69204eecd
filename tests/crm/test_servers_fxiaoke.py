"""The local 纷享销客 answers as its documents say, in both styles."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.servers.clock import Clock
from tests.servers.fxiaoke import Fxiaoke

Calling = Callable[..., dict[str, Any]]

WEB = httpx.Client()
"""Shared: a client of one's own for every request would cost more than the request."""


def fx_token(server: Fxiaoke) -> dict[str, Any]:
    body = {
        "appId": server.settings["app_id"],
        "appSecret": server.secrets["app_secret"],
        "permanentCode": server.secrets["permanent_code"],
        "grantType": "app_secret",
    }
    address = f"{server.url}/oauth2.0/token"
    answer: dict[str, Any] = WEB.post(address, params=trace(), json=body).json()
    return answer


def trace() -> dict[str, str]:
    return {"thirdTraceId": str(uuid.uuid4())}


def fx_caller(server: Fxiaoke, token: str) -> Calling:
    headers = {"authorization": f"Bearer {token}", "x-fs-userid": "1000", "x-fs-ea": server.settings["ea"]}

    def call(path: str, body: dict[str, Any], **params: str) -> dict[str, Any]:
        address = f"{server.url}/cgi/crm/{path}"
        answer = WEB.post(address, params=params or trace(), json=body, headers=headers)
        assert answer.status_code == 200
        decoded: dict[str, Any] = answer.json()
        return decoded

    return call


def fx_query(name: str, field: str, value: str) -> dict[str, Any]:
    filters = [{"field_name": field, "field_values": [value], "operator": "EQ"}]
    return {"data": {"dataObjectApiName": name, "search_query_info": {"limit": 10, "filters": filters}}}


def fx_write(name: str, /, **fields: Any) -> dict[str, Any]:
    return {"data": {"object_data": {"dataObjectApiName": name, **fields}}}


def test_fxiaoke_serves_standard_and_custom_objects() -> None:
    with Fxiaoke(clock=Clock()) as server:
        call = fx_caller(server, fx_token(server)["accessToken"])
        made = call(
            "v2/data/create", fx_write("LeadsObj", name="王", mobile="158") | {"triggerWorkFlow": False}
        )
        lead = made["dataId"]
        found = call("v2/data/query", fx_query("LeadsObj", "mobile", "158"))["data"]
        assert [one["_id"] for one in found["dataList"]] == [lead]
        assert call("v2/data/update", fx_write("LeadsObj", _id=lead, company="ACME"))["errorCode"] == 0
        assert [(one.id, one.flow) for one in server.triggered] == [
            (lead, "approval"),
            (lead, "approval"),
            (lead, "workflow"),
        ]
        own = fx_write("object_call__c", name="1", lead__c=lead, call_uuid__c="u-1", talk_seconds__c="65")
        assert "dataId" not in call("custom/v2/data/create", own)
        again = call("custom/v2/data/query", fx_query("object_call__c", "call_uuid__c", "u-1"))["data"]
        assert again["dataList"][0]["_id"] == server.calls()[0]["id"]
        assert server.calls()[0]["contact_ids"] == [lead]
        assert call("v2/data/create", own)["errorCode"] > 0
        about = call("v2/object/describe", {"data": {"apiName": "object_call__c"}})["data"]["describe"]
        assert about["fields"]["started_at__c"]["type"] == "date_time"


@pytest.mark.parametrize(
    "wrong",
    [{"talk_seconds__c": 65}, {"started_at__c": "2026-11-22"}, {"grade__c": "优"}, {"owner": "1000"}],
)
def test_fxiaoke_refuses_values_of_the_wrong_form(wrong: dict[str, Any]) -> None:
    with Fxiaoke() as server:
        call = fx_caller(server, fx_token(server)["accessToken"])
        answer = call("custom/v2/data/create", fx_write("object_call__c", name="1", **wrong))
        assert answer["errorCode"] > 0
        assert next(iter(wrong)) in answer["errorMessage"]
        assert not server.calls()


def test_fxiaoke_tokens_expire_and_trace_ids_work_once() -> None:
    clock = Clock()
    with Fxiaoke(clock=clock) as server:
        first = fx_token(server)["accessToken"]
        clock.pass_by(6599)
        assert fx_token(server)["accessToken"] == first
        clock.pass_by(1)
        second = fx_token(server)["accessToken"]
        assert second != first
        query = fx_query("LeadsObj", "mobile", "1")
        assert fx_caller(server, first)("v2/data/query", query)["errorCode"] == 0
        clock.pass_by(600)
        assert fx_caller(server, first)("v2/data/query", query)["errorCode"] == 20016
        call = fx_caller(server, second)
        used = trace()
        assert call("v2/data/query", query, **used)["errorCode"] == 0
        assert call("v2/data/query", query, **used)["errorCode"] > 0
        server.expire_token()
        assert call("v2/data/query", query)["errorCode"] == 20016
        assert server.token_requests() == 3


def test_fxiaoke_allows_few_token_requests_one_at_a_time() -> None:
    with Fxiaoke(clock=Clock(), token_latency=0.5) as server, ThreadPoolExecutor(4) as several:
        together = threading.Barrier(4)

        def ask(_number: int) -> Any:
            together.wait()
            return fx_token(server)["errorCode"]

        # All of them have ended before the next is asked for.
        assert 30004 in list(several.map(ask, range(4)))
        server.token_latency = 0
        # Of those at once perhaps none was given.
        one_by_one = [fx_token(server)["errorCode"] for _ in range(server.tokens_a_minute + 1)]
        assert one_by_one[0] == 0
        assert one_by_one[-1] == 30004


def test_fxiaoke_limits_each_path_and_names_the_quota() -> None:
    clock = Clock()
    with Fxiaoke(clock=clock) as server:
        server.calls_a_window = 3
        call = fx_caller(server, fx_token(server)["accessToken"])
        query = fx_query("LeadsObj", "mobile", "1")
        assert [call("v2/data/query", query)["errorCode"] for _ in range(4)] == [0, 0, 0, 30004]
        clock.pass_by(20)
        server.quota_next()
        assert call("v2/data/query", query)["errorCode"] == 30002
        server.fail_next()
        assert call("v2/data/query", query)["errorCode"] == -1


def test_fxiaoke_old_style_requires_credentials_in_the_body() -> None:
    with Fxiaoke(style="old", person="ContactObj") as server:
        secrets = {"appId": server.settings["app_id"], "appSecret": server.secrets["app_secret"]}
        secrets["permanentCode"] = server.secrets["permanent_code"]
        got = WEB.post(f"{server.url}/cgi/corpAccessToken/get/V2", json=secrets).json()
        known = {"corpAccessToken": got["corpAccessToken"], "corpId": got["corpId"]}
        address = f"{server.url}/cgi/user/getByMobile"
        user = WEB.post(address, json=known | {"mobile": "158"}).json()["empList"][0]["openUserId"]
        body = known | {"currentOpenUserId": user} | fx_write("ContactObj", name="王")
        address = f"{server.url}/cgi/crm/v2/data/create"
        assert WEB.post(address, json=body).json()["dataId"] == server.contacts()[0]["id"]
        mixed = WEB.post(address, json=body, headers={"authorization": "Bearer x"}).json()
        assert mixed["errorCode"] > 0
        without = WEB.post(address, json=fx_write("ContactObj", name="王")).json()
        assert without["errorCode"] == 20017
