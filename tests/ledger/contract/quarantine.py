"""What every ledger promises about quarantine; see `suite`."""

from bridge.ledger import Ledger
from bridge.model.calls import Quarantined
from tests.fixtures.ledger_calls import MINUTE, NOW, arrival, call_keys, filed_all, stray


def put_by(ledger: Ledger, body: bytes, minute: int = 0) -> int:
    """A record that belongs to no call; its entry."""
    filed_all(ledger, [stray(Quarantined.UNIDENTIFIED, body, at=NOW + minute * MINUTE)])
    return int(ledger.list_quarantine("waiting", 1)[0].id)


class QuarantineContract:
    """What belongs to no call, and its ways out."""

    def test_an_entry_is_shown_with_its_record(self, ledger: Ledger) -> None:
        first, second = put_by(ledger, b'{"n": 1}'), put_by(ledger, b'{"n": 2}', 1)
        assert [row.id for row in ledger.list_quarantine("waiting", 9)] == [second, first]
        assert [row.id for row in ledger.list_quarantine(None, 1)] == [second]
        shown = ledger.show_quarantine(first)
        assert shown is not None
        assert (shown.body, shown.source, shown.via) == (b'{"n": 1}', "main", "callback")
        assert (shown.reason, shown.state) == ("unidentified", "waiting")
        assert shown.detail == "because unidentified"
        assert ledger.show_quarantine(second + 1) is None

    def test_entry_that_now_has_a_call_is_released(self, ledger: Ledger) -> None:
        entry = put_by(ledger, b'{"n": 1}')
        assert ledger.refile(entry, [arrival("a")])
        assert call_keys(ledger, "main") == ["a"]
        assert ledger.counts().quarantined == {}
        assert [row.id for row in ledger.list_quarantine("released", 9)] == [entry]

    def test_entry_still_without_a_call_waits_on_once(self, ledger: Ledger) -> None:
        entry = put_by(ledger, b'{"n": 1}')
        assert not ledger.refile(entry, [stray(Quarantined.UNIDENTIFIED, b'{"n": 1}')])
        assert [row.id for row in ledger.list_quarantine(None, 9)] == [entry]
        assert ledger.counts().quarantined == {"unidentified": 1}

    def test_only_waiting_entries_can_be_dropped(self, ledger: Ledger) -> None:
        entries = [put_by(ledger, f'{{"n": {number}}}'.encode(), number) for number in range(3)]
        assert ledger.refile(entries[0], [arrival("a")])
        assert ledger.drop(entries[:2]) == 1
        assert ledger.drop(entries[:2]) == 0
        assert [row.id for row in ledger.list_quarantine("dropped", 9)] == [entries[1]]
        assert [row.id for row in ledger.list_quarantine("waiting", 9)] == [entries[2]]
