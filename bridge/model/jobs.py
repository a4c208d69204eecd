"""Jobs: work that an operator or the schedule asks for, and that a daemon carries out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

RECONCILE, AUDIT, PRUNE = "reconcile", "audit", "prune"
LIST_WALKS = (RECONCILE, AUDIT)
"""The kinds of job that walk a source's list."""
JobResult = dict[str, Any]
"""What came of a job, as `--json` shows it; `error` where it failed."""


class JobState(StrEnum):
    """Where a job stands."""

    REQUESTED = "requested"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the ledger keeps it. `kind` is any text: rows are also written by later releases."""

    id: int
    kind: str
    args: Mapping[str, Any] | None
    """None where the row holds no JSON object."""
    state: JobState
    requested_at: datetime
    ended_at: datetime | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    """Empty until the job has ended; then what came of it, or `error`."""
    progress: Mapping[str, Any] = field(default_factory=dict)
    """What the job decided when it began, and how far it is."""

    @property
    def is_open(self) -> bool:
        """Whether the job has not ended yet."""
        return self.state in (JobState.REQUESTED, JobState.RUNNING)

    @property
    def source(self) -> str:
        """The source whose list the job is to walk; empty where it names none."""
        source = None if self.args is None else self.args.get("source")
        return source if isinstance(source, str) else ""


@dataclass(frozen=True, slots=True)
class WalksOf:
    """The walks that one taker carries out: those of its own source, and those of sources without a list."""

    source: str
    """Empty: it has none, and only refuses."""
    listed_sources: Sequence[str]
    """All sources with a list; whoever finds a walk of another one says that it cannot be done."""
