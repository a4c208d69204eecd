"""Which connection goes when there is no room, and what an address is."""

import random
from collections import Counter
from ipaddress import ip_network

import pytest

from bridge.intake.connections import ConnectionTable
from bridge.lib.addresses import client_address, limit_key

MOST, EACH = 20, 8


def filled(addresses: str) -> ConnectionTable[str]:
    table: ConnectionTable[str] = ConnectionTable(MOST)
    for number, address in enumerate(addresses):
        assert table.open(f"{address}{number}", address, EACH) is None
    return table


def test_address_at_its_limit_loses_its_oldest_idle_connection() -> None:
    table = filled("aaaaaaaabb")
    table.begin("a0")
    table.answer("a1")
    assert table.open("new", "a", EACH) == "a2"
    assert len(table) == 10
    # One that was silent again last is the youngest.
    table.rest("a1")
    assert [table.open(f"n{number}", "a", EACH) for number in range(6)] == [
        "a3",
        "a4",
        "a5",
        "a6",
        "a7",
        "new",
    ]
    assert table.open("m", "a", EACH) == "a1"


def test_slow_request_is_closed_if_none_is_idle_an_answer_never() -> None:
    table = filled("aaaaaaaa")
    for number in range(8):
        table.begin(f"a{number}")
    table.answer("a0")
    assert table.open("new", "a", EACH) == "a1"
    for number in range(2, 8):
        table.answer(f"a{number}")
    table.begin("new")
    table.answer("new")
    assert table.open("last", "a", EACH) == "last"
    assert len(table) == 8


def test_full_table_closes_a_connection_of_the_most_crowded_address() -> None:
    table = filled("abbbbbbbbccccccccddd")
    assert table.open("new", "e", EACH) == "b1"
    assert table.open("new2", "e", EACH) == "c9"
    # Who has few keeps them.
    table.close("a0")
    assert table.open("a9", "a", EACH) is None


@pytest.mark.parametrize("seed", range(5))
def test_counts_stay_right_after_any_sequence(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 -- a test's
    table: ConnectionTable[int] = ConnectionTable(MOST)
    live: dict[int, str] = {}
    for number in range(2000):
        match rng.choice(["open", "open", "close", "begin", "answer", "rest"]):
            case "open":
                address = rng.choice("abcdefgh")
                victim = table.open(number, address, EACH)
                live[number] = address
                if victim is not None:
                    del live[victim]
            case act:
                if live:
                    one = rng.choice(list(live))
                    getattr(table, act)(one)
                    if act == "close":
                        del live[one]
        assert len(table) == len(live) <= MOST
        assert max(Counter(live.values()).values(), default=0) <= EACH
    for one in list(live):
        table.close(one)
    assert len(table) == 0
    assert table._peers == {}


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_limits_count_ipv6_by_64_bit_prefix(peer: str, key: str) -> None:
    assert limit_key(peer) == key


def test_forwarded_address_counts_only_behind_a_trusted_proxy() -> None:
    headers = [(b"x-forwarded-for", b"192.0.2.7, 198.51.100.1")]
    assert str(client_address("127.0.0.1", headers, [ip_network("127.0.0.0/8")])) == "198.51.100.1"
    assert str(client_address("127.0.0.1", headers, [])) == "127.0.0.1"
    assert client_address(None, headers, []) is None
