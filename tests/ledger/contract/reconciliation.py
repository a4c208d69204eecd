"""What every ledger promises to a walk through the platform's list; see `suite`."""

from datetime import timedelta

from bridge.ledger import Ledger
from bridge.lib.iso_times import stamp
from bridge.model.calls import Columns, Quarantined, Verdict, Via
from bridge.model.jobs import AUDIT, RECONCILE, JobState, WalksOf
from bridge.model.listing import MatchedRow, RowToFile
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    TO_CRM,
    arrival,
    call_keys,
    call_of,
    filed_all,
    judge_all,
    judgment,
    news,
    stray,
)
from tests.ledger.contract.arrangements import reopened
from tests.ledger.contract.place import LedgerPlace

HOUR = timedelta(hours=1)
DIGEST, OTHER_DIGEST = bytes(16), bytes(range(16))


def listed(key: str, *, at_minute: int = 0, gap: bool = True, digest: bytes = DIGEST) -> RowToFile:
    """A row of the list that is to be filed."""
    return RowToFile(arrival(key, via=Via.LIST, at=NOW + at_minute * MINUTE), digest, gap)


def walk(ledger: Ledger, kind: str = RECONCILE, **args: object) -> int:
    """A walk of the source "main" that has begun."""
    job_id = ledger.request_job(kind, {"source": "main", **args}, NOW)
    assert ledger.take_job(NOW, WalksOf("main", ["main"])) is not None
    return job_id


class ReconciliationContract:
    """Where listed rows belong, filling gaps, and how far the list was walked."""

    # -- where rows belong -----------------------------------------------------------
    def test_listed_row_matches_the_call_a_callback_would_file_under(self, ledger: Ledger) -> None:
        known = news(ledger, "a")
        waiting = call_of(ledger, arrival("b"))
        rows = [arrival("a"), arrival("b"), arrival("c"), stray(Quarantined.AMBIGUOUS, b"{}")]
        a, b, c, nowhere = ledger.match_rows("main", rows)
        assert (a.call_id, a.key, a.judged) == (known, "a", True)
        assert (b.call_id, b.judged) == (waiting, False)
        assert (c.call_id, c.key) == (None, "c")
        assert (nowhere.call_id, nowhere.trouble) == (None, Quarantined.AMBIGUOUS)
        assert ledger.match_rows("branch", [arrival("a")])[0].call_id is None
        assert call_keys(ledger, "main") == ["a", "b"], "nothing is written"

    def test_row_with_names_of_two_calls_is_a_conflict(self, ledger: Ledger) -> None:
        for key in ("a", "b"):
            news(ledger, key)
        (place,) = ledger.match_rows("main", [arrival("a", "b")])
        assert (place.call_id, place.trouble) == (None, Quarantined.IDENTITY_CONFLICT)

    def test_known_states_are_returned_for_judged_calls_only(self, ledger: Ledger) -> None:
        known = news(ledger, "a", name="张")
        waiting = call_of(ledger, arrival("b"))
        found = ledger.known_states([known, waiting, waiting + 1])
        assert set(found) == {known}
        assert found[known].values == {"uuid": "a", "name": "张"}

    # -- filling gaps ----------------------------------------------------------------
    def test_filled_gap_is_recognised_the_next_time(self, ledger: Ledger) -> None:
        mark = ledger.newest_receipt()
        (filed,) = ledger.fill("main", [listed("a")], mark)
        assert filed is not None
        assert filed.call_id is not None
        judge_all(ledger)
        (place,) = ledger.match_rows("main", [arrival("a")])
        assert (place.call_id, place.digest, place.stale) == (filed.call_id, DIGEST, False)
        assert place.newest == ledger.newest_receipt() > mark

    def test_call_changed_since_the_page_request_is_left_to_the_next_run(self, ledger: Ledger) -> None:
        mark = ledger.newest_receipt()
        news(ledger, "a")
        late, new = ledger.fill("main", [listed("a"), listed("b")], mark)
        assert late is None
        assert new is not None
        assert call_keys(ledger, "main") == ["a", "b"]
        assert ledger.counts().receipts == {"new": 1, "waiting": 1}

    def test_listed_row_is_remembered_until_its_call_changes(self, ledger: Ledger) -> None:
        call_id = news(ledger, "a")
        ledger.remember_listed([MatchedRow(call_id, ledger.newest_receipt(), True, OTHER_DIGEST)])
        (place,) = ledger.match_rows("main", [arrival("a")])
        assert (place.digest, place.stale) == (OTHER_DIGEST, True)
        news(ledger, "a", NOW + MINUTE, name="another")
        (place,) = ledger.match_rows("main", [arrival("a")])
        assert place.digest == b""

    # -- beside the list -------------------------------------------------------------
    def test_unlisted_calls_are_found_by_creation_with_their_explanation(self, ledger: Ledger) -> None:
        first, second = news(ledger, "a", user_sn="U1", is_deleted=1), news(ledger, "b", NOW + HOUR)
        assert ledger.calls_between("main", NOW, NOW + HOUR) == {first}
        assert ledger.calls_between("main", NOW, NOW + 2 * HOUR) == {first, second}
        assert ledger.calls_between("branch", NOW, NOW + 2 * HOUR) == set()
        one, other = ledger.unlisted([first, second], ["user_sn", "is_deleted"])
        assert (one.key, one.created_at) == ("a", NOW)
        assert one.said == {"user_sn": "U1", "is_deleted": 1}, "no field that was not asked for"
        assert (other.key, other.said, other.successor) == ("b", {}, None)

    def test_later_call_of_the_same_sn_is_the_successor(self, ledger: Ledger) -> None:
        ids = []
        for key, at in (("a", NOW), ("b", NOW + HOUR)):
            ids.append(call_of(ledger, arrival(key, at=at)))
            (pending,) = ledger.waiting(1)
            columns = Columns(sn="sn-1", created_at=stamp(at), started_at=stamp(at))
            ledger.judge([judgment(pending, columns=columns)], TO_CRM, NOW)
        assert [call.successor for call in ledger.unlisted(ids, ())] == ["b", None]

    def test_strays_are_the_quarantined_records(self, ledger: Ledger) -> None:
        records = [(Quarantined.UNIDENTIFIED, b'{"n": 1}'), (Quarantined.AMBIGUOUS, b'{"n": 2}')]
        filed_all(ledger, [stray(reason, body) for reason, body in records])
        filed_all(ledger, [stray(Quarantined.NOT_AN_OBJECT, b"no record")])
        dropped = next(row.id for row in ledger.list_quarantine(None, 9) if row.reason == "ambiguous")
        ledger.drop([dropped])
        assert sorted(ledger.quarantined_rows("main")) == [("dropped", b'{"n": 2}'), ("waiting", b'{"n": 1}')]
        assert ledger.quarantined_rows("branch") == []

    def test_standing_compares_a_windows_calls_with_the_listed_rows(self, ledger: Ledger) -> None:
        shown, hidden = news(ledger, "a"), news(ledger, "b")
        elsewhere = news(ledger, "later", NOW + 9 * HOUR)
        news(ledger, "came since", NOW + MINUTE)
        filed_all(ledger, [stray(Quarantined.UNIDENTIFIED, b'{"n": 1}')])
        rows = [arrival("nobody's"), arrival("came since")]
        found = ledger.window_standing("main", (NOW, NOW + HOUR), {shown, elsewhere}, rows, ["crm"])
        (came,) = found.known
        assert found.unknown == [0]
        assert (found.listed, sorted(found.unlisted), found.ledger) == (2, [hidden], 4)
        assert found.quarantined == [("waiting", b'{"n": 1}')]
        assert ledger.known_states([came])[came].values["uuid"] == "came since"
        crm = found.destinations["crm"]
        assert (crm.ledger, crm.under_way) == (4, 4)

    # -- how far ---------------------------------------------------------------------
    def test_finished_windows_are_kept_until_the_run_ends(self, ledger: Ledger, place: LedgerPlace) -> None:
        job_id = walk(ledger)
        windows = [((NOW, NOW + HOUR), {"seen": 1}), ((NOW - HOUR, NOW), {"seen": 2})]
        for window, result in windows:
            ledger.finish_window(job_id, window, result, {"at": stamp(window[1])})
        again = reopened(ledger, place)
        assert again.finished_windows(job_id) == [(*window, result) for window, result in reversed(windows)]
        assert again.job(job_id).progress == {"at": stamp(NOW)}
        again.end_job(job_id, JobState.DONE, {}, NOW)
        assert again.finished_windows(job_id) == []
        again.close()

    def test_coverage_only_moves_forward_and_names_its_last_reconciliation(self, ledger: Ledger) -> None:
        assert ledger.coverage("main", NOW, NOW).covered_until is None
        expected = [(NOW, NOW), (NOW - HOUR, NOW), (None, NOW), (NOW + HOUR, NOW + HOUR)]
        for until, covered in expected:
            job_id = walk(ledger)
            ledger.end_job(job_id, JobState.DONE, {}, NOW + 2 * HOUR, covered_until=until)
            found = ledger.coverage("main", NOW, NOW)
            assert (found.covered_until, found.job_id) == (covered, job_id)

    def test_audit_or_dry_run_is_no_reconciliation(self, ledger: Ledger) -> None:
        for kind, args in ((AUDIT, {}), (RECONCILE, {"dry_run": True})):
            job_id = walk(ledger, kind, **args)
            ledger.end_job(job_id, JobState.DONE, {}, NOW, covered_until=NOW)
            assert ledger.job(job_id).state == JobState.DONE
            assert ledger.coverage("main", NOW, NOW).job_id is None

    def test_coverage_counts_a_windows_calls_and_its_gaps(self, ledger: Ledger) -> None:
        news(ledger, "a")
        ledger.fill("main", [listed("b"), listed("c", gap=False)], ledger.newest_receipt())
        while waiting := ledger.waiting(1):
            ledger.judge([judgment(waiting[0], Verdict.NEW)], TO_CRM, NOW)
        found = ledger.coverage("main", NOW - HOUR, NOW + HOUR)
        assert (found.calls, found.gaps) == (3, 1)
        assert ledger.coverage("main", NOW + HOUR, NOW + 2 * HOUR).gaps == 0
