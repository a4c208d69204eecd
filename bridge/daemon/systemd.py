"""Tells systemd that the daemon is ready, is stopping, or is still alive."""

import os
import socket


def notify(state: str) -> None:
    """Send `READY=1` and the like; without systemd nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        notifier.connect(address)
        notifier.sendall(state.encode())


def watchdog_interval() -> float | None:
    """Seconds between two `WATCHDOG=1`, half of what systemd allows; None where it expects none."""
    allowed = os.environ.get("WATCHDOG_USEC")
    return int(allowed) / 2_000_000 if allowed and allowed.isdigit() else None
