"""What the tests of the CRM client share: a scripted server, one for each module."""

from collections.abc import Iterator

import pytest

from tests.fixtures.small_crm import Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as one:
        yield one
