"""What tests of whole daemons have: a CRM to deliver to, and daemons that end with the test."""

from collections.abc import Iterator

import pytest

from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.daemon_process import DaemonProcess


@pytest.fixture
def crm() -> Iterator[tuple[SandboxCrm, str]]:
    crm = SandboxCrm()
    with LocalServer(crm.app) as server:
        yield crm, server.url


@pytest.fixture
def started() -> Iterator[list[DaemonProcess]]:
    """Daemons put here are gone after the test, whatever it finds."""
    daemons: list[DaemonProcess] = []
    yield daemons
    for daemon in daemons:
        daemon.kill()
