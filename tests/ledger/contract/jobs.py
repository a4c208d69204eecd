"""What every ledger promises about the queue of jobs; see `suite`."""

from bridge.ledger import Ledger
from bridge.model.jobs import AUDIT, RECONCILE, JobState, WalksOf
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
)
from tests.ledger.contract.arrangements import reopened
from tests.ledger.contract.place import LedgerPlace


class JobContract:
    """Asking for, taking, following, ending and cancelling jobs."""

    def test_jobs_are_taken_in_order_and_end(self, ledger: Ledger) -> None:
        assert ledger.take_job(NOW) is None
        first = ledger.request_job("retry", {"ids": [1, 2]}, NOW)
        second = ledger.request_job("prune", {"source": "主"}, NOW)
        assert ledger.job(first).state == "requested"
        taken = ledger.take_job(NOW + MINUTE)
        assert taken is not None
        assert (taken.id, taken.kind, taken.args) == (first, "retry", {"ids": [1, 2]})
        assert ledger.job(first).state == "running"
        ledger.end_job(first, JobState.DONE, {"retried": 2, "in_doubt": 0}, NOW + 2 * MINUTE)
        ended = ledger.job(first)
        assert (ended.state, ended.result, ended.ended_at) == (
            "done",
            {"retried": 2, "in_doubt": 0},
            NOW + 2 * MINUTE,
        )
        other = ledger.take_job(NOW)
        assert other is not None
        assert (other.id, other.args) == (second, {"source": "主"})
        assert ledger.take_job(NOW) is None

    def test_job_left_by_a_dead_daemon_is_taken_up_again(self, ledger: Ledger, place: LedgerPlace) -> None:
        job_id = ledger.request_job("retry", {"ids": []}, NOW)
        assert ledger.take_job(NOW) is not None
        again = reopened(ledger, place)
        again.release_leases()
        taken = again.take_job(NOW + MINUTE)
        again.close()
        assert taken is not None, "a command waits for this run without end"
        assert taken.id == job_id

    def test_last_done_job_of_a_kind_is_returned_with_its_result(self, ledger: Ledger) -> None:
        assert ledger.last_done("prune") is None
        for state, minute in ((JobState.DONE, 0), (JobState.DONE, 1), (JobState.FAILED, 2)):
            job_id = ledger.request_job("prune", {}, NOW + minute * MINUTE)
            ledger.take_job(NOW)
            ledger.end_job(job_id, state, {"removed": {"receipts": minute}}, NOW)
        last = ledger.last_done("prune")
        assert last is not None
        assert (last.requested_at, last.result) == (NOW + MINUTE, {"removed": {"receipts": 1}})
        assert ledger.last_done("backup") is None

    def test_list_runs_are_taken_by_source_and_other_jobs_without_one(self, ledger: Ledger) -> None:
        main, branch = WalksOf("main", ["main", "branch"]), WalksOf("branch", ["main", "branch"])
        prune = ledger.request_job("prune", {}, NOW)
        audit = ledger.request_job(AUDIT, {"source": "branch"}, NOW)
        unknown = ledger.request_job(RECONCILE, {"source": "nobody's"}, NOW)
        assert [taken_id(ledger, None), taken_id(ledger, None)] == [prune, None]
        # A source that is no list's is anybody's.
        assert [taken_id(ledger, main), taken_id(ledger, main)] == [unknown, None]
        assert [taken_id(ledger, branch), taken_id(ledger, branch)] == [audit, None]

    def test_source_has_one_list_run_at_a_time(self, ledger: Ledger) -> None:
        walks = WalksOf("main", ["main", "branch"])
        first, second = (ledger.request_job(kind, {"source": "main"}, NOW) for kind in (RECONCILE, AUDIT))
        assert taken_id(ledger, walks) == first
        assert taken_id(ledger, walks) is None
        assert [job.id for job in ledger.open_walks("main")] == [first, second]
        assert ledger.open_walks("branch") == []
        ledger.end_job(first, JobState.FAILED, {"error": "it failed"}, NOW)
        assert taken_id(ledger, walks) == second

    def test_job_progress_survives_a_restart(self, ledger: Ledger, place: LedgerPlace) -> None:
        job_id = ledger.request_job(RECONCILE, {"source": "main"}, NOW)
        assert ledger.take_job(NOW, WalksOf("main", ["main"])) is not None
        assert ledger.job(job_id).progress == {}
        for seen in (1, 2):
            ledger.note_progress(job_id, {"seen": seen})
        again = reopened(ledger, place)
        again.release_leases()
        job = again.job(job_id)
        again.close()
        assert (job.state, job.progress) == (JobState.REQUESTED, {"seen": 2})

    def test_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked_to(self, ledger: Ledger) -> None:
        running, waiting = (ledger.request_job("replay", {}, NOW) for _ in range(2))
        ledger.take_job(NOW)
        for job_id in (running, waiting):
            ledger.cancel_job(job_id, NOW + MINUTE)
        assert (ledger.job(waiting).state, ledger.job(waiting).ended_at) == (JobState.CANCELLED, NOW + MINUTE)
        assert ledger.job(running).state == JobState.RUNNING
        assert ledger.is_cancelled(running)
        assert not ledger.is_cancelled(ledger.request_job("replay", {}, NOW))
        assert ledger.take_job(NOW) is not None
        assert ledger.take_job(NOW) is None

    def test_last_request_time_is_known_by_kind_source_and_trigger(self, ledger: Ledger) -> None:
        asked = [("main", "short"), ("main", "deep"), ("branch", "short")]
        for minute, (source, trigger) in enumerate(asked):
            args = {"source": source, "trigger": trigger}
            ledger.request_job(RECONCILE, args, NOW + minute * MINUTE)
        assert ledger.last_requested_at("prune") is None
        assert ledger.last_requested_at(RECONCILE) == NOW + 2 * MINUTE
        assert ledger.last_requested_at(RECONCILE, source="main") == NOW + MINUTE
        assert ledger.last_requested_at(RECONCILE, source="main", trigger="short") == NOW
        assert ledger.last_requested_at(RECONCILE, source="branch", trigger="deep") is None


def taken_id(ledger: Ledger, walks: WalksOf | None) -> int | None:
    taken = ledger.take_job(NOW, walks)
    return None if taken is None else taken.id
