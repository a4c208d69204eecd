"""Keeps addresses of requests safe: values in them are escaped, and only named hosts are reached.

`guard()` escapes when a connector is compiled, `check_address()` refuses when a request is sent.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import httpx
from jinja2 import nodes

from bridge.crm.connector.filters import path
from bridge.lib.expression import ExpressionError, as_text

_OURS = frozenset({"base_url", "settings", "secrets", "token", "now", "random", "assertion"})
"""Names whose values are not escaped: the operator, the connector or the token's answer gives them."""
_ANSWERED = frozenset({"id", "to", "captured"})
"""Names whose values come from the CRM's answers: a whole address among them is taken as it is."""
_ABSOLUTE = re.compile("https?://", re.IGNORECASE)
_CONSTANT_ORIGIN = re.compile(r"(https?://[^/?#{}\\\s]+)(?:[/?#]|$)", re.IGNORECASE)


class OtherOrigin(ValueError):
    """An address leads to a host that nobody has named; the message is its web origin."""


def address_or_segment(value: Any) -> str:
    """A whole address as it is; any other value escaped as one segment of a path."""
    text = as_text(value)
    return text if _ABSOLUTE.match(text) else path(text)


GUARDS = {"_segment": path, "_address": address_or_segment}
"""The filters that `guard` adds to expressions in addresses."""


def guard(expression: str, tree: nodes.Template, alone: bool) -> str:
    """Add the filter that escapes an expression's value to an expression in an address, where it is needed.

    `alone` says that the expression is the whole address.

    Raises:
        ExpressionError: one part of the expression is escaped by hand, and another is not.
    """
    output = tree.body[0]
    assert isinstance(output, nodes.Output)  # noqa: S101 -- it is one expression
    unescaped = set(_unescaped_names(output.nodes[0]))
    if not unescaped:
        return expression
    if any(used.name in ("path", "urlencode") for used in tree.find_all(nodes.Filter)):
        raise ExpressionError(
            f"{', '.join(sorted(unescaped))} is not escaped beside what is", "write | path behind each value"
        )
    if alone and unescaped <= {"captured"}:
        return expression
    return f"({expression})|{'_address' if alone and unescaped <= _ANSWERED else '_segment'}"


def _unescaped_names(node: nodes.Node) -> Iterator[str]:
    """The names whose values may come out of an expression unescaped."""
    if isinstance(node, nodes.Name):
        yield from () if node.name in _OURS else (node.name,)
    elif isinstance(node, nodes.CondExpr):
        for branch in (node.expr1, node.expr2):
            yield from () if branch is None else _unescaped_names(branch)
    elif not (isinstance(node, nodes.Filter) and node.name == "path"):
        for child in node.iter_child_nodes():
            yield from _unescaped_names(child)


def web_origin_of(address: str) -> str:
    """Scheme, host and port of an address, `https://crm.example:8443`; empty where it is no whole address."""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError):
        return ""
    if url.scheme not in ("http", "https") or not url.host:
        return ""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def web_origins_in(value: Any) -> Iterator[str]:
    """The web origins of all whole addresses in a value, at any depth."""
    if isinstance(value, str):
        if _ABSOLUTE.match(value) and (origin := web_origin_of(value)):
            yield origin
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from web_origins_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from web_origins_in(inner)


def check_address(address: str, base_url: str, origins: Callable[[], Iterable[str]]) -> None:
    """Refuse an address that leads to a host which neither `base_url` nor `origins` names, or upwards.

    Raises:
        OtherOrigin: it leads to another host.
        ExpressionError: a part of its path is `.` or `..`.
    """
    if "/." in address or "%2e" in address or "%2E" in address:
        before_query = re.split("[?#]", address, maxsplit=1)[0]
        if any(unquote(segment) in (".", "..") for segment in before_query.split("/")[3:]):
            raise ExpressionError("a part of its path is . or .., which leads to another place")
    if address.startswith(base_url) and address[len(base_url) : len(base_url) + 1] in ("", "/", "?", "#"):
        return
    origin = web_origin_of(address)
    if origin != web_origin_of(base_url) and origin not in origins():
        raise OtherOrigin(origin or address[:100])


def constant_web_origin(text: str) -> str:
    """The web origin that an address has whatever its expressions give; empty where they decide it."""
    match = _CONSTANT_ORIGIN.match(text)
    return web_origin_of(match[1]) if match else ""
