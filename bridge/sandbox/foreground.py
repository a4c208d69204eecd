"""Serves a sandbox in the foreground until a signal ends it, for `callbridge simulate`."""

import threading
from collections.abc import Callable

from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.platform import SandboxPlatform
from bridge.sandbox.server import LocalServer


def serve_crm(port: int, crm: SandboxCrm, say: Callable[[str, str], None]) -> None:
    """Serve a CRM on loopback; `say` gets its URL and a line for people."""
    server = LocalServer(crm.app, port=port)
    say(
        server.url,
        f"sandbox CRM at {server.url}: GET /_contents shows what it holds, GET /_requests what was asked",
    )
    server.serve_forever()


def serve_platform(port: int, url: str, rate: float, seed: int, say: Callable[[str, str], None]) -> None:
    """Serve a platform on loopback that pushes `rate` calls a second to `url`."""
    platform = SandboxPlatform(url, seed=seed)
    server = LocalServer(platform.app, port=port)
    say(
        server.url,
        f"sandbox platform at {server.url}: GET /_records shows its calls, POST /_push sends a batch",
    )
    stop = threading.Event()
    pushing = threading.Thread(target=platform.run, args=(stop,), kwargs={"rate": rate}, daemon=True)
    if url and rate > 0:
        pushing.start()
    server.serve_forever()
    stop.set()
    if pushing.is_alive():
        pushing.join(timeout=10)
