"""The public door and its wire: slow and endless senders, and what the log says of them."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.fixtures.door import BODY, LIMIT, PATH, TLS, SharedListener, answer, served

HEAD = f"POST {PATH} HTTP/1.1\r\nhost: x\r\n".encode()


def test_upload_of_unknown_length_is_cut_off_at_the_limit(
    shared_listener: SharedListener, ledger_path: Path
) -> None:
    with served(shared_listener, ledger_path) as door, door.connected() as connection:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(LIMIT // 1024 + 1):
            connection.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
        # The body never ends: the answer comes all the same.
        status, received = answer(connection)
        assert (status, b"SUCCESS" in received) == (413, False)
        assert door.quarantined() == []


def test_a_chunked_upload_is_read_whole(shared_listener: SharedListener, ledger_path: Path) -> None:
    with served(shared_listener, ledger_path) as door:
        pieces = (BODY[index : index + 7] for index in range(0, len(BODY), 7))
        assert door.client.post(door.url + PATH, content=pieces).content == b"SUCCESS"
        assert door.payloads() == [BODY]


OTHER = BODY.replace(b"db57f262", b"ab57f262")


def test_incomplete_body_of_a_sender_that_left_is_not_filed(
    shared_listener: SharedListener, ledger_path: Path
) -> None:
    with served(shared_listener, ledger_path) as door:
        with door.connected() as connection:
            connection.sendall(HEAD + b"content-length: 1000\r\n\r\n" + BODY)
            connection.shutdown(socket.SHUT_WR)
        assert door.post(OTHER).content == b"SUCCESS"
        assert (door.payloads(), door.quarantined()) == ([OTHER], [])
        assert door.counted() == {("main", 200): 1}


def test_one_connection_carries_many_callbacks(shared_listener: SharedListener, ledger_path: Path) -> None:
    with served(shared_listener, ledger_path) as door:
        paths = [PATH, "/callback/main/wrong", PATH, PATH]
        bodies = [BODY, BODY, b"garbage", BODY]
        found = [door.post(body, path).status_code for path, body in zip(paths, bodies, strict=True)]
        assert found == [200, 404, 400, 200]
        assert len(door.payloads()) == 2


SERVE = """
import pathlib, sys
from bridge.lib import log
log.configure("debug", "json")
from tests.fixtures.door import SharedListener, served
with SharedListener() as shared_listener, served(shared_listener, pathlib.Path(sys.argv[1])) as door:
    print(door.url, flush=True)
    sys.stdin.read()
"""


def test_token_is_in_no_line_of_the_log(ledger_path: Path) -> None:
    """A process of its own, so that every byte it writes is seen, and at its most talkative."""
    command = [sys.executable, "-c", SERVE, str(ledger_path)]
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        httpx.Client(verify=TLS) as client,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        statuses = [
            client.post(url + PATH, content=BODY).status_code,
            client.post(url + PATH, content=b"garbage right-token").status_code,
            client.post(url + PATH, content=b"x" * (LIMIT + 1)).status_code,
            client.post(url + PATH + "-almost", content=BODY).status_code,
            client.get(url + PATH).status_code,
        ]
        assert statuses == [200, 400, 413, 404, 405]
        port = int(url.rpartition(":")[2])
        for request in (HEAD.replace(b"HTTP/1.1", b"nonsense") + b"\r\n",):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(request)
                assert answer(connection)[0] == 400
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    lines = [json.loads(line) for line in err.splitlines()]
    refused = [line["status"] for line in lines if line["event"] == "callback.refused"]
    assert refused == [400, 413, 404, 405, 400]
    assert "right-token" not in out + err
