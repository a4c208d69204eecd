"""What every ledger promises about its own size, copies and health; see `suite`."""

from pathlib import Path

import pytest

from bridge.ledger import Ledger
from bridge.lib.errors import LedgerBusy, LedgerUnusable
from bridge.model.calls import Verdict
from bridge.model.deliveries import Lane
from tests.fixtures.ledger_calls import (
    MINUTE,
    NOW,
    SOURCES,
    TO_CRM,
    arrival,
    call_keys,
    filed_all,
    judgment,
    leased,
    news,
)
from tests.ledger.contract.place import LedgerPlace


def duplicates(ledger: Ledger, count: int) -> None:
    """A call, and so many records that say nothing new of it."""
    news(ledger, "a")
    for _ in range(count):
        filed_all(ledger, [arrival("a")])
        (pending,) = ledger.waiting(1)
        ledger.judge([judgment(pending, Verdict.DUPLICATE)], TO_CRM, NOW)


class UpkeepContract:
    """Pruning, copying, lanes, and whether it can commit."""

    def test_overdue_delivery_leaves_the_live_lane(self, ledger: Ledger) -> None:
        news(ledger, "old", NOW)
        news(ledger, "new", NOW + 20 * MINUTE)
        assert ledger.demote(["crm", "other"], NOW + 10 * MINUTE) == 1
        assert ledger.demote(["crm"], NOW + 10 * MINUTE) == 0
        owed = ledger.counts().owed["crm"]
        assert (owed.count, owed.lanes) == (2, {"live": 1, "retry": 1, "backfill": 0})
        assert (owed.rate, owed.done_at) == (0.0, None)
        order = [leased(ledger, NOW + 20 * MINUTE) for _ in range(2)]
        assert [(lease.key, lease.lane) for lease in order] == [("new", Lane.LIVE), ("old", Lane.RETRY)]

    def test_prune_removes_older_rows_and_counts_them(self, ledger: Ledger) -> None:
        duplicates(ledger, 3)
        news(ledger, "b", NOW + MINUTE)
        paused: list[float] = []

        def pause(seconds: float) -> bool:
            paused.append(seconds)
            return True

        assert ledger.prune("duplicates", NOW, pause) == 0
        assert ledger.counts().receipts == {"new": 2, "duplicate": 3}
        assert ledger.prune("duplicates", NOW + MINUTE, pause) == 3
        assert ledger.counts().receipts["new"] == 2
        assert call_keys(ledger, "main") == ["a", "b"]
        assert paused
        assert all(seconds >= 0 for seconds in paused)

    def test_prune_stops_when_told_to(self, ledger: Ledger) -> None:
        duplicates(ledger, 1)
        asked: list[float] = []

        def refuse(seconds: float) -> bool:
            asked.append(seconds)
            return False

        ledger.prune("duplicates", NOW + MINUTE, refuse)
        assert len(asked) == 1

    def test_backup_is_opened_and_its_calls_counted(self, ledger: Ledger, tmp_path: Path) -> None:
        for key in ("a", "b"):
            news(ledger, key)
        copied = ledger.backup(tmp_path / "copy", lambda: True)
        assert copied.calls == 2
        assert copied.bytes == (tmp_path / "copy").stat().st_size > 0

    def test_cancelled_backup_leaves_nothing_behind(self, ledger: Ledger, tmp_path: Path) -> None:
        news(ledger, "a")
        with pytest.raises(LedgerBusy):
            ledger.backup(tmp_path / "copy", lambda: False)
        assert not (tmp_path / "copy").exists()

    def test_no_dictionary_is_trained_from_a_few_records(self, ledger: Ledger) -> None:
        news(ledger, "a")
        assert not ledger.retrain(NOW)
        assert ledger.repack(lambda _: True) == 0

    def test_records_are_the_same_once_they_are_packed_smaller(self, ledger: Ledger) -> None:
        call_ids = [news(ledger, key) for key in ("a", "b")]
        before = [ledger.show_call(call_id) for call_id in call_ids]
        ledger.pack_smaller(lambda _: True)
        assert [ledger.show_call(call_id) for call_id in call_ids] == before
        assert ledger.pack_smaller(lambda _: True) == 0

    def test_free_space_is_given_in_bytes(self, ledger: Ledger) -> None:
        news(ledger, "a")
        found = ledger.space()
        assert found.ledger_bytes > 0
        assert found.free_bytes > 0
        assert found.floor_bytes >= 0

    def test_read_only_ledger_writes_nothing(self, ledger: Ledger, place: LedgerPlace) -> None:
        news(ledger, "a")
        reader = place.open_to_read()
        assert call_keys(reader, "main") == ["a"]
        with pytest.raises(LedgerUnusable):
            reader.submit([arrival("b")])
        with pytest.raises(LedgerUnusable):
            reader.lease(["crm"], SOURCES, NOW, 1)
        reader.close()
        assert call_keys(ledger, "main") == ["a"]

    def test_opening_a_missing_ledger_to_read_is_an_error(self, tmp_path: Path) -> None:
        folder = tmp_path / "empty"
        folder.mkdir()
        with pytest.raises(LedgerUnusable):
            self.new_place(folder).open_to_read()

    def test_submitted_work_is_stored_when_the_ledger_closes(
        self, ledger: Ledger, place: LedgerPlace
    ) -> None:
        waiting = [ledger.submit([arrival(f"a{number}")]) for number in range(9)]
        ledger.close()
        assert all(future.done() for future in waiting)
        again = place.open()
        assert len(call_keys(again, "main")) == 9
        assert again.writable()
        again.close()

    def new_place(self, folder: Path) -> LedgerPlace:
        raise NotImplementedError
