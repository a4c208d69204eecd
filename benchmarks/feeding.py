"""Takes calls through a ledger as the daemon does, without its HTTP, many times as fast."""

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.packing import pack_what_waits
from benchmarks.texts import Record, spaced
from bridge.intake.judge import Judge
from bridge.intake.new_calls import SourceRules
from bridge.ledger import EndedAttempt
from bridge.ledger.sqlite import SqliteLedger, leasing, settle
from bridge.ledger.sqlite.connection import connect
from bridge.model.calls import Via
from bridge.model.crm_objects import FieldWrite, KnownObject, SyncedObject
from bridge.model.deliveries import DeliveryState, Lease, Settlement
from bridge.model.field_digests import SHORT_SIZE
from bridge.record.arrival import arrival_of
from tests.fixtures.ledger_calls import filed_all
from tests.fixtures.origins import MAIN

BATCH = 200

ROUTES = {"main": ("crm",)}

ACCOUNT = "sandbox http://127.0.0.1:8490"
# What the starting mapping writes to a contact: the ledger keeps who last wrote each.
CONTACT_FIELDS = ("name", "company", "area", "grade", "interest", "tags")
# The fields of a call that the sandbox's mapping fills as a rule.
_FILLED = (
    *("phone", "direction", "grade", "score", "tags", "started_at", "connected_at", "ended_at"),
    *("talk_seconds", "answered", "hangup_by", "task", "agent", "transcript"),
)


@dataclass
class Feeder:
    """Takes calls through a ledger as the daemon does: filed, judged, leased and settled in groups."""

    path: Path
    learns: bool = True
    ledger: SqliteLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = SqliteLedger(self.path, create=True)
        self.ledger.start_destinations(ROUTES, datetime.now(UTC))
        rules = SourceRules(MAIN, ROUTES["main"], frozenset({"grade", "name", "phone", "talk_info"}))
        self._judge = Judge(self.ledger, {"main": rules}, destinations_since={})
        self._writer = connect(self.path)
        self._rng = random.Random(5)  # noqa: S311 -- how deliveries fare, no secret

    def feed(self, records: Iterable[Record]) -> None:
        """Calls as callbacks, to their deliveries' end."""
        rest = iter(records)
        while batch := list(itertools.islice(rest, BATCH)):
            now = datetime.now(UTC)
            arrivals = [arrival_of(MAIN, Via.CALLBACK, spaced(record), now) for record in batch]
            filed_all(self.ledger, arrivals)
            while self._judge.judge_waiting(now):
                pass
            self._deliver({str(record["uuid"]): str(record["phone"]) for record in batch})
            # As the daemon's upkeep does: records are packed small soon, not once all are there, when a newer
            # dictionary would pack them better; and a dictionary of its own is made at each tenfold of calls.
            pack_what_waits(self.ledger)
            if self.learns:
                self.ledger.retrain(now)

    def _deliver(self, phones: dict[str, str]) -> None:
        """What the delivery workers leave behind, without their HTTP."""
        now = datetime.now(UTC)
        self._writer.execute("BEGIN IMMEDIATE")
        wish = leasing.Wish(ROUTES["main"], ("main",), now, 1)
        while taken := leasing.lease_due(self._writer, wish):
            row = taken[0].row
            ended = now + timedelta(milliseconds=self._rng.randrange(20, 400))
            lease = Lease(
                delivery_id=row["id"],
                call_id=row["call_id"],
                key=row["key"],
                source=row["source"],
                destination=row["destination"],
                revision=row["wanted"],
                attempt=row["tries"] + 1,
                owed_at=now,
                first_seen_at=now,
                values={},
            )
            settle.settle_all(
                self._writer, [EndedAttempt(lease, self._outcome(lease, phones, now), now)], ended
            )
        self._writer.execute("COMMIT")

    def _outcome(self, lease: Lease, phones: dict[str, str], now: datetime) -> Settlement:
        """Delivered to contact and call; a few are skipped by a rule, a few need a second attempt."""
        chance = self._rng.random()
        if chance < 0.03:
            return Settlement(DeliveryState.SKIPPED, "no voice tests")
        if chance < 0.06 and lease.attempt == 1:
            reason = "destination crm, PUT /contacts: 429 Too Many Requests, asks to wait 1.0 s"
            return Settlement(DeliveryState.DUE, reason, "rate limited", now)
        event = f"{round(now.timestamp() * 1000):011x} {lease.key[:16]}"
        last_writes = {name: FieldWrite(event, self._rng.randbytes(8)) for name in CONTACT_FIELDS}
        contact_id, call_id = (f"{self._rng.randrange(10**11):011d}" for _ in range(2))
        contact = SyncedObject(
            "contact",
            "contact",
            f"+86{phones[lease.key]}",
            KnownObject(contact_id, self._rng.randbytes(8), last_writes=last_writes),
        )
        call = SyncedObject(
            "call",
            "call",
            lease.key,
            KnownObject(
                call_id,
                self._rng.randbytes(8),
                {"contact": contact_id},
                {name: self._sent() for name in _FILLED},
            ),
            shared=False,
        )
        return Settlement(DeliveryState.DELIVERED, account=ACCOUNT, done=(contact, call))

    def _sent(self) -> FieldWrite:
        return FieldWrite("", self._rng.randbytes(SHORT_SIZE))

    def size(self) -> int:
        """Bytes of the file once all of the log is in it, without free pages."""
        self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        free, page = (
            int(self._writer.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("freelist_count", "page_size")
        )
        return self.path.stat().st_size - free * page

    def close(self) -> None:
        self._writer.close()
        self.ledger.close()
