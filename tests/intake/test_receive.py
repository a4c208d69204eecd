"""The public door on a real socket: what is answered, and what is on disk when it is."""

import asyncio
import gzip
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from bridge.intake.receive import SourceDoor
from bridge.ledger.sqlite.filing import MOST_UNFILED, MOST_UNFILED_BYTES
from bridge.record.unwrap_body import MOST_RECORDS
from tests.fixtures.door import BODY, LIMIT, PATH, UUID, Served, SharedListener, served
from tests.fixtures.origins import MAIN, named

HUGE = b"x" * (LIMIT + 1)
GZIP = {"content-encoding": "gzip"}
ELSEWHERE = (ip_network("192.0.2.0/24"),)


# -- yes ---------------------------------------------------------------------------
def test_success_is_these_bytes_and_the_record_is_on_disk(door: Served) -> None:
    answer = door.post()
    assert (answer.status_code, answer.content) == (200, b"SUCCESS")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-length"] == "7"
    assert "server" not in answer.headers
    assert door.payloads() == [BODY]
    assert door.rows("SELECT source, key FROM calls") == [("main", UUID)]
    receipts = "SELECT via, datetime(received_at / 1e6, 'unixepoch'), verdict FROM receipts"
    assert door.rows(receipts) == [("callback", "2026-11-22 08:00:00", None)]
    assert door.commits == [1]


def test_the_documented_record_arrives_whole(
    shared_listener: SharedListener, ledger_path: Path, example: dict[str, Any]
) -> None:
    body = json.dumps(example, ensure_ascii=False).encode()
    assert len(body) > LIMIT
    with served(shared_listener, ledger_path, max_body=2 * 2**20) as door:
        assert door.post(body).content == b"SUCCESS"
        assert door.payloads() == [body]


def test_source_may_have_its_own_acknowledgement(shared_listener: SharedListener, ledger_path: Path) -> None:
    own = SourceDoor(MAIN, (b"right-token",), status=202, body='{"code":0,"说":"好"}'.encode())
    with served(shared_listener, ledger_path, {"main": own}) as door:
        for body in (BODY, BODY, b'{"id": 1}'):
            answer = door.post(body)
            assert (answer.status_code, answer.content) == (202, '{"code":0,"说":"好"}'.encode())
        assert door.post(b"garbage").status_code == 400


def test_acknowledgement_has_its_content_type(shared_listener: SharedListener, ledger_path: Path) -> None:
    own = SourceDoor(MAIN, (b"right-token",), body=b'{"code":0}', content_type=b"application/json")
    with served(shared_listener, ledger_path, {"main": own}) as door:
        answer = door.post()
        assert (answer.headers["content-type"], answer.json()) == ("application/json", {"code": 0})


def test_duplicates_are_acknowledged_each_time(door: Served) -> None:
    assert [door.post().content for _ in range(3)] == [b"SUCCESS"] * 3
    assert door.rows("SELECT count(*) FROM receipts") == [(3,)]
    assert door.rows("SELECT count(*) FROM calls") == [(1,)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"id": 1}', "unidentified"),
        (
            f'{{"uuid": "{UUID}", "base_info": "00000000-18d6-11f0-88c8-2f2b0aba51d7"}}'.encode(),
            "identity_conflict",
        ),
    ],
)
def test_unidentified_record_is_acknowledged_and_quarantined(door: Served, body: bytes, reason: str) -> None:
    assert [door.post(body).content for _ in range(2)] == [b"SUCCESS"] * 2
    assert door.quarantined() == [(reason, 2, body)]
    assert door.rows("SELECT count(*) FROM calls") == [(0,)]


def test_identity_conflict_is_acknowledged_and_quarantined(door: Served) -> None:
    for body in (b'{"uuid": "a"}', b'{"uuid": "b"}', b'{"uuid": "a", "base_info": "b"}'):
        assert door.post(body).content == b"SUCCESS"
    assert door.quarantined() == [("identity_conflict", 1, b'{"uuid": "a", "base_info": "b"}')]


def test_each_source_has_its_own_callback_url(shared_listener: SharedListener, ledger_path: Path) -> None:
    sources = {
        "main": SourceDoor(MAIN, (b"one", b"two")),
        "branch": SourceDoor(named("branch"), ("三".encode(),)),
    }
    with served(shared_listener, ledger_path, sources) as door:
        for path, status in {
            "/callback/main/one": 200,
            "/callback/main/two": 200,
            f"/callback/branch/{quote('三')}": 200,
            "/callback/branch/one": 404,
            "/callback/main/three": 404,
            "/callback/main/onetwo": 404,
        }.items():
            assert door.post(path=path).status_code == status
        assert door.rows("SELECT source, count(*) FROM calls GROUP BY 1") == [("branch", 1), ("main", 1)]


# -- no, in this order -------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [PATH, "/callback/main/wrong", "/callback/nobody/wrong"])
def test_method_is_checked_first(refusing: Served, method: str, path: str) -> None:
    answer = refusing.client.request(method, refusing.url + path, content=HUGE if method == "PUT" else None)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path",
    [
        "/callback/main/wrong",
        "/callback/main/",
        "/callback/nobody/right-token",
        "/callback/nobody/",
        "/callback//right-token",
        "/callback/main",
        "/callback/main/right-token/x",
        "/callback/main/right token",
        "/callback/main/right-toke",
        "/callback/main/right-token%2F..",
        "/Callback/main/right-token",
        "/callback/main/right-token%00",
        "/callback/main/%ff",
        "/",
        "/healthz",
        "/metrics",
    ],
)
def test_source_and_token_are_checked_second(refusing: Served, path: str) -> None:
    assert refusing.post(HUGE, path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        PATH + "/",
        PATH + "//",
        "/" + PATH,
        "//callback//main///right-token",
        PATH + "%20",
        PATH + "%20/",
        PATH + "%E2%80%8B",
        PATH + "%EF%BB%BF",
        PATH + "/%20",
        PATH + "%0A",
        PATH + "%C2%A0",
        PATH + "%E3%80%80",
        "/callback/main/%20right-token",
        "/callback/main%20/right-token",
        PATH + "?a=b",
        PATH + "/?",
    ],
)
def test_pasted_url_with_stray_characters_is_the_same_url(door: Served, path: str) -> None:
    assert door.post(path=path).content == b"SUCCESS"


def test_client_address_is_checked_third(refusing: Served) -> None:
    assert refusing.post(HUGE).status_code == 403
    assert refusing.post(b"garbage").status_code == 403


def test_body_size_is_checked_fourth(door: Served) -> None:
    answer = door.post(HUGE)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert door.quarantined() == []
    assert door.post(b"garbage").status_code == 400
    most = BODY + b" " * (LIMIT - len(BODY))
    assert door.post(most).status_code == 200


@pytest.fixture
def refusing(shared_listener: SharedListener, ledger_path: Path) -> Iterator[Served]:
    """A door that nobody here may use; nothing of what it refuses is stored."""
    with served(
        shared_listener, ledger_path, {"main": SourceDoor(MAIN, (b"right-token",), ELSEWHERE)}
    ) as door:
        yield door
        for table in ("receipts", "calls", "quarantine"):
            assert door.rows(f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 -- names of ours


def test_answers_are_counted_by_status(door: Served) -> None:
    for body in (BODY, BODY, b"garbage", HUGE):
        door.post(body)
    door.post(path="/callback/main/wrong")
    door.post(path="/callback/nobody/wrong")
    door.client.get(door.url + PATH)
    assert door.counted() == {
        ("main", 200): 2,
        ("main", 400): 1,
        ("main", 413): 1,
        ("main", 404): 1,
        ("", 404): 1,
        ("", 405): 1,
    }


# -- where a callback may come from ------------------------------------------------
@pytest.mark.parametrize(
    ("trusted", "forwarded", "status"),
    [
        ((), None, 403),
        # Nobody's word is taken who is not trusted.
        ((), "192.0.2.7", 403),
        (("10.0.0.0/8",), "192.0.2.7", 403),
        (("127.0.0.0/8",), "192.0.2.7", 200),
        (("127.0.0.0/8",), "198.51.100.1", 403),
        (("127.0.0.0/8",), None, 403),
        # What stands left of the first untrusted address is that sender's own invention.
        (("127.0.0.0/8",), "192.0.2.7, 198.51.100.1", 403),
        (("127.0.0.0/8",), "198.51.100.1, 192.0.2.7", 200),
        (("127.0.0.0/8", "198.51.100.0/24"), "192.0.2.7, 198.51.100.1", 200),
        (("127.0.0.0/8",), "::ffff:192.0.2.7", 200),
        (("127.0.0.0/8",), "[2001:db8::1]", 200),
        (("127.0.0.0/8",), "2001:db8::1", 200),
        # With the sender's port, as some proxies write it.
        (("127.0.0.0/8",), "192.0.2.7:51234", 200),
        (("127.0.0.0/8",), "[2001:db8::1]:51234", 200),
        (("127.0.0.0/8",), "[::ffff:192.0.2.7]:51234", 200),
        (("127.0.0.0/8", "198.51.100.0/24"), "192.0.2.7:1, 198.51.100.1:65535", 200),
        (("127.0.0.0/8",), "192.0.2.7:1, 198.51.100.1:65535", 403),
        (("127.0.0.0/8",), "198.51.100.1:51234", 403),
        (("127.0.0.0/8",), "192.0.2.7:", 403),
        (("127.0.0.0/8",), "192.0.2.7:http", 403),
        (("127.0.0.0/8",), "[2001:db8::1]51234", 403),
        (("127.0.0.0/8",), "[2001:db8::1", 403),
        (("127.0.0.0/8",), "unknown", 403),
        (("127.0.0.0/8",), "192.0.2.7,", 403),
    ],
)
def test_a_trusted_proxy_tells_who_sends(
    shared_listener: SharedListener,
    ledger_path: Path,
    trusted: tuple[str, ...],
    forwarded: str | None,
    status: int,
) -> None:
    allow = (*ELSEWHERE, ip_network("2001:db8::/32"))
    with served(
        shared_listener, ledger_path, {"main": SourceDoor(MAIN, (b"right-token",), allow)}, trusted=trusted
    ) as door:
        headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
        assert door.post(headers=headers).status_code == status
        assert len(door.payloads()) == (status == 200)


def test_an_allowed_address_needs_no_proxy(shared_listener: SharedListener, ledger_path: Path) -> None:
    allow = (ip_network("127.0.0.0/8"),)
    with served(shared_listener, ledger_path, {"main": SourceDoor(MAIN, (b"right-token",), allow)}) as door:
        assert door.post(headers={"x-forwarded-for": "192.0.2.7"}).status_code == 200


# -- a ledger that cannot commit ---------------------------------------------------
def test_locked_ledger_answers_503_and_stores_nothing(door: Served) -> None:
    door.ledger._write().run(lambda c: c.execute("PRAGMA busy_timeout = 20"))
    with closing(sqlite3.connect(door.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for body in (BODY, b'{"id": 1}', b"garbage"):
            answer = door.post(body)
            assert answer.status_code == 503
            assert b"SUCCESS" not in answer.content
        other.execute("ROLLBACK")
    assert (door.payloads(), door.quarantined(), door.commits) == ([], [], [])
    assert door.post().content == b"SUCCESS"


def test_closed_door_answers_503(door: Served) -> None:
    assert not door.door.closed
    door.door.close()
    assert door.door.closed
    assert door.post().status_code == 503
    assert door.payloads() == []
    # The other checks go on as before.
    assert door.post(path="/callback/main/wrong").status_code == 404


def test_request_cut_off_by_a_second_signal_is_answered_503(door: Served) -> None:
    async def half_a_body() -> dict[str, Any]:
        reading.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def answered(message: Any) -> None:
        answers.append(message.get("status"))

    async def cut_off() -> None:
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
        request = asyncio.ensure_future(door.door(scope, half_a_body, answered))
        await reading.wait()
        request.cancel()
        await request

    answers: list[int | None] = []
    reading = asyncio.Event()
    asyncio.run(cut_off())
    assert answers == [503, None]
    assert door.rows("SELECT 1 FROM receipts") == []


def test_closed_ledger_answers_503(door: Served) -> None:
    door.ledger.close()
    assert door.post().status_code == 503


def test_body_read_before_the_door_closed_is_filed(shared_listener: SharedListener, door: Served) -> None:
    with ThreadPoolExecutor(1) as pool, held(door) as waiting:
        answer = pool.submit(door.post)
        shared_listener.wait_until(lambda: waiting() == 1)
        door.door.close()
    assert answer.result(5).content == b"SUCCESS"
    assert door.payloads() == [BODY]


def test_concurrent_requests_share_commits(shared_listener: SharedListener, door: Served) -> None:
    bodies = [f'{{"uuid": "call-{number}"}}'.encode() for number in range(40)]
    with ThreadPoolExecutor(40) as pool:
        with held(door) as waiting:
            first = pool.submit(door.post, bodies[0])
            shared_listener.wait_until(lambda: waiting() == 1)
            others = [pool.submit(door.post, body) for body in bodies[1:]]
            shared_listener.wait_until(lambda: waiting() == 40)
            assert door.payloads() == []
            assert not any(one.done() for one in others)
        assert {one.result(5).content for one in [first, *others]} == {b"SUCCESS"}
    assert sorted(door.payloads()) == sorted(bodies)
    assert len(door.commits) == 2


def test_unfilable_body_fails_alone(shared_listener: SharedListener, door: Served) -> None:
    """Those that share its commit are acknowledged all the same."""
    bodies = [BODY, b"garbage", b'{"id": 1}', b'{"uuid": "other"}']
    with ThreadPoolExecutor(4) as pool:
        with held(door) as waiting:
            answers = [pool.submit(door.post, body) for body in bodies]
            shared_listener.wait_until(lambda: waiting() == 4)
        assert [one.result(5).status_code for one in answers] == [200, 400, 200, 200]
    assert sorted(door.payloads()) == sorted([BODY, b'{"uuid": "other"}'])


class held:  # noqa: N801 -- read as `with held(door)`
    """Keeps the ledger's writer busy; tells how many callbacks have reached it or wait for it."""

    def __init__(self, door: Served) -> None:
        self._door = door
        self._go = threading.Event()

    def __enter__(self) -> Any:
        begun = threading.Event()

        def wait(_: sqlite3.Connection) -> None:
            begun.set()
            assert self._go.wait(10)

        self._work = self._door.ledger._write().submit(wait)
        assert begun.wait(5)
        commits = self._door.door._commits
        return lambda: len(commits._waiting) + commits._committing

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._work.result(5)


# -- bodies ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, {"content-type": "text/plain"}),
        (b"\xef\xbb\xbf" + BODY, {"content-type": "application/json"}),
        (BODY.decode().encode("gb18030"), {"content-type": "application/json; charset=gbk"}),
        (urlencode({"data": BODY.decode()}).encode(), {"content-type": "application/x-www-form-urlencoded"}),
        (b"record=" + BODY, {"content-type": "application/x-www-form-urlencoded"}),
        (b"[" + BODY + b"]", {}),
        (b'{"code":0,"data":' + BODY + b"}", {}),
        (json.dumps(BODY.decode()).encode(), {}),
        (BODY + b"\0", {}),
        (BODY.decode().encode("utf-16-le"), {"content-type": "text/plain; charset=utf-16le"}),
        (gzip.compress(BODY), {"content-encoding": "gzip"}),
        (gzip.compress(BODY), {"content-encoding": "X-GZIP"}),
        (gzip.compress(BODY.decode().encode("gb18030")), {"content-encoding": "gzip"}),
    ],
    ids=[
        "text",
        "mark",
        "gb18030",
        "form",
        "unescaped form",
        "array",
        "envelope",
        "string",
        "NUL",
        "utf-16",
        "gzip",
        "x-gzip",
        "gzip of gb18030",
    ],
)
def test_record_is_read_from_every_wrapping(door: Served, body: bytes, headers: dict[str, str]) -> None:
    assert door.post(body, headers=headers).content == b"SUCCESS"
    assert door.payloads() == [BODY]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b'"text"',
        b"[7, null]",
        BODY[:-1],
        BODY + b"x",
        b"\xff\xfe\x00",
        b'{"uuid": "u", "a": "C:\\"}',
        b"data=garbage",
    ],
)
def test_garbage_is_answered_400_and_quarantined_once(door: Served, body: bytes) -> None:
    answers = [door.post(body) for _ in range(3)]
    assert [one.status_code for one in answers] == [400] * 3
    assert b"SUCCESS" not in answers[0].content
    assert door.quarantined() == [("not_an_object", 3, body)]
    assert door.post(body + b" other garbage").status_code == 400
    assert len(door.quarantined()) == 2
    assert door.rows("SELECT count(*) FROM calls") == [(0,)]


def test_declared_charset_wins_where_utf8_would_misread(door: Served) -> None:
    """Two characters of GBK whose bytes are also UTF-8, of two Cyrillic letters."""
    body = f'{{"uuid": "{UUID}", "name": "肖茂"}}'
    headers = {"content-type": "text/json; charset=GBK"}
    assert door.post(body.encode("gbk"), headers=headers).content == b"SUCCESS"
    assert door.payloads() == [body.encode()]


def test_value_invalid_in_json_loses_no_record(door: Served) -> None:
    body = f'{{"uuid":"{UUID}","score":NaN,"recordfile":"D:\\x"}}'.encode()
    assert door.post(body).content == b"SUCCESS"
    # Kept as it came; what reads it keeps the values raw and flags their fields.
    assert (door.payloads(), door.quarantined()) == ([body], [])


@pytest.mark.parametrize("name", ["NaN", r'"D:\x"', "'u-1'", ""])
def test_unreadable_name_identifies_no_call(door: Served, name: str) -> None:
    body = f'{{"uuid": {name}, "id": 1}}'.encode()
    assert door.post(body).content == b"SUCCESS"
    assert (door.payloads(), door.quarantined()) == ([], [("unidentified", 1, body)])


def test_name_with_a_broken_character_identifies_no_call(door: Served) -> None:
    for last in (b"\xe6\x98", b"\xe5\xbc"):
        assert door.post('{"uuid": "王小'.encode() + last + b'"}').content == b"SUCCESS"
    assert door.rows("SELECT count(*) FROM calls") == [(0,)]


@pytest.mark.parametrize("shape", ["[%s,%s]", "%s\n%s\n", '{"data":{"list":[%s,%s]}}'])
def test_several_records_in_one_body_share_one_commit_and_one_answer(door: Served, shape: str) -> None:
    texts = [f'{{"uuid":"u-{number}","name":"张"}}' for number in range(2)]
    assert door.post((shape % tuple(texts)).encode()).content == b"SUCCESS"
    assert door.payloads() == [text.encode() for text in texts]
    assert len(door.commits) == 1


def test_one_bad_record_among_several_loses_no_other(door: Served) -> None:
    good, spoilt, nameless, none = b'{"uuid":"u-1"}', b'{"uuid":"u-2","score":NaN}', b'{"id":1}', b"7"
    answers = [door.post(b"[" + b",".join((none, good, nameless, spoilt)) + b"]") for _ in range(2)]
    assert [one.content for one in answers] == [b"SUCCESS"] * 2
    assert door.payloads() == [good, spoilt] * 2
    assert door.quarantined() == [("not_an_object", 2, none), ("unidentified", 2, nameless)]


def fill(door: Served, kind: str, count: int) -> None:
    """As if so much of that kind waited in quarantine already."""
    with closing(sqlite3.connect(door.path)) as other, other:
        other.execute("UPDATE counters SET count = count + ? WHERE kind = ?", (count, kind))


@pytest.mark.parametrize(
    ("kind", "most"),
    [("unfiled", MOST_UNFILED), ("unfiled_bytes", MOST_UNFILED_BYTES)],
    ids=["number", "bytes"],
)
def test_full_quarantine_answers_503_and_acknowledges_nothing(door: Served, kind: str, most: int) -> None:
    assert door.post(b'{"id": 1}').status_code == 200
    fill(door, kind, most)
    refused = door.post(b'{"id": 2}')
    assert (refused.status_code, b"quarantine" in refused.content) == (503, True)
    # What is kept already is only counted, and what names its call needs no quarantine.
    assert door.post(b'{"id": 1}').content == b"SUCCESS"
    assert door.post(BODY).content == b"SUCCESS"
    # Of several records all are on disk, or the sender comes again.
    assert door.post(b'[{"uuid": "u-1"}, {"id": 3}]').status_code == 503
    assert door.payloads() == [BODY, b'{"uuid": "u-1"}']
    assert door.quarantined() == [("unidentified", 2, b'{"id": 1}')]
    # Garbage has a bound of its own, and each source too.
    assert door.post(b"garbage").status_code == 400
    fill(door, kind, -most)
    assert door.post(b'{"id": 2}').content == b"SUCCESS"


def test_waiting_quarantine_entries_are_counted(door: Served) -> None:
    def counted() -> tuple[int, int]:
        counts = dict(door.rows("SELECT kind, count FROM counters WHERE kind LIKE 'unfiled%'"))
        return counts.get("unfiled", 0), counts.get("unfiled_bytes", 0)

    bodies = "SELECT count(*), coalesce(sum(length(body)), 0) FROM quarantine WHERE state = 'waiting'"
    assert counted() == (0, 0)
    for number in range(3):
        door.post(f'{{"id": {number}, "phone": "13800138000"}}'.encode())
    assert [counted()] == door.rows(bodies)
    assert door.ledger.drop([1]) == 1
    assert [counted()] == door.rows(bodies)
    assert counted()[0] == 2
    # Dropped ones that come again stay dropped.
    door.post(b'{"id": 0, "phone": "13800138000"}')
    assert counted()[0] == 2
    with closing(sqlite3.connect(door.path)) as other, other:
        other.execute("DELETE FROM quarantine")
    assert counted() == (0, 0)


def test_body_with_too_many_records_is_refused_whole(
    shared_listener: SharedListener, ledger_path: Path
) -> None:
    with served(shared_listener, ledger_path, max_body=2 * 2**20) as door:
        many = ",".join(f'{{"uuid":"u-{number}"}}' for number in range(MOST_RECORDS + 1))
        assert door.post(f"[{many}]".encode()).status_code == 413
        assert (door.payloads(), door.quarantined()) == ([], [])


@pytest.mark.parametrize("where", ["uuid", "anything"])
def test_too_deeply_nested_body_is_answered_400_and_quarantined(door: Served, where: str) -> None:
    body = f'{{"{where}": '.encode() + b"[" * 1900 + b"]" * 1900 + b"}"
    assert [door.post(body).status_code for _ in range(2)] == [400, 400]
    assert door.quarantined() == [("not_an_object", 2, body)]


@pytest.mark.parametrize(
    "body",
    [gzip.compress(BODY)[:-9], gzip.compress(BODY)[:-1], gzip.compress(b"") * 40 + gzip.compress(BODY), b""],
    ids=["cut in its text", "cut in its end", "without end", "empty"],
)
def test_broken_gzip_is_answered_400_and_quarantined(door: Served, body: bytes) -> None:
    assert [door.post(body, headers=GZIP).status_code for _ in range(2)] == [400, 400]
    assert door.quarantined() == [("not_an_object", 2, body)]


def test_gzip_bomb_is_answered_413(door: Served) -> None:
    bomb = gzip.compress(b"{" + b" " * 50_000_000)[:LIMIT]
    assert door.post(bomb, headers=GZIP).status_code == 413
    just = gzip.compress(BODY + b" " * (LIMIT + 1 - len(BODY)))
    assert door.post(just, headers=GZIP).status_code == 413
    most = gzip.compress(BODY + b" " * (LIMIT - len(BODY)))
    assert door.post(most, headers=GZIP).content == b"SUCCESS"
    assert (door.quarantined(), len(door.payloads())) == ([], 1)


def test_gzip_in_several_members_is_read_to_its_end(door: Served) -> None:
    body = gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])
    assert door.post(body, headers=GZIP).content == b"SUCCESS"
    assert door.payloads() == [BODY]


@pytest.mark.parametrize("header", [{}, {"content-encoding": "gzip"}])
@pytest.mark.parametrize("body", [BODY, gzip.compress(BODY)], ids=["plain", "zipped"])
def test_gzip_is_recognised_whatever_the_header_says(
    door: Served, header: dict[str, str], body: bytes
) -> None:
    """Proxies unzip bodies and leave the header, or the other way round."""
    answer = door.client.post(door.url + PATH, content=body, headers=header)
    assert (answer.status_code, answer.content) == (200, b"SUCCESS")
    assert door.payloads() == [BODY]
