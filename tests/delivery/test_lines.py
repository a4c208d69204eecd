"""Lines and hands: who may have what at once, whatever the order in which threads get there."""

from bridge.delivery.batch_gate import HANDS, Gathering
from bridge.delivery.locks import Lines

CONTACT, CALL = ("a", "contact", "+861"), ("a", "call", "k")


def test_a_turn_that_is_over_gives_back_nothing_of_the_next_one() -> None:
    lines = Lines()
    first = lines.begin(1)
    assert lines.take(1, [CONTACT, CALL], 0)
    # Its outcome is on disk, so another worker has it before this one comes to give back its lines.
    second = lines.begin(1)
    assert lines.take(1, [CONTACT, CALL], 0)
    lines.release(1, first)
    assert not lines.take(2, [CONTACT], 0), "the second turn holds it"
    lines.release(1, second)
    assert lines.take(2, [CONTACT], 0)


def test_a_turn_that_is_over_is_never_taken_for_a_later_one() -> None:
    lines = Lines()
    first = lines.begin(1)
    lines.release(1)
    later = lines.begin(1)
    assert lines.take(1, [CONTACT], 0)
    lines.release(1, first)
    assert lines.held() == {CONTACT: 1}
    lines.release(1, later)
    assert lines.held() == {}


def test_few_hands_gather_for_an_account_and_one_of_them_waits() -> None:
    gathering = Gathering()
    assert [gathering.begin() for _ in range(HANDS + 1)] == [True] * HANDS + [False]
    gathering.end()
    with gathering.waiting() as may, gathering.waiting() as second:
        assert (may, second) == (True, False)
        assert not gathering.begin(), "what is due goes with what is waited for"
    assert gathering.begin()
