"""Key locks and the batch gate: who may have what at once, whatever the order in which threads get there."""

from bridge.delivery.batch_gate import WORKERS_AT_ONCE, BatchGate
from bridge.delivery.locks import KeyLocks

CONTACT, CALL = ("a", "contact", "+861"), ("a", "call", "k")


def test_a_turn_that_is_over_releases_no_key_of_the_next_one() -> None:
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


def test_a_turn_that_is_over_is_never_taken_for_a_later_one() -> None:
    locks = KeyLocks()
    first = locks.begin_turn(1)
    locks.release(1)
    later = locks.begin_turn(1)
    assert locks.acquire(1, [CONTACT], 0)
    locks.release(1, first)
    assert locks.holders() == {CONTACT: 1}
    locks.release(1, later)
    assert locks.holders() == {}


def test_few_workers_assemble_batches_for_an_account_and_one_of_them_waits_for_more() -> None:
    gate = BatchGate()
    assert [gate.begin() for _ in range(WORKERS_AT_ONCE + 1)] == [True] * WORKERS_AT_ONCE + [False]
    gate.end()
    with gate.waiting() as may, gate.waiting() as second:
        assert (may, second) == (True, False)
        assert not gate.begin(), "what is due goes with what is waited for"
    assert gate.begin()
