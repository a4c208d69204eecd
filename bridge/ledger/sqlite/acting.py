"""What persons say of deliveries: try again, park, skip, deliver again; and which lane one is in."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bridge.ledger import Row
from bridge.ledger.sqlite.binding import numbered
from bridge.ledger.sqlite.deliveries import marks
from bridge.ledger.sqlite.objects import is_in_doubt, said_absent
from bridge.ledger.sqlite.park_kinds import park_kind_column
from bridge.ledger.sqlite.times import micros
from bridge.model.deliveries import Lane, ParkKind
from bridge.model.failures import BY_A_PERSON

# So many rows are changed in one commit: others have their turn between two.
AT_ONCE = 500

_AGAIN = """
UPDATE deliveries SET state = iif(state = 'leased', state, 'due'), due_at = iif(state = 'leased', due_at, :1),
    owed_at = coalesce(iif(state = 'leased', owed_at, :1), :1), tries = iif(state = 'leased', tries, 0),
    lane = max(lane, 1), changed_at = :1,
    reason = iif(person IS NULL AND park_kind IS NOT 'held', reason, NULL),
    person = NULL, cause = NULL, park_kind = NULL
WHERE id IN (SELECT value FROM json_each(:2))
"""


def retriable(connection: sqlite3.Connection, ids: Sequence[int], cause: str, destination: str) -> list[Row]:
    """What a retry would make due: groups of destination, state, cause and doubt, with `count` and `ids`."""
    groups: dict[tuple[str, str, str | None, str | None], Row] = {}
    for delivery_id, *found in connection.execute(*_meant(connection, ids, cause, destination)):
        at, state, why, kind = found
        group = groups.setdefault(
            (at, state, why, kind),
            {
                "destination": at,
                "state": state,
                "cause": why,
                "in_doubt": kind == ParkKind.IN_DOUBT,
                "count": 0,
                "ids": [],
            },
        )
        group["count"] += 1
        group["ids"].append(delivery_id)
    return sorted(groups.values(), key=lambda group: -group["count"])


def _meant(
    connection: sqlite3.Connection, ids: Sequence[int], cause: str, destination: str
) -> tuple[str, list[Any]]:
    """The deliveries that a person means: these ids, or all that failed so, or all that are parked."""
    kind = park_kind_column(connection)
    select = f"SELECT id, destination, state, cause, {kind} FROM deliveries WHERE wanted > 0"
    if ids:
        # What a person skipped, or wanted parked, is taken up again by name only.
        return (
            f"{select} AND id IN ({marks(ids)}) AND (state IN ('parked', 'due') OR person IS NOT NULL)",
            list(ids),
        )
    unnamed = f"coalesce({kind}, '') NOT IN ('in_doubt', 'held')"
    values: list[Any] = []
    if destination:
        select += " AND destination = ?"
        values.append(destination)
    if not cause:
        # What is in doubt, or a person's, must not be sent again because a person means all others.
        return f"{select} AND state = 'parked' AND state <> 'delivered' AND {unnamed}", values
    causes = matching_causes(connection, cause)
    failed = "state IN ('parked', 'due') AND state <> 'delivered' AND person IS NULL"
    of_reason, words = by_reason(cause, causes)
    named = f"(cause = ? OR ((cause IN ({marks(causes)}) OR {of_reason}) AND {unnamed}))"
    return f"{select} AND {failed} AND {named}", [*values, cause, *causes, *words]


def by_reason(words: str, causes: Sequence[str]) -> tuple[str, list[str]]:
    """A condition on deliveries whose reason, which is what people see of one, holds these words.

    None does where the words are a whole cause: then nothing else is meant.
    """
    if words in causes:
        return "0", []
    plain = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    # What was tried again since keeps its reason, for people to read, and has no cause any more.
    return "(cause IS NOT NULL AND reason LIKE ? ESCAPE '\\')", [f"%{plain}%"]


def matching_causes(connection: sqlite3.Connection, words: str) -> list[str]:
    """The causes of present failures that are these words, or else that hold them."""
    known = [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT cause FROM counters WHERE kind = 'deliveries' AND cause <> '' AND count > 0"
        )
    ]
    return [words] if words in known else [cause for cause in known if words.casefold() in cause.casefold()]


def retry(connection: sqlite3.Connection, ids: str, now: datetime) -> int:
    """Make these due now; `ids` are JSON. Of what is parked in doubt a person says: it is not there."""
    doubtful = connection.execute(
        "SELECT id, progress FROM deliveries WHERE id IN (SELECT value FROM json_each(?))"
        " AND state = 'parked' AND progress IS NOT NULL AND park_kind = 'in_doubt'",
        (ids,),
    ).fetchall()
    connection.executemany(
        "UPDATE deliveries SET progress = ? WHERE id = ?",
        [(said_absent(row["progress"]), row["id"]) for row in doubtful],
    )
    return connection.execute(_AGAIN, numbered(micros(now), ids)).rowcount


def parked_in_doubt(connection: sqlite3.Connection, destination: str) -> int:
    """How many are parked in doubt; of a destination, where that is named."""
    kind = park_kind_column(connection)
    found: int = connection.execute(
        f"SELECT count(*) FROM deliveries WHERE {kind} = 'in_doubt' AND state <> 'delivered'"
        " AND (:1 = '' OR destination = :1)",
        numbered(destination),
    ).fetchone()[0]
    return found


# What is on its way, or in doubt: it holds its lines, and is a person's once it gives them back.
_BUSY = "(state = 'leased' OR id IN (SELECT value FROM json_each(:5)))"
_PARK = f"""
UPDATE deliveries SET state = iif({_BUSY}, state, 'parked'),
    due_at = iif({_BUSY}, due_at, NULL), person = iif({_BUSY}, 'parked', NULL),
    reason = :1, cause = iif({_BUSY}, cause, :2), park_kind = iif({_BUSY}, NULL, 'held'), changed_at = :3
WHERE id IN (SELECT value FROM json_each(:4)) AND state IN ('due', 'leased') AND wanted > 0
RETURNING id, state
"""
_SKIP = f"""
UPDATE deliveries SET state = iif({_BUSY}, state, 'skipped'),
    due_at = iif({_BUSY}, due_at, NULL), person = 'skipped', reason = :1,
    cause = iif({_BUSY}, cause, :2), park_kind = NULL, changed_at = :3
WHERE id IN (SELECT value FROM json_each(:4)) AND (person IS NULL OR person <> 'skipped')
RETURNING id, state
"""


def hold(
    connection: sqlite3.Connection, ids: str, reason: str, now: datetime, *, skip: bool
) -> dict[str, list[int]]:
    """Park or skip: what it holds from `now` on, and what is on its way or in doubt and held `later`."""
    said = ("skipped" if skip else "parked") + " by a person" + (f": {reason}" if reason else "")
    cause = None if skip else BY_A_PERSON
    waiting = connection.execute(
        "SELECT id, progress FROM deliveries"
        " WHERE id IN (SELECT value FROM json_each(?)) AND state = 'due' AND progress IS NOT NULL",
        (ids,),
    )
    doubtful = json.dumps([row["id"] for row in waiting if is_in_doubt(row["progress"])])
    held: dict[str, list[int]] = {"now": [], "later": []}
    for delivery_id, state in connection.execute(
        _SKIP if skip else _PARK, numbered(said, cause, micros(now), ids, doubtful)
    ).fetchall():
        held["later" if state in ("due", "leased") else "now"].append(delivery_id)
    return held


_DEMOTED = """
UPDATE deliveries SET lane = :1 WHERE id IN (
    SELECT id FROM deliveries WHERE state = 'due' AND destination = :2 AND lane = :3 AND owed_at < :4
    LIMIT :5)
"""


def demote(connection: sqlite3.Connection, destination: str, before: datetime) -> int:
    """What has been owed for so long is live no more: it stands behind what is."""
    values = numbered(Lane.RETRY, destination, Lane.LIVE, micros(before), AT_ONCE)
    return connection.execute(_DEMOTED, values).rowcount
