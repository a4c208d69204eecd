"""From a step of a connector to the request that is sent: names, authentication, its whole address."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.crm.connector.addresses import web_origins_in
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.request import Rendered, Request
from bridge.lib.expression import as_text

Outputs = dict[str, Any]
"""What token exchanges gave, by name."""


class _Later(Mapping[str, Any]):
    """Names whose values are made when one of them is used: most requests use none."""

    def __init__(self, make: Callable[[], Values]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Values:
        return self._make()

    def __getitem__(self, name: str) -> Any:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def common_names(
    account: Account, outputs: Outputs, now: datetime, new_uuid: Callable[[], uuid.UUID]
) -> Values:
    """What every request of an account may use; each has a moment and a random number of its own."""

    def moment() -> Values:
        return {
            "epoch": int(now.timestamp()),
            "epoch_ms": round(now.timestamp() * 1000),
            "iso8601": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "compact": now.strftime("%Y%m%d%H%M%S"),
        }

    def drawn() -> Values:
        number = new_uuid()
        return {"uuid4": str(number), "hex": number.hex}

    return {
        "base_url": account.base_url,
        "secrets": account.secrets,
        "settings": account.settings,
        "token": outputs,
        "assertion": None,
        "now": _Later(moment),
        "random": _Later(drawn),
    }


def render(connector: Connector, request: Request, common: Values, names: Values) -> Rendered:
    """A request with its authentication, at its whole address.

    Raises:
        ExpressionError: an expression fails on these names.
    """
    rendered = request.render({**common, **names})
    connector.auth.apply(rendered, common)
    root = as_text(connector.root.fill(common)).rstrip("/")
    if "://" not in rendered.path:
        rendered.path = f"{root}/{rendered.path.lstrip('/')}"
    return rendered


def allowed_web_origins(connector: Connector, account: Account, common: Values) -> Iterator[str]:
    """Hosts that an account's requests may go to beside base_url's."""
    yield from web_origins_in(connector.origins.fill(common))
    # What the operator gives may lead anywhere; what the connector sets itself it must list.
    yield from web_origins_in(list(account.secrets.values()))
    for name, value in account.settings.items():
        if value != (connector.file.settings[name].default or ""):
            yield from web_origins_in(value)
    # An answer does not lead out of TLS.
    safe = account.base_url.startswith("https:")
    yield from (each for each in web_origins_in(common["token"]) if not safe or each.startswith("https:"))


def headers_of(rendered: Rendered) -> dict[str, str]:
    """The headers that are sent: with the body's type, where the connector does not say it."""
    named = {name.lower() for name in rendered.headers}
    if rendered.content_type is None or "content-type" in named:
        return dict(rendered.headers)
    return {**rendered.headers, "Content-Type": rendered.content_type}
