"""The client against servers that send anything: it ends, takes little memory, and blames the server."""

import gzip
import resource
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from contextlib import closing

import httpx
import pytest

from bridge.crm.connector.answer import read_answer
from bridge.lib.errors import InDoubt, Transient
from bridge.lib.http.client import CRM_LIMITS, AnswerLimits, HttpClient, trusted_authorities
from bridge.lib.http.connection import Allowance
from bridge.lib.http.deadline import Deadline
from bridge.lib.http.decompress import TooLarge, Undecodable, decoder_of
from bridge.lib.http.proxied import CountedBackend, PoolTransport, through_proxy
from tests.fixtures.crm_requests import CREATE, FIND, fault
from tests.fixtures.odd_wire import GOOD, NO_JSON, READABLE, UNREADABLE, odd_server, says, whole
from tests.fixtures.socket_server import served

LIMIT = 100_000


def get(url: str, timeout: float = 5, limits: AnswerLimits = CRM_LIMITS) -> bytes:
    with closing(HttpClient(timeout, limits=limits)) as client:
        return client.send("GET", httpx.URL(url), {}, None).body


@pytest.mark.parametrize("name", READABLE)
def test_unusual_answers_can_be_read(name: str) -> None:
    with odd_server(says(READABLE[name])) as url, closing(HttpClient(5)) as client:
        came = client.send("GET", httpx.URL(url), {}, None)
    body = read_answer(came.status, came.headers, came.body, came.charset).body
    assert (body["id"], body["items"]) == ("1", [])


@pytest.mark.parametrize("name", UNREADABLE)
def test_malformed_answer_is_an_account_fault_and_ends_in_time(name: str) -> None:
    began, worked = time.monotonic(), time.process_time()
    with odd_server(UNREADABLE[name]) as url:
        created = fault(url, CREATE, timeout=3)
        found = fault(url, FIND, timeout=3)
    assert isinstance(created, InDoubt)
    assert isinstance(found, Transient)
    assert {created.blame, found.blame} == {"account"}
    assert len(str(created)) < 1000
    # Two requests, and the server's own work: of the length of the deadline none must come near.
    assert time.process_time() - worked < 5
    assert time.monotonic() - began < 12


@pytest.mark.parametrize("name", NO_JSON)
def test_complete_answer_without_json_is_read(name: str) -> None:
    with odd_server(says(NO_JSON[name])) as url, closing(HttpClient(5)) as client:
        came = client.send("GET", httpx.URL(url), {}, None)
    assert read_answer(came.status, came.headers, came.body, came.charset).body is None


@pytest.mark.parametrize("name", ["a gzip bomb", "gzip twice", "gzip in two headers", "a deflate bomb"])
def test_compressed_bomb_takes_no_more_memory_than_the_limit(name: str) -> None:
    with odd_server(UNREADABLE[name]) as url:
        tracemalloc.start()
        try:
            with pytest.raises(httpx.HTTPError):
                get(url)
            assert tracemalloc.get_traced_memory()[1] < 3 * CRM_LIMITS.size
        finally:
            tracemalloc.stop()


def test_json_values_are_counted_before_they_are_built() -> None:
    most = b"[" + b"{}," * (CRM_LIMITS.values // 2 - 2) + b"{}]"
    with odd_server(says(whole(most))) as url:
        assert get(url) == most
    with odd_server(says(whole(most[:-1] + b",{},{},{}]"))) as url:
        assert "more than 300000 JSON values" in str(fault(url, FIND))


def test_message_says_what_came_and_what_to_do() -> None:
    with odd_server(UNREADABLE["gzip twice"]) as url:
        error = fault(url, CREATE)
    assert "the answer cannot be unpacked: it is compressed 2 times over. No CRM answers so: check" in str(
        error
    )
    assert error.cause == "the CRM's answer cannot be taken"


def test_request_after_a_refused_answer_uses_a_new_connection() -> None:
    with odd_server(UNREADABLE["a gzip bomb"], says(whole(GOOD))) as url, closing(HttpClient(5)) as client:
        with pytest.raises(httpx.HTTPError):
            client.send("GET", httpx.URL(url), {}, None)
        assert client.send("GET", httpx.URL(url), {}, None).body == GOOD


def proxied_by(url: str, deadline: Deadline, allowance: Allowance) -> PoolTransport:
    return through_proxy(url, CountedBackend(allowance), ssl.create_default_context(), deadline.traced)


@pytest.mark.parametrize("name", ["1xx without end", "chunks with long extensions"])
def test_answer_size_is_bounded_behind_a_proxy_too(name: str) -> None:
    allowance, deadline = Allowance(300_000), Deadline(5)
    began = time.process_time()
    with odd_server(UNREADABLE[name]) as url, closing(proxied_by(url, deadline, allowance)) as proxied:
        with deadline.exchange(), pytest.raises(httpx.ReadError, match="far more than it says"):
            proxied.handle_request(
                httpx.Request("GET", "http://crm.example/", extensions={"timeout": {"read": 5}})
            ).read()
        assert not deadline.expired
    assert time.process_time() - began < 2


def test_request_has_the_headers_of_every_request_and_its_own() -> None:
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        asked.append(connection.recv(2**20))
        connection.sendall(whole(GOOD))

    def send(**headers: str) -> list[bytes]:
        with served(answer) as port, closing(HttpClient(5)) as client:
            client.send("PUT", httpx.URL(f"http://127.0.0.1:{port}/a"), headers, b"body")
            return asked[-1].replace(b"%d" % port, b"PORT").split(b"\r\n")

    always = [b"Accept: */*", b"Accept-Encoding: gzip, deflate", b"User-Agent: callbridge"]
    end = [b"Content-Length: 4", b"", b"body"]
    assert send(X="1") == [b"PUT /a HTTP/1.1", b"Host: 127.0.0.1:PORT", *always, b"X: 1", *end]
    own = {"host": "crm.example", "ACCEPT": "a/b"}
    assert send(**own) == [b"PUT /a HTTP/1.1", *always[1:], b"host: crm.example", b"ACCEPT: a/b", *end]


def test_a_body_goes_through_a_proxy_whole() -> None:
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        while not asked or not asked[-1].endswith(b"body"):
            asked.append((asked or [b""])[-1] + connection.recv(2**20))
        connection.sendall(whole(GOOD))

    with (
        served(answer) as port,
        closing(proxied_by(f"http://127.0.0.1:{port}", Deadline(5), Allowance())) as proxied,
    ):
        body = httpx.ByteStream(b"body")
        request = httpx.Request("POST", "http://crm.example/", headers={"Host": "crm.example"}, stream=body)
        assert proxied.handle_request(request).read() == GOOD
    assert b"\r\nContent-Length: 4\r\n" in asked[-1]


def test_answers_are_read_behind_a_proxy() -> None:
    with odd_server(says(whole(GOOD))) as url, closing(proxied_by(url, Deadline(5), Allowance())) as proxied:
        request = httpx.Request("GET", "http://crm.example/", extensions={"timeout": {"read": 5}})
        assert proxied.handle_request(request).read() == GOOD


# Unpacking


@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(GOOD)),
        ("gzip", gzip.compress(GOOD[:1]) + gzip.compress(b"") + gzip.compress(GOOD[1:]) + bytes(9)),
        ("deflate", zlib.compress(GOOD)),
        ("deflate", zlib.compress(GOOD)[2:-4]),
        ("identity", GOOD),
        ("", GOOD),
    ],
    ids=["gzip", "members", "zlib", "raw deflate", "identity", "none"],
)
def test_compressed_body_is_unpacked_however_it_is_split(encoding: str, packed: bytes, step: int) -> None:
    decoder = decoder_of(encoding, len(GOOD))
    pieces = [decoder.feed(packed[at : at + step]) for at in range(0, len(packed), step)]
    decoder.finish()
    assert b"".join(pieces) == GOOD


@pytest.mark.parametrize("step", [1000, 10_000_000])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
def test_size_limit_is_exact_to_the_byte(encoding: str, step: int) -> None:
    for size in (LIMIT, LIMIT + 1):
        body = bytes(size)
        packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(encoding, body)
        decoder = decoder_of(encoding, LIMIT)
        pieces = [packed[at : at + step] for at in range(0, len(packed), step)]
        if size > LIMIT:
            with pytest.raises(TooLarge):
                list(map(decoder.feed, pieces))
        else:
            assert b"".join(map(decoder.feed, pieces)) == body


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "gzip, gzip", "gzip,deflate", "x-gzip, x-gzip", "chunked"]
)
def test_encoding_that_was_not_offered_is_not_unpacked(encoding: str) -> None:
    with pytest.raises(Undecodable):
        decoder_of(encoding, LIMIT)


@pytest.mark.parametrize("cut", [1, 5, 12, 30])
def test_truncated_body_is_reported(cut: int) -> None:
    decoder = decoder_of("gzip", LIMIT)
    decoder.feed(gzip.compress(GOOD)[:cut])
    with pytest.raises(Undecodable):
        decoder.finish()


def test_empty_body_is_not_truncated() -> None:
    decoder_of("gzip", LIMIT).finish()


@pytest.mark.slow
def test_memory_stays_flat_under_compressed_bombs() -> None:
    with odd_server(*UNREADABLE.values()) as url:
        for _ in range(2):
            for _ in UNREADABLE:
                with pytest.raises(httpx.HTTPError):
                    get(url, timeout=2)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak < 400 * 1024


def test_workers_that_begin_at_once_share_one_set_of_trusted_authorities() -> None:
    begun, seen = threading.Barrier(8), set[int]()

    def begin() -> None:
        begun.wait()
        seen.add(id(trusted_authorities()))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
