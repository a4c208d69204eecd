"""Tells the `park_kind` of deliveries that an earlier release parked: it kept only the words of the cause."""

import sqlite3

_BY_THE_WORDS = """CASE
    WHEN {0}cause LIKE 'in doubt: %' THEN 'in_doubt'
    WHEN {0}cause = 'parked by a person' THEN 'held'
    WHEN {0}cause LIKE '%no longer in the CRM' THEN 'gone'
    ELSE 'failed' END"""


def name_park_kinds(connection: sqlite3.Connection) -> None:
    """Fill in the kind of deliveries that an earlier release parked after a rollback to it."""
    kind = _BY_THE_WORDS.format("")
    connection.execute(
        f"UPDATE deliveries SET park_kind = {kind} WHERE state = 'parked' AND park_kind IS NULL"
    )


def park_kind_column(connection: sqlite3.Connection, table: str = "deliveries") -> str:
    """The SQL for a delivery's kind; a ledger that is only read is not migrated, and may lack the column."""
    columns = "SELECT 1 FROM pragma_table_info('deliveries') WHERE name = 'park_kind'"
    if connection.execute(columns).fetchone():
        return f"{table}.park_kind"
    return f"iif({table}.state = 'parked', {_BY_THE_WORDS.format(f'{table}.')}, NULL)"
