"""A mapping that changes its write policy: every policy after every other, whatever the CRM holds by then."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bridge.delivery.field_selection import FieldSelection, select_for_new, with_possible_writes
from bridge.ledger.sqlite.object_packing import SHORTS, names_in, pack_memory, unpack_memory
from bridge.model.crm_objects import FieldWrite, KnownObject
from bridge.model.field_digests import SHORT_SIZE, digest_of, sent_last, short_of
from bridge.model.plan import PlannedField, PlannedObject
from bridge.model.write_policy import WritePolicy
from tests.fixtures.selections import selected

# Of one call, at its time; a later revision of it says something else.
EVENT, OTHER = "001 call-a", "002 call-b"
SENT, NEWER = "5", "7"
HELD = {"ours": SENT, "a person's": "3", "nothing": ""}


def planned(write: WritePolicy, value: Any, *, shared: bool) -> PlannedObject:
    default = "5" if write is WritePolicy.WHILE_DEFAULT else None
    field = PlannedField(value, write, default=default)
    return PlannedObject("thing", "thing", {"key": "a"}, {"field": field}, shared=shared)


def kept(remembered: KnownObject) -> KnownObject:
    """What the ledger gives back of it."""
    numbers = {name: number for number, name in enumerate(names_in([remembered]), 1)}
    packed = pack_memory(remembered, numbers)
    return unpack_memory(remembered.crm_id, b"", packed, {number: name for name, number in numbers.items()})


def after(old: WritePolicy, *, shared: bool) -> tuple[KnownObject, FieldSelection]:
    """An object that one call has made under a policy."""
    chosen = select_for_new(planned(old, SENT, shared=shared), EVENT)
    return kept(KnownObject("1", b"", {}, chosen.last_writes)), chosen


def expected(new: WritePolicy, held: str, value: str) -> dict[str, Any]:
    """What a revision of the same call sends to an object that it made under another policy."""
    theirs, nothing = held == HELD["a person's"], held == ""
    written: dict[WritePolicy, bool] = {
        WritePolicy.ALWAYS: True,
        WritePolicy.CREATE: False,
        WritePolicy.IF_EMPTY: nothing,
        # What was sent under any policy is ours, until a person edits it.
        WritePolicy.UNLESS_EDITED: not theirs and not nothing,
        # It wrote the field before: each call once.
        WritePolicy.APPEND: False,
        WritePolicy.GREATEST: nothing or value > held,
        WritePolicy.WHILE_DEFAULT: not theirs,
    }
    return {"field": value} if written[new] else {}


def cells() -> Iterator[tuple[WritePolicy, WritePolicy, str, bool]]:
    for old in WritePolicy:
        for new in WritePolicy:
            if new is not old:
                for held in HELD:
                    for shared in (True, False):
                        yield old, new, held, shared


@pytest.mark.parametrize(("old", "new", "held", "shared"), list(cells()))
def test_every_policy_can_follow_every_other(
    old: WritePolicy, new: WritePolicy, held: str, shared: bool
) -> None:
    remembered, _ = after(old, shared=shared)
    present = {"field": HELD[held]}
    chosen = selected(planned(new, NEWER, shared=shared), present, remembered, EVENT)
    assert chosen.fields == expected(new, HELD[held], NEWER)


@pytest.mark.parametrize("old", list(WritePolicy))
@pytest.mark.parametrize("shared", [True, False])
def test_edit_after_a_policy_change_is_kept(old: WritePolicy, shared: bool) -> None:
    remembered, _ = after(old, shared=shared)
    first = selected(
        planned(WritePolicy.UNLESS_EDITED, NEWER, shared=shared),
        {"field": SENT},
        remembered,
        EVENT,
    )
    assert first.fields == {"field": NEWER}
    left = kept(KnownObject("1", b"", {}, first.last_writes))
    again = planned(WritePolicy.UNLESS_EDITED, "9", shared=shared)
    assert selected(again, {"field": "by hand"}, left, EVENT).fields == {}
    assert selected(again, {"field": NEWER}, left, EVENT).fields == {"field": "9"}


@pytest.mark.parametrize("old", [write for write in WritePolicy if write is not WritePolicy.APPEND])
def test_older_call_never_overwrites_a_newer_one_after_a_change(old: WritePolicy) -> None:
    remembered, _ = after(old, shared=True)
    older = planned(WritePolicy.UNLESS_EDITED, "older", shared=True)
    assert selected(older, {"field": SENT}, remembered, "000 call-z").fields == {}


@pytest.mark.parametrize("old", [WritePolicy.ALWAYS, WritePolicy.CREATE, WritePolicy.UNLESS_EDITED])
def test_append_after_a_change_keeps_the_value_of_the_first_call(old: WritePolicy) -> None:
    remembered, _ = after(old, shared=True)
    theirs = planned(WritePolicy.APPEND, "theirs", shared=True)
    chosen = selected(theirs, {"field": SENT}, remembered, OTHER)
    assert chosen.fields == {"field": f"{SENT}\ntheirs"}


def test_text_appended_to_a_users_text_is_never_only_ours() -> None:
    append = planned(WritePolicy.APPEND, "a", shared=True)
    with_theirs = selected(append, {"field": "by hand"}, None, EVENT)
    left = kept(KnownObject("1", b"", {}, with_theirs.last_writes))
    newer = planned(WritePolicy.UNLESS_EDITED, "new", shared=True)
    held = dict(with_theirs.fields)
    assert held == {"field": "by hand\na"}
    assert selected(newer, held, left, EVENT).fields == {}


def test_text_appended_only_by_calls_is_ours() -> None:
    first = selected(planned(WritePolicy.APPEND, "a", shared=True), {}, None, EVENT)
    left = kept(KnownObject("1", b"", {}, first.last_writes))
    append = planned(WritePolicy.APPEND, "b", shared=True)
    second = selected(append, dict(first.fields), left, OTHER)
    left = kept(KnownObject("1", b"", {}, second.last_writes))
    newer = planned(WritePolicy.UNLESS_EDITED, "new", shared=True)
    assert selected(newer, {"field": "a\nb"}, left, OTHER).fields == {"field": "new"}


def test_value_unknown_to_an_older_ledger_is_kept() -> None:
    nothing = KnownObject("1", b"told")
    newer = planned(WritePolicy.UNLESS_EDITED, NEWER, shared=False)
    assert selected(newer, {"field": SENT}, nothing, EVENT).fields == {}
    # Once it shows what the call says, it is ours.
    same = planned(WritePolicy.UNLESS_EDITED, SENT, shared=False)
    left = kept(
        KnownObject(
            "1",
            b"",
            {},
            selected(same, {"field": SENT}, nothing, EVENT).last_writes,
        )
    )
    assert selected(newer, {"field": SENT}, left, EVENT).fields == {"field": NEWER}


def test_value_that_may_have_arrived_is_ours_after_a_change_too() -> None:
    remembered, _ = after(WritePolicy.ALWAYS, shared=False)
    always = planned(WritePolicy.ALWAYS, NEWER, shared=False)
    doubtful = kept(with_possible_writes(remembered, always, {"field": NEWER}))
    newest = planned(WritePolicy.UNLESS_EDITED, "9", shared=False)
    for held, written in ((SENT, True), (NEWER, True), ("by hand", False)):
        chosen = selected(newest, {"field": held}, doubtful, EVENT)
        assert bool(chosen.fields) is written, held


# -- how it is kept ------------------------------------------------------------------------------


def test_an_object_of_one_call_keeps_four_bytes_a_field() -> None:
    last_writes = {f"field{number}": FieldWrite("", short_of(number)) for number in range(20)}
    numbers = {name: number for number, name in enumerate([*last_writes, SHORTS, "link"])}
    remembered = KnownObject("1", b"", {"link": "9"}, last_writes)
    packed = pack_memory(remembered, numbers)
    assert packed is not None
    assert len(packed) <= 20 * (SHORT_SIZE + 1) + 20
    names = {number: name for name, number in numbers.items()}
    assert unpack_memory("1", b"", packed, names) == remembered


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 70_000])
def test_many_field_numbers_are_still_told_apart(number: int) -> None:
    numbers = {"a": number, SHORTS: number + 1, "b": number + 2}
    remembered = KnownObject(
        "1", b"", {}, {"a": FieldWrite("", short_of("x")), "b": FieldWrite("e", digest_of("y"))}
    )
    packed = pack_memory(remembered, numbers)
    assert unpack_memory("1", b"", packed, {each: name for name, each in numbers.items()}) == remembered
    assert sent_last(remembered.last_writes["a"].digest, "x")


def test_previous_release_can_still_read_packed_field_marks() -> None:
    last_writes = {"a": FieldWrite("", short_of("x"))}
    packed = pack_memory(KnownObject("1", b"", {}, last_writes), {"a": 1, SHORTS: 2})
    assert packed is not None
    # Its own shape: links, and event → field → digest.
    links, events = msgspec.msgpack.decode(packed, type=tuple[dict[int, str], dict[str, dict[int, bytes]]])
    assert (links, list(events), list(events[""])) == ({}, [""], [2])


# -- while the CRM still holds the mapping's own default --------------------------------------------


def name(value: str, default: Any = "未知", *, shared: bool = True) -> PlannedObject:
    field = PlannedField(value, WritePolicy.WHILE_DEFAULT, default=default)
    return PlannedObject("contact", "contact", {"key": "a"}, {"name": field}, shared=shared)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("held", "said", "written"),
    [
        ("未知", "王芳", True),
        ("", "王芳", True),
        (None, "未知", True),
        ("王小姐", "王芳", False),
        ("王小姐", "未知", False),
        ("未知", "未知", False),
        ("王芳", "王芳", False),
        ("未知 ", "王芳", False),
    ],
)
def test_while_default_replaces_only_the_default(
    held: str | None, said: str, written: bool, shared: bool
) -> None:
    chosen = selected(name(said, shared=shared), {"name": held}, None, EVENT)
    assert chosen.fields == ({"name": said} if written else {})


@pytest.mark.parametrize(("default", "held"), [(0, "0"), (0, 0.0), (False, "false"), ("0", 0)])
def test_default_shown_in_another_type_is_still_the_default(default: Any, held: Any) -> None:
    chosen = selected(name("x", default), {"name": held}, None, EVENT)
    assert chosen.fields == {"name": "x"}


def test_first_call_with_a_real_value_wins_in_every_order() -> None:
    held: dict[str, Any] = dict(select_for_new(name("未知"), "002 b").fields)
    older = selected(name("王芳"), held, None, "001 a")
    assert older.fields == {"name": "王芳"}
    left = KnownObject("1", b"", {}, older.last_writes)
    for event in ("000 z", "003 c"):
        assert selected(name("李强"), older.fields, left, event).fields == {}
        assert selected(name("未知"), older.fields, left, event).fields == {}


def test_call_without_a_default_fills_only_an_empty_field() -> None:
    assert selected(name("x", None), {"name": "未知"}, None, EVENT).fields == {}
    assert selected(name("x", None), {"name": ""}, None, EVENT).fields == {"name": "x"}
