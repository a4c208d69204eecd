"""Key locks: who may have what at once, whatever the order in which threads get there."""

from datetime import UTC, datetime, timedelta

from bridge.delivery.locks import KeyLocks

CONTACT, CALL = ("a", "contact", "+861"), ("a", "call", "k")
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


def test_a_delivery_takes_all_of_its_keys_or_none() -> None:
    locks = KeyLocks()
    assert locks.acquire(1, [CONTACT])
    assert not locks.acquire(2, [CONTACT, CALL])
    assert locks.holders() == {CONTACT: 1}
    assert locks.acquire(1, [CONTACT, CALL]), "what it holds already is no obstacle"
    locks.release(1)
    assert locks.acquire(2, [CONTACT, CALL])
    assert locks.holders() == {CONTACT: 2, CALL: 2}


def test_free_at_is_the_time_of_the_last_waiting_holder() -> None:
    locks, later = KeyLocks(), NOW + timedelta(seconds=5)
    locks.acquire(1, [CONTACT])
    locks.acquire(2, [CALL])
    assert locks.free_at(3, [CONTACT, CALL]) is None, "both are at work"
    locks.hold_until(1, later)
    locks.hold_until(2, NOW)
    assert locks.free_at(3, [CONTACT, CALL]) == later
    assert locks.free_at(3, [CALL]) == NOW
    assert locks.free_at(1, [CONTACT]) is None, "its own keys keep nobody"
    assert locks.acquire(1, [CONTACT])
    assert locks.free_at(3, [CONTACT]) is None, "it goes on, so nobody can tell"
    locks.release(2)
    assert locks.free_at(3, [CALL]) is None


def test_finished_turn_cannot_make_a_key_wait() -> None:
    locks = KeyLocks()
    first = locks.begin_turn(1)
    locks.acquire(1, [CONTACT])
    second = locks.begin_turn(1)
    locks.hold_until(1, NOW, first)
    assert locks.free_at(2, [CONTACT]) is None
    locks.hold_until(1, NOW, second)
    assert locks.free_at(2, [CONTACT]) == NOW


def test_finished_turn_does_not_release_keys_of_the_next_turn() -> None:
    locks = KeyLocks()
    first = locks.begin_turn(1)
    assert locks.acquire(1, [CONTACT, CALL])
    # Its outcome is on disk, so another worker has it before this one comes to give back its keys.
    second = locks.begin_turn(1)
    assert locks.acquire(1, [CONTACT, CALL])
    locks.release(1, first)
    assert not locks.acquire(2, [CONTACT]), "the second turn holds it"
    locks.release(1, second)
    assert locks.acquire(2, [CONTACT])


def test_finished_turn_is_never_mistaken_for_a_later_one() -> None:
    locks = KeyLocks()
    first = locks.begin_turn(1)
    locks.release(1)
    later = locks.begin_turn(1)
    assert locks.acquire(1, [CONTACT])
    locks.release(1, first)
    assert locks.holders() == {CONTACT: 1}
    locks.release(1, later)
    assert locks.holders() == {}
