"""Key locks and the batch gate: who may have what at once, whatever the order in which threads get there."""

import threading
from datetime import UTC, datetime, timedelta

from bridge.delivery.batch_gate import WORKERS_AT_ONCE, BatchGate
from bridge.delivery.locks import KeyLocks

CONTACT, CALL = ("a", "contact", "+861"), ("a", "call", "k")
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
LONG = 30.0
"""Seconds that no test waits for."""


def test_a_delivery_takes_all_of_its_keys_or_none() -> None:
    locks = KeyLocks()
    assert locks.acquire(1, [CONTACT], 0)
    assert not locks.acquire(2, [CONTACT, CALL], 0)
    assert locks.holders() == {CONTACT: 1}
    assert locks.acquire(1, [CONTACT, CALL], 0), "what it holds already is no obstacle"
    locks.release(1)
    assert locks.acquire(2, [CONTACT, CALL], 0)
    assert locks.holders() == {CONTACT: 2, CALL: 2}


def test_waiting_delivery_gets_the_key_once_it_is_released() -> None:
    locks, got = KeyLocks(), list[bool]()
    locks.acquire(1, [CONTACT], 0)
    waiter = threading.Thread(target=lambda: got.append(locks.acquire(2, [CONTACT], LONG)))
    waiter.start()
    locks.release(1)
    waiter.join()
    assert (got, locks.holders()) == ([True], {CONTACT: 2})


def test_acquire_does_not_wait_for_a_holder_that_is_itself_waiting() -> None:
    locks, got = KeyLocks(), list[bool]()
    locks.acquire(1, [CONTACT], 0)
    waiter = threading.Thread(target=lambda: got.append(locks.acquire(2, [CONTACT], LONG)))
    waiter.start()
    locks.hold_until(1, NOW)
    waiter.join()
    assert (got, locks.holders()) == ([False], {CONTACT: 1})
    assert not locks.acquire(2, [CONTACT], LONG)


def test_free_at_is_the_time_of_the_last_waiting_holder() -> None:
    locks, later = KeyLocks(), NOW + timedelta(seconds=5)
    locks.acquire(1, [CONTACT], 0)
    locks.acquire(2, [CALL], 0)
    assert locks.free_at(3, [CONTACT, CALL]) is None, "both are at work"
    locks.hold_until(1, later)
    locks.hold_until(2, NOW)
    assert locks.free_at(3, [CONTACT, CALL]) == later
    assert locks.free_at(3, [CALL]) == NOW
    assert locks.free_at(1, [CONTACT]) is None, "its own keys keep nobody"
    assert locks.acquire(1, [CONTACT], 0)
    assert locks.free_at(3, [CONTACT]) is None, "it goes on, so nobody can tell"
    locks.release(2)
    assert locks.free_at(3, [CALL]) is None


def test_finished_turn_cannot_make_a_key_wait() -> None:
    locks = KeyLocks()
    first = locks.begin_turn(1)
    locks.acquire(1, [CONTACT], 0)
    second = locks.begin_turn(1)
    locks.hold_until(1, NOW, first)
    assert locks.free_at(2, [CONTACT]) is None
    locks.hold_until(1, NOW, second)
    assert locks.free_at(2, [CONTACT]) == NOW


def test_finished_turn_does_not_release_keys_of_the_next_turn() -> None:
    locks = KeyLocks()
    first = locks.begin_turn(1)
    assert locks.acquire(1, [CONTACT, CALL], 0)
    # Its outcome is on disk, so another worker has it before this one comes to give back its keys.
    second = locks.begin_turn(1)
    assert locks.acquire(1, [CONTACT, CALL], 0)
    locks.release(1, first)
    assert not locks.acquire(2, [CONTACT], 0), "the second turn holds it"
    locks.release(1, second)
    assert locks.acquire(2, [CONTACT], 0)


def test_finished_turn_is_never_mistaken_for_a_later_one() -> None:
    locks = KeyLocks()
    first = locks.begin_turn(1)
    locks.release(1)
    later = locks.begin_turn(1)
    assert locks.acquire(1, [CONTACT], 0)
    locks.release(1, first)
    assert locks.holders() == {CONTACT: 1}
    locks.release(1, later)
    assert locks.holders() == {}


def test_batch_gate_lets_few_workers_assemble_and_one_wait_for_more() -> None:
    gate = BatchGate()
    assert [gate.begin() for _ in range(WORKERS_AT_ONCE + 1)] == [True] * WORKERS_AT_ONCE + [False]
    gate.end()
    with gate.waiting() as may, gate.waiting() as second:
        assert (may, second) == (True, False)
        assert not gate.begin(), "what is due goes with what is waited for"
    assert gate.begin()
