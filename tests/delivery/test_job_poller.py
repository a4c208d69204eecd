"""Jobs of a CRM: submitted once, asked for until they have ended, never submitted again while they run."""

import random
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.check.redact import RedactingRenderer
from bridge.check.rehearsal import Rehearsal, Scene
from bridge.crm.account import Account
from bridge.crm.connector import Connector
from bridge.delivery.budget import Budget
from bridge.delivery.destination import Routes
from bridge.delivery.doubt_clock import DoubtClock
from bridge.delivery.outcome import OutcomeRules, without_secrets
from bridge.delivery.retry import RetryPolicy
from bridge.lib.clocks import Clocks
from bridge.lib.errors import ConfigError, StillRunning
from bridge.lib.masking import Masking
from bridge.model.deliveries import DeliveryState, Lane, Settlement
from bridge.model.plan import Plan
from tests.fixtures.small_crm import (
    HANG_UP,
    NOW,
    Clock,
    Crash,
    Seen,
    Server,
    ServerAnswer,
    SyncBench,
    connector_of,
    planned,
    serving,
)

JOBS = """
name = "own"
[objects.contact]
key = ["phone"]
[[objects.contact.find]]
path = "/contacts"
query = { phone = "{{ key.phone }}" }
hits = "items"
[objects.contact.create]
path = "/jobs"
json = { phone = "{{ key.phone }}", fields = "{{ fields }}" }
capture = { job = "job" }
[objects.contact.create.poll]
path = "/jobs/{{ captured.job }}"
until = "{{ body.state == 'done' }}"
failed = "{{ body.state == 'failed' }}"
reason = "error"
wait = "7s"
longest = "10m"
id = "contact"
[objects.contact.update]
method = "PATCH"
path = "/contacts/{{ id }}"
json = "{{ fields }}"
capture = { job = "job" }
[objects.contact.update.poll]
path = "/jobs/{{ captured.job }}"
until = "{{ body.state == 'done' }}"
longest = "10m"
"""


class JobCrm:
    """Takes everything as a job, which ends after so many seconds."""

    def __init__(self, server: Server, clock: Clock, takes: float = 20.0) -> None:
        self.contacts: dict[str, dict[str, Any]] = {}
        self.jobs: list[tuple[float, str, dict[str, Any]]] = []
        self.takes = takes
        self.fails: str | None = None
        self.forgets = False
        self.script: list[tuple[str, ServerAnswer | str]] = []
        self._clock = clock
        server.answer = self.answer

    def work(self) -> None:
        """What jobs have ended by now has its effect."""
        for at, phone, fields in self.jobs:
            if self._clock.now.timestamp() >= at and self.fails is None:
                self.contacts.setdefault(phone, {"id": f"c{len(self.contacts)}", "phone": phone}).update(
                    fields
                )

    def answer(self, seen: Seen) -> ServerAnswer:
        self.work()
        request = f"{seen.method} {seen.path}"
        if self.script and request.startswith(self.script[0][0]):
            wrong = self.script.pop(0)[1]
            if wrong != "lost":
                assert not isinstance(wrong, str)
                return wrong
            self._carry_out(seen)
            return HANG_UP
        return self._carry_out(seen)

    def _carry_out(self, seen: Seen) -> ServerAnswer:
        if seen.method == "GET" and seen.path.startswith("/jobs/"):
            return self._job(int(seen.path.rpartition("/")[2]))
        if seen.method == "GET":
            phone = seen.query["phone"]
            return 200, {"items": [self.contacts[phone]] if phone in self.contacts else []}, {}
        if seen.method == "PATCH":
            [contact] = [each for each in self.contacts.values() if seen.path.endswith(each["id"])]
            return self._begin(contact["phone"], seen.json)
        return self._begin(seen.json["phone"], seen.json["fields"])

    def _begin(self, phone: str, fields: dict[str, Any]) -> ServerAnswer:
        self.jobs.append((self._clock.now.timestamp() + self.takes, phone, fields))
        return 202, {"job": len(self.jobs) - 1}, {}

    def _job(self, number: int) -> ServerAnswer:
        at, phone, _ = self.jobs[number]
        if self.forgets:
            return 404, {"error": "no such job"}, {}
        if self._clock.now.timestamp() < at:
            return 200, {"state": "running"}, {}
        if self.fails is not None:
            return 200, {"state": "failed", "error": self.fails}, {}
        return 200, {"state": "done", "contact": self.contacts[phone]["id"]}, {}


PHONE = "+8613800000001"


def contact(**fields: Any) -> Any:
    return planned("contact", {"phone": PHONE}, fields or {"name": "李"})


class Desk:
    """A bench with a CRM of jobs."""

    def __init__(self, folder: Path, server: Server, connector: str = JOBS) -> None:
        self.bench = SyncBench(folder / "ledger.db", connector, server)
        self.crm = JobCrm(server, self.bench.clock)
        self.server = server

    def close(self) -> None:
        self.bench.close()

    def until_done(self, **fields: Any) -> list[str]:
        """Deliver as often as it takes, each time when it asks for; how the tries ended."""
        ends = []
        for _ in range(200):
            ends.append(self.bench.deliver(contact(**fields)))
            if ends[-1] in ("delivered", "JobFailed", "InDoubt", "JobUnknown"):
                return ends
            self.bench.clock.tick(self.bench.wait or 1.0)
        raise AssertionError(ends)

    @property
    def submitted(self) -> int:
        return len(self.crm.jobs)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with serving() as server, closing(Desk(tmp_path, server)) as desk:
        yield desk


def test_job_is_submitted_once_and_polled_until_it_ends(desk: Desk) -> None:
    assert desk.until_done() == ["StillRunning", "StillRunning", "StillRunning", "delivered"]
    assert desk.server.told() == ["GET /contacts", "POST /jobs", *["GET /jobs/0"] * 4]
    assert desk.crm.contacts[PHONE]["name"] == "李"
    assert not desk.bench.in_doubt
    assert desk.bench.deliver(contact()) == "delivered"
    assert desk.server.told() == []


def test_running_job_keeps_its_deliverys_locks_and_is_no_failure(desk: Desk) -> None:
    assert desk.bench.deliver(contact()) == "StillRunning"
    assert desk.bench.in_doubt
    assert desk.bench.wait == 7.0


def test_job_is_polled_on_after_a_crash_and_restart(desk: Desk) -> None:
    desk.bench.crash_after = 2  # the look-up and the submit are answered; the first poll is not read
    with pytest.raises(Crash):
        desk.bench.deliver(contact())
    desk.bench.restart()
    assert desk.until_done()[-1] == "delivered"
    assert desk.submitted == 1


def test_lost_submit_is_looked_up_and_not_resent_while_its_job_may_run(
    desk: Desk,
) -> None:
    desk.crm.script = [("POST /jobs", "lost")]
    assert desk.until_done()[-1] == "delivered"
    told = desk.server.told()
    assert told.count("POST /jobs") == 1
    assert told.index("PATCH /contacts/c0") > told.index("GET /contacts")
    assert list(desk.crm.contacts) == [PHONE]


def test_submit_that_never_arrived_is_resent_once_no_job_can_run(desk: Desk) -> None:
    desk.crm.script = [("POST /jobs", HANG_UP)]
    began = desk.bench.clock.now
    assert desk.until_done()[-1] == "delivered"
    assert desk.submitted == 1
    assert (desk.bench.clock.now - began).total_seconds() >= 600


def test_lost_poll_is_repeated_without_another_submit(desk: Desk) -> None:
    desk.crm.script = [("GET /jobs", HANG_UP), ("GET /jobs", (503, {}, {})), ("GET /jobs", (429, {}, {}))]
    assert desk.until_done()[-1] == "delivered"
    assert desk.submitted == 1


def test_failed_job_parks_with_the_crms_reason_and_retry_submits_anew(desk: Desk) -> None:
    desk.crm.fails = "quota of 13900001111 contacts is reached"
    assert desk.until_done()[-1] == "JobFailed"
    assert "the job failed: quota of" in str(desk.bench.error)
    assert "13900001111" not in str(desk.bench.error)
    assert not desk.bench.in_doubt
    desk.crm.fails, desk.crm.jobs = None, []
    assert desk.until_done()[-1] == "delivered"
    assert desk.submitted == 1


def test_finished_job_without_an_id_is_looked_up_by_key(desk: Desk) -> None:
    assert desk.bench.deliver(contact()) == "StillRunning"
    desk.bench.clock.tick(20)
    desk.crm.script = [("GET /jobs", (200, {"state": "done"}, {}))]
    assert desk.until_done()[-1] == "delivered"
    assert desk.server.told().count("POST /jobs") == 1


def test_job_forgotten_by_the_crm_is_looked_up_by_key(desk: Desk) -> None:
    assert desk.bench.deliver(contact()) == "StillRunning"
    desk.crm.forgets = True
    desk.bench.clock.tick(5)
    assert desk.bench.deliver(contact()) == "Transient"
    assert desk.bench.in_doubt
    assert desk.bench.deliver(contact()) == "StillRunning"
    assert desk.submitted == 1
    desk.bench.clock.tick(30)
    desk.crm.forgets = False
    assert desk.until_done()[-1] == "delivered"
    assert desk.server.told().count("POST /jobs") == 1


def test_job_running_too_long_is_parked_in_doubt_and_not_resent(desk: Desk) -> None:
    desk.crm.takes = 1e9
    assert desk.until_done()[-1] == "InDoubt"
    assert "longer than any should" in str(desk.bench.error)
    assert desk.bench.deliver(contact()) == "InDoubt"
    assert desk.submitted == 1


def test_update_job_ends_before_a_newer_state_is_sent(desk: Desk) -> None:
    assert desk.until_done(name="李")[-1] == "delivered"
    assert desk.bench.deliver(contact(name="王")) == "StillRunning"
    assert desk.until_done(name="张")[-1] == "delivered"
    assert desk.crm.contacts[PHONE]["name"] == "张"
    assert [fields["name"] for _, _, fields in desk.crm.jobs] == ["李", "王", "张"]


def test_lost_update_is_repeated_only_after_its_job_must_have_ended(desk: Desk) -> None:
    assert desk.until_done(name="李")[-1] == "delivered"
    desk.crm.script = [("PATCH", "lost")]
    began = desk.bench.clock.now
    assert desk.until_done(name="王")[-1] == "delivered"
    assert (desk.bench.clock.now - began).total_seconds() >= 600
    assert [fields["name"] for _, _, fields in desk.crm.jobs] == ["李", "王", "王"]


def test_poll_wait_may_be_an_expression_and_is_bounded(tmp_path: Path) -> None:
    text = JOBS.replace('wait = "7s"', "wait = \"{{ headers['retry-after'] }}\"")
    with serving() as server, closing(Desk(tmp_path, server, text)) as desk:
        whole = desk.crm.answer
        for said, wait in (("12", 12.0), ("0", 1.0), ("1e9", 3600.0), ("soon", 1.0), ("nan", 1.0)):
            server.answer = lambda seen, said=said: (*whole(seen)[:2], {"Retry-After": said})  # type: ignore[misc]
            assert desk.bench.deliver(contact()) == "StillRunning"
            assert desk.bench.wait == wait


def test_polls_count_in_their_own_limit_class() -> None:
    connector = connector_of(JOBS)
    poll = connector.objects["contact"].create[0].poll
    assert poll is not None
    assert poll.request.limit == "poll"
    budget = Budget(connector.file.limits, Clock())
    for _ in range(5):
        budget.refused("poll", 60.0)
    assert budget.reserve("poll", Lane.LIVE) == 60.0
    assert budget.reserve("default", Lane.LIVE) == 0


UNTIL = "until = \"{{ body.state == 'done' }}\"\nfailed"
PATH = "/jobs/{{ captured.job }}"
POLL = "[objects.contact.create.poll]"
BATCH = '[objects.contact.create.batch]\nmax = 2\nitem = "{{ key.phone }}"\nresults = "items"\n'
MISTAKES = {
    "no until": (UNTIL, "failed", "is required"),
    "until is no condition": (UNTIL, 'until = "done"\nfailed', "is no condition"),
    "a name that nothing captured": (PATH, "/jobs/{{ captured.jbo }}", "captured.jbo"),
    "fields are not known to a later try": (PATH, "/jobs/{{ fields.x }}", 'no name "fields"'),
    "a wait that is none": ('wait = "7s"', 'wait = "soon"', "duration"),
    "beside a batch": (POLL, BATCH + POLL, "stands beside a batch"),
    "a limit that nobody knows": ('wait = "7s"', 'wait = "7s"\nlimit = "pol"', 'there is no limit "pol"'),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_check_reports_a_mistake_in_a_poll(name: str) -> None:
    before, after, message = MISTAKES[name]
    assert before in JOBS
    with pytest.raises(ConfigError) as caught:
        connector_of(JOBS.replace(before, after, 1))
    assert message in str(caught.value)
    assert "poll" in str(caught.value)


def test_connector_tells_how_long_a_request_stays_in_doubt() -> None:
    connector: Connector = connector_of(JOBS)
    assert connector.objects["contact"].settles_within.total_seconds() == 600
    assert connector.objects["contact"].index_lag.total_seconds() == 0


def test_a_preview_shows_the_poll_behind_its_submit() -> None:
    connector = connector_of(JOBS)
    account = Account("own", "https://crm.example.com", {}, {}, 5.0)
    rehearsal = Rehearsal(Scene.NEW, connector, RedactingRenderer(connector, account, NOW), NOW)
    assert rehearsal.run(Plan((contact(),))) is None
    asked = [(one.what, one.request.method) for one in rehearsal.asked["contact"]]
    assert asked == [("find", "GET"), ("create", "POST"), ("create poll", "GET")]


def test_running_job_is_due_again_after_its_wait_and_keeps_its_locks(desk: Desk) -> None:
    desk.bench.feed("c1")
    (lease,) = desk.bench.ledger.lease(["crm"], ["main"], desk.bench.clock.now, 1)
    clock = desk.bench.clock
    outcomes = OutcomeRules(
        Routes({}, {}, {}),
        RetryPolicy(timedelta(seconds=10), timedelta(hours=1), timedelta(days=5)),
        DoubtClock({"crm": timedelta(0)}, Clocks(clock, clock)),
        clock,
        random.Random(1),  # noqa: S311 -- chance, no secret
    )
    settled = outcomes._of_error(lease, StillRunning("it runs", retry_after=7.0), in_doubt=True)
    assert (settled.state, settled.unsent) == (DeliveryState.DUE, True)
    assert settled.due_at == desk.bench.clock.now + timedelta(seconds=7)


def test_token_quoted_in_a_job_failure_is_masked() -> None:
    token = "canary-token-of-a-crm-0123456789"
    said = Settlement(
        DeliveryState.PARKED, f"the job failed: Bearer {token} has no rights", f"failed: {token}"
    )
    kept = without_secrets(said, Masking([token]).masked)
    assert (kept.reason, kept.cause) == ("the job failed: Bearer *** has no rights", "failed: ***")
    assert without_secrets(Settlement(DeliveryState.DELIVERED), Masking([token]).masked).reason == ""
