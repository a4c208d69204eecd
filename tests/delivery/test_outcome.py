"""What an attempt's end means as a table: delivered, due again and when, or parked, and what is kept."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from bridge.crm.tokens import Tokens
from bridge.delivery.attempt import Attempt
from bridge.delivery.budget import Budget
from bridge.delivery.destination import Routes, SharedAccount
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.journal import DeliveryJournal
from bridge.delivery.outcome import OutcomeRules, without_secrets
from bridge.delivery.plan_sync import PlanSync
from bridge.delivery.poison_records import FAULTS, FAULTS_TO_BLAME, REMEDY, FaultCount, faults_of
from bridge.delivery.retry import RetryPolicy
from bridge.delivery.stages import MappedDelivery
from bridge.lib.clocks import Clocks
from bridge.lib.errors import (
    Deleted,
    DeliveryError,
    Duplicate,
    Gone,
    InDoubt,
    Permanent,
    StillRunning,
    Transient,
    Unsent,
)
from bridge.model.crm_objects import KnownObject, SyncedObject
from bridge.model.deliveries import DeliveryState, Lease, ParkKind, Settlement
from bridge.model.plan import Plan, PlannedObject
from bridge.model.sync_progress import Running, SyncMethod, SyncProgress
from tests.fixtures.delivery_bench import NOW
from tests.fixtures.delivery_simulation import DATA, destination_of
from tests.fixtures.small_crm import NoStore

RETRY = RetryPolicy(timedelta(seconds=10), timedelta(hours=1), timedelta(hours=2))
LAG = timedelta(seconds=30)
KEY = ("crm account", "contact", "+861")
CONTACT = PlannedObject("contact", "contact", {"phone": "+861"}, {})
SENT = {"contact": SyncProgress(Running(SyncMethod.CREATE, sent_at=NOW - timedelta(seconds=10)), key="+861")}
"""A create was sent ten seconds ago, and nobody knows what became of it."""
SEEN = {"contact": SyncProgress(Running(SyncMethod.CREATE, sent_at=NOW - timedelta(seconds=40)), key="+861")}
"""The same so long ago that a look-up shows it."""
LEASE = Lease(
    delivery_id=1,
    call_id=1,
    key="a",
    source="main",
    destination="crm",
    revision=1,
    attempt=1,
    owed_at=NOW,
    first_seen_at=NOW,
    values={},
)


def now() -> datetime:
    """The clock stands."""
    return NOW


class Middle(Random):
    """Jitter that changes nothing."""

    def random(self) -> float:
        return 0.5


class OutcomeBench:
    """Rules for one destination, and attempts that end as a test says."""

    def __init__(self, folder: Path) -> None:
        texts = [(DATA / name).read_text("utf-8") for name in ("connector.toml", "mapping.toml")]
        self._destination = destination_of(folder / "files", *texts)
        account = SharedAccount(Tokens("own", (), {}, NoStore(), now), Budget({}, now))
        self.successes = account.successes
        self.rules = OutcomeRules(
            Routes({}, {"crm": self._destination}, {self._destination.account.name: account}),
            RETRY,
            DoubtClock({"crm": LAG}, Clocks(now, now)),
            now,
            Middle(),
        )

    def attempt(self, error: Exception | None = None, lease: Lease = LEASE) -> Attempt:
        """An attempt that has ended, after one question."""
        plan = Plan((CONTACT,))
        journal = DeliveryJournal(lease, "crm account", plan, {}, [KEY])
        sync = PlanSync(self._destination.connector, journal, "event", now)
        prepared = MappedDelivery(lease, 1, plan, "event", [KEY])
        attempt = Attempt(prepared, journal, sync, sync.run(plan), faults_of(lease.progress, 1))
        attempt.began_at, attempt.questions = NOW, 1
        if isinstance(error, DeliveryError):
            attempt.error = error
        else:
            attempt.fault = error
        return attempt

    def of(self, error: Exception | None = None, **lease: Any) -> Settlement:
        """The settlement of an attempt that ended so; `lease` is what its lease has of its own."""
        return self.rules.settlement_of(self.attempt(error, structs.replace(LEASE, **lease)))


@pytest.fixture
def bench(tmp_path: Path) -> OutcomeBench:
    return OutcomeBench(tmp_path)


def in_seconds(settlement: Settlement) -> float | None:
    """When it is due again."""
    return None if settlement.due_at is None else (settlement.due_at - NOW).total_seconds()


def test_an_attempt_without_error_is_delivered_and_counts_as_a_success(bench: OutcomeBench) -> None:
    assert bench.of() == Settlement(DeliveryState.DELIVERED, account="crm account")
    assert (bench.successes.count, bench.successes.recovered) == (1, 0)


def test_attempt_without_requests_is_no_success_of_the_account(bench: OutcomeBench) -> None:
    attempt = bench.attempt()
    attempt.questions = 0
    assert bench.rules.settlement_of(attempt).state is DeliveryState.DELIVERED
    assert bench.successes.count == 0


DUE = [
    (Transient("x"), 1, 10),
    (Transient("x"), 3, 40),
    (Transient("x", retry_after=90), 1, 90),
    (Transient("x", blame="limit"), 20, 300),
    (Transient("x", blame="account"), 6, 300),
    (Transient("x", blame="record"), 6, 320),
    (Transient("x", blame="record"), 20, 3600),
    (Transient("x", blame="credentials"), 2, 20),
]


@pytest.mark.parametrize(("error", "attempt", "seconds"), DUE)
def test_transient_failure_is_due_again_by_the_retry_policy(
    bench: OutcomeBench, error: DeliveryError, attempt: int, seconds: float
) -> None:
    settled = bench.of(error, attempt=attempt)
    assert (settled.state, in_seconds(settled), settled.unsent) == (DeliveryState.DUE, seconds, False)
    assert (settled.reason, settled.remedy != "") == ("destination crm, x", True)


def test_doubt_does_not_shorten_the_wait_of_the_retry_policy(bench: OutcomeBench) -> None:
    settled = bench.of(Transient("x"), attempt=6, progress=SENT)
    assert (settled.state, in_seconds(settled)) == (DeliveryState.DUE, 320)


@pytest.mark.parametrize("error", [None, Permanent("x"), Transient("x")])
def test_synced_objects_are_settled_and_alterations_logged(
    bench: OutcomeBench, error: DeliveryError | None
) -> None:
    contact = SyncedObject("contact", "contact", "+861", KnownObject("7"), altered={"city": "spaces"})
    attempt = bench.attempt(error)
    attempt.sync._synced["contact"] = contact
    with capture_logs() as said:
        settled = bench.rules.settlement_of(attempt)
    assert settled.done == (contact,)
    assert [(one["event"], one["object"], one["field"], one["kind"]) for one in said] == [
        ("delivery.altered", "contact", "city", "spaces")
    ]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Unsent("x", retry_after=7), 7),
        (StillRunning("x", retry_after=7), 7),
        (Unsent("x"), 0),
        (StillRunning("x"), 0),
    ],
)
def test_waiting_for_limits_or_a_job_is_no_attempt(
    bench: OutcomeBench, error: DeliveryError, seconds: float
) -> None:
    settled = bench.of(error, attempt=9)
    assert (settled.state, in_seconds(settled), settled.unsent) == (DeliveryState.DUE, seconds, True)


@pytest.mark.parametrize(
    ("owed_for", "attempt", "parked"), [(120, 10, True), (120, 2, False), (119, 10, False)]
)
def test_endless_transient_failure_is_given_up(
    bench: OutcomeBench, owed_for: int, attempt: int, parked: bool
) -> None:
    settled = bench.of(Transient("x"), owed_at=NOW - timedelta(minutes=owed_for), attempt=attempt)
    assert (settled.state is DeliveryState.PARKED) is parked
    assert settled.reason.startswith("given up after 2:00:00: destination crm, x") is parked


PARKED = [
    (Permanent("x"), ParkKind.FAILED),
    (Gone("x"), ParkKind.FAILED),
    (Duplicate("x"), ParkKind.FAILED),
    (Deleted("x"), ParkKind.GONE),
    (InDoubt("x"), ParkKind.FAILED),
]


@pytest.mark.parametrize(("error", "kind"), PARKED)
def test_failure_that_would_repeat_is_parked(
    bench: OutcomeBench, error: DeliveryError, kind: ParkKind
) -> None:
    settled = bench.of(error)
    assert (settled.state, settled.park_kind, settled.due_at) == (DeliveryState.PARKED, kind, None)
    assert (settled.reason, settled.account, settled.held_keys) == ("destination crm, x", "crm account", ())


def test_lasting_doubt_is_parked_in_doubt_and_keeps_its_progress(bench: OutcomeBench) -> None:
    settled = bench.of(InDoubt("x"), progress=SENT)
    assert (settled.state, settled.park_kind) == (DeliveryState.PARKED, ParkKind.IN_DOUBT)
    assert settled.progress == SENT
    assert settled.reason.endswith("destination crm, x")


@pytest.mark.parametrize("error", [Permanent("x"), RuntimeError("ours")])
def test_parking_waits_with_its_keys_while_a_request_may_arrive(
    bench: OutcomeBench, error: Exception
) -> None:
    settled = bench.of(error, progress=SENT)
    assert (settled.state, in_seconds(settled)) == (DeliveryState.DUE, 20)
    assert settled.held_keys == (KEY,)
    assert settled.progress["contact"] == SENT["contact"]
    parked = bench.of(error, progress=SEEN)
    assert (parked.state, parked.park_kind) == (DeliveryState.PARKED, ParkKind.FAILED)
    assert (parked.held_keys, parked.progress) == ((), SEEN)


def test_retried_delivery_keeps_its_keys_only_while_in_doubt(bench: OutcomeBench) -> None:
    assert bench.of(Transient("x"), progress=SENT).held_keys == (KEY,)
    assert bench.of(Transient("x")).held_keys == ()


def test_internal_fault_is_parked_and_remembered_while_it_must_wait(bench: OutcomeBench) -> None:
    settled = bench.of(RuntimeError("of +8615899770637"))
    assert (settled.state, settled.cause) == (DeliveryState.PARKED, "a fault in callbridge")
    assert "15899770637" not in settled.reason
    waits = bench.of(RuntimeError("ours"), progress=SENT)
    faults = faults_of(waits.progress, 1)
    assert faults is not None
    assert (faults.count, faults.reason) == (0, waits.reason)


def test_record_that_alone_causes_account_faults_is_parked_at_the_third(
    bench: OutcomeBench,
) -> None:
    progress: Mapping[str, SyncProgress] = {}
    states = []
    for _ in range(FAULTS_TO_BLAME):
        bench.successes.note()
        error = Transient("x", blame="account")
        error.status = 500
        settled = bench.of(error, progress=progress)
        states.append(settled.state)
        progress = settled.progress
    assert states == [DeliveryState.DUE, DeliveryState.DUE, DeliveryState.PARKED]
    assert (settled.due_at, settled.remedy, FAULTS in progress) == (None, REMEDY, False)
    assert settled.cause.endswith("of this record only")
    assert settled.reason.startswith("destination crm, x. 3 times, while others were delivered in between")


def test_record_to_blame_is_parked_once_no_request_can_arrive(
    bench: OutcomeBench,
) -> None:
    error = Transient("x", blame="account")
    error.status = 500
    drawn = FaultCount("x", 1, bench.successes.process, FAULTS_TO_BLAME - 1)
    bench.successes.note()
    settled = bench.of(error, progress={**SENT, FAULTS: drawn.kept()})
    assert (settled.state, in_seconds(settled)) == (DeliveryState.DUE, 20)
    waits = faults_of(settled.progress, 1)
    assert waits is not None
    assert (waits.count, waits.reason) == (FAULTS_TO_BLAME, settled.reason)
    assert REMEDY in waits.reason


def test_success_after_faults_counts_as_a_recovery(bench: OutcomeBench) -> None:
    error = Transient("x", blame="account")
    error.status = 500
    progress = bench.of(error).progress
    assert FAULTS in progress
    assert bench.of(progress=progress).progress == {}
    assert (bench.successes.count, bench.successes.recovered) == (1, 1)


def test_fault_while_judging_the_outcome_keeps_the_doubt(
    bench: OutcomeBench,
) -> None:
    class Jammed(Random):
        def random(self) -> float:
            raise RuntimeError("jammed")

    rules = replace(bench.rules, rng=Jammed())
    settled = rules.settled(
        bench.attempt(Transient("x"), structs.replace(LEASE, progress=SENT)), str.upper
    ).settlement
    assert (settled.state, in_seconds(settled), settled.held_keys) == (DeliveryState.DUE, 20, (KEY,))
    assert settled.progress["contact"] == SENT["contact"]
    assert settled.reason == "A FAULT IN CALLBRIDGE: RUNTIMEERROR('JAMMED')"


@pytest.mark.parametrize(
    ("reason", "cause", "expected"),
    [("r", "c", ("R", "C")), ("r", "", ("R", "")), ("", "c", ("", "C")), ("", "", ("", ""))],
)
def test_reason_and_cause_of_an_attempt_are_masked(
    reason: str, cause: str, expected: tuple[str, str]
) -> None:
    kept = without_secrets(Settlement(DeliveryState.DUE, reason, cause), lambda text: text.upper() or "***")
    assert (kept.reason, kept.cause) == expected


def test_counted_faults_of_an_attempt_are_masked() -> None:
    progress = {**SENT, FAULTS: FaultCount("c", 1, "p", reason="r").kept()}
    kept = without_secrets(Settlement(DeliveryState.DUE, "r", "c", progress=progress), str.upper)
    assert kept.progress == {**SENT, FAULTS: FaultCount("C", 1, "p", reason="R").kept()}
