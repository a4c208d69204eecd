"""Addresses of senders, what trusted proxies say of them, and the host names a listener answers to."""

import ipaddress
import re
from collections.abc import Collection, Sequence

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
RawHeaders = Sequence[tuple[bytes, bytes]]

# Some proxies name the sender's port beside its address.
_HOST_AND_PORT = re.compile(r"(?:\[([^]]+)\]|([^:]+))(?::[0-9]{1,5})?")
_PORT_AT_END = re.compile(r":[0-9]{0,5}$")
# One IPv6 customer has a /64 at least, and can send from any address in it.
_SITE_PREFIX = 64


def parse_address(text: str) -> IpAddress | None:
    """An address as sockets and proxies write it; an IPv4 one inside IPv6 is that IPv4 one."""
    found = _HOST_AND_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(found[1] or found[2] if found else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_among(address: IpAddress | None, networks: Sequence[IpNetwork]) -> bool:
    """Whether an address belongs to one of the networks."""
    return address is not None and any(address in network for network in networks)


def client_address(peer: str | None, headers: RawHeaders, trusted: Sequence[IpNetwork]) -> IpAddress | None:
    """The sender's address. What a proxy says of it counts only where the proxy is trusted."""
    address = parse_address(peer) if peer else None
    if not trusted or not is_among(address, trusted):
        return address
    claims = [
        value.strip()
        for name, header in headers
        if name == b"x-forwarded-for"
        for value in header.decode("latin-1").split(",")
    ]
    while address is not None and claims and is_among(address, trusted):
        address = parse_address(claims.pop())
    return address


def limit_key(peer: str) -> str:
    """What a limit per address counts by: an IPv4 address itself, an IPv6 address by its /64 network."""
    if ":" not in peer:
        return peer
    address = parse_address(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address) >> _SITE_PREFIX << _SITE_PREFIX, _SITE_PREFIX)))
    return peer if address is None else str(address)


def is_own_name(host: str, names: Collection[str]) -> bool:
    """Whether a `Host` header names this program: localhost, an address, or one of `names`.

    Any other name may be one that a stranger's DNS points here, so that a browser on this machine asks us
    in that stranger's name.
    """
    name = host.strip().lower()
    name = name[: name.rfind(":")] if _PORT_AT_END.search(name) and not _is_bare_ipv6(name) else name
    name = name.removesuffix(".")
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _is_bare_ipv6(name: str) -> bool:
    return name.count(":") > 1 and not name.startswith("[")
