"""Which call is it? The names that a record gives."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.record.identity import IdentityConflict, is_uuid
from bridge.source.outcall.names import call_names_of

ONE = "db57f262-18d6-11f0-88c8-2f2b0aba51d7"
NIL = "00000000-0000-0000-0000-000000000000"
TWO = "00000000-18d6-11f0-88c8-2f2b0aba51d7"


@pytest.mark.parametrize(
    ("uuid", "base_info", "names"),
    [
        (ONE, None, (ONE,)),
        (ONE.upper(), "", (ONE,)),
        (f"  {ONE} ", None, (ONE,)),
        (None, ONE, (ONE,)),
        ("", f"{ONE.upper()}_20250414101921_zzh", (ONE,)),
        (ONE, f"{ONE}_suffix", (ONE,)),
        (ONE.upper(), f" {ONE}", (ONE,)),
        # base_info whole where it starts with no UUID.
        (None, "Call-17", ("call-17",)),
        (None, f"x{ONE}", (f"x{ONE}",)),
        (None, ONE[:-1], (ONE[:-1],)),
        (None, ONE.replace("-", ""), (ONE.replace("-", ""),)),
        (ONE, "call-17", (ONE, "call-17")),
        # A uuid that is none is a name like another.
        ("Call-17", None, ("call-17",)),
        ("call-17", "CALL-17", ("call-17",)),
        ("call-17", f"{ONE}_x", ("call-17", ONE)),
        (17, "17", ("17",)),
        (0, None, ("0",)),
        (2**70, None, (str(2**70),)),
        # A decimal of a number is the number.
        (17.0, None, ("17",)),
        (1e19, "10000000000000000000", (str(10**19),)),
        # What stands for no name is none: calls that share it are not one call.
        (NIL, None, ()),
        (NIL.upper(), f"{NIL}out", ()),
        (NIL, f"{ONE}out", (ONE,)),
        (ONE, f"{NIL}out", (ONE,)),
        ("null", "undefined", ()),
        (" NULL ", "N/A", ()),
        ("none-17", "-", ("none-17",)),
        # No names at all.
        (None, None, ()),
        ("", "  ", ()),
        (True, False, ()),
        ([ONE], {"uuid": ONE}, ()),
        ("\u3000", None, ()),
    ],
)
def test_names_of_a_record(uuid: Any, base_info: Any, names: tuple[str, ...]) -> None:
    assert call_names_of(uuid, base_info) == names


@pytest.mark.parametrize("base_info", [TWO, TWO.upper(), f"{TWO}_suffix", f" {TWO}"])
def test_two_uuids_on_one_record_are_a_conflict(base_info: str) -> None:
    with pytest.raises(IdentityConflict) as conflict:
        call_names_of(ONE.upper(), base_info)
    assert ONE in str(conflict.value)
    assert TWO in str(conflict.value)


def test_giant_name_is_shortened_and_still_distinct() -> None:
    names = {call_names_of("x" * 1_000_000 + end, None) for end in ("", "a", "b")}
    assert len(names) == 3
    assert all(len(name) < 300 for (name,) in names)
    assert call_names_of("X" * 1_000_000, None) in names
    (longest,) = call_names_of("y" * 200, None)
    assert longest == "y" * 200


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_name_with_half_a_surrogate_pair_can_be_stored(text: str) -> None:
    (name,) = call_names_of(text, None)
    assert name.encode()
    assert call_names_of(None, text) == (name,)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (ONE, True),
        (ONE.upper(), False),
        (f"{ONE}x", False),
        (f"{ONE}\n", False),
        ("call-17", False),
        ("", False),
    ],
)
def test_is_uuid_recognises_uuids(name: str, *, expected: bool) -> None:
    assert is_uuid(name) is expected


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None))


@given(anything | st.uuids().map(str), anything | st.uuids().map(str))
def test_names_are_distinct_lower_case_and_storable(uuid: Any, base_info: Any) -> None:
    try:
        names = call_names_of(uuid, base_info)
    except IdentityConflict:
        assert str(uuid) != str(base_info)
        return
    assert len(names) == len(set(names)) <= 2
    assert all(name and name.encode() and len(name) < 300 for name in names)
    for name in names:
        # The ledger asks again by the name it has stored.
        assert call_names_of(name, None) == (name,)
