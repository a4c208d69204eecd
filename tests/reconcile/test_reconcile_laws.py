"""For any calls, pushes, losses, edits and disturbances the ledger comes to say what the platform says."""

import tempfile
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.lib.iso_times import stamp
from bridge.sandbox.platform_faults import Disturbances
from bridge.sandbox.records import Record
from bridge.source import Page
from bridge.source.outcall.client import OutcallList
from tests.fixtures.ledger_calls import call_keys
from tests.fixtures.reconciliation_bench import (
    HOUR,
    NOTHING,
    ReconciliationBench,
    calls,
    edited_later,
    reconciliation_bench,
)
from tests.fixtures.served_platform import NOW, log_in, served_platform

SINCE = stamp(NOW - 4 * HOUR)
HAPPENED: Counter[str] = Counter()
EVERY = {
    *("session_dies_every", "bad_gateways", "cut_connections", "refusals"),
    *("page_cap", "empty_pages", "short_pages", "total", "rows_inserted", "rows_deleted"),
    *("dialogue_as_text", "types_as_text", "fields_missing", "unknown_fields"),
    *("total text", "total absent", "order newest", "start exclusive", "end inclusive"),
    *("lost", "edited", "edited before it was pushed", "pushed twice", "behind", "late", "gone", "nobody's"),
}
"""What has to happen in the examples, so that a law that holds says something."""

some = st.sampled_from([0.0, 0.4])
disturbances = st.builds(
    Disturbances,
    session_dies_every=st.sampled_from([0, 3, 5]),
    bad_gateways=st.sampled_from([0.0, 0.1]),
    cut_connections=st.sampled_from([0.0, 0.1]),
    refusals=st.sampled_from([0.0, 0.02]),
    page_cap=st.sampled_from([0, 4]),
    empty_pages=st.sampled_from([0.0, 0.2]),
    short_pages=st.sampled_from([0.0, 0.2]),
    total=st.sampled_from(["number", "text", "absent"]),
    unlisted=some,
    rows_move=some,
    order=st.sampled_from(["oldest", "newest"]),
    start=st.sampled_from(["inclusive", "exclusive"]),
    end=st.sampled_from(["inclusive", "exclusive"]),
    dialogue_as_text=some,
    types_as_text=some,
    fields_missing=st.sampled_from([0.0, 0.05]),
    unknown_fields=some,
)
FATES = (
    *("pushed", "pushed", "pushed", "lost", "edited", "edited before it was pushed", "pushed twice"),
    *("behind", "late", "gone", "nobody's"),
)
fates = st.lists(st.sampled_from(FATES), max_size=20)


FOUL = Disturbances(
    session_dies_every=3,
    bad_gateways=0.1,
    cut_connections=0.1,
    refusals=0.05,
    page_cap=4,
    empty_pages=0.1,
    total="text",
    rows_move=0.4,
    order="newest",
    end="inclusive",
    dialogue_as_text=0.4,
    types_as_text=0.4,
    fields_missing=0.05,
    unknown_fields=0.4,
)
FOUL_TOO = msgspec.structs.replace(
    FOUL, refusals=0.1, total="absent", short_pages=0.3, rows_move=0.1, order="oldest", start="exclusive"
)


@dataclass
class Lives:
    """What happens to the calls, by the fate of each."""

    world: ReconciliationBench
    of: dict[str, list[Record]]

    def begin(self) -> None:
        """Everything that happens before the list is walked."""
        world, of = self.world, self.of
        world.push(*of["pushed"], *of["pushed twice"], *of["edited"], *of["behind"], *of["gone"])
        world.push(*of["pushed twice"], *map(self.later, [*of["edited before it was pushed"], *of["behind"]]))
        edited = [*of["edited"], *of["edited before it was pushed"]]
        world.list_now(*map(self.later, edited))
        for fate in ("pushed", "lost", "pushed twice", "behind", "late"):
            world.list_now(*of[fate])
        for record in of["nobody's"]:
            world.platform._rows.by_uuid["nobody's"] = record
            insort(world.platform._rows.order, (record["created_at"], "nobody's"))

    def later(self, record: Record) -> Record:
        return edited_later(record, seed=7)

    def meanwhile(self, _page: Page) -> None:
        """The callbacks that come while the first page is on its way."""
        late, self.of["late"] = self.of["late"], []
        if late:
            self.world.push(*late)

    def catch_up(self) -> None:
        """The list shows everything now as it is."""
        self.world.list_now(*map(self.later, self.of["behind"]))


def lives_of(world: ReconciliationBench, told: list[str], seed: int) -> Lives:
    of: dict[str, list[Record]] = {fate: [] for fate in FATES}
    for record, fate in zip(calls(len(told), seed), told, strict=True):
        if fate == "nobody's":
            if of[fate]:
                continue
            record |= {"uuid": "", "base_info": "", "sn": ""}
        of[fate].append(record)
        HAPPENED[fate] += 1
    return Lives(world, of)


@dataclass
class Overheard:
    """A login during whose answers something else happens."""

    login: OutcallList
    meanwhile: Callable[[Page], None]

    @property
    def name(self) -> str:
        return self.login.name

    @property
    def user(self) -> str | None:
        return self.login.user

    def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
        page = self.login.page(since, until, index, size)
        self.meanwhile(page)
        return page

    def close(self) -> None:
        self.login.close()


@contextmanager
def served_world(seed: int) -> Iterator[ReconciliationBench]:
    """A ledger, and a platform on a socket."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served_platform(seed=seed) as served,
        reconciliation_bench(Path(folder) / "ledger.db") as world,
    ):
        world.platform = served.platform.list
        world.log_in = lambda: [Overheard(log_in(served), world.meanwhile)]  # type: ignore[method-assign]
        yield world


def count(world: ReconciliationBench, faults: Disturbances) -> None:
    HAPPENED.update(world.platform.happened)
    for name in ("total", "order", "start", "end"):
        HAPPENED[f"{name} {getattr(faults, name)}"] += 1


# What a search draws differs from run to run, so everything that has to happen happens in these.
@example([*FATES, *FATES[:4]], FOUL, 7)
@example([*FATES[::-1], *FATES[:4]], FOUL_TOO, 8)
@example(["pushed", "lost"] * 9, Disturbances(short_pages=0.3, empty_pages=0.2, page_cap=4), 7)
@given(fates, disturbances, st.integers(0, 10**6))
def law(told: list[str], faults: Disturbances, seed: int) -> None:
    with served_world(seed) as world:
        lives = lives_of(world, told, seed)
        lives.begin()
        counts = {fate: len(records) for fate, records in lives.of.items()}
        if faults.total == "absent" or faults.unlisted:
            # Where no total could ever be reached, two passes that were cut alike are believed.
            faults.short_pages = faults.empty_pages = 0.0
        world.platform.disturbances = faults
        world.meanwhile = lives.meanwhile
        result = world.reconcile()
        # What the list never shows, it does not show at the second time either.
        world.platform.disturbances = Disturbances(fields_missing=faults.fields_missing)
        count(world, faults)
        if not result["complete"]:
            HAPPENED["incomplete"] += 1
            return
        assert result["revised"] == counts["edited"]
        assert {one["uuid"] for one in lives.of["lost"]} <= set(result["ids"]["missing"])
        assert (result["stale"], result["conflicting"]) == (counts["behind"], counts["nobody's"])
        assert result["deferred"] <= counts["late"]
        # Whatever else is for the next run: what was listed all the time is here.
        own = {one["uuid"] for fate, records in lives.of.items() if fate != "nobody's" for one in records}
        assert own <= set(call_keys(world.ledger, "main"))
        lives.catch_up()
        agree_and_balance(world, still=not faults.rows_move)


def agree_and_balance(world: ReconciliationBench, *, still: bool) -> None:
    """A row that appeared behind a walk which never saw it still is for the next one; then none is left."""
    listed = world.platform.records().keys() - {"nobody's"}
    late = {uuid for uuid in listed if not world.ledger.list_calls([uuid], 1)}
    assert not (late and still)
    world.assert_agrees(listed - late)
    found = world.audit(since=SINCE, until=stamp(NOW))
    assert set(found["ids"]["platform_only"]) == late
    assert found["platform"] == len(world.platform.records())
    assert found["balanced"] is (found["complete"] and not late)
    before = world.receipts()
    again = world.reconcile(since=SINCE)
    strays = len(world.platform.records()) - len(listed)
    assert {name: again[name] for name in NOTHING} == NOTHING | {
        "missing": len(late),
        "filled": len(late),
        "conflicting": strays,
    }
    assert world.receipts().get("revision") == before.get("revision")
    world.assert_agrees(listed)
    found = world.audit(since=SINCE, until=stamp(NOW))
    assert (found["platform_only"], found["quarantined"]) == (0, strays)
    assert set(found["ids"]["ledger_only"]) == set(call_keys(world.ledger, "main")) - listed
    assert found["balanced"] is found["complete"]


def hold(examples: int) -> None:
    HAPPENED.clear()
    settings(max_examples=examples)(law)()
    assert EVERY - {name for name, count in HAPPENED.items() if count} == set()
    assert HAPPENED["incomplete"] <= examples // 8


def test_ledger_converges_to_the_platforms_state() -> None:
    hold(3)


@pytest.mark.long
def test_ledger_converges_to_the_platforms_state_in_150_examples() -> None:
    hold(150)


@pytest.mark.slow
def test_ledger_converges_to_the_platforms_state_in_1000_examples() -> None:
    hold(1000)
