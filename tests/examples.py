"""How many examples Hypothesis draws: few, always the same in `make test`; many new ones in `make long`."""

import os
from typing import Any

from hypothesis import HealthCheck, core, settings
from hypothesis.internal.conjecture import providers

FIXED, SEARCH = "fixed", "search"
_UNTIMED: dict[str, Any] = {
    # What is drawn must not depend on what a run before this one found.
    "database": None,
    # How busy a machine is says nothing of the product: neither a deadline nor a health check measures it.
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}


def register() -> None:
    """Make both profiles known, and load the one with fixed examples."""
    settings.register_profile(FIXED, derandomize=True, max_examples=40, **_UNTIMED)
    settings.register_profile(SEARCH, derandomize=False, max_examples=400, print_blob=True, **_UNTIMED)
    settings.load_profile(FIXED)
    # Hypothesis also draws constants of the modules that happen to be imported: a test that runs alone would
    # have other examples than the same test in the whole suite.
    nothing = providers._local_constants
    providers._get_local_constants = lambda: nothing


def searching() -> bool:
    """Whether this run looks for examples that nobody has seen yet."""
    return settings.get_current_profile_name() == SEARCH


def examples(fixed: int, searched: int) -> settings:
    """So many examples in the default run, and so many in a search."""
    return settings(max_examples=searched if searching() else fixed)


def any_seed() -> int:
    """A seed that nobody has chosen."""
    return int.from_bytes(os.urandom(4))


def search_seed() -> int:
    """The seed of this run's search, for what draws by itself."""
    given = core.global_force_seed
    return any_seed() if given is None else int(given)
