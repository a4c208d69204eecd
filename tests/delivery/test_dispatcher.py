"""The dispatcher: what is leased ahead, in which order it goes out, what waits, and what is given back."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.daemon.operator_jobs import OperatorJobs
from bridge.delivery.destination_queue import Turn
from bridge.delivery.dispatcher import DispatchSettings
from bridge.lib.errors import LedgerBusy, Unsent
from bridge.model.calls import Via
from tests.fixtures.scripted_crm import ScriptedCrmBench, plain_connector, scripted_crm_bench

PHONES = [f"1589977{number:04}" for number in range(40)]
AHEAD = DispatchSettings(ahead=2, most_blocked=10, workers=2)


class Benches:
    """Makes benches that are closed at the end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack

    def make(
        self,
        dispatch: DispatchSettings = AHEAD,
        passes: Callable[[], float] = time.monotonic,
        also: Sequence[str] = (),
        **more: Any,
    ) -> ScriptedCrmBench:
        """A bench whose deliveries are leased ahead; `more` is for its connector."""
        connector = plain_connector(**more)
        bench = scripted_crm_bench(self._folder, connector, dispatch=dispatch, passes=passes, also=also)
        return self._stack.enter_context(bench)


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Benches]:
    with ExitStack() as stack:
        yield Benches(tmp_path, stack)


def states(bench: ScriptedCrmBench) -> Counter[str]:
    return Counter(row["state"] for row in bench.rows())


def numbers(turn: Turn | None) -> list[int]:
    """The calls of a turn."""
    assert turn is not None
    return [int(each.delivery.lease.key[:8], 16) for each in turn.attempts]


def take(bench: ScriptedCrmBench) -> Turn | None:
    return bench.pipeline.dispatcher.take(bench.clock())


def test_several_deliveries_are_leased_ahead_in_one_commit_and_go_out_in_order(benches: Benches) -> None:
    bench = benches.make()
    for number in range(6):
        bench.feed(number, PHONES[number], started_at=f"2026-11-20 07:0{9 - number}:00")
    first = take(bench)
    assert states(bench) == {"leased": 4, "due": 2}, "two may be under way, and twice as many are ready"
    second = take(bench)
    assert [numbers(first), numbers(second)] == [[5], [4]], "the oldest call goes first"
    assert take(bench) is None, "no more than two turns are under way"
    assert first is not None
    bench.pipeline.dispatcher.end_turn(first)
    assert numbers(take(bench)) == [3]


def test_live_call_overtakes_what_was_leased_before_it(benches: Benches) -> None:
    bench = benches.make()
    for number in range(8):
        bench.feed(number, PHONES[number], via=Via.LIST)
    assert take(bench) is not None
    assert states(bench) == {"leased": 4, "due": 4}
    bench.feed(30, PHONES[30])
    bench.signal.deliveries_due()
    assert numbers(take(bench)) == [30]
    assert states(bench) == {"leased": 5, "due": 4}, "it alone was leased beyond what is leased ahead"


def test_second_call_of_a_customer_stays_leased_until_the_first_is_settled(benches: Benches) -> None:
    bench = benches.make()
    bench.feed(1, PHONES[0], started_at="2026-11-20 07:01:00")
    bench.feed(2, PHONES[0], started_at="2026-11-20 07:02:00")
    first = take(bench)
    assert numbers(first) == [1]
    assert take(bench) is None, "it waits for its customer"
    assert states(bench) == {"leased": 2}
    assert first is not None
    bench.pipeline.dispatcher.abandon(first, bench.clock())
    bench.pipeline.dispatcher.end_turn(first)
    bench.drain()
    assert states(bench) == {"delivered": 2}
    assert [contact["grade"] for contact in bench.contents()["contacts"]] == ["A"]


def test_what_waits_longer_for_a_key_has_it_first(benches: Benches) -> None:
    bench = benches.make(DispatchSettings(ahead=3, most_blocked=10, workers=2))
    for number in (1, 2, 3):
        bench.feed(number, PHONES[0], started_at=f"2026-11-20 07:0{number}:00")
    order: list[int] = []
    bench.answer = lambda request: _noted(order, request)
    bench.drain()
    assert order == [1, 2, 3]


def _noted(order: list[int], request: httpx.Request) -> None:
    if request.method == "POST" and request.url.path == "/calls":
        order.append(int(request.content.split(b'"call_key":')[1].lstrip(b' "')[:8], 16))


def test_most_that_wait_for_one_customer_stay_leased_and_the_others_go_back(benches: Benches) -> None:
    bench = benches.make(DispatchSettings(ahead=4, most_blocked=2, workers=2))
    for number in range(8):
        bench.feed(number, PHONES[0])
    bench.feed(8, PHONES[1], started_at="2026-11-20 07:09:00")
    assert take(bench) is not None
    assert take(bench) is not None, "the other customer is reached"
    assert states(bench) == {"leased": 4, "due": 5}, "two at work, two that wait"
    later = sorted(row["due_at"][-7:-1] for row in bench.rows() if row["state"] == "due")
    assert later == ["05.025", "05.050", "05.075", "05.100", "05.125"], "one after the other"


def test_account_that_was_paused_meanwhile_gives_back_what_is_ready_as_if_not_tried(benches: Benches) -> None:
    bench = benches.make()
    for number in range(4):
        bench.feed(number, PHONES[number])
    assert take(bench) is not None
    bench.budget.refused("default", 600.0)
    assert take(bench) is None
    assert states(bench) == {"leased": 1, "due": 3}
    assert [row["tries"] for row in bench.rows() if row["state"] == "due"] == [0, 0, 0]
    assert len(set(bench.locks.holders().values())) == 1, "only what is under way has keys"


def test_one_delivery_probes_an_account_that_was_down_and_the_others_follow(benches: Benches) -> None:
    bench = benches.make()
    for number in range(4):
        bench.feed(number, PHONES[number])
    bench.budget.failed("down", at_once=True)
    assert take(bench) is None
    bench.clock.pass_by(6)
    probe = take(bench)
    assert probe is not None
    assert (probe.is_probe, len(probe.attempts), states(bench)) == (True, 1, {"leased": 1, "due": 3})
    assert take(bench) is None, "until it is known whether it is well"
    bench.pipeline.dispatcher.abandon(probe, bench.clock())
    bench.pipeline.dispatcher.end_turn(probe)
    bench.drain()
    assert states(bench) == {"delivered": 4}


def test_probe_that_sends_nothing_lets_another_one_probe(benches: Benches) -> None:
    bench = benches.make()
    bench.feed(1, PHONES[1], call_from_type=3)
    bench.feed(2, PHONES[2])
    bench.budget.failed("down", at_once=True)
    bench.clock.pass_by(6)
    assert take(bench) is None, "the first is skipped by a rule"
    assert not bench.budget.probing
    assert numbers(take(bench)) == [2]


def test_probe_that_the_ledger_could_not_lease_is_tried_again(benches: Benches) -> None:
    bench = benches.make()
    bench.feed(1, PHONES[1])
    bench.budget.failed("down", at_once=True)
    bench.clock.pass_by(6)
    bench.ledger.busy = {"lease"}
    with pytest.raises(LedgerBusy):
        take(bench)
    assert not bench.budget.probing
    bench.ledger.busy = ()
    assert numbers(take(bench)) == [1]


def test_live_call_does_not_wait_for_a_backfill_of_its_customer_that_nobody_has_begun(
    benches: Benches,
) -> None:
    bench = benches.make()
    for number in range(4):
        bench.feed(number, PHONES[number], via=Via.LIST)
    assert numbers(take(bench)) == [0]
    bench.feed(30, PHONES[3])
    bench.signal.deliveries_due()
    assert numbers(take(bench)) == [30], "the third backfill was ready, and had the key of the customer"
    assert states(bench) == {"leased": 4, "due": 1}
    assert bench.row(3)["tries"] == 0


def test_what_a_person_skips_or_parks_is_not_sent_where_it_was_leased_ahead(benches: Benches) -> None:
    bench = benches.make(DispatchSettings(ahead=3, most_blocked=10, workers=2))
    for number in range(6):
        bench.feed(number, PHONES[min(number, 4)])
    first = take(bench)
    ids = [bench.row(number)["id"] for number in range(6)]
    operator = OperatorJobs(
        *(bench.ledger, {}, threading.Event(), {}, dict),
        release_locks=bench.locks.release,
        withdraw=bench.pipeline.dispatcher.withdraw,
    )
    told = operator.skip({"ids": [ids[0], ids[2], ids[5]]}, bench.clock())
    assert told == {"skipped": 0, "later": 3}
    operator.park({"ids": ids[3:4]}, bench.clock())
    assert numbers(first) == [0]
    bench.worker.deliver_one(bench.clock())
    now = [bench.row(number)["state"] for number in range(6)]
    assert now[2:4] == ["skipped", "parked"], now
    assert first is not None
    bench.pipeline.dispatcher.abandon(first, bench.clock())
    bench.pipeline.dispatcher.end_turn(first)
    bench.drain()
    now = [bench.row(number)["state"] for number in range(6)]
    assert now == ["skipped", "delivered", "skipped", "parked", "delivered", "skipped"]
    assert len(bench.contents()["calls"]) == 2


def test_two_destinations_of_one_account_are_served_by_the_age_of_their_calls(benches: Benches) -> None:
    bench = benches.make(DispatchSettings(ahead=4, most_blocked=10, workers=1), also=["second"])
    for number in range(3):
        bench.feed(number, PHONES[number], started_at=f"2026-11-20 07:0{number}:00")
    served: list[tuple[str, int]] = []
    for _ in range(6):
        bench.deliver()
        done = [
            (row["destination"], int(row["key"][:8], 16))
            for row in bench.rows()
            if row["state"] == "delivered"
        ]
        served += set(done).difference(served)
    assert served == [(name, number) for number in range(3) for name in ("crm", "second")]


def test_end_of_the_last_worker_gives_back_all_that_is_leased_ahead(benches: Benches) -> None:
    bench = benches.make()
    for number in range(6):
        bench.feed(number, PHONES[number // 2])
    turn = take(bench)
    assert turn is not None
    bench.pipeline.dispatcher.abandon(turn, bench.clock())
    bench.pipeline.dispatcher.end_turn(turn)
    bench.pipeline.end_worker(bench.worker, bench.clock())
    assert states(bench) == {"due": 6}
    assert [row["tries"] for row in bench.rows()] == [0] * 6


def test_what_was_leased_while_the_ledger_grew_busy_goes_back_at_the_next_step(
    benches: Benches,
) -> None:
    bench = benches.make()
    for number in range(4):
        bench.feed(number, PHONES[number])
    bench.ledger.busy = {"key_claims"}
    with pytest.raises(LedgerBusy):
        take(bench)
    assert states(bench) == {"leased": 4}
    bench.ledger.busy = ()
    assert take(bench) is None
    assert states(bench) == {"due": 4}, "they have been given back"
    bench.drain()
    assert states(bench) == {"delivered": 4}


def test_turn_that_is_not_full_waits_a_moment_for_calls_that_may_join(benches: Benches) -> None:
    seconds = [0.0]
    settings = DispatchSettings(ahead=1, most_blocked=10, workers=2, batch_wait=0.1)
    bench = benches.make(settings, lambda: seconds[0], batches=True)
    bench.feed(1, PHONES[1])
    assert take(bench) is None
    assert bench.pipeline.dispatcher.look_within == 0.1
    bench.feed(2, PHONES[2])
    bench.signal.deliveries_due()
    seconds[0] = 0.05
    assert take(bench) is None
    seconds[0] = 0.11
    assert numbers(take(bench)) == [1, 2]
    for number in range(3, 6):
        bench.feed(number, PHONES[number])
    bench.signal.deliveries_due()
    assert sorted(numbers(take(bench))) == [3, 4, 5], "a full one goes at once"


def test_what_an_account_puts_off_does_not_make_it_look_fast(benches: Benches) -> None:
    seconds = [0.0]
    bench = benches.make(DispatchSettings(ahead=2, most_blocked=10), lambda: seconds[0])
    for number in range(40):
        bench.feed(number, PHONES[number])
    turns = list(iter(lambda: take(bench), None))
    for _ in range(20):
        seconds[0] += 0.2
        first = turns.pop(0)
        first.attempts[0].error = Unsent("no room", cause="no room")
        bench.pipeline.dispatcher.end_turn(first)
        turns += iter(lambda: take(bench), None)
        assert len(turns) == 4, "as many as at first"


def test_nothing_gathers_once_a_person_has_skipped_all_of_a_turn(benches: Benches) -> None:
    settings = DispatchSettings(ahead=1, most_blocked=10, workers=2, batch_wait=0.1, look_every=0.5)
    bench = benches.make(settings, lambda: 0.0, batches=True)
    bench.feed(1, PHONES[1])
    assert take(bench) is None
    assert bench.pipeline.dispatcher.look_within == 0.1
    held = bench.ledger.hold([1], "a mistake", bench.clock(), skip=True)
    bench.pipeline.dispatcher.withdraw(held.later, bench.clock())
    assert take(bench) is None
    assert states(bench) == {"skipped": 1}
    assert bench.pipeline.dispatcher.look_within == 0.5


def test_workers_of_two_threads_take_every_delivery_once(benches: Benches) -> None:
    bench = benches.make(DispatchSettings(ahead=2, most_blocked=10, workers=4))
    for number in range(40):
        bench.feed(number, PHONES[number % 13])

    def work() -> None:
        worker = bench.pipeline.new_worker()
        while worker.deliver_one(bench.clock()):
            pass
        worker.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.drain()
    assert states(bench) == {"delivered": 40}
    made = Counter(path for method, path in bench.requests if method == "POST" and path == "/calls")
    assert made == {"/calls": 40}
