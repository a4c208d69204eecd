"""Every fault of TLS has its own sentence and remedy, for a CRM and for the platform."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest
import trustme

from bridge.lib.errors import SourceUnreachable, Transient
from bridge.lib.http.client import trusted_authorities
from bridge.lib.http.connection import Allowance, Dialer
from bridge.lib.http.connection_errors import connection_remedy
from bridge.lib.http.deadline import Deadline
from bridge.lib.http.direct import DirectTransport
from bridge.model.failures import remedy_of
from bridge.source.list_api import ListApi
from bridge.source.outcall.client import OutcallList
from tests.fixtures.crm_requests import CREATE, fault
from tests.fixtures.served_platform import CHANCE, NAMES, NOW
from tests.fixtures.socket_server import served

AUTHORITY = trustme.CA()
DAY = timedelta(days=1)
Configure = Callable[[ssl.SSLContext], None]


def issued(host: str, begins: datetime | None = None, ends: datetime | None = None) -> Configure:
    return AUTHORITY.issue_cert(host, not_before=begins, not_after=ends).configure_cert


def own(context: ssl.SSLContext) -> None:
    """A certificate that signs itself."""
    alone = trustme.CA()
    with alone.private_key_pem.tempfile() as key, alone.cert_pem.tempfile() as certificate:
        context.load_cert_chain(certificate, key)


def with_its_authority(context: ssl.SSLContext) -> None:
    """A chain up to an authority that nobody knows."""
    other = trustme.CA()
    leaf = other.issue_cert("127.0.0.1")
    chain = trustme.Blob(b"".join(each.bytes() for each in leaf.cert_chain_pems) + other.cert_pem.bytes())
    with leaf.private_key_pem.tempfile() as key, chain.tempfile() as certificate:
        context.load_cert_chain(certificate, key)


def without_its_authority(context: ssl.SSLContext) -> None:
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)


def failing(configure: Configure) -> httpx.ConnectError:
    """What a client says that trusts the authority of these tests."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    configure(server)
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)

    def shake(connection: socket.socket) -> None:
        with server.wrap_socket(connection, server_side=True):
            pass

    return refused(shake, client)


def refused(serve: Callable[[socket.socket], None], client: ssl.SSLContext) -> httpx.ConnectError:
    with (
        served(serve) as port,
        closing(DirectTransport(Dialer(Deadline(5).connected, Allowance(), client))) as transport,
        pytest.raises(httpx.ConnectError) as caught,
    ):
        transport.handle_request(httpx.Request("GET", f"https://127.0.0.1:{port}/"))
    return caught.value


PAST, FUTURE = datetime.now(UTC) - 30 * DAY, datetime.now(UTC) + 30 * DAY
CERTIFICATES: dict[str, tuple[Configure, str]] = {
    "expired": (issued("127.0.0.1", PAST, PAST + DAY), "has expired"),
    "not yet valid": (issued("127.0.0.1", FUTURE, FUTURE + DAY), "is not valid yet"),
    "of another address": (issued("127.0.0.2"), "not its IP address"),
    "of another host": (issued("other.example"), "is for another host"),
    "signed by itself": (own, "is signed by nobody but itself"),
    "of an unknown authority that comes along": (
        with_its_authority,
        "an authority that this machine does not",
    ),
    "of an unknown authority": (without_its_authority, "Nobody whom this machine trusts vouches"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
@pytest.mark.parametrize("whom", ["CRM", "platform"])
def test_each_certificate_error_has_its_own_message(name: str, whom: str) -> None:
    configure, sentence = CERTIFICATES[name]
    told = connection_remedy(failing(configure), whom)
    assert sentence in told
    assert f"The {whom}'s" in told or f"the {whom}'s" in told
    assert told.endswith("; it is tried again by itself")
    assert "{" not in told
    others = [other for each, (_, other) in CERTIFICATES.items() if each != name and other != sentence]
    assert not [other for other in others if other in told] or name.startswith("of another")


ALERTS = {70: "TLS 1.2 or 1.3", 40: "refuses the TLS connection", 112: "does not know the host's name"}


@pytest.mark.parametrize("alert", ALERTS)
def test_handshake_alert_has_its_own_message(alert: int) -> None:
    def alarm(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(bytes([0x15, 3, 1, 0, 2, 2, alert]))

    assert ALERTS[alert] in connection_remedy(refused(alarm, ssl.create_default_context()))


def test_server_without_tls_has_its_own_message() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert "speaks no TLS" in connection_remedy(refused(answer, ssl.create_default_context()))


def test_host_without_an_address_has_its_own_message() -> None:
    error = httpx.ConnectError("x")
    error.__cause__ = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert "has no address" in connection_remedy(error)
    error.__cause__ = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert connection_remedy(error) == ""
    assert connection_remedy(ConnectionRefusedError()) == ""


def test_crm_and_platform_report_connection_errors() -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own(server)

    def shake(connection: socket.socket) -> None:
        with server.wrap_socket(connection, server_side=True):
            pass

    with served(shake) as port:
        error = fault(f"https://127.0.0.1:{port}", CREATE)
        assert isinstance(error, Transient)
        assert (error.blame, error.doubtful) == ("account", False)
        assert "The CRM's certificate is signed by nobody but itself" in remedy_of(error)
        stop = threading.Event()
        stop.set()
        api = ListApi(f"https://127.0.0.1:{port}", "id", "s3cret", ZoneInfo("UTC"), NAMES)
        with (
            closing(OutcallList(api, clock=lambda: NOW, rng=CHANCE, stop=stop)) as platform,
            pytest.raises(
                SourceUnreachable, match="The platform's certificate is signed by nobody but itself"
            ),
        ):
            platform.page(NOW, NOW, 0, 1)


def test_tls_older_than_1_2_is_not_used() -> None:
    assert trusted_authorities().minimum_version >= ssl.TLSVersion.TLSv1_2
    assert trusted_authorities().verify_mode is ssl.CERT_REQUIRED
    assert trusted_authorities().check_hostname
