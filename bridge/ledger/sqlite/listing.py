"""The platform's list beside the ledger: each row's call, what was last seen of it, how far it was walked.

A row is remembered by a digest of 16 bytes: 7,600 unchanged rows a second are compared by it, where only
1,900 could be read.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from bridge.ledger.reconciliation import FinishedWindow
from bridge.ledger.sqlite import jobs
from bridge.ledger.sqlite.balances import CREATED
from bridge.ledger.sqlite.binding import json_list, numbered
from bridge.ledger.sqlite.call_finding import any_nameless, calls_by_sn_and_time, names_sought, uuid_of
from bridge.ledger.sqlite.filing import file_arrivals
from bridge.ledger.sqlite.judging import known_of, state_of
from bridge.ledger.sqlite.payloads import Payloads
from bridge.ledger.sqlite.times import micros, moment_of
from bridge.model.calls import Arrival, Filed, Known
from bridge.model.listing import Coverage, MatchedRow, RowMatch, RowToFile, UnlistedCall
from bridge.record.call_match import Joins, KnownCall, Opens, Refused, match_call

DIGEST_BYTES = 16

# CROSS JOIN keeps the order: one index look-up for each name of the page, and no walk through all calls.
_PLACES = """
SELECT n.name, n.call_id, c.key, l.receipt_id, l.digest, l.stale,
       (SELECT max(r.id) FROM receipts r WHERE r.call_id = n.call_id) AS newest
FROM json_each(:2) j
CROSS JOIN call_names n ON n.source = :1 AND n.name = j.value
CROSS JOIN calls c ON c.id = n.call_id
LEFT JOIN listed l ON l.call_id = n.call_id
"""
_BY_ID = """
SELECT c.key AS name, c.id AS call_id, c.key, l.receipt_id, l.digest, l.stale,
       (SELECT max(r.id) FROM receipts r WHERE r.call_id = c.id) AS newest
FROM calls c LEFT JOIN listed l ON l.call_id = c.id WHERE c.id = ?
"""


def newest_receipt(connection: sqlite3.Connection) -> int:
    """The number of the newest receipt."""
    found: int = connection.execute("SELECT coalesce(max(id), 0) FROM receipts").fetchone()[0]
    return found


def match_rows(connection: sqlite3.Connection, source: str, arrivals: Sequence[Arrival]) -> list[RowMatch]:
    """The call that the door would file each of these under now."""
    names = list({name for arrival in arrivals for name in names_sought(arrival)})
    rows = connection.execute(_PLACES, numbered(source, json_list(names)))
    known = {row["name"]: row for row in rows}
    looker = _Looker(connection, known)
    return [looker.place(arrival) for arrival in arrivals]


class _Looker:
    """Finds the calls that the door would find, and writes nothing."""

    def __init__(self, connection: sqlite3.Connection, known: Mapping[str, sqlite3.Row]) -> None:
        self._connection = connection
        self._by_name = known
        self._by_id = {row["call_id"]: row for row in known.values()}
        self._any_nameless = any_nameless(connection)
        self._first_waiting = connection.execute(
            "SELECT min(id) FROM receipts WHERE verdict IS NULL"
        ).fetchone()[0]

    def place(self, arrival: Arrival) -> RowMatch:
        match match_call(arrival, self):
            case Refused(trouble, detail):
                return RowMatch(None, "", trouble, detail)
            case Opens(key):
                return RowMatch(None, key)
            case Joins(call):
                return self._of(self._row(call.call_id))

    def by_name(self, source: str, name: str) -> KnownCall | None:  # noqa: ARG002 -- all are of one source
        row = self._by_name.get(name)
        return None if row is None else KnownCall(row["call_id"], row["key"])

    def by_sn_and_time(self, arrival: Arrival, *, nameless: bool) -> Sequence[KnownCall]:
        if nameless and not self._any_nameless:
            return ()
        return calls_by_sn_and_time(self._connection, arrival, nameless=nameless)

    def uuid_of(self, call_id: int) -> str | None:
        return uuid_of(self._connection, call_id)

    def _row(self, call_id: int) -> sqlite3.Row:
        if call_id not in self._by_id:
            self._by_id[call_id] = self._connection.execute(_BY_ID, (call_id,)).fetchone()
        return self._by_id[call_id]

    def _of(self, row: sqlite3.Row) -> RowMatch:
        newest = row["newest"] or 0
        current = row["receipt_id"] is not None and newest <= row["receipt_id"]
        first = self._first_waiting
        judged = first is None or newest < first or not self._waits(row["call_id"])
        digest = row["digest"] if current else b""
        return RowMatch(
            row["call_id"],
            row["key"],
            newest=newest,
            judged=judged,
            digest=digest,
            stale=bool(row["stale"]) if current else False,
        )

    def _waits(self, call_id: int) -> bool:
        sql = "SELECT EXISTS (SELECT 1 FROM receipts WHERE call_id = ? AND verdict IS NULL)"
        return bool(self._connection.execute(sql, (call_id,)).fetchone()[0])


_KNOWN = """
SELECT c.id AS call_id, c.revision, c.updated_at, c.via AS known_via, c.state, c.stamps,
       s.codec AS state_codec, s.body AS state_body
FROM json_each(?) j
CROSS JOIN calls c ON c.id = j.value
LEFT JOIN payloads s ON s.receipt_id = c.state_receipt
WHERE c.revision > 0
"""


def known_states(
    connection: sqlite3.Connection, payloads: Payloads, call_ids: Sequence[int]
) -> dict[int, Known]:
    """What is known of these calls; those that have no verdict yet are left out."""
    rows = connection.execute(_KNOWN, (json_list(call_ids),)).fetchall()
    return {row["call_id"]: known_of(connection, payloads, row) for row in rows}


def fill(
    connection: sqlite3.Connection,
    payloads: Payloads,
    source: str,
    fills: Sequence[RowToFile],
    asked_at: int,
) -> list[Filed | None]:
    """File rows in the order of the list; None for those whose call has changed since they were asked for."""
    there = match_rows(connection, source, [one.arrival for one in fills])
    fits = [place.newest <= asked_at for place in there]
    taken = [one for one, fit in zip(fills, fits, strict=True) if fit]
    filed = file_arrivals(connection, payloads, [one.arrival for one in taken])
    found = [(one, done.call_id) for one, done in zip(taken, filed, strict=True) if done.call_id is not None]
    newest = {
        call_id: _newest_of(connection, call_id) for call_id in dict.fromkeys(call_id for _, call_id in found)
    }
    remember(connection, [MatchedRow(call_id, newest[call_id], False, one.digest) for one, call_id in found])
    late = [
        (call_id, source, micros(one.arrival.created_at or one.arrival.received_at))
        for one, call_id in found
        if one.gap
    ]
    connection.executemany("INSERT OR IGNORE INTO gaps VALUES (?, ?, ?)", late)
    results = iter(filed)
    return [next(results) if fit else None for fit in fits]


def _newest_of(connection: sqlite3.Connection, call_id: int) -> int:
    found: int = connection.execute("SELECT max(id) FROM receipts WHERE call_id = ?", (call_id,)).fetchone()[
        0
    ]
    return found


_REMEMBER = """
INSERT OR REPLACE INTO listed
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       substr(:2, key * 16 + 1, 16)
FROM json_each(:1)
"""


def remember(connection: sqlite3.Connection, seen: Sequence[MatchedRow]) -> None:
    """Keep the digests of what the list showed of these calls."""
    if seen:
        rows = [(one.call_id, one.newest, int(one.stale)) for one in seen]
        whole = b"".join(one.digest for one in seen)
        assert len(whole) == DIGEST_BYTES * len(seen)  # noqa: S101 -- what the statement cuts by
        connection.execute(_REMEMBER, numbered(json_list(rows), whole))


def calls_between(
    connection: sqlite3.Connection, source: str, since: datetime, until: datetime
) -> Iterator[int]:
    """The calls created in a window."""
    rows = connection.execute(
        f"SELECT id FROM calls c WHERE source = ? AND {CREATED} >= ? AND {CREATED} < ?",
        (source, micros(since), micros(until)),
    )
    return (row[0] for row in rows)


_UNLISTED = """
SELECT c.id, c.key, c.created_at, c.first_seen_at, c.state, s.codec AS state_codec, s.body AS state_body,
       (SELECT o.key FROM calls o
        WHERE o.sn_end = c.sn_end AND o.sn = c.sn AND o.source = c.source AND o.id <> c.id
        AND coalesce(o.started_at, o.created_at) >= coalesce(c.started_at, c.created_at)
        ORDER BY o.id DESC LIMIT 1) AS successor
FROM calls c
LEFT JOIN payloads s ON s.receipt_id = c.state_receipt
WHERE c.id IN (SELECT value FROM json_each(?))
ORDER BY c.id
"""


def unlisted(
    connection: sqlite3.Connection, payloads: Payloads, call_ids: Iterable[int], fields: Collection[str]
) -> list[UnlistedCall]:
    """What may explain that the list does not show these calls."""
    found = []
    for row in connection.execute(_UNLISTED, (json_list(call_ids),)):
        state = state_of(payloads, row)
        created_at = row["created_at"]
        found.append(
            UnlistedCall(
                row["key"],
                None if created_at is None else moment_of(created_at),
                {name: state[name] for name in fields if name in state},
                row["successor"],
                moment_of(row["first_seen_at"]),
            )
        )
    return found


def quarantined_rows(
    connection: sqlite3.Connection, payloads: Payloads, source: str
) -> Iterator[tuple[str, bytes]]:
    """State and body of what quarantine holds of a source and its list may show: waiting, or dropped."""
    rows = connection.execute(
        "SELECT state, codec, body FROM quarantine"
        " WHERE source = ? AND state IN ('waiting', 'dropped')"
        " AND (reason <> 'not_an_object' OR via = 'list')",
        (source,),
    )
    return ((row["state"], payloads.unpack(row["codec"], row["body"])) for row in rows)


# -- how far -----------------------------------------------------------------------
def coverage(connection: sqlite3.Connection, source: str, since: datetime, until: datetime) -> Coverage:
    """How far the list was walked; and of the calls created in a window how many there are, and are gaps."""
    row = connection.execute("SELECT covered_at, run_id FROM coverage WHERE source = ?", (source,)).fetchone()
    covered_at, job_id = (None, None) if row is None else (row["covered_at"], row["run_id"])
    window = (source, micros(since), micros(until))
    calls = connection.execute(
        f"SELECT count(*) FROM calls c WHERE source = ? AND {CREATED} >= ? AND {CREATED} < ?", window
    ).fetchone()[0]
    gaps = connection.execute(
        "SELECT count(*) FROM gaps WHERE source = ? AND created_at >= ? AND created_at < ?", window
    ).fetchone()[0]
    return Coverage(None if covered_at is None else moment_of(covered_at), job_id, calls, gaps)


def finish_window(
    connection: sqlite3.Connection,
    job_id: int,
    window: tuple[datetime, datetime],
    result: Mapping[str, Any],
    progress: Mapping[str, Any],
) -> None:
    """Keep a finished window of a walk, and the walk's progress."""
    since, until = window
    connection.execute(
        "INSERT OR REPLACE INTO run_windows VALUES (?, ?, ?, ?)",
        (job_id, micros(since), micros(until), json.dumps(result)),
    )
    jobs.note_progress(connection, job_id, progress)


def finished_windows(connection: sqlite3.Connection, job_id: int) -> list[FinishedWindow]:
    """The windows that a walk has finished with their results, the oldest first."""
    rows = connection.execute(
        "SELECT since_at, until_at, result FROM run_windows WHERE run_id = ? ORDER BY since_at", (job_id,)
    )
    return [FinishedWindow(moment_of(row[0]), moment_of(row[1]), json.loads(row[2])) for row in rows]
