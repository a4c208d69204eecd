"""The two equations of the balance, and how the counts of all sources come together."""

from typing import Any

import pytest

from bridge.ledger.queries import Loss
from bridge.lib.documents import document_of
from bridge.reconcile.balance import destination_balances, source_balances, whole_balance
from tests.fixtures.ledger_calls import NOW

SOURCE = {"platform": 3, "ledger": 3, "quarantined": 0, "platform_only": 0, "ledger_only": 0}
DESTINATION = {"ledger": 10, "delivered": 4, "skipped": 3, "parked": 2, "under_way": 1}


@pytest.mark.parametrize(
    ("changed", "balanced"),
    [
        ({}, True),
        ({"ledger": 4}, False),
        ({"ledger": 4, "ledger_only": 1}, True),
        ({"ledger": 2, "quarantined": 1}, True),
        ({"ledger": 2, "quarantined": 2}, False),
        ({"platform": 4}, False),
        ({"platform": 4, "platform_only": 1}, False),
        ({"complete": True}, True),
        ({"complete": False}, False),
        ({"platform": None}, True),
        ({"platform": None, "ledger": 9, "complete": False}, True),
    ],
    ids=str,
)
def test_source_balances_if_sides_are_equal_and_nothing_is_missing(
    changed: dict[str, Any], balanced: bool
) -> None:
    assert source_balances(SOURCE | changed) is balanced


@pytest.mark.parametrize("name", ["delivered", "skipped", "parked", "under_way"])
def test_destination_balances_if_every_call_has_one_heading(name: str) -> None:
    assert destination_balances(DESTINATION)
    assert not destination_balances(DESTINATION | {name: DESTINATION[name] + 1})
    assert not destination_balances(DESTINATION | {name: 0})
    assert destination_balances(DESTINATION | {name: 0, "ledger": 10 - DESTINATION[name]})


def audited(since: str, until: str, **destinations: dict[str, int]) -> dict[str, Any]:
    return SOURCE | {"since": since, "until": until, "destinations": destinations}


def test_the_sources_counts_are_added_up_at_each_destination() -> None:
    whole = whole_balance(
        {"a": audited("01", "07", crm=DESTINATION), "b": audited("02", "09", crm=DESTINATION)},
        {"c": {"platform": None, "destinations": {"other": DESTINATION}}},
        since="never looked at",
    )
    assert (whole["since"], whole["until"], whole["balanced"]) == ("01", "09", True)
    assert whole["destinations"] == {
        "crm": {name: 2 * count for name, count in DESTINATION.items()},
        "other": DESTINATION,
    }
    assert whole["sources"]["a"] == SOURCE | {"since": "01", "until": "07"}
    assert whole["sources"]["c"] == {"platform": None}


LOSS = Loss(1, NOW, None, NOW, receipts=3, quarantine=0, open=["main"])


@pytest.mark.parametrize(
    ("source", "destination", "losses", "balanced"),
    [
        ({}, {}, [], True),
        ({"platform_only": 1}, {}, [], False),
        ({}, {"parked": 3}, [], False),
        ({}, {}, [LOSS], False),
    ],
    ids=["all is well", "a source does not", "a destination does not", "a restored backup lacks calls"],
)
def test_whole_balances_if_every_part_does(
    source: dict[str, int], destination: dict[str, int], losses: list[Loss], balanced: bool
) -> None:
    part = audited("01", "02", crm=DESTINATION | destination) | source
    whole = whole_balance({"main": part}, {}, None, losses)
    assert (whole["balanced"], whole["losses"]) == (balanced, document_of(losses))


def test_balance_without_audited_source_begins_at_the_requested_time() -> None:
    whole = whole_balance({}, {"main": {"platform": None, "destinations": {}}}, "01")
    assert (whole["since"], whole["until"], whole["balanced"]) == ("01", None, True)
