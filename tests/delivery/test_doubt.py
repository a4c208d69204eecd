"""What is in doubt: whose lines it holds, how long, and how a person ends it."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridge.ledger.operators import HeldDeliveries
from bridge.lib.documents import document_of
from bridge.model.calls import Via
from bridge.model.deliveries import Lease, Settlement
from tests.fixtures.delivery_simulation import DATA, LAG, PHONES, DeliverySimulation, body_of
from tests.fixtures.simulation_parts import Parts, RequestFault

CONTACT = ("crm account", "contact", f"+86{PHONES[0]}")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DeliverySimulation]:
    with closing(DeliverySimulation(tmp_path)) as made:
        yield made


def arrive(world: DeliverySimulation, number: int, stamp: int, phone: str, grade: str = "A") -> None:
    world.record(body_of(number, stamp, phone, status=grade, mark="x", talktimes=1, source=f"task {number}"))
    world.judge()


def row_of(world: DeliverySimulation, number: int) -> dict[str, Any]:
    return next(row for row in world.deliveries() if row["key"].startswith(f"{number:08x}"))


def in_doubt(world: DeliverySimulation, number: int, phone: str = PHONES[0], kind: str = "cut") -> None:
    """A call whose contact was sent, and nobody knows whether it arrived."""
    arrive(world, number, 1, phone)
    world.troubles.append(RequestFault(kind, on="write"))
    world.go_on(0)
    assert row_of(world, number)["id"] in world.ledger.in_doubt()


def hold(world: DeliverySimulation, number: int, *, skip: bool) -> HeldDeliveries:
    held = world.ledger.hold([row_of(world, number)["id"]], "", world.clock(), skip=skip)
    for delivery_id in held.now:
        world.locks.release(delivery_id)
    return held


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("restart", [True, False])
def test_delivery_held_in_doubt_keeps_its_locks_until_settled(
    world: DeliverySimulation, skip: bool, restart: bool
) -> None:
    in_doubt(world, 0)
    held = row_of(world, 0)
    assert hold(world, 0, skip=skip) == HeldDeliveries(now=[], later=[held["id"]])
    if restart:
        world.restart()
    assert world.locks.holders()[CONTACT] == held["id"]
    sent = world.sent
    world.drain()
    assert world.sent == sent, "nothing more is asked for it"
    assert row_of(world, 0)["state"] == ("skipped" if skip else "parked")
    assert row_of(world, 0)["reason"].endswith("by a person")
    assert CONTACT not in world.locks.holders()


def test_call_document_says_in_doubt(world: DeliverySimulation) -> None:
    in_doubt(world, 0)
    (call,) = world.ledger.list_calls([row_of(world, 0)["key"]], 2)
    shown = world.ledger.show_call(call.id)
    assert document_of(shown)["deliveries"][0]["in_doubt"] is True
    world.drain()
    assert world.ledger.show_call(call.id).deliveries[0].in_doubt is False


def test_skipped_create_in_doubt_prevents_a_second_contact(world: DeliverySimulation) -> None:
    in_doubt(world, 0, kind="lost")
    hold(world, 0, skip=True)
    arrive(world, 1, 2, PHONES[0])
    world.go_on(1)
    world.drain()
    assert len(world.crm.contents()["contacts"]) == 1
    assert (row_of(world, 0)["state"], row_of(world, 1)["state"]) == ("skipped", "delivered")
    world.check()


def test_first_value_written_before_a_crash_is_not_taken_for_an_edit(world: DeliverySimulation) -> None:
    world.changed_mapping = True
    world.restart()
    arrive(world, 0, 1, PHONES[0])
    world.drain()
    world.changed_mapping = False
    world.restart()
    world.record(body_of(0, 2, PHONES[0], status="A", mark="y", talktimes=1, source="task 0"))
    world.judge()
    while world.crm.contents()["contacts"][0].get("remark") != "y":
        world.go_on(0, requests=1)
    world.restart()
    # Its next attempt is refused, and a newer call comes first.
    world.troubles.append(RequestFault("429", on="write"))
    arrive(world, 2, 3, PHONES[0])
    world.drain()
    assert world.crm.contents()["contacts"][0]["remark"] == "x"
    world.check_quiet()


def test_skip_during_a_request_in_doubt_keeps_locks_until_settled(world: DeliverySimulation) -> None:
    arrive(world, 0, 1, PHONES[0])
    world.troubles.append(RequestFault("lost", on="write"))
    world.go_on(0, requests=2)
    assert world.under_way
    assert hold(world, 0, skip=True).later
    world.go_on(0)
    assert (row_of(world, 0)["state"], world.locks.holders()[CONTACT]) == ("due", row_of(world, 0)["id"])
    world.drain()
    assert (row_of(world, 0)["state"], CONTACT in world.locks.holders()) == ("skipped", False)


def test_retry_takes_back_a_skip_made_while_in_doubt(world: DeliverySimulation) -> None:
    in_doubt(world, 0, kind="lost")
    hold(world, 0, skip=True)
    assert world.ledger.retry([], world.clock(), cause=row_of(world, 0)["cause"]) == 0, "by name only"
    assert world.ledger.retry([row_of(world, 0)["id"]], world.clock()) == 1
    world.drain()
    assert row_of(world, 0)["state"] == "delivered"
    world.check_quiet()


@pytest.mark.parametrize("kind", ["cut", "lost"])
def test_calls_in_doubt_that_swap_phones_do_not_deadlock(world: DeliverySimulation, kind: str) -> None:
    in_doubt(world, 0, PHONES[0], kind)
    in_doubt(world, 1, PHONES[1], kind)
    arrive(world, 0, 2, PHONES[1])
    arrive(world, 1, 2, PHONES[0])
    world.drain()
    assert [row["state"] for row in world.deliveries()] == ["delivered", "delivered"]
    world.check_quiet()


class Breaking(DeliverySimulation):
    """Its mapping gets broken."""

    broken = False

    def _mapping(self) -> str:
        old, new = 'grade = "{{ call.grade }}"', 'grade = { value = "{{ call.grade }}", map = {} }'
        return super()._mapping().replace(old, new if self.broken else old, 1)

    def _settled(self, lease: Lease, settlement: Settlement) -> None:
        """Nothing is said by what is not mapped."""


def test_recreated_contact_inherits_nothing_from_the_deleted_one(tmp_path: Path) -> None:
    with closing(DeliverySimulation(tmp_path, batches=False, on_deleted="recreate")) as world:
        arrive(world, 1, 1, PHONES[1])
        world.drain()
        world.delete(f"+86{PHONES[1]}")
        # Under a mapping that writes another grade it is made again, and nobody hears of it.
        world.changed_mapping = True
        world.restart()
        world.record(body_of(1, 2, PHONES[1], status="A", mark="x", talktimes=2, source="task 1"))
        world.judge()
        while not any(one["phone"] == f"+86{PHONES[1]}" for one in world.crm.contents()["contacts"]):
            world.go_on(0, requests=1)
        world.changed_mapping = False
        world.restart()
        world.drain()
        (contact,) = world.crm.contents()["contacts"]
        assert contact["grade"] == "A"
        world.check_quiet()


@pytest.mark.parametrize("busy", range(1, 7))
def test_calls_may_swap_phones_after_a_busy_ledger_ended_their_attempts(tmp_path: Path, busy: int) -> None:
    with closing(DeliverySimulation(tmp_path, batches=True)) as world:
        for number in range(4):
            arrive(world, number, 1, PHONES[number % 2])
        world.fuse.busy = busy
        world.attempt(lambda: world.go_on(0, requests=1))
        for number, phone in ((0, PHONES[1]), (3, PHONES[0])):
            changed = body_of(number, 2, phone, status="A", mark="x", talktimes=1, source=f"task {number}")
            world.attempt(lambda body=changed: world.record(body))  # type: ignore[misc]
        world.drain()
        world.check_quiet()


def test_unmappable_delivery_in_doubt_keeps_its_locks_for_the_index_lag(tmp_path: Path) -> None:
    with closing(Breaking(tmp_path)) as world:
        in_doubt(world, 0)
        world.broken = True
        world.restart()
        world.go_on(0)
        row = row_of(world, 0)
        assert (row["state"], world.locks.holders().get(CONTACT)) == ("due", row["id"])
        world.clock.pass_by(LAG.total_seconds())
        world.drain()
        assert row_of(world, 0)["state"] == "parked"
        assert not world.locks.holders()


def test_refused_delivery_keeps_its_locks_while_another_request_is_in_doubt(
    world: DeliverySimulation,
) -> None:
    arrive(world, 0, 1, PHONES[0])
    world.troubles.append(RequestFault("lost", after=1, on="write"))
    world.go_on(0)
    row = row_of(world, 0)
    assert row["id"] in world.ledger.in_doubt()
    assert len(world.crm.contents()["calls"]) == 1, "the call was made, and nobody knows"
    arrive(world, 0, 2, PHONES[0], "B")
    world.troubles.append(RequestFault("422", on="write"))
    world.go_on(0)
    row = row_of(world, 0)
    assert (row["state"], world.locks.holders().get(CONTACT)) == ("due", row["id"])
    world.troubles.append(RequestFault("422", on="write"))
    world.clock.pass_by(LAG.total_seconds())
    world.go_on(0)
    row = row_of(world, 0)
    assert (row["state"], world.locks.holders()) == ("parked", {})


def test_forced_replay_recreates_no_contact_the_index_lacks(
    world: DeliverySimulation,
) -> None:
    arrive(world, 0, 1, PHONES[0])
    world.clock.pass_by(60)
    world.go_on(0)
    arrive(world, 1, 2, PHONES[0])
    world.replay(force=True)
    world.drain()
    assert len(world.crm.contents()["contacts"]) == 1
    world.check_quiet()


@pytest.mark.parametrize("kind", ["lost", "cut"])
def test_call_returning_to_a_contact_appends_its_text_once(world: DeliverySimulation, kind: str) -> None:
    in_doubt(world, 0, kind=kind)
    arrive(world, 0, 2, PHONES[1], "B")
    world.drain()
    arrive(world, 0, 3, PHONES[0], "C")
    world.restart()
    world.drain()
    for phone, text in ((PHONES[0], "A" if kind == "lost" else "C"), (PHONES[1], "B")):
        one = world.contact_of(f"+86{phone}")
        assert one is not None
        assert [line.split(" ")[1] for line in one["notes"].split("\n")] == [text]
    world.check_quiet()


# Where nothing can look

CALL = """[objects.call.find]
path = "/calls"
query = { call_key = "{{ key.call_key }}" }
hits = "items"
index_lag = "300ms"

[objects.call.create]
path = "/calls"
json = "{{ key | merge(fields) }}"
id = "id"

[objects.call.update]
method = "PATCH"
path = "/calls/{{ id | path }}"
json = "{{ fields }}"
"""
CREATE_ONLY = CALL[CALL.index("[objects.call.create]") : CALL.index("[objects.call.update]")]
NOT_IDEMPOTENT = 'json = "{{ fields }}"\nidempotent = false\n\n[objects.call.read]'
UNSEEN = {
    "create": (CALL, CREATE_ONLY, 1),
    "update": ('json = "{{ fields }}"\n\n[objects.call.read]', NOT_IDEMPOTENT, 1),
    "link": ("idempotent = true", "", 2),
}


@pytest.fixture(params=["create", "update", "link"])
def parked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeliverySimulation]:
    """A call whose step is parked in doubt, with nothing that tells whether it arrived."""
    what = request.param
    old, new, after = UNSEEN[what]
    assert old in (DATA / "connector.toml").read_text("utf-8")
    with closing(
        DeliverySimulation(tmp_path, parts=Parts(connector=lambda text: text.replace(old, new)))
    ) as made:
        arrive(made, 0, 1, PHONES[0])
        if what == "update":
            made.drain()
            arrive(made, 0, 2, PHONES[0], "B")
        made.troubles.append(RequestFault("cut", after=after, on="write"))
        made.go_on(0)
        yield made


def asked(world: DeliverySimulation) -> list[str]:
    found = [f"{method} {path}" for method, path, _ in world.requests if path != "/token"]
    world.requests.clear()
    return found


def test_delivery_parked_in_doubt_is_not_resent_without_an_operator(parked: DeliverySimulation) -> None:
    last = asked(parked)[-1]
    row = row_of(parked, 0)
    assert (row["state"], parked.locks.holders()) == ("parked", {})
    assert row["cause"].startswith("in doubt: ")
    assert "retry sends it again, skip lets it be" in row["reason"]
    assert parked.ledger.parked_in_doubt() == 1
    (group,) = parked.ledger.counts().parked
    assert "callbridge deliveries retry ID, which sends it again" in (group.remedy or "")
    assert parked.ledger.retry([], parked.clock()) == 0, "all does not mean it"
    assert parked.ledger.retry([], parked.clock(), cause="answered") == 0, "nor do words of its cause"
    assert parked.ledger.retriable() == []
    arrive(parked, 0, 9, PHONES[0], "C")
    parked.drain()
    assert row_of(parked, 0)["state"] == "parked"
    assert last not in asked(parked), "nor does a revision"


@pytest.mark.parametrize("by", ["id", "cause"])
@pytest.mark.parametrize("crash", [False, True])
def test_retry_of_a_delivery_parked_in_doubt_sends_it_again(
    parked: DeliverySimulation, by: str, crash: bool
) -> None:
    last, row = asked(parked)[-1], row_of(parked, 0)
    ids, cause = ([row["id"]], "") if by == "id" else ([], row["cause"])
    assert parked.ledger.retriable(ids, cause)[0].count == 1
    assert row_of(parked, 0) == row, "which changes nothing yet"
    assert parked.ledger.retry(ids, parked.clock(), cause=cause) == 1
    if crash:
        parked.restart()
    parked.drain()
    assert row_of(parked, 0)["state"] == "delivered"
    assert asked(parked).count(last) == 1
    parked.check_quiet()


def test_retry_of_a_delivery_parked_in_doubt_allows_one_request(parked: DeliverySimulation) -> None:
    last, row = asked(parked)[-1], row_of(parked, 0)
    parked.ledger.retry([row["id"]], parked.clock())
    parked.troubles.append(RequestFault("lost", on="write"))
    parked.go_on(0)
    assert (row_of(parked, 0)["state"], asked(parked).count(last)) == ("parked", 1)
    parked.ledger.hold([row["id"]], "it is there", parked.clock(), skip=True)
    arrive(parked, 0, 9, PHONES[0], "C")
    parked.drain()
    assert (row_of(parked, 0)["state"], asked(parked)) == ("skipped", [])
    parked.ledger.retry([row["id"]], parked.clock())
    parked.drain()
    assert (row_of(parked, 0)["state"], last in asked(parked)) == ("parked", False), (
        "skipped meant: it is there"
    )


class Jammed(Random):
    """Fails as nothing in a CRM can make a worker fail."""

    def random(self) -> float:
        raise RuntimeError("jammed")


def test_internal_fault_after_a_lost_answer_keeps_the_doubt(tmp_path: Path) -> None:
    with closing(DeliverySimulation(tmp_path, parts=Parts(rng=Jammed()))) as world:
        in_doubt(world, 0)
        row = row_of(world, 0)
        assert (row["state"], world.locks.holders()[CONTACT]) == ("due", row["id"])
        world.drain()
        assert (row_of(world, 0)["state"], row_of(world, 0)["cause"]) == ("parked", "a fault in callbridge")
        assert world.ledger.in_doubt() == {}


def test_clock_put_back_does_not_prolong_the_wait_for_keys(world: DeliverySimulation) -> None:
    in_doubt(world, 0)
    world.jump(-timedelta(days=400))
    # The one that holds the key goes on behind all live calls.
    body = body_of(0, 2, PHONES[0], status="B", mark="x", talktimes=1, source="task 0")
    world.record(body, Via.LIST)
    arrive(world, 1, 1, PHONES[0])
    world.drain()
    assert {row["state"] for row in world.deliveries()} == {"delivered"}
