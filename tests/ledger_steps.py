"""Plain steps for the tests of a ledger: arrivals, judgments by hand, and the balance."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from bridge.ledger import Destinations, Ledger, Window
from bridge.model.calls import (
    Arrival,
    Columns,
    Filed,
    Judgment,
    Known,
    Lease,
    Pending,
    Quarantined,
    Verdict,
    Via,
    stamp,
)

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
_NUMBERS = count()
SOURCES = ("main", "branch")
TO_CRM: Destinations = {"main": ("crm",)}
ALWAYS = Window()


def uuid(number: int) -> str:
    return f"{number:08x}-18d6-11f0-88c8-2f2b0aba51d7"


def arrival(
    *names: str,
    payload: bytes | None = None,
    source: str = "main",
    via: Via = Via.CALLBACK,
    at: datetime = NOW,
) -> Arrival:
    """A record that was identified."""
    # Two records of one call differ, unless a test says otherwise.
    body = json.dumps({"uuid": names[0], "n": next(_NUMBERS)}).encode() if payload is None else payload
    return Arrival(source, via, at, body, names)


def stray(trouble: Quarantined, body: bytes, *, source: str = "main", at: datetime = NOW) -> Arrival:
    """A record that was not."""
    return Arrival(source, Via.CALLBACK, at, body, trouble=trouble, detail=f"because {trouble}")


def filed(ledger: Ledger, one: Arrival) -> Filed:
    (result,) = ledger.record([one])
    return result


def call_of(ledger: Ledger, one: Arrival) -> int:
    call_id = filed(ledger, one).call_id
    assert call_id is not None
    return call_id


def judgment(
    pending: Pending,
    verdict: Verdict | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    skip: Mapping[str, str] | None = None,
    columns: Columns | None = None,
) -> Judgment:
    """A verdict as the judge would hand it over: news takes the receipt's own record, or `values`."""
    verdict = verdict or (Verdict.NEW if pending.known is None else Verdict.REVISION)
    news = verdict in (Verdict.NEW, Verdict.REVISION)
    own = json.loads(pending.payload)
    before = pending.known or Known({}, {}, None, pending.via, 0)
    # A first record's digest is told only when a second one is compared with it.
    said = b"" if verdict is Verdict.NEW else f"{pending.receipt_id:016}".encode()
    state = before
    if news:
        taken = own if values is None else values
        state = replace(
            before,
            values=taken,
            stamps=dict.fromkeys(taken),
            revision=before.revision + 1,
            via=pending.via,
            history=before.history | ({said} if said else set()),
        )
    columns = columns or Columns(created_at=stamp(pending.received_at))
    return Judgment(
        receipt_id=pending.receipt_id,
        call_id=pending.call_id,
        source=pending.source,
        verdict=verdict,
        known=state,
        unchanged=not news,
        kept=news and values is None,
        digest=said if news else b"",
        columns=columns,
        called_at=columns.started_at or columns.created_at,
        stamp=None,
        skip=skip or {},
    )


def judge_all(
    ledger: Ledger,
    now: datetime = NOW,
    destinations: Destinations = TO_CRM,
    *,
    skip: Mapping[str, str] | None = None,
) -> None:
    """Every receipt that waits is news, one call after the other."""
    while waiting := ledger.waiting(1):
        ledger.judge([judgment(waiting[0], skip=skip)], destinations, now)


def news(
    ledger: Ledger,
    key: str,
    now: datetime = NOW,
    destinations: Destinations = TO_CRM,
    *,
    skip: Mapping[str, str] | None = None,
    **fields: Any,
) -> int:
    """A record of a call arrives and is judged news."""
    body = json.dumps({"uuid": key, **fields}).encode()
    call_id = call_of(ledger, arrival(key, payload=body, at=now))
    judge_all(ledger, now, destinations, skip=skip)
    return call_id


def leased(ledger: Ledger, now: datetime = NOW, destinations: Sequence[str] = ("crm",)) -> Lease:
    lease = ledger.lease(destinations, SOURCES, now)
    assert lease is not None
    return lease


def delivery(ledger: Ledger, call_id: int, destination: str = "crm") -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [row for row in ledger.show_call(call_id)["deliveries"] if row["destination"] == destination]
    return found


def balance(
    ledger: Ledger, destination: str = "crm", sources: Sequence[str] = ("main",), window: Window = ALWAYS
) -> dict[str, int]:
    """What is not zero, after the equation was checked."""
    found = ledger.balance(destination, sources, window)
    assert set(found) == {"ledger", "delivered", "skipped", "parked", "under_way"}
    parts = found["delivered"] + found["skipped"] + found["parked"] + found["under_way"]
    assert found["ledger"] == parts, found
    return {name: count for name, count in found.items() if count}
