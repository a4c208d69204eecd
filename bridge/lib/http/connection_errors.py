"""Why a server cannot be reached, and what to do about it: each fault of TLS and DNS has its own remedy."""

import socket
import ssl
from collections.abc import Iterator

_AGAIN = "; it is tried again by itself"
_TRUST = "add it to the system's authorities, or name a file of authorities in SSL_CERT_FILE, and restart"
_UNKNOWN = (
    "Nobody whom this machine trusts vouches for the {whom}'s certificate. Is its authority one of your"
    " company's: "
    + _TRUST
    + ". Is it a public one: the server leaves out its intermediate certificate, which its operator must add"
)
# OpenSSL's X509_V_ERR_ numbers.
_CERTIFICATE = {
    9: "The {whom}'s certificate is not valid yet: check this machine's clock first, then ask its operator",
    10: "The {whom}'s certificate has expired: its operator must renew it. Check this machine's clock, too",
    18: "The {whom}'s certificate is signed by nobody but itself. Is that meant: " + _TRUST,
    19: "The {whom}'s certificate comes from an authority that this machine does not know; that may be a"
    " proxy which reads all traffic. Is that meant: " + _TRUST,
    20: _UNKNOWN,
    21: _UNKNOWN,
    23: "The {whom}'s certificate was revoked: its operator must replace it",
    62: "The {whom}'s certificate is for another host: check the name in base_url; is it right, its operator"
    " must get a certificate for it",
    64: "The {whom}'s certificate is for another host: write the host's name in base_url, not its IP address",
}
_NO_TLS = "What answers speaks no TLS: check base_url, its https and port"
_TOO_OLD = "The {whom} speaks no TLS that is new enough: its operator must allow TLS 1.2 or 1.3"
_TOO_WEAK = "The {whom}'s certificate or key is too weak for this machine: its operator must renew it"
_REFUSED = (
    "The {whom} refuses the TLS connection: it may want a client's certificate, which callbridge does not"
    " give (a proxy of yours may add it), or other ciphers; ask its operator"
)
_REASONS = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": _TOO_OLD,
    "NO_PROTOCOLS_AVAILABLE": _TOO_OLD,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _REFUSED,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _REFUSED,
    "TLSV1_UNRECOGNIZED_NAME": "The server does not know the host's name: check base_url",
    "EE_KEY_TOO_SMALL": _TOO_WEAK,
    "CA_KEY_TOO_SMALL": _TOO_WEAK,
    "CA_MD_TOO_WEAK": _TOO_WEAK,
    "DH_KEY_TOO_SMALL": _TOO_WEAK,
}
_NO_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_DEEPEST = 10


def connection_remedy(error: BaseException, whom: str = "CRM") -> str:
    """What to do about an error that waiting will hardly mend; empty where there is nothing."""
    told = next((told for one in _chain(error) if (told := _remedy(one))), "")
    return told.format(whom=whom) + _AGAIN if told else ""


def _remedy(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE.get(error.verify_code, _UNKNOWN)
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", "")
    if isinstance(error, socket.gaierror) and error.errno in _NO_NAME:
        return "The {whom}'s host has no address: check base_url and the DNS"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    for _ in range(_DEEPEST):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
