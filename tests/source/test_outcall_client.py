"""The outbound-call platform's list, over real sockets."""

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.errors import SourceRefused, SourceUnreachable
from bridge.sandbox.platform import ACCESS_SECRET
from bridge.sandbox.platform_faults import Disturbances
from bridge.source import Page, Source
from bridge.source.outcall.answers import AnswerReader, UnreadableAnswer
from bridge.source.outcall.client import (
    LONGEST_RETRY_WAIT,
    REQUEST_TRIES,
    TRIES_WHILE_BROKEN,
    TRIES_WHILE_REFUSED,
    UNUSED_LIST_FILTERS,
    OutcallList,
)
from bridge.source.outcall.dialect import OUTCALL_DIALECT
from bridge.source.outcall.rate import RequestRate
from tests.fixtures.served_platform import (
    CHANCE,
    HOUR,
    NAMES,
    NOW,
    ServedPlatform,
    created,
    log_in,
    made,
    served_platform,
)
from tests.source.contract import ListedPlatform, SourceContract


class Served:
    """The sandbox platform, as the contract wants it."""

    dialect = OUTCALL_DIALECT

    def __init__(self, served: ServedPlatform) -> None:
        self._served = served
        self.records = [
            (record["uuid"], created(record)) for record in served.platform.list.records().values()
        ]

    def source(self, *, right: bool = True) -> Source:
        return log_in(self._served, access_secret=ACCESS_SECRET if right else "wrong-secret")

    def end_sessions(self) -> None:
        self._served.platform.list.forget_sessions()

    def down(self, *, down: bool) -> None:
        self._served.disturb(down=down)

    def requests(self) -> int:
        return len(self._served.asked())


class TestOutcall(SourceContract):
    def served(self) -> AbstractContextManager[ListedPlatform]:
        @contextmanager
        def serve() -> Iterator[ListedPlatform]:
            with served_platform(made(25)) as served:
                yield Served(served)

        return serve()


@pytest.fixture
def served() -> Iterator[ServedPlatform]:
    with served_platform(made(30)) as served:
        yield served


def whole(source: OutcallList, size: int = 100, index: int = 0) -> Page:
    return source.page(NOW - 3 * HOUR, NOW, index, size)


def test_request_equals_that_of_the_platforms_own_clients() -> None:
    sent: list[tuple[str, dict[str, Any]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, json.loads(request.content)))
        if request.url.path == "/api/login":
            data: dict[str, Any] = {"user_sn": "SYSUSER|a", "api_key": "key", "api_key_expire": 4_000_000_000}
        else:
            data = {"list": [], "total": 0}
        return httpx.Response(200, json={"code": 0, "msg": "success", "data": data})

    with served_platform() as served:
        api = served.api(access_id="ID", access_secret="SECRET", filters={"dial_task_main_sn": "task"})
    source = OutcallList(
        api,
        clock=lambda: NOW,
        rng=CHANCE,
        stop=threading.Event(),
        transport=httpx.MockTransport(answer),
    )
    source.page(datetime(2025, 4, 14, 2, tzinfo=UTC), datetime(2025, 4, 14, 3, tzinfo=UTC), 2, 500)
    source.close()
    (_, login), (path, listed) = sent
    assert login == {
        "api_access_id": "ID",
        "from": 1,
        "timestamp": "2026-11-22 16:00:00",
        # printf 'IDSECRET2026-11-22 16:00:00' | md5sum
        "sign": "0474486de09ebe5a207271f9a119782a",
    }
    assert path == "/api/crmList"
    assert listed == dict.fromkeys(UNUSED_LIST_FILTERS, "") | {
        "user_sn": "SYSUSER|a",
        "api_key": "key",
        "pageIndex": 2,
        "pageSize": 500,
        "start_create_at": "2025-04-14 09:59:59",
        "end_create_at": "2025-04-14 11:00:01",
        "dial_task_main_sn": "task",
    }


def test_older_login_is_used_where_configured() -> None:
    with served_platform(made(3), kind="password") as served:
        old, new = log_in(served, login="password"), log_in(served)
        assert len(whole(old).rows) == 3
        with pytest.raises(SourceRefused, match="code 1001 wrong password"):
            whole(new)
        old.close()
        new.close()


def test_one_session_serves_many_pages_and_is_renewed_before_it_ends(served: ServedPlatform) -> None:
    source = log_in(served)
    for index in range(3):
        whole(source, 10, index)
    assert len(served.asked("/api/login")) == 1
    served.clock.now += timedelta(hours=1, minutes=58)
    whole(source)
    assert len(served.asked("/api/login")) == 1
    served.clock.now += timedelta(minutes=1, seconds=1)
    whole(source)
    assert len(served.asked("/api/login")) == 2
    assert all(entry["answer"] == "ok" for entry in served.asked())
    source.close()


def test_platform_with_a_slow_clock_is_not_logged_into_each_time() -> None:
    with served_platform(made(3), session_lifetime=timedelta(seconds=30)) as served:
        source = log_in(served)
        for _ in range(5):
            whole(source)
        assert len(served.asked("/api/login")) == 1
        source.close()


def test_sessions_that_often_expire_lose_no_page(served: ServedPlatform) -> None:
    waits: list[float] = []
    source = log_in(served, waits)
    served.disturb(session_dies_every=3)
    for index in range(12):
        assert len(whole(source, 10, index % 3).rows) == 10
    assert served.platform.list.happened["session_dies_every"] >= 4
    assert not waits
    source.close()


def test_brief_faults_are_retried_with_growing_waits(served: ServedPlatform) -> None:
    waits: list[float] = []
    source = log_in(served, waits)
    served.disturb(bad_gateways=0.25, cut_connections=0.2, refusals=0.1)
    for _ in range(40):
        assert len(whole(source).rows) == 30
    happened = served.platform.list.happened
    assert min(happened[name] for name in ("bad_gateways", "cut_connections", "refusals")) >= 3
    assert waits
    assert 0 < max(waits) <= LONGEST_RETRY_WAIT
    source.close()


def test_refusals_are_retried_a_few_times_only(served: ServedPlatform) -> None:
    source = log_in(served)
    served.disturb(refusals=1.0)
    with pytest.raises(SourceRefused, match="code 1 the system is busy"):
        whole(source)
    assert len(served.asked()) == 2 * TRIES_WHILE_REFUSED
    source.close()


def test_other_faults_do_not_use_up_the_tries_of_a_refusal(served: ServedPlatform) -> None:
    down: dict[str, float] = {"down": True}
    faults = iter([*[down] * TRIES_WHILE_REFUSED, {"refusals": 1.0}, {"refusals": 1.0}, {}])

    def later(_seconds: float = 0) -> None:
        served.disturb(**next(faults))

    source = OutcallList(served.api(), clock=served.clock, rng=CHANCE, stop=threading.Event(), sleep=later)
    later()
    assert len(whole(source).rows) == 30
    assert next(faults, None) is None
    source.close()


def test_refused_connection_is_unreachable_after_some_tries(served: ServedPlatform) -> None:
    waits: list[float] = []
    source = log_in(served, waits, base_url="http://127.0.0.1:9")
    with pytest.raises(SourceUnreachable, match="cannot be reached"):
        whole(source)
    assert len(waits) == REQUEST_TRIES - 1
    source.close()


def test_wrong_path_is_reported_at_once(served: ServedPlatform) -> None:
    waits: list[float] = []
    source = log_in(served, waits, list_path="/api/nothing")
    with pytest.raises(SourceRefused, match=r"/api/nothing answers 404\. Check base_url"):
        whole(source)
    assert not waits
    source.close()


def test_stopped_source_does_not_retry(served: ServedPlatform) -> None:
    stop = threading.Event()
    served.disturb(down=True)
    source = OutcallList(served.api(), clock=served.clock, rng=CHANCE, stop=stop)
    stop.set()
    with pytest.raises(SourceUnreachable):
        whole(source)
    assert len(served.platform.list.log) == 1
    source.close()


def test_window_is_wider_where_local_clocks_go_back() -> None:
    with served_platform(kind="password") as served:
        source = log_in(served, zone=ZoneInfo("Europe/Berlin"), login="password")
        source.page(
            datetime(2025, 10, 26, 0, 30, tzinfo=UTC), datetime(2025, 10, 26, 1, 30, tzinfo=UTC), 0, 9
        )
        (asked,) = served.asked()
        assert (asked["start"], asked["end"]) == ("2025-10-26 01:29:59", "2025-10-26 03:30:01")
        source.close()


def test_rate_spreads_requests_and_allows_no_burst_after_a_pause() -> None:
    now, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    rate = RequestRate(2, lambda: now[0], sleep)
    for _ in range(3):
        rate.wait()
    assert slept == [0.5, 0.5]
    now[0] += 10
    rate.wait()
    rate.wait()
    assert slept == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "rows", "total"),
    [
        (b'{"code":0,"data":{"list":[{"a":1}],"total":1}}', [b'{"a":1}'], 1),
        (b'{"code":"0","data":{"list":[{"a": 1 }],"total":"7"}}', [b'{"a": 1 }'], 7),
        (b'{"data":{"list":[]}}', [], None),
        (b'{"data":{"list":[],"total":null}}', [], None),
        (b'{"data":{"list":null,"total":"x"}}', [], None),
        (b'{"data":{"list":{"0":{"a":1},"2":{"a":2}},"total":2.0}}', [b'{"a":1}', b'{"a":2}'], 2),
        (b'{"data":{"list":[{"a":"\\ud83d"}],"total":1}}', [b'{"a":"\\ud83d"}'], 1),
        (b'\xef\xbb\xbf{"data":{"list":[1,null],"total":-1}}', [b"1", b"null"], None),
        # A row is read in its own charset when it is filed.
        ('{"data":{"list":["张"],"total":1}}'.encode("gb18030"), ['"张"'.encode("gb18030")], 1),
        (b'{"code":0,"msg":"over"}', None, None),
        (b'{"code":0,"data":null}', None, None),
        (b'{"code":0,"data":""}', None, None),
        (b'{"code":0,"data":{"api_key":"k"}}', None, None),
    ],
)
def test_rows_are_read_from_answers_in_any_spelling(
    text: bytes, rows: list[bytes] | None, total: int | None
) -> None:
    answer = AnswerReader(NAMES).read(text)
    assert (None if answer.rows is None else list(answer.rows), answer.total) == (rows, total)
    assert not answer.vacant


@pytest.mark.parametrize("text", [b"", b"<html>", b"[]", b'"x"', b"{", b"null"])
def test_answer_that_is_no_object_is_unreadable(text: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        AnswerReader(NAMES).read(text)


def answering(listed: Any, login_code: Any = 0) -> tuple[OutcallList, list[str]]:
    """A platform whose list answers one thing, and the paths that it is asked."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        login = {"user_sn": "u", "api_key": "k", "api_key_expire": "never"}
        if request.url.path == "/api/login":
            return httpx.Response(200, json={"code": login_code, "data": login})
        return httpx.Response(200, json=listed)

    with served_platform() as served:
        api = served.api()
    source = OutcallList(
        api,
        clock=lambda: NOW,
        rng=CHANCE,
        stop=threading.Event(),
        sleep=lambda _: None,
        transport=httpx.MockTransport(answer),
    )
    return source, asked


def test_empty_data_is_believed_only_in_a_new_session() -> None:
    source, asked = answering({"code": 0, "data": []})
    assert source.page(NOW - HOUR, NOW, 0, 10) == Page((), None)
    assert asked == ["/api/login", "/api/crmList"] * 2
    source.close()


@pytest.mark.parametrize("code", [20005, 20006, "20007", 10001, 1, -1, "FAIL", "E1001", False])
@pytest.mark.parametrize("data", [[], {}, None, "", "refused"])
def test_missing_data_with_a_refusal_code_is_no_empty_list(code: Any, data: Any) -> None:
    source, _ = answering({"code": code, "msg": "no right to this interface", "data": data})
    with pytest.raises(SourceRefused, match=f"code {code} no right to this interface"):
        source.page(NOW - HOUR, NOW, 0, 10)
    source.close()


@pytest.mark.parametrize("code", [0, "0", 200, "200", None, "", "SUCCESS", "ok", True, "A00000"])
def test_success_has_several_forms(code: Any) -> None:
    answer = {"code": code, "msg": "ok", "data": {"list": [{"a": 1}], "total": 1}}
    for listed in (answer, answer | {"x": float("1e300")}):
        source, asked = answering(listed, code)
        page = source.page(NOW - HOUR, NOW, 0, 10)
        assert ([json.loads(row) for row in page.rows], page.total) == ([{"a": 1}], 1)
        assert asked == ["/api/login", "/api/crmList"]
        source.close()


def test_rows_under_another_key_are_no_empty_list() -> None:
    data = {"current_page": 1, "data": [{"a": 1}], "total": 1}
    source, _ = answering({"code": 0, "data": data})
    with pytest.raises(SourceUnreachable, match=r"holds current_page, data, total: set names\.list"):
        source.page(NOW - HOUR, NOW, 0, 10)
    source.close()


def test_answer_with_unknown_keys_is_reported_with_them() -> None:
    source, _ = answering({"Code": 0, "Data": {"List": []}})
    with pytest.raises(
        SourceUnreachable, match=r"its answer holds Code, Data, and names\.data of this login is 'data'"
    ):
        source.page(NOW - HOUR, NOW, 0, 10)
    source.close()


def test_session_keys_are_never_shown() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/login":
            keys.append(f"a-session-key-{len(keys)}")
            data = {"user_sn": "u", "api_key": keys[-1], "api_key_expire": "never"}
            return httpx.Response(200, json={"code": 0, "data": data})
        told = f"{json.loads(request.content)['api_key']} is over, {' '.join(keys)} too"
        return httpx.Response(200, json={"code": 20006, "msg": told})

    with served_platform() as served:
        api = served.api()
    source = OutcallList(
        api,
        clock=lambda: NOW,
        rng=CHANCE,
        stop=threading.Event(),
        sleep=lambda _: None,
        transport=httpx.MockTransport(answer),
    )
    with pytest.raises(SourceRefused, match="is over") as caught:
        source.page(NOW - HOUR, NOW, 0, 10)
    assert keys
    assert "a-session-key" not in str(caught.value)
    source.close()


@pytest.mark.parametrize("nested", [[[{"a": 1}, {"a": 2}]], [[{"a": 1}], [{"a": 2}]]])
@pytest.mark.parametrize("odd", [{}, {"x": "\ud83d"}])
def test_nested_lists_are_rows(nested: Any, odd: Any) -> None:
    text = json.dumps({"code": 0, "data": {"list": nested, "total": 2}, **odd})
    answer = AnswerReader(NAMES).read(text.encode())
    assert [json.loads(row) for row in answer.rows or ()] == [{"a": 1}, {"a": 2}]


def test_answer_without_data_ends_after_a_few_logins() -> None:
    source, asked = answering({"Code": 0})
    with pytest.raises(SourceUnreachable, match="without data"):
        source.page(NOW - HOUR, NOW, 0, 10)
    assert asked.count("/api/login") <= 2 * TRIES_WHILE_BROKEN
    source.close()


def test_empty_list_with_a_total_needs_no_new_session() -> None:
    for listed in (
        {"code": 0, "data": [], "total": 0},
        {"code": 0, "data": [], "total": 25},
        {"code": 0, "data": {"current_page": 1, "total": 0}},
        {"code": 0, "data": {"total": 7}},
    ):
        source, asked = answering(listed)
        assert source.page(NOW - HOUR, NOW, 0, 10).rows == ()
        assert asked == ["/api/login", "/api/crmList"]
        source.close()


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with suppress(UnreadableAnswer):
        AnswerReader(NAMES).read(b'{"data":' + content + b"}")


def test_disturbances_can_be_set_over_http(served: ServedPlatform) -> None:
    with httpx.Client(base_url=served.url) as client:
        assert client.post("/_faults", json={"page_cap": 7, "total": "text"}).json()["page_cap"] == 7
        assert client.post("/_faults", json={"order": "any"}).json()["total"] == "text"
        assert served.platform.list.disturbances == Disturbances(page_cap=7, total="text", order="any")
        assert client.post("/_faults", json={"page_cap": -1}).status_code == 422
        assert client.post("/_faults", json={"colour": 1}).status_code == 422
        source = log_in(served)
        assert len(whole(source).rows) == 7
        source.close()
        shown = client.get("/_requests").json()
        assert shown["counts"] == {"POST /api/login": 1, "POST /api/crmList": 1}
        assert shown["requests"][1]["rows"] == 7
        assert client.delete("/_faults").json()["page_cap"] == 0
        assert client.post("/_end_sessions").status_code == 204
