"""What is read of an answer, however its bytes are split."""

import httpx
import pytest

from bridge.lib.http.answer_parser import AnswerParser
from tests.fixtures.odd_wire import GOOD, OK, READABLE, whole

Read = tuple[int, list[tuple[bytes, bytes]], bytes, bool]


def read(text: bytes, step: int, method: str = "GET") -> Read:
    """Status, headers, body, and whether the connection may go on; the server then closes it."""
    parser = AnswerParser()
    parser.expect(method)
    pieces: list[bytes] = []
    for at in range(0, len(text), step):
        if not parser.complete:
            parser.feed(text[at : at + step])
            pieces += parser.taken()
    if not parser.complete:
        parser.feed(b"")
    return parser.status, parser.headers, b"".join(pieces), parser.reusable


@pytest.mark.parametrize("step", [1, 3, 64])
@pytest.mark.parametrize("name", READABLE)
def test_answer_is_the_same_however_its_bytes_are_split(name: str, step: int) -> None:
    text = READABLE[name]
    assert read(text, step)[:3] == read(text, len(text))[:3]


@pytest.mark.parametrize("name", sorted(set(READABLE) - {"an end that is the connection's", "HTTP/1.0"}))
def test_connection_goes_on_after_a_whole_answer_and_nothing_else(name: str) -> None:
    is_whole = name != "bytes after its end"
    assert read(READABLE[name], len(READABLE[name]))[3] is is_whole


def test_spaces_around_a_headers_value_are_no_part_of_it() -> None:
    assert read(whole(GOOD, b"X: \t a  b \r\n"), 1)[1][-1] == (b"X", b"a  b")


def test_headers_of_interim_answers_and_trailers_are_passed_over() -> None:
    interim = b"HTTP/1.1 103 E\r\nX: early\r\n\r\n"
    end = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: late\r\n\r\n"
    assert read(interim + OK + end, 5) == (200, [(b"Transfer-Encoding", b"chunked")], b"{}", True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 103 E\r\n\r\n", "without an answer"),
        (OK + b"Content-Length: 3\r\n\r\n{}", "before its answer's end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "before its answer's end"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "nobody asked for"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", "nobody asked for"),
        (OK + b"X: a\0b\r\n\r\n", "NUL"),
        (b"HTTP/1.1 101 Go\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "another protocol"),
        (b"hello", "no HTTP"),
        (OK + b"X: " + b"a" * 110_000, "too long"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 110_000, "too long"),
    ],
)
@pytest.mark.parametrize("step", [1000, 200_000])
def test_what_is_no_answer_is_refused_with_its_reason(text: bytes, fault: str, step: int) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=fault):
        read(text, step)


def test_one_answer_after_the_other_is_read_on_a_connection() -> None:
    parser = AnswerParser()
    for number in range(3):
        parser.expect("GET")
        assert (parser.status, parser.headers, parser.complete) == (0, [], False)
        parser.feed(whole(b"%d" % number))
        assert (parser.status, parser.taken(), parser.reusable) == (200, [b"%d" % number], True)
