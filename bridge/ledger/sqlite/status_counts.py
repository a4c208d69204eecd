"""What `status` and the metrics tell: counts by state, what is owed and how fast, failures by cause."""

import sqlite3
from datetime import datetime, timedelta

from bridge.ledger.queries import (
    AlteredField,
    CallsAhead,
    LedgerCounts,
    Owed,
    ParkedGroup,
    RetryingGroup,
)
from bridge.ledger.sqlite import list_standing
from bridge.ledger.sqlite.balances import OPEN
from bridge.ledger.sqlite.times import IS_AHEAD, at_or_none, micros, model_of, moment_of
from bridge.model.deliveries import DeliveryState, Lane

_FAILURES = f"""
SELECT n.part AS destination, n.state, nullif(n.cause, '') AS cause, n.count, n.since_at, w.remedy,
    (SELECT {{}} FROM deliveries d WHERE d.state = n.state AND d.{OPEN} AND d.destination = n.part
     AND coalesce(d.cause, '') = n.cause {{}}) AS {{}}
FROM counters n LEFT JOIN causes w ON w.destination = n.part AND w.cause = n.cause
WHERE n.kind = 'deliveries' AND n.count > 0 AND {{}} ORDER BY n.count DESC LIMIT 20
"""
_PARKED = _FAILURES.format("id", "ORDER BY id LIMIT 1", "example", "n.state = 'parked'")
_RETRYING = _FAILURES.format(
    "due_at", "ORDER BY due_at LIMIT 1", "next_at", "n.state = 'due' AND n.cause <> ''"
)
# The pace is that of the last 5 minutes; the newest 20,000 attempts of these are enough to tell it.
PACE = timedelta(minutes=5)
PACED = 20_000
EXAMPLES = 5
# No end is forecast that is more than 30 days ahead.
MOST_SECONDS = 30 * 86400


# Triggers keep `counters` in the commit that changes a row, which costs about 20 µs a call. Counting the rows
# themselves took 5 s of 1,000,000 calls, at every look of the monitoring.
_BY = "SELECT {0}, sum(count) FROM counters WHERE kind = '{1}' AND count > 0 GROUP BY {0}"
_OLDEST_OWED = f"""
SELECT min(at) FROM (
    SELECT min(owed_at) AS at FROM deliveries WHERE state IN ('due', 'leased') AND {OPEN}
    UNION ALL SELECT min(received_at) FROM receipts WHERE verdict IS NULL)
"""
# By the highest id, because there is no index over `received_at`.
_LAST_RECEIVED = "SELECT max(received_at) FROM receipts WHERE id = (SELECT max(id) FROM receipts)"


def counts(connection: sqlite3.Connection, now: datetime) -> LedgerCounts:
    """Everything `status` and the metrics tell, of one moment."""

    def by(sql: str) -> dict[str, int]:
        return {row[0]: row[1] for row in connection.execute(sql)}

    return LedgerCounts(
        owed=_owed(connection, now),
        attempts=_attempts(connection),
        taken=by(
            "SELECT r.destination, sum(n.count) FROM routes r JOIN counters n ON n.kind = 'calls'"
            " AND n.part = r.source GROUP BY 1"
        ),
        calls=by(_BY.format("part", "calls")),
        receipts=by(_BY.format("state", "receipts")),
        quarantined=by("SELECT reason, count(*) FROM quarantine WHERE state = 'waiting' GROUP BY 1"),
        deliveries=_deliveries(connection),
        parked=[_with_call(connection, row) for row in connection.execute(_PARKED)],
        altered=[_altered(row) for row in connection.execute(_ALTERED, (ALTERED_FOR // MICROSECOND,))],
        retrying=[model_of(RetryingGroup, row) for row in connection.execute(_RETRYING)],
        ahead=_ahead(connection),
        shared_sn=sum(by(_BY.format("part", "shared_sn")).values()),
        oldest_owed_at=at_or_none(connection.execute(_OLDEST_OWED).fetchone()[0]),
        last_received_at=at_or_none(connection.execute(_LAST_RECEIVED).fetchone()[0]),
        lists=list_standing.lists(connection, now),
    )


def _deliveries(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Destination → state → how many deliveries; a destination without any has every state with 0."""
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute("SELECT name FROM destinations ORDER BY name"):
        found[row[0]] = dict.fromkeys(DeliveryState, 0)
    for row in connection.execute(_BY.format("part, state", "deliveries")):
        found.setdefault(row[0], dict.fromkeys(DeliveryState, 0))[row[1]] = row[2]
    return found


def _ahead(connection: sqlite3.Connection) -> CallsAhead:
    """Calls whose own time lies too far ahead to be believed: their count, and the newest few."""
    ids = f"FROM calls WHERE {IS_AHEAD}"
    keys = connection.execute(f"SELECT key {ids} ORDER BY id DESC LIMIT {EXAMPLES}").fetchall()
    count = connection.execute(f"SELECT count(*) {ids}").fetchone()[0] if keys else 0
    return CallsAhead(count, [key for (key,) in keys])


ALTERED_FOR = timedelta(days=7)
"""A field that was not altered for 7 days before the newest attempt counts as mended."""
MICROSECOND = timedelta(microseconds=1)
_ALTERED = """
SELECT part, state, cause, count, since_at FROM counters WHERE kind = 'altered'
AND since_at >= coalesce((SELECT ended_at FROM attempts WHERE id = (SELECT max(id) FROM attempts)), 0) - ?
ORDER BY since_at DESC, state LIMIT 50
"""


def _altered(row: sqlite3.Row) -> AlteredField:
    name, _, field = row["state"].partition(".")
    return AlteredField(row["part"], name, field, row["cause"], row["count"], moment_of(row["since_at"]))


def _with_call(connection: sqlite3.Connection, row: sqlite3.Row) -> ParkedGroup:
    """A group of failures with the key of its example's call."""
    found = connection.execute(
        "SELECT c.key FROM deliveries d JOIN calls c ON c.id = d.call_id WHERE d.id = ?", (row["example"],)
    ).fetchone()
    return model_of(ParkedGroup, row, example_call=found[0] if found else None)


def _attempts(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Attempts that have ended since the ledger was made, by destination and outcome."""
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute("SELECT part, state, count FROM counters WHERE kind = 'attempts'"):
        found.setdefault(row[0], {})[row[1]] = row[2]
    return found


def _owed(connection: sqlite3.Connection, now: datetime) -> dict[str, Owed]:
    """What each destination still owes, lane by lane, how fast that goes, and when it will be done."""
    lanes: dict[str, dict[str, int]] = {}
    for row in connection.execute(
        "SELECT part, state, count FROM counters WHERE kind = 'owed' AND count > 0"
    ):
        lanes.setdefault(row[0], {})[Lane(int(row[1])).name.lower()] = row[2]
    pace = _pace(connection, now) if lanes else {}
    owed = {}
    for destination, found in lanes.items():
        count, rate = sum(found.values()), pace.get(destination, 0.0)
        owed[destination] = Owed(
            count=count,
            lanes={lane.name.lower(): found.get(lane.name.lower(), 0) for lane in Lane},
            rate=round(rate, 2),
            done_at=now + timedelta(seconds=count / rate) if rate > count / MOST_SECONDS else None,
        )
    return owed


def _pace(connection: sqlite3.Connection, now: datetime) -> dict[str, float]:
    """Destination → deliveries a second that ended for good in the last 5 minutes."""
    rows = connection.execute(
        "SELECT d.destination, count(*), min(a.ended_at) FROM"
        " (SELECT delivery_id, ended_at, outcome FROM attempts ORDER BY id DESC LIMIT ?) a"
        " CROSS JOIN deliveries d ON d.id = a.delivery_id"
        " WHERE a.ended_at BETWEEN ? AND ? AND a.outcome <> 'due' GROUP BY 1",
        (PACED, micros(now - PACE), micros(now)),
    ).fetchall()
    # Over 10 s at least: the first few deliveries after a start would promise too much.
    return {name: count / max((micros(now) - first) / 1e6, 10.0) for name, count, first in rows}
