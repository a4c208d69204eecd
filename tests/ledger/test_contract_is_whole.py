"""The contract calls every method of the interface."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from bridge.ledger import Ledger

CONTRACT = Path(__file__).parent / "contract"
STEPS = Path(__file__).parents[1] / "fixtures" / "ledger_calls.py"
LEDGERS = {"ledger", "again", "reader"}
"""What the contract calls the ledger under test."""


def interface() -> set[str]:
    """The methods that a ledger promises."""
    found = inspect.getmembers(Ledger, inspect.isfunction)
    return {name for name, _ in found if not name.startswith("_")}


def called(path: Path) -> Iterator[str]:
    """The methods of a ledger that a module calls."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on = node.func.value
            if isinstance(on, ast.Name) and on.id in LEDGERS:
                yield node.func.attr


def test_the_contract_calls_every_method_of_a_ledger() -> None:
    modules = [*CONTRACT.glob("*.py"), STEPS]
    uncalled = interface() - {name for module in modules for name in called(module)}
    assert not uncalled, f"tests/ledger/contract/ does not call {', '.join(sorted(uncalled))}"


def test_contract_imports_no_ledger_implementation() -> None:
    words = ("sqlite", "_write(", "_reader", "PRAGMA")
    found = [
        (module.name, word)
        for module in CONTRACT.glob("*.py")
        for word in words
        if word in module.read_text("utf-8")
    ]
    assert found == []
