"""Which rows may be removed once they are old."""

import pytest

from bridge.model.calls import Quarantined, Verdict
from bridge.model.jobs import JobState
from bridge.model.quarantine import QuarantineState, after_another_arrival
from bridge.model.retention_rules import (
    may_remove_job,
    may_remove_payload,
    may_remove_quarantined,
    may_remove_receipt,
)

VERDICTS: list[Verdict | None] = [*Verdict, None]


def test_receipts_without_news_can_be_pruned() -> None:
    gone = {verdict for verdict in VERDICTS if may_remove_receipt(verdict)}
    assert gone == {Verdict.DUPLICATE, Verdict.STALE, Verdict.QUARANTINED}


def test_payloads_replaced_by_a_later_record_can_be_pruned() -> None:
    gone = {verdict for verdict in VERDICTS if may_remove_payload(verdict, is_known_state=False)}
    assert gone == {Verdict.NEW, Verdict.REVISION, Verdict.STALE}
    assert not any(may_remove_payload(verdict, is_known_state=True) for verdict in VERDICTS)


@pytest.mark.parametrize("state", QuarantineState)
@pytest.mark.parametrize("reason", Quarantined)
def test_decided_quarantine_entries_can_be_pruned(state: QuarantineState, reason: Quarantined) -> None:
    waits = state is QuarantineState.WAITING and reason is not Quarantined.NOT_AN_OBJECT
    assert may_remove_quarantined(state, reason) is (not waits)


def test_finished_jobs_can_be_pruned() -> None:
    assert {state for state in JobState if may_remove_job(state)} == {JobState.DONE, JobState.FAILED}


def test_the_states_of_quarantine_are_words_that_ledgers_keep() -> None:
    assert list(QuarantineState) == ["waiting", "released", "dropped"]


def test_repeated_body_waits_unless_it_was_dropped() -> None:
    assert {state: after_another_arrival(state) for state in QuarantineState} == {
        QuarantineState.WAITING: QuarantineState.WAITING,
        QuarantineState.RELEASED: QuarantineState.WAITING,
        QuarantineState.DROPPED: QuarantineState.DROPPED,
    }
