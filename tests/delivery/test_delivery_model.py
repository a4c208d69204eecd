"""Any order of steps and faults, on a simulated clock: each call in the CRM once, each field right."""

import pytest

from tests.fixtures.delivery_machine import FAULTS, SEED, STEPS, DeliveryMachine, run
from tests.fixtures.examples import search_seed

HAPPENS = (
    *FAULTS,
    *("arrival", "duplicate", "late revision", "lag", "expiry", "hand edit", "deletion", "retry", "skip"),
    *("replay", "crash", "restart", "mapping change", "batch", "busy", "interleaved", "jump"),
    "revision under way",
    "skip in doubt",
)


def check_shares(machine: type[DeliveryMachine]) -> None:
    """Every kind of thing happened often enough to mean something."""
    shares = {name: machine.shown[name] / machine.examples for name in HAPPENS}
    print(f"{machine.examples} examples of at least {STEPS} steps: {shares}")
    assert min(shares.values()) >= 0.05, shares


def test_each_call_ends_in_the_crm_once_after_any_steps_and_faults() -> None:
    # Few examples, always the same: `make long` holds that each kind of thing happens often.
    machine = run(20, SEED)
    assert sum(machine.shown[name] > 0 for name in HAPPENS) >= 20


@pytest.mark.long
def test_each_call_ends_in_the_crm_once_after_other_steps_and_faults() -> None:
    check_shares(run(500, search_seed()))


@pytest.mark.slow
def test_each_call_ends_in_the_crm_once_in_ten_thousand_examples() -> None:
    check_shares(run(10_000, search_seed()))
