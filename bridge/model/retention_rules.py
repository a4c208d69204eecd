"""Which rows may be removed once they are older than their retention.

Calls, their names, their deliveries and their known states are never among them. The newest receipt and
the newest quarantined body stay whatever they are: their numbers tell how far the ledger has come.
"""

from bridge.model.calls import Quarantined, Verdict
from bridge.model.jobs import JobState
from bridge.model.quarantine import QuarantineState


def may_remove_receipt(verdict: Verdict | None) -> bool:
    """Whether a receipt may go with its payload: it changed nothing. None: it waits for its verdict."""
    return verdict in (Verdict.DUPLICATE, Verdict.STALE, Verdict.QUARANTINED)


def may_remove_payload(verdict: Verdict | None, *, is_known_state: bool) -> bool:
    """Whether a receipt's payload may go though the receipt stays: a later record has taken its place."""
    return verdict in (Verdict.NEW, Verdict.REVISION, Verdict.STALE) and not is_known_state


def may_remove_quarantined(state: QuarantineState, reason: Quarantined) -> bool:
    """Whether a quarantined body may go: somebody has decided, or it was no record at all."""
    return state is not QuarantineState.WAITING or reason is Quarantined.NOT_AN_OBJECT


def may_remove_job(state: JobState) -> bool:
    """Whether a job may go: it was carried out."""
    return state in (JobState.DONE, JobState.FAILED)
