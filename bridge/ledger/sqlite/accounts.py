"""CRM accounts: the token of each, and what it was learned to allow."""

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bridge.ledger.accounts import KeptBudget
from bridge.ledger.sqlite.access import Access, looks
from bridge.ledger.sqlite.times import micros, moment_of
from bridge.model.account_limits import KeptLimits


class AccountPart(Access):
    """See `bridge.ledger.AccountLedger`, which says what each method promises."""

    @looks
    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """Read an account's token."""
        return load_token(self._reader, account)

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Replace an account's token in a commit of its own."""
        self._write().run(lambda c: save_token(c, account, saved))

    def save_budget(self, account: str, saved: KeptLimits, now: datetime) -> None:
        """Replace what is kept of an account's limits in a commit of its own."""
        self._write().run(lambda c: save_budget(c, account, saved, now))

    @looks
    def load_budgets(self) -> dict[str, KeptBudget]:
        """Read what is kept of all accounts in one query."""
        return load_budgets(self._reader)


def account_id(connection: sqlite3.Connection, name: str) -> int:
    """The row of a CRM account, made where there is none."""
    known = connection.execute("SELECT id FROM accounts WHERE name = ?", (name,)).fetchone()
    if known is not None:
        return int(known[0])
    made = connection.execute("INSERT INTO accounts (name) VALUES (?)", (name,)).lastrowid
    assert made is not None  # noqa: S101 -- for the type checker: an INSERT has a row id
    return made


def load_token(connection: sqlite3.Connection, account: str) -> dict[str, Any] | None:
    """What was saved of an account's token."""
    row = connection.execute("SELECT token FROM accounts WHERE name = ?", (account,)).fetchone()
    return json.loads(row[0]) if row is not None and row[0] is not None else None


def save_token(connection: sqlite3.Connection, account: str, saved: Mapping[str, Any]) -> None:
    """Keep an account's token."""
    connection.execute(
        "UPDATE accounts SET token = ? WHERE id = ?", (json.dumps(saved), account_id(connection, account))
    )


def save_budget(connection: sqlite3.Connection, account: str, saved: KeptLimits, now: datetime) -> None:
    """Keep what an account allows, as it was learned."""
    connection.execute(
        "UPDATE accounts SET budget = ?, budget_at = ? WHERE id = ?",
        (json.dumps(saved), micros(now), account_id(connection, account)),
    )


def load_budgets(connection: sqlite3.Connection) -> dict[str, KeptBudget]:
    """What was kept of every account, and when."""
    rows = connection.execute(
        "SELECT name, budget, budget_at FROM accounts WHERE budget IS NOT NULL ORDER BY name"
    )
    return {name: KeptBudget(json.loads(budget), moment_of(at)) for name, budget, at in rows}
