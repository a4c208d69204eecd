"""Reads the HTTP/1.1 answers of one connection by httptools: each one's head, then its body in pieces."""

import httptools
import httpx

_MOST_WITHOUT_BODY = 100 * 1024
"""Bytes in a row that may come without a piece of the body: one head, a chunk's extension, trailers."""
_SWITCHING_PROTOCOLS = 101


class AnswerParser:
    """Reads one answer after the other: after `expect` it is fed what comes until the answer is `complete`.

    httptools calls the methods whose names begin with `on_`.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # What clients have always taken from servers: a header over two lines, a line that ends with LF
        # alone, spaces after a chunk's size, and a length beside chunks, which then counts for nothing.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self.expect("GET")

    def expect(self, method: str) -> None:
        """Wait for the answer to a request with this method."""
        self.status = 0
        """0 until the head is read."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.reusable = False
        """Whether the connection may carry another request."""
        self._pieces: list[bytes] = []
        self._without_body = method == "HEAD"
        self._ends_with_connection = False
        self._fault = ""
        self._since_body = 0

    def feed(self, received: bytes) -> None:
        """Read the next bytes; none mean that the server has closed the connection.

        Raises:
            httpx.RemoteProtocolError: this is no HTTP answer, or not a whole one.
        """
        if not received:
            self._end()
            return
        self._since_body += len(received)
        try:
            self._parser.feed_data(received)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # What comes after the answer's end is nobody's.
            if not self.complete:
                raise httpx.RemoteProtocolError(self._fault or f"this is no HTTP: {error}") from error
            self.reusable = False
        if self._fault:
            raise httpx.RemoteProtocolError(self._fault)
        if self._since_body > _MOST_WITHOUT_BODY and not self.complete:
            raise httpx.RemoteProtocolError("a head or a trailer is too long")

    def taken(self) -> list[bytes]:
        """The pieces of the body that have come since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def _end(self) -> None:
        if not self.status:
            raise httpx.RemoteProtocolError("the server closed the connection without an answer")
        if not self._ends_with_connection:
            raise httpx.RemoteProtocolError("the server closed the connection before its answer's end")
        self.complete = True

    def on_message_begin(self) -> None:
        """An answer begins: it is the next one where this one has ended."""
        if self.complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those after the body are passed over."""
        if self.status:
            return
        if b"\0" in value:
            self._fault = "a header holds a NUL"
        self.headers.append((name, value.strip()))

    def on_headers_complete(self) -> None:
        """The head is read: the answer's own, or that of an interim one (1xx), which is passed over."""
        status = self._parser.get_status_code()
        if self.complete:
            return
        if status == _SWITCHING_PROTOCOLS:
            self._fault = "the server wants to speak another protocol"
        if status < 200:
            self.headers.clear()
            return
        self.status = status
        encodings = self._values_of(b"transfer-encoding")
        if encodings and [each.lower() for each in encodings] != [b"chunked"]:
            self._fault = "the answer comes in a transfer encoding that nobody asked for"
        self._ends_with_connection = not encodings and not self._values_of(b"content-length")
        self.complete = self._without_body

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if not self.complete:
            self._pieces.append(piece)
            self._since_body = 0

    def on_message_complete(self) -> None:
        """An answer has ended."""
        if self.status and not self.complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()

    def _values_of(self, wanted: bytes) -> list[bytes]:
        return [value for name, value in self.headers if name.lower() == wanted]
