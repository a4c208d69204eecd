"""What two sources send into one CRM account under one key meets there only where it is one call."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridge.config.load import load_config
from bridge.config.problems import find_problems
from bridge.ledger import Window
from tests.fixtures.daemon_process import TOKEN, environment, write_config
from tests.fixtures.delivery_simulation import PHONES, DeliverySimulation, body_of

BOTH = ("main", "branch")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DeliverySimulation]:
    with closing(DeliverySimulation(tmp_path, sources=BOTH)) as made:
        yield made


def tell(world: DeliverySimulation, source: str, grade: str, stamp: int = 10, **fields: Any) -> None:
    body = body_of(1, stamp, PHONES[0], status=grade, mark=grade, talktimes=1, source="t")
    world.record(body | fields, source=source)


def states(world: DeliverySimulation) -> dict[str, tuple[str, str | None]]:
    return {row["source"]: (row["state"], row["reason"]) for row in world.deliveries()}


def call_in(world: DeliverySimulation) -> tuple[str, str]:
    (call,) = world.crm.contents()["calls"]
    (phone,) = {one["phone"] for one in world.crm.contents()["contacts"] if one["id"] == call["contact_id"]}
    return call["grade"], phone


@pytest.mark.parametrize(("first", "second"), [BOTH, BOTH[::-1]])
def test_same_call_from_two_sources_is_sent_for_the_first_only(
    world: DeliverySimulation, first: str, second: str
) -> None:
    tell(world, first, "A")
    tell(world, second, "B")
    world.drain()
    right = {first: ("delivered", None), second: ("skipped", f"belongs to source {first}")}
    assert states(world) == right
    assert call_in(world) == ("A", f"+86{PHONES[0]}")
    for _ in range(2):
        found = world.replay(force=False)
        assert (found["due"], found["rules"]) == (0, {f"belongs to source {first}": 1})
    tell(world, second, "C", 11)
    tell(world, first, "B", 11)
    world.restart()
    world.drain()
    assert states(world) == right
    assert call_in(world)[0] == "B"
    world.check()


def test_different_call_with_the_same_key_is_parked(world: DeliverySimulation) -> None:
    tell(world, "main", "A", uuid="VICTIM-1")
    world.drain()
    other: dict[str, Any] = {"sn": "account|99", "phone": PHONES[1], "uuid": "victim-1"}
    tell(world, "branch", "B", **other)
    world.drain()

    def check() -> None:
        state, reason = states(world)["branch"]
        assert state == "parked"
        assert reason is not None
        assert "source main (sn account|1, started_at" in reason
        assert "source branch (sn account|99, started_at" in reason
        assert call_in(world) == ("A", f"+86{PHONES[0]}")
        assert [one["phone"] for one in world.crm.contents()["contacts"]] == [f"+86{PHONES[0]}"]
        world.check()

    check()
    assert "belongs to source main" in (world.ledger.counts().parked[0].cause or "")
    world.ledger.retry([], world.clock())
    world.drain()
    check()
    tell(world, "branch", "C", 11, **other)
    world.replay(force=True)
    world.drain()
    check()
    assert asdict(world.ledger.balance("crm", BOTH, Window())) == {
        "ledger": 2,
        "delivered": 1,
        "skipped": 0,
        "parked": 1,
        "under_way": 0,
    }
    # What the platform mends is looked at anew.
    tell(world, "branch", "C", 12, uuid="victim-1")
    world.drain()
    assert states(world)["branch"] == ("skipped", "belongs to source main")


def test_call_known_to_another_source_by_a_later_name_is_sent_once(world: DeliverySimulation) -> None:
    tell(world, "main", "A", uuid="own-name", base_info="")
    tell(world, "main", "A", uuid="own-name", base_info="other-name")
    tell(world, "branch", "B", uuid="other-name")
    tell(world, "branch", "B", uuid="third-name", sn="account|7")
    world.drain()
    assert sorted((row["key"], row["state"], row["reason"]) for row in world.deliveries()) == [
        ("other-name", "skipped", "belongs to source main"),
        ("own-name", "delivered", None),
        ("third-name", "delivered", None),
    ]


def test_source_added_later_owns_no_key_sent_before(tmp_path: Path) -> None:
    with closing(DeliverySimulation(tmp_path, sources=("branch",))) as world:
        world.sources = ["main", "branch"]
        tell(world, "branch", "B")
        world.sources = ["branch"]
        world.restart()
        world.drain()
        assert call_in(world)[0] == "B"
        world.sources = ["main", "branch"]
        world.restart()
        tell(world, "main", "A")
        tell(world, "branch", "C", 11)
        world.drain()
        assert states(world) == {
            "branch": ("delivered", None),
            "main": ("skipped", "belongs to source branch"),
        }
        assert call_in(world)[0] == "C"


def any_order(folder: Path, number: int) -> None:
    """Two sources tell of the same few keys, through crashes, retries and replays, by two workers."""
    chance = Random(number)  # noqa: S311 -- sample data
    with closing(DeliverySimulation(folder, sources=BOTH)) as world:
        stamp = 10
        for _ in range(40):
            match chance.randrange(9):
                case 0 | 1 | 2:
                    stamp += 1
                    which = chance.randrange(3)
                    source = chance.choice(BOTH)
                    # Of the third key the two sources tell different calls.
                    sn = f"account|{source}" if which == 2 else f"account|{which}"
                    fields = {"sn": sn, "status": chance.choice("ABC"), "mark": source, "talktimes": stamp}
                    body = body_of(which, stamp, PHONES[which], **fields)
                    world.attempt(lambda body=body, source=source: world.record(body, source=source))  # type: ignore[misc]
                case 3 | 4:
                    world.attempt(world.judge)
                case 5 | 6:
                    worker, requests = chance.randrange(2), chance.choice([1, 2, 100])
                    world.attempt(lambda w=worker, r=requests: world.go_on(w, r))  # type: ignore[misc]
                case 7:
                    world.fuse.left = chance.randrange(12)
                case 8:
                    if chance.random() < 0.5:
                        world.attempt(lambda: world.ledger.retry([], world.clock()))
                    else:
                        world.attempt(lambda: world.replay(force=True))
            world.check()
        world.drain()
        world.check()
        owners: dict[str, str] = {}
        for row in sorted(world.deliveries(), key=lambda row: row["id"]):
            owner = owners.setdefault(row["key"], row["source"])
            right = (
                "delivered"
                if owner == row["source"]
                else "parked"
                if "00000002" in row["key"][:8]
                else "skipped"
            )
            assert row["state"] == right, row
        for call in world.crm.contents()["calls"]:
            assert call["remark"] == owners[call["call_key"]]


@pytest.mark.parametrize("number", range(4))
def test_two_sources_in_any_order_send_each_call_once(tmp_path: Path, number: int) -> None:
    any_order(tmp_path, number)


@pytest.mark.long
def test_two_sources_in_many_orders_send_each_call_once(tmp_path: Path) -> None:
    for number in range(100, 160):
        folder = tmp_path / str(number)
        folder.mkdir()
        any_order(folder, number)


# -- check ------------------------------------------------------------------------------
SECOND = f"""
[sources.branch]
callback_token = "{TOKEN}"
[destinations.other]
mapping = "{{mapping}}"
base_url = "http://{{host}}"
sources = ["branch"]
[destinations.other.secrets]
token = "token"
"""


@pytest.mark.parametrize(
    ("host", "account", "told"),
    [
        ("127.0.0.1:9", "", True),
        ("127.0.0.1:8", "", False),
        ("127.0.0.1:8", "one", True),
    ],
)
def test_check_warns_about_several_sources_in_one_account(
    tmp_path: Path, host: str, account: str, told: bool
) -> None:
    config = write_config(tmp_path, "http://127.0.0.1:9")
    text = config.read_text("utf-8")
    own = load_config(config, {})
    mapping = own.destinations["crm"].mapping
    text = text.replace("[destinations.crm]", '[destinations.crm]\nsources = ["main"]', 1)
    text += SECOND.format(mapping=mapping, host=host)
    if account:
        text = text.replace("base_url = ", f'account = "{account}"\nbase_url = ')
    config.write_text(text, "utf-8")
    found = find_problems(config, environment())
    assert found.problems == ()
    said = [(one.key, one.message) for one in found.warnings if "several sources" in one.message]
    name = account or "sandbox http://127.0.0.1:9"
    message = f'the CRM account "{name}" takes the calls of several sources: main, branch'
    assert said == ([("destinations.other", message)] if told else [])
