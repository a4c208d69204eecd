"""Renders a connector's request for one account: variables, authentication, whole address.

Begin at `Renderer.render()`.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.crm.connector.addresses import web_origins_in
from bridge.crm.connector.auth import Credentials
from bridge.crm.connector.compiling import Values
from bridge.crm.connector.request import Rendered, Request
from bridge.lib.expression import as_text

Outputs = dict[str, Any]
"""The values that token requests gave, by the name in `outputs`."""


class _LazyValues(Mapping[str, Any]):
    """Values that are made when the first of them is used: most requests use neither time nor random id."""

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
    """The variables that every request of an account has; `now` and `random` are new for each request."""

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
        "now": _LazyValues(moment),
        "random": _LazyValues(drawn),
    }


@dataclass(frozen=True, slots=True)
class _InCommon:
    """What all requests with one token have in common."""

    token: Outputs
    root: str
    credentials: Credentials


class Renderer:
    """Renders the requests of one account; what they have in common is evaluated once for each token."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._varies = connector.auth.is_of_each_request or connector.root.varies
        self._in_common: _InCommon | None = None

    def render(self, request: Request, common: Values, names: Values) -> Rendered:
        """The request with authentication and whole address; `common` are the variables of every request.

        Raises:
            ExpressionError: an expression fails on these names.
        """
        rendered = request.render({**common, **names})
        shared = self._in_common
        if shared is None or shared.token != common["token"]:
            shared = self._evaluated(rendered, common)
            self._in_common = None if self._varies else shared
        shared.credentials.add_to(rendered)
        if "://" not in rendered.path:
            rendered.path = f"{shared.root}/{rendered.path.lstrip('/')}"
        return rendered

    def _evaluated(self, rendered: Rendered, common: Values) -> _InCommon:
        credentials = self._connector.auth.credentials(rendered, common)
        root = as_text(self._connector.root.fill(common)).rstrip("/")
        return _InCommon(dict(common["token"]), root, credentials)


def allowed_web_origins(connector: Connector, account: Account, common: Values) -> Iterator[str]:
    """The web origins that an account's requests may go to beside base_url's.

    They come from the connector's `origins`, from secrets and settings, and from the token's answer.
    """
    yield from web_origins_in(connector.origins.fill(common))
    # The operator's own values may lead anywhere. The connector's default of a setting must be in its
    # `origins`.
    yield from web_origins_in(list(account.secrets.values()))
    for name, value in account.settings.items():
        if value != (connector.file.settings[name].default or ""):
            yield from web_origins_in(value)
    # With a base_url of https, the token's answer may not lead to plain HTTP.
    safe = account.base_url.startswith("https:")
    yield from (
        origin for origin in web_origins_in(common["token"]) if not safe or origin.startswith("https:")
    )


def headers_of(rendered: Rendered) -> dict[str, str]:
    """The headers that are sent: the request's own, and Content-Type where the connector does not set it."""
    named = {name.lower() for name in rendered.headers}
    if rendered.content_type is None or "content-type" in named:
        return dict(rendered.headers)
    return {**rendered.headers, "Content-Type": rendered.content_type}
