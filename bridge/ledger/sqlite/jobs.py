"""The queue of jobs, kept in the table `runs`; a reconciliation that ends moves its source's coverage."""

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bridge.ledger.sqlite.access import Access, looks
from bridge.ledger.sqlite.binding import marks, numbered
from bridge.ledger.sqlite.times import micros, moment_of
from bridge.model.jobs import LIST_WALKS, RECONCILE, Job, JobState, WalksOf

# A row may have been written by hand, and json_extract() fails on what is no JSON.
_SOURCE = "CASE WHEN json_valid({0}args) THEN json_extract({0}args, '$.source') END"
# The condition of the partial index `runs_open`: SQLite uses it only where a query repeats the condition.
_OPEN = "{0}state IN ('requested', 'running')"
_REQUESTED = f"r.state = 'requested' AND {_OPEN.format('r.')}"
_IS_WALK = f"r.kind IN ({marks(LIST_WALKS)})"
_TAKE = (
    "UPDATE runs SET state = 'running', started_at = ?"
    f" WHERE id = (SELECT min(r.id) FROM runs r WHERE {_REQUESTED} AND {{}}) RETURNING *"
)
_SAME_SOURCE_RUNS = (
    f"EXISTS (SELECT 1 FROM runs o WHERE {_OPEN.format('o.')} AND o.state = 'running'"
    f" AND o.kind IN ({marks(LIST_WALKS)}) AND {_SOURCE.format('o.')} = {_SOURCE.format('r.')})"
)


class JobPart(Access):
    """See `bridge.ledger.JobQueue`, which says what each method promises."""

    def request_job(self, kind: str, args: Mapping[str, Any], now: datetime) -> int:
        """Insert a row of `runs`."""
        return self._write().run(lambda c: _request(c, kind, args, now))

    def take_job(self, now: datetime, walks: WalksOf | None = None) -> Job | None:
        """Mark the oldest requested job as running; two takers never get the same one."""
        # Each taker asks four times a second: a read first keeps it out of the queue of the writer's thread.
        if not self._is_any_requested(walking=walks is not None):
            return None
        return self._write().run(lambda c: _take(c, now, walks))

    @looks
    def _is_any_requested(self, *, walking: bool) -> bool:
        kind = _IS_WALK if walking else f"NOT {_IS_WALK}"
        found = self._reader.execute(
            f"SELECT EXISTS (SELECT 1 FROM runs r WHERE {_REQUESTED} AND {kind})", LIST_WALKS
        )
        return bool(found.fetchone()[0])

    def note_progress(self, job_id: int, progress: Mapping[str, Any]) -> None:
        """Replace the progress of a running job."""
        self._write().run(lambda c: note_progress(c, job_id, progress))

    def end_job(
        self,
        job_id: int,
        state: JobState,
        result: Mapping[str, Any],
        now: datetime,
        *,
        covered_until: datetime | None = None,
    ) -> None:
        """Write a job's end; that of a walk also removes its windows and moves the source's coverage."""

        def end(connection: sqlite3.Connection) -> None:
            job = _end(connection, job_id, state, result, now)
            if job.kind in LIST_WALKS:
                _end_walk(connection, job, covered_until, now)

        self._write().run(end)

    def cancel_job(self, job_id: int, now: datetime) -> None:
        """End a job that was not taken yet, or mark a running one to be ended by its taker."""
        self._write().run(lambda c: _cancel(c, job_id, now))

    @looks
    def is_cancelled(self, job_id: int) -> bool:
        """Read whether a job was told to end; True also for a job that is not there."""
        row = self._reader.execute(
            "SELECT cancel_at IS NOT NULL FROM runs WHERE id = ?", (job_id,)
        ).fetchone()
        return row is None or bool(row[0])

    @looks
    def job(self, job_id: int) -> Job:
        """Read one job by its id."""
        return _job(self._reader.execute("SELECT * FROM runs WHERE id = ?", (job_id,)).fetchone())

    @looks
    def open_walks(self, source: str) -> list[Job]:
        """Read the requested and running walks of a source."""
        rows = self._reader.execute(
            f"SELECT * FROM runs r WHERE {_OPEN.format('r.')} AND {_IS_WALK} AND {_SOURCE.format('r.')} = ?"
            " ORDER BY id",
            (*LIST_WALKS, source),
        )
        return [_job(row) for row in rows]

    @looks
    def last_requested_at(
        self, kind: str, *, source: str | None = None, trigger: str | None = None
    ) -> datetime | None:
        """Read when a job of this kind was last requested."""
        condition, values = "", [kind]
        if source is not None:
            condition += f" AND {_SOURCE.format('')} = ?"
            values.append(source)
        if trigger is not None:
            condition += " AND CASE WHEN json_valid(args) THEN json_extract(args, '$.trigger') END = ?"
            values.append(trigger)
        last = f"SELECT max(requested_at) FROM runs WHERE kind = ?{condition}"
        at = self._reader.execute(last, values).fetchone()[0]
        return None if at is None else moment_of(at)

    @looks
    def last_done(self, kind: str) -> Job | None:
        """Read the last job of this kind that was carried out."""
        row = self._reader.execute(
            "SELECT * FROM runs WHERE kind = ? AND state = 'done' ORDER BY id DESC LIMIT 1", (kind,)
        ).fetchone()
        return None if row is None else _job(row)


def _request(connection: sqlite3.Connection, kind: str, args: Mapping[str, Any], now: datetime) -> int:
    job_id = connection.execute(
        "INSERT INTO runs (kind, args, state, requested_at) VALUES (?, ?, 'requested', ?)",
        (kind, json.dumps(args), micros(now)),
    ).lastrowid
    assert job_id is not None  # noqa: S101 -- for the type checker: an INSERT has a row id
    return job_id


def _take(connection: sqlite3.Connection, now: datetime, walks: WalksOf | None) -> Job | None:
    if walks is None:
        which = f"NOT {_IS_WALK}"
        values: tuple[str, ...] = LIST_WALKS
    else:
        source = _SOURCE.format("r.")
        ours = f"({source} = ? OR coalesce({source}, '') NOT IN ({marks(walks.listed_sources)}))"
        which = f"{_IS_WALK} AND {ours} AND NOT {_SAME_SOURCE_RUNS}"
        values = (*LIST_WALKS, walks.source, *walks.listed_sources, *LIST_WALKS)
    row = connection.execute(_TAKE.format(which), (micros(now), *values)).fetchone()
    return None if row is None else _job(row)


def note_progress(connection: sqlite3.Connection, job_id: int, progress: Mapping[str, Any]) -> None:
    """Replace the progress of a running job."""
    connection.execute("UPDATE runs SET progress = ? WHERE id = ?", (json.dumps(progress), job_id))


def _end(
    connection: sqlite3.Connection, job_id: int, state: JobState, result: Mapping[str, Any], now: datetime
) -> Job:
    row = connection.execute(
        "UPDATE runs SET state = ?, result = ?, ended_at = ? WHERE id = ? RETURNING *",
        (state, json.dumps(result), micros(now), job_id),
    ).fetchone()
    return _job(row)


def _end_walk(
    connection: sqlite3.Connection, job: Job, covered_until: datetime | None, now: datetime
) -> None:
    """Forget a walk's windows; a reconciliation becomes its source's last one, unless it was a dry run."""
    connection.execute("DELETE FROM run_windows WHERE run_id = ?", (job.id,))
    if job.kind != RECONCILE or not job.source or (job.args or {}).get("dry_run"):
        return
    connection.execute(
        "INSERT INTO coverage VALUES (:1, :2, :3)"
        " ON CONFLICT (source) DO UPDATE SET run_id = :3,"
        # A coverage that lies in the future was written while the clock was wrong, and does not count.
        " covered_at = iif(covered_at > :4, :2, max(coalesce(covered_at, :2), coalesce(:2, covered_at)))",
        numbered(job.source, micros(covered_until), job.id, micros(now)),
    )


def _cancel(connection: sqlite3.Connection, job_id: int, now: datetime) -> None:
    connection.execute(
        "UPDATE runs SET state = 'cancelled', ended_at = ? WHERE id = ? AND state = 'requested'",
        (micros(now), job_id),
    )
    connection.execute(
        "UPDATE runs SET cancel_at = ? WHERE id = ? AND state = 'running'", (micros(now), job_id)
    )


def _job(row: sqlite3.Row) -> Job:
    ended_at = row["ended_at"]
    return Job(
        row["id"],
        row["kind"],
        _object(row["args"]),
        JobState(row["state"]),
        moment_of(row["requested_at"]),
        None if ended_at is None else moment_of(ended_at),
        _object(row["result"]) or {},
        _object(row["progress"]) or {},
    )


def _object(text: str | None) -> dict[str, Any] | None:
    """A JSON object; None where it is none."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
