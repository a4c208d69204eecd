"""Addresses of requests: values in them are escaped, and which hosts they may lead to."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import httpx
from jinja2 import nodes

from bridge.crm.connector.filters import path
from bridge.lib.expression import ExpressionError, as_text

_OURS = frozenset({"base_url", "settings", "secrets", "token", "now", "random", "assertion"})
"""Names whose values the operator, the connector or the token's answer gives: they may be parts of a path."""
_ANSWERED = frozenset({"id", "to", "captured"})
"""Names whose values come from answers: one that is a whole address is taken as it is."""
_ABSOLUTE = re.compile("https?://", re.IGNORECASE)
_CONSTANT_ORIGIN = re.compile(r"(https?://[^/?#{}\\\s]+)(?:[/?#]|$)", re.IGNORECASE)


class OtherOrigin(ValueError):
    """An address leads to a host that is none of the CRM's; the message names its origin."""


def address_or_segment(value: Any) -> str:
    """A whole address, or a value that cannot leave its place."""
    text = as_text(value)
    return text if _ABSOLUTE.match(text) else path(text)


GUARDS = {"_segment": path, "_address": address_or_segment}
"""The filters that `guard` puts behind what an expression of an address gives."""


def guard(expression: str, tree: nodes.Template, alone: bool) -> str:
    """An expression of an address, escaped unless it is so already, or of what may be a part of a path.

    Raises:
        ExpressionError: a part of it is escaped, and another is not.
    """
    output = tree.body[0]
    assert isinstance(output, nodes.Output)  # noqa: S101 -- it is one expression
    loose = set(_loose(output.nodes[0]))
    if not loose:
        return expression
    if any(each.name in ("path", "urlencode") for each in tree.find_all(nodes.Filter)):
        raise ExpressionError(
            f"{', '.join(sorted(loose))} is not escaped beside what is", "write | path behind each value"
        )
    if alone and loose <= {"captured"}:
        return expression
    return f"({expression})|{'_address' if alone and loose <= _ANSWERED else '_segment'}"


def _loose(node: nodes.Node) -> Iterator[str]:
    """The names whose values an expression may give as they are."""
    if isinstance(node, nodes.Name):
        yield from () if node.name in _OURS else (node.name,)
    elif isinstance(node, nodes.CondExpr):
        for branch in (node.expr1, node.expr2):
            yield from () if branch is None else _loose(branch)
    elif not (isinstance(node, nodes.Filter) and node.name == "path"):
        for child in node.iter_child_nodes():
            yield from _loose(child)


def web_origin_of(address: str) -> str:
    """Scheme, host and port of an address; empty where it has none."""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError):
        return ""
    if url.scheme not in ("http", "https") or not url.host:
        return ""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def web_origins_in(value: Any) -> Iterator[str]:
    """The origins of all whole addresses in a value."""
    if isinstance(value, str):
        if _ABSOLUTE.match(value) and (origin := web_origin_of(value)):
            yield origin
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from web_origins_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from web_origins_in(each)


def check_address(address: str, base_url: str, origins: Callable[[], Iterable[str]]) -> None:
    """Refuse an address that leads elsewhere than to `base_url`'s host and `origins`, or upwards.

    Raises:
        OtherOrigin: it leads to another host.
        ExpressionError: a part of its path is `.` or `..`.
    """
    if "/." in address or "%2e" in address or "%2E" in address:
        before_query = re.split("[?#]", address, maxsplit=1)[0]
        if any(unquote(each) in (".", "..") for each in before_query.split("/")[3:]):
            raise ExpressionError("a part of its path is . or .., which leads to another place")
    if address.startswith(base_url) and address[len(base_url) : len(base_url) + 1] in ("", "/", "?", "#"):
        return
    origin = web_origin_of(address)
    if origin != web_origin_of(base_url) and origin not in origins():
        raise OtherOrigin(origin or address[:100])


def constant_web_origin(text: str) -> str:
    """Where an address leads whatever its expressions give; empty where only they tell."""
    found = _CONSTANT_ORIGIN.match(text)
    return web_origin_of(found[1]) if found else ""
