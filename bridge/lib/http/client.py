"""One HTTP exchange after the other, over one connection.

httpx's requests and responses, without `httpx.Client`: that one would carry cookies from one exchange to the
next, and it takes two fifths of a request's processor time.
"""

import codecs
import re
import ssl
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from functools import cache, lru_cache
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import httpx

from bridge.lib.http.connection import Allowance, Dialer
from bridge.lib.http.deadline import Deadline
from bridge.lib.http.decompress import TooLarge, Undecodable, decoder_of
from bridge.lib.http.direct import DirectTransport
from bridge.lib.http.proxied import CountedBackend, through_proxy

_TOO_SLOW = "the answer came too slowly"
_LONGEST_HEAD = 256 * 1024
"""Bytes that may come before an answer's body, 1xx answers included."""
_MOST_PIECES = 50_000
"""Chunks of one body: each costs about 8 microseconds, however small it is."""
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "callbridge"}
_LONGEST_CONTENT_TYPE = 1000
_CHARSETS = re.compile(
    r"utf-(?:8|16|32)(?:-sig|-[lb]e)?|gb(?:k|2312|18030)|big5(?:hkscs)?|ascii|hz|euc_\w+|shift_jis\w*"
    r"|iso8859-\d+|cp\d+|koi8-\w|latin-1|tis-620",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Received:
    """An answer, with its body unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    charset: str | None
    """The codec that it names for its text, if that is one of texts."""


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """How large an answer may be."""

    size: int
    """Bytes of the body, unzipped."""
    values: int
    """JSON values. `{},` is 3 bytes on the wire and 72 in memory, so the size alone bounds little."""
    marks: tuple[bytes, ...] = (b",", b"{", b"[")
    """What values are counted by: none but the first is without one of these before it."""

    @property
    def shown(self) -> str:
        """The size, for people."""
        return f"{self.size // 2**20} MiB"


CRM_LIMITS = AnswerLimits(size=8 * 2**20, values=300_000)
"""The longest answers of CRMs are descriptions of their fields: 1 to 3 MiB."""
LIST_LIMITS = AnswerLimits(size=32 * 2**20, values=2_000_000, marks=(b",",))
"""A page of 1,000 records is about 15 MiB and 500,000 commas, which take 9 ms to count. Rows are read one by
one, never the whole page, so that its brackets need no counting."""


class UnacceptableAnswer(httpx.DecodingError):
    """The answer is too large, or packed in a way nobody asked for; the message says which."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class HttpClient:
    """Sends requests one at a time, each within a deadline for the whole of it."""

    def __init__(
        self,
        timeout: float,
        transport: httpx.BaseTransport | None = None,
        limits: AnswerLimits = CRM_LIMITS,
    ) -> None:
        """`timeout` in seconds; `transport` carries the requests in place of the network."""
        self._deadline = Deadline(timeout)
        self._limits = limits
        self._allowance = Allowance()
        self._timeouts = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
        self._transport = transport
        self._by_proxy: dict[str | None, httpx.BaseTransport] = {}

    def close(self) -> None:
        """Close the connections."""
        for transport in (self._transport, *self._by_proxy.values()):
            if transport is not None:
                transport.close()

    def send(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None
    ) -> Received:
        """One exchange.

        Raises:
            httpx.HTTPError: there is no answer.
        """
        request = httpx.Request(
            method,
            url,
            headers=_completed(tuple(headers.items()), url.netloc),
            stream=httpx.ByteStream(content or b""),
            extensions={"timeout": self._timeouts},
        )
        request.read()
        if content and self._transport is not None:
            # Ours tell the length by themselves, others send the headers as they are.
            request.headers["Content-Length"] = str(len(content))
        self._allowance.left = _LONGEST_HEAD
        try:
            with (
                self._deadline.exchange(),
                closing(self._carrier(url).handle_request(request)) as response,
            ):
                # Twice the limit: what chunks of a few bytes cost on top of their content.
                self._allowance.left = _LONGEST_HEAD + 2 * self._limits.size
                body = _read(response, self._limits)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.TransportError as error:
            if self._deadline.expired:
                raise httpx.ReadTimeout(_TOO_SLOW) from error
            raise
        if self._deadline.expired:
            # A body whose end is the connection's was cut off, and looks whole.
            raise httpx.ReadTimeout(_TOO_SLOW)
        codec = _codec(response.headers.get("content-type", "")[:_LONGEST_CONTENT_TYPE])
        return Received(response.status_code, response.headers, body, codec)

    def _carrier(self, url: httpx.URL) -> httpx.BaseTransport:
        if self._transport is not None:
            return self._transport
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol(f"the address {url.scheme}://{url.host} is none of HTTP")
        proxy = _proxy_for(url.scheme, url.host)
        if proxy not in self._by_proxy:
            tls = trusted_authorities()
            self._by_proxy[proxy] = (
                DirectTransport(Dialer(self._deadline.connected, self._allowance, tls))
                if proxy is None
                else through_proxy(proxy, CountedBackend(self._allowance), tls, self._deadline.traced)
            )
        return self._by_proxy[proxy]


def _read(response: httpx.Response, limits: AnswerLimits) -> bytes:
    """Read the body and unpack it while it comes."""
    pieces: list[bytes] = []
    try:
        decoder = decoder_of(response.headers.get("content-encoding", ""), limits.size)
        # Not `iter_bytes`, which unpacks whatever the answer claims, as often as it claims it.
        for count, piece in enumerate(_stream(response)):
            if count >= _MOST_PIECES:
                raise UnacceptableAnswer(f"the answer comes in more than {_MOST_PIECES} pieces")
            pieces.append(decoder.feed(piece))
        decoder.finish()
        if sum(piece.count(mark) for piece in pieces for mark in limits.marks) > limits.values:
            raise UnacceptableAnswer(
                f"the answer holds more than {limits.values} JSON values", too_large=True
            )
        return b"".join(pieces)
    except TooLarge:
        raise UnacceptableAnswer(f"the answer is longer than {limits.shown}", too_large=True) from None
    except Undecodable as error:
        raise UnacceptableAnswer(f"the answer cannot be unpacked: {error}") from None
    finally:
        # An error is kept while it is tried again, and its traceback would hold them.
        pieces.clear()


def _stream(response: httpx.Response) -> Iterable[bytes]:
    stream = response.stream
    assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 -- as a synchronous transport gives it
    return stream


@lru_cache(maxsize=256)
def _completed(given: tuple[tuple[str, str], ...], host: bytes) -> httpx.Headers:
    """A request's headers with those that every request has. Most requests of an account have the same."""
    named = {name.lower() for name, _ in given}
    always = {"Host": host.decode("ascii"), **_HEADERS}
    return httpx.Headers([*(each for each in always.items() if each[0].lower() not in named), *given])


@lru_cache(maxsize=64)
def _codec(content_type: str) -> str | None:
    """The codec of a content type's charset. Some of Python's are not for texts, and punycode takes quadratic
    time."""
    header = Message()
    header["content-type"] = content_type
    try:
        name = codecs.lookup(header.get_content_charset("")).name
    except (LookupError, ValueError):
        return None
    return name if _CHARSETS.fullmatch(name) else None


@cache
def _proxy_for(scheme: str, host: str) -> str | None:
    """The environment's proxy for a host, None where there is none; loopback never has one."""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"


_READING_AUTHORITIES = threading.Lock()


def trusted_authorities() -> ssl.SSLContext:
    """The authorities that TLS trusts, read once for all workers, however many begin at once."""
    with _READING_AUTHORITIES:
        return _read_authorities()


@cache
def _read_authorities() -> ssl.SSLContext:
    """A new set of authorities, which takes more than a megabyte."""
    made = httpx.create_ssl_context()
    made.set_alpn_protocols(["http/1.1"])
    return made


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
