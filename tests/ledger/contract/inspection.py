"""What every ledger promises to those who look at it; see `suite`."""

from datetime import UTC, datetime, timedelta

from bridge.ledger import Ledger, Window
from bridge.lib.iso_times import stamp
from bridge.model.calls import Columns, Quarantined
from bridge.model.deliveries import DeliveryState, Settlement
from tests.fixtures.ledger_calls import (
    ALWAYS,
    MINUTE,
    NOW,
    TO_CRM,
    arrival,
    balance,
    filed_all,
    judge_all,
    judgment,
    leased,
    news,
    settle,
    stray,
    uuid,
)
from tests.ledger.contract.arrangements import BOTH


class InspectionContract:
    """Balances, counts, lists of calls and deliveries."""

    def test_balance_counts_calls_by_time_of_creation(self, ledger: Ledger) -> None:
        for hours in range(4):
            news(ledger, f"call-{hours}", NOW + timedelta(hours=hours))
        filed_all(ledger, [arrival("elsewhere", source="branch")])
        one, three = NOW + timedelta(hours=1), NOW + timedelta(hours=3)
        assert balance(ledger, window=Window(one, three)) == {"ledger": 2, "under_way": 2}
        assert balance(ledger, window=Window(three)) == {"ledger": 1, "under_way": 1}
        assert balance(ledger, window=Window(None, one)) == {"ledger": 1, "under_way": 1}
        assert balance(ledger, sources=("main", "branch")) == {"ledger": 5, "under_way": 5}
        assert balance(ledger, sources=()) == {}
        assert ledger.source_counts("main", Window(one, three)).ledger == 2
        assert ledger.source_counts("branch", ALWAYS).ledger == 1
        assert ledger.first_call_at() == NOW
        assert ledger.first_call_at("nowhere") is None

    def test_calls_are_found_by_name_phone_and_sn(self, ledger: Ledger) -> None:
        for number in range(3):
            filed_all(ledger, [arrival(uuid(number), f"base-{number}", at=NOW + number * MINUTE)])
            (pending,) = ledger.waiting(1)
            created_at = stamp(datetime(2025, 4, 14 - number, tzinfo=UTC))
            columns = Columns(sn=f"sn-{number % 2}", phone=f"+861589977063{number}", created_at=created_at)
            ledger.judge([judgment(pending, columns=columns)], TO_CRM, NOW)

        def found(*words: str, limit: int = 10) -> list[str]:
            return [row.key for row in ledger.list_calls(words, limit)]

        assert found() == [uuid(0), uuid(1), uuid(2)]
        assert found(limit=2) == [uuid(0), uuid(1)]
        assert found("base-1") == found(uuid(1)) == found("+8615899770631") == [uuid(1)]
        assert found("sn-0") == [uuid(0), uuid(2)]
        assert found("sn-1", uuid(2), "base-2") == [uuid(1), uuid(2)]
        assert found("nothing") == []
        row = ledger.list_calls([uuid(1)], 10)[0]
        assert (row.phone, row.sn, row.revision) == ("+8615899770631", "sn-1", 1)
        assert row.deliveries == {"crm": "due"}
        assert row.created_at == datetime(2025, 4, 13, tzinfo=UTC)

    def test_deliveries_are_listed_newest_change_first(self, ledger: Ledger) -> None:
        for minutes, name in enumerate(("a", "b", "c")):
            news(ledger, name, NOW + minutes * MINUTE, BOTH if name == "b" else TO_CRM)
        settle(ledger, leased(ledger), Settlement(DeliveryState.PARKED, "why"), NOW, NOW + 9 * MINUTE)

        def found(state: str | None = None, to: str | None = None, limit: int = 9) -> list[tuple[str, str]]:
            return [(row.key, row.destination) for row in ledger.list_deliveries(state, to, limit)]

        assert found() == [("a", "crm"), ("c", "crm"), ("b", "other"), ("b", "crm")]
        assert found("parked") == [("a", "crm")]
        assert found("due", "crm") == [("c", "crm"), ("b", "crm")]
        assert found(None, "other") == [("b", "other")]
        assert found(limit=1) == [("a", "crm")]

    def test_counts_cover_everything(self, ledger: Ledger) -> None:
        ledger.start_destinations(BOTH, NOW)
        news(ledger, "a", NOW)
        news(ledger, "b", NOW + MINUTE)
        settle(ledger, leased(ledger), Settlement(DeliveryState.PARKED, "why", "HTTP 400"), NOW, NOW)
        filed_all(ledger, [stray(Quarantined.NOT_AN_OBJECT, b"x"), arrival("c", at=NOW + 5 * MINUTE)])
        found = ledger.counts()
        assert found.calls == {"main": 3}
        assert found.receipts == {"new": 2, "waiting": 1}
        assert found.quarantined == {"not_an_object": 1}
        nothing = dict.fromkeys(DeliveryState, 0)
        assert found.deliveries == {"crm": nothing | {"due": 1, "parked": 1}, "other": nothing}
        (parked,) = found.parked
        assert (parked.destination, parked.cause, parked.count) == ("crm", "HTTP 400", 1)
        assert found.oldest_owed_at == NOW + MINUTE
        assert found.last_received_at == NOW + 5 * MINUTE
        judge_all(ledger)
        assert ledger.counts().receipts == {"new": 3}
        assert ledger.writable()

    def test_undamaged_ledger_reports_no_losses(self, ledger: Ledger) -> None:
        news(ledger, "a")
        assert ledger.losses() == []
