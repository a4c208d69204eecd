"""What a server may send in place of a decent HTTP answer, and a server that sends it."""

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

import zstandard

Act = Callable[[socket.socket], None]
"""What is done with one connection, once a request has come."""

OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"Content-Type: application/json\r\n"
GOOD = b'{"id": "1", "items": []}'


def says(text: bytes) -> Act:
    """Sends this and closes."""
    return lambda connection: connection.sendall(text)


def floods(start: bytes, piece: bytes) -> Act:
    """Sends something again and again, as fast as it is read."""
    block = piece * max(1, 65536 // len(piece))

    def act(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(block)

    return act


def whole(body: bytes, headers: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """An answer with its length."""
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (status, len(body))
    return head + headers + b"\r\n" + body


def packed(body: bytes, encoding: str) -> bytes:
    """An answer under a `Content-Encoding`."""
    return whole(body, b"Content-Encoding: %b\r\n" % encoding.encode())


@cache
def gzip_bomb(size: int) -> bytes:
    """Spaces within a JSON object, a thousandth as large."""
    squeeze = zlib.compressobj(9, wbits=31)
    pieces = [squeeze.compress(b"{")]
    pieces += [squeeze.compress(b" " * 2**20) for _ in range(size // 2**20)]
    return b"".join([*pieces, squeeze.compress(b"}"), squeeze.flush()])


def _raw_deflate(body: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(body) + squeeze.flush()


_BOMB = gzip_bomb(64 * 2**20)

READABLE: dict[str, bytes] = {
    "gzip": packed(gzip.compress(GOOD), "gzip"),
    "x-gzip": packed(gzip.compress(GOOD), "X-GZip"),
    "identity beside gzip": packed(gzip.compress(GOOD), "identity, gzip"),
    "gzip in several members": packed(gzip.compress(GOOD[:5]) + gzip.compress(GOOD[5:]), "gzip"),
    "gzip padded with zeros": packed(gzip.compress(GOOD) + b"\0" * 100, "gzip"),
    "deflate with zlib's header": packed(zlib.compress(GOOD), "deflate"),
    "deflate without it": packed(_raw_deflate(GOOD), "deflate"),
    "an empty Content-Encoding": packed(GOOD, ""),
    "a few 1xx before it": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + whole(GOOD),
    "trailers": JSON
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(GOOD), GOOD),
    "chunk extensions": JSON
    + b"Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    "an end that is the connection's": JSON + b"Connection: close\r\n\r\n" + GOOD,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + GOOD,
    "bytes after its end": whole(GOOD) + b"HTTP/1.1 500 Oh\r\n\r\n",
    "a BOM": whole(b"\xef\xbb\xbf" + GOOD),
    "GB18030": whole('{"id": "1", "items": [], "名": "张"}'.encode("gb18030")).replace(
        b"application/json", b"application/json; charset=GBK"
    ),
}
"""Unusual, and to be read all the same: each says `GOOD`, or more than that."""

UNREADABLE: dict[str, Act] = {
    "nothing": says(b""),
    "half a status line": says(b"HTTP/1.1 2"),
    "a head without an end": says(OK),
    "HTTP/0.9": says(b"<html>hello</html>"),
    "another protocol": says(b"220 mail ESMTP ready\r\n"),
    "a status of letters": says(b"HTTP/1.1 OK 200\r\n\r\n"),
    "a status of four digits": says(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    "zero bytes": says(b"\0" * 1000),
    "a header without a colon": says(OK + b"Content-Length 2\r\n\r\n{}"),
    "a NUL in a header": says(OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    "a header of 300 KB": says(OK + b"X: " + b"a" * 300_000 + b"\r\nContent-Length: 2\r\n\r\n{}"),
    "headers without end": floods(OK, b"X-A: b\r\n"),
    "one header without end": floods(OK + b"X: ", b"a"),
    "1xx without end": floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "1xx with headers without end": floods(b"", b"HTTP/1.1 103 E\r\n" + b"X: " + b"a" * 999 + b"\r\n\r\n"),
    "two lengths": says(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x"),
    "a negative length": says(OK + b"Content-Length: -2\r\n\r\n{}"),
    "a length of letters": says(OK + b"Content-Length: two\r\n\r\n{}"),
    "a length that is too long": says(OK + b"Content-Length: 200\r\n\r\n{}"),
    "a length of 30 digits": says(OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}"),
    "a body cut in a chunk": says(OK + b'Transfer-Encoding: chunked\r\n\r\n9\r\n{"id"'),
    "a body cut between chunks": says(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
    "a chunk size of letters": says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "a chunk size without end": floods(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "a chunk extension without end": floods(OK + b"Transfer-Encoding: chunked\r\n\r\n2;", b"a"),
    "chunks with long extensions": floods(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"a" * 60_000 + b"\r\n \r\n"
    ),
    "chunks of one byte without end": floods(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "trailers without end": floods(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X-A: b\r\n"),
    "a transfer encoding nobody knows": says(OK + b"Transfer-Encoding: gzip\r\n\r\n" + gzip.compress(GOOD)),
    "gzip, chunked": says(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "a body without end": floods(OK + b"Connection: close\r\n\r\n", b" "),
    "a gzip bomb": says(packed(_BOMB, "gzip")),
    "gzip twice": says(packed(gzip.compress(_BOMB), "gzip, gzip")),
    "gzip in two headers": says(
        whole(gzip.compress(_BOMB), b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n")
    ),
    "a deflate bomb": says(packed(zlib.compress(b" " * 2**24), "deflate")),
    "zstd": says(packed(zstandard.compress(GOOD), "zstd")),
    "br": says(packed(b"\x0b\x02\x80{}\x03", "br")),
    "compress": says(packed(GOOD, "compress")),
    "gzip that is none": says(packed(GOOD, "gzip")),
    "gzip that is cut": says(packed(gzip.compress(GOOD)[:-9], "gzip")),
    "gzip of one byte": says(packed(b"\x1f", "gzip")),
    "empty gzip members without end": floods(
        OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n", gzip.compress(b"")
    ),
    "empty deflate blocks without end": floods(
        OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"")[:10],
        b"\0\0\0\xff\xff",
    ),
    "objects and nothing else": says(whole(b"[" + b"{}," * 2_000_000 + b"{}]")),
    "lists and nothing else": says(whole(b"[" + b"[]," * 2_000_000 + b"[]]")),
    "numbers and nothing else": says(whole(b"[" + b"1," * 2_000_000 + b"1]")),
}
"""No answer: each ends at once or at the deadline, and is the server's fault."""

NO_JSON: dict[str, bytes] = {
    "deeper than anybody reads": whole(b"[" * 100_000 + b"]" * 100_000),
    "a little deeper than anybody reads": whole(b"[" * 300 + b"]" * 300),
    "objects 900 deep": whole(b'{"a":' * 900 + b"1" + b"}" * 900),
    "cut JSON": whole(GOOD[:-3]),
    "HTML": whole(b"<html><body>Service maintenance, please come back later</body></html>"),
    "an empty body": whole(b""),
    "a charset that is none": whole(b"abc-", b"").replace(b"json\r\n", b"json; charset=punycode\r\n"),
    "two JSON texts": whole(json.dumps({}).encode() * 2),
}
"""Whole answers, but not of an API that speaks JSON."""


@contextmanager
def odd_server(*acts: Act) -> Iterator[str]:
    """A server that treats each connection in turn as told, and further ones as the last; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)

    def serve() -> None:
        with suppress(OSError):
            for number in range(10_000):
                connection, _ = listener.accept()
                with suppress(OSError), connection:
                    connection.settimeout(10)
                    connection.recv(65536)
                    acts[min(number, len(acts) - 1)](connection)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # What waits for a connection does not see that the listener is closed.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
