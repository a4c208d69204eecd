"""The two listeners of a daemon: callbacks arrive at one, health and metrics are at the other."""

from bridge.admin.app import admin_app
from bridge.admin.status import StatusLedger
from bridge.config.load import Config
from bridge.intake.http_server import Listener
from bridge.intake.receive import Door


def public_listener(config: Config, door: Door) -> Listener:
    """The listener at which callbacks arrive.

    Raises:
        CallbridgeError: the address is taken or not ours.
    """
    return Listener(
        door,
        config.server.listen,
        request_timeout=config.server.body_timeout.total_seconds(),
        trusted_proxies=config.server.trusted_proxies,
        refused=door.count_refused,
    )


def admin_listener(config: Config, metrics_token: str | None, door: Door, ledger: StatusLedger) -> Listener:
    """The listener for operators and their monitoring: health and metrics.

    Raises:
        CallbridgeError: the address is taken or not ours.
    """
    app = admin_app(
        ledger,
        accepting=lambda: not door.closed,
        answers=lambda: door.answers,
        hosts=config.admin.hosts,
        metrics_token=metrics_token,
        trusted_proxies=config.admin.trusted_proxies,
    )
    return Listener(
        app,
        config.admin.listen,
        request_timeout=config.server.body_timeout.total_seconds(),
        trusted_proxies=config.admin.trusted_proxies,
    )
