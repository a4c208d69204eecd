"""Write policies: what of a call goes into an object that is there; in every order of arrival."""

import html
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.delivery.field_selection import (
    FieldSelection,
    is_settled,
    needs_lookup,
    select_for_new,
    with_newer_event,
    with_possible_writes,
)
from bridge.model.crm_objects import FieldWrite, Fingerprint, KnownObject
from bridge.model.field_digests import digest_of
from bridge.model.field_policies import ShapeMismatch
from bridge.model.plan import PlannedField, PlannedObject
from bridge.model.write_policy import WritePolicy
from tests.fixtures.selections import selected


def contact(shared: Any = True, **fields: Any) -> PlannedObject:
    made = {name: PlannedField(*pair) for name, pair in fields.items()}
    return PlannedObject("contact", "contact", {"key": "a"}, made, shared=shared)


class Held:
    """An object in a CRM, and what we remember of it."""

    def __init__(self, **fields: Any) -> None:
        self.fields = dict(fields)
        self.remembered: KnownObject | None = None
        self.there = bool(fields)

    def take(self, planned: PlannedObject, event: str) -> FieldSelection:
        if self.there:
            chosen = selected(planned, dict(self.fields), self.remembered, event)
        else:
            chosen = select_for_new(planned, event)
        self.there = True
        self.fields |= chosen.fields
        self.remembered = KnownObject("1", b"", {}, chosen.last_writes)
        return chosen


values = st.one_of(st.integers(-5, 5), st.text("ab", min_size=1, max_size=2), st.booleans())
calls = st.dictionaries(st.sampled_from("abcd"), values, max_size=3)


@given(st.lists(calls, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_in_any_order_each_field_ends_with_the_newest_calls_value(
    said: list[dict[str, Any]], chance: Any
) -> None:
    order = list(enumerate(said))
    chance.shuffle(order)
    held = Held()
    for number, fields in order:
        held.take(
            contact(**{name: (value, WritePolicy.ALWAYS) for name, value in fields.items()}), f"{number:03d}"
        )
    expected: dict[str, Any] = {}
    for fields in said:
        expected |= fields
    assert held.fields == expected


@given(
    st.lists(st.text("abc", min_size=1), unique=True, min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_append_adds_each_call_once(texts: list[str], chance: Any) -> None:
    order = list(enumerate(texts))
    chance.shuffle(order)
    held = Held()
    for number, text in order:
        held.take(contact(notes=(text, WritePolicy.APPEND)), f"{number:03d}")
    assert held.fields["notes"].split("\n") == [text for _, text in order]


@given(st.lists(st.integers(), min_size=1, max_size=6))
def test_greatest_is_the_maximum(numbers: list[int]) -> None:
    held = Held()
    for place, number in enumerate(numbers):
        held.take(contact(best=(number, WritePolicy.GREATEST)), f"{place:03d}")
    assert held.fields["best"] == max(numbers)


@pytest.mark.parametrize(
    ("value", "held", "written"),
    [
        (80, "1,234.5", False), ("2000", "1,234.5", True), (7, "6 ", True), ("7.0", 7, False),
        (2**60 + 1, 2**60, True), ("1e3", 999, True), (True, 0, True), ("B", "A", True), ("A", "B", False),
        # A moment, in whatever form the CRM shows it.
        ("2026-11-29T01:00:00Z", "2026-11-29 23:00:00", False),
        ("2026-11-29T01:00:00Z", "2026-11-28 23:00:00", True),
        ("2026-11-29T01:00:00Z", 1795914000000, False),
        ("2026-11-29T01:00:00Z", "2026-11-29T10:00:00+08:00", False),
        ("2026-11-29T01:00:00Z", "2026-11-29T08:00:00+08:00", True),
        (1795914001, "2026-11-29T01:00:00.000+0000", True),
    ],
)  # fmt: skip
def test_greatest_compares_values_by_meaning(value: Any, held: Any, written: bool) -> None:
    chosen = selected(contact(best=(value, WritePolicy.GREATEST)), {"best": held}, None, "1")
    assert ("best" in chosen.fields) is written


@pytest.mark.parametrize(
    ("value", "held", "shape"),
    [
        (80, "12 min", "a text that is no number"),
        (80, "1.234,5", "a text that is no number"),
        ("A", 5, "a number"),
    ],
)
def test_incomparable_values_park(value: Any, held: Any, shape: str) -> None:
    with pytest.raises(ShapeMismatch, match=shape):
        selected(contact(best=(value, WritePolicy.GREATEST)), {"best": held}, None, "1")


@given(st.lists(values.filter(lambda value: value != ""), min_size=1, max_size=5))
def test_if_empty_keeps_the_first(said: list[Any]) -> None:
    held = Held(city=None)
    for place, value in enumerate(said):
        held.take(contact(city=(value, WritePolicy.IF_EMPTY)), f"{place:03d}")
    assert held.fields["city"] == said[0]


@given(st.lists(values, min_size=1, max_size=4), st.lists(values, min_size=1, max_size=4))
def test_unless_edited_never_writes_over_an_edit(before: list[Any], after: list[Any]) -> None:
    held = Held()
    for place, value in enumerate(before):
        held.take(contact(city=(value, WritePolicy.UNLESS_EDITED)), f"a{place:03d}")
    held.fields["city"] = "a person's"
    for place, value in enumerate(after):
        held.take(contact(city=(value, WritePolicy.UNLESS_EDITED)), f"b{place:03d}")
    assert held.fields["city"] == "a person's"


@pytest.mark.parametrize("order", list(permutations([("1", "old"), ("2", "mid"), ("3", "new")])))
def test_unless_edited_is_newest_wins_while_nobody_edits(order: tuple[tuple[str, str], ...]) -> None:
    held = Held()
    for event, value in order:
        held.take(contact(city=(value, WritePolicy.UNLESS_EDITED)), event)
    assert held.fields["city"] == "new"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [(80, "80"), (80, 80.0), (80.0, 80), (1.5, "1.5"), (True, "true"), (True, "True"), ("x", "x"), (None, ""),
     ("12345678901234567890", 12345678901234567890), ([], None)],
)  # fmt: skip
def test_value_shown_in_another_type_is_no_edit(sent: Any, shown: Any) -> None:
    remembered = KnownObject("1", b"", {}, {"city": FieldWrite("1", digest_of(sent))})
    planned = contact(city=("new", WritePolicy.UNLESS_EDITED))
    assert selected(planned, {"city": shown}, remembered, "2").fields == {"city": "new"}


@pytest.mark.parametrize(("sent", "shown"), [(80, 80.5), (80, "81"), ("x", ""), ("x", None), (True, "1x")])
def test_edit_is_recognised(sent: Any, shown: Any) -> None:
    remembered = KnownObject("1", b"", {}, {"city": FieldWrite("1", digest_of(sent))})
    planned = contact(city=("new", WritePolicy.UNLESS_EDITED))
    assert selected(planned, {"city": shown}, remembered, "2").fields == {}


@pytest.mark.parametrize(
    ("held", "added"),
    [("two", False), ("one\ntwo", False), ("one\r\ntwo\r\n", False), ("two\nthree", False), ("twofold", True),
     ("one two", True), (None, True)],
)  # fmt: skip
def test_append_in_doubt_counts_as_done_if_its_text_is_there(held: str | None, added: bool) -> None:
    planned = contact(notes=("two", WritePolicy.APPEND))
    chosen = selected(planned, {"notes": held}, None, "1", in_doubt=True)
    assert (bool(chosen.fields), list(chosen.appended)) == (added, ["notes"])


@pytest.mark.parametrize(
    ("before", "held", "added"),
    [(None, None, True), (None, "first", False), ("x", "x", True), ("x", "x\nfirst", False),
     ("first", "first", True), ("first", "first\nfirst", False), ("first\nfirst", "first\nfirst", True)],
)  # fmt: skip
def test_append_in_doubt_looks_for_the_text_sent_not_the_current_one(
    before: str | None, held: str | None, added: bool
) -> None:
    first, second = (contact(notes=(text, WritePolicy.APPEND)) for text in ("first", "second"))
    sent = selected(first, {"notes": before}, None, "1").appended
    chosen = selected(second, {"notes": held}, None, "1", adding=sent)
    assert (bool(chosen.fields), list(chosen.appended)) == (added, ["notes"])


@pytest.mark.parametrize(("held", "added"), [(["a"], True), (["b", "a"], False), (None, True)])
def test_list_append_in_doubt_looks_for_the_items_sent(held: list[str] | None, added: bool) -> None:
    sent = selected(contact(tags=(["a", "b"], WritePolicy.APPEND)), {}, None, "1").appended
    now = contact(tags=(["c"], WritePolicy.APPEND))
    chosen = selected(now, {"tags": held}, None, "1", adding=sent)
    assert bool(chosen.fields) is added


LONG = "[10:19] Robot:  it's <b>3 &amp 4</b> é 😀 “fine”"


@pytest.mark.parametrize(
    "made",
    [
        str.upper,
        html.escape,
        lambda text: html.escape(html.escape(text)),
        lambda text: " ".join(text.split()),
        lambda text: text.replace("\n", "<br>").replace("é", "e\u0301"),
        lambda text: "".join(f"<p>{line}</p>" for line in text.split("\n")),
        lambda text: text.replace(" ", "\u00a0").replace("'", "’").replace("😀", ""),
    ],
)
@pytest.mark.parametrize("before", [None, "first", LONG, f"{LONG}\nfirst\n{LONG}"])
def test_append_in_doubt_recognises_a_text_the_crm_altered(made: Any, before: str | None) -> None:
    planned = contact(notes=(LONG, WritePolicy.APPEND))
    held = None if before is None else made(before)
    sent = selected(planned, {"notes": held}, None, "1")
    for arrived, shown in ((False, held), (True, made(sent.fields["notes"]))):
        chosen = selected(planned, {"notes": shown}, None, "1", adding=sent.appended)
        assert bool(chosen.fields) is not arrived


def test_short_text_inside_another_is_not_taken_for_the_appended_one() -> None:
    planned = contact(notes=("hot", WritePolicy.APPEND))
    sent = selected(planned, {"notes": "old"}, None, "1").appended
    chosen = selected(planned, {"notes": "old\nhotel"}, None, "1", adding=sent)
    assert chosen.fields == {"notes": "old\nhotel\nhot"}


def test_append_in_doubt_is_recognised_though_the_text_is_now_empty() -> None:
    sent = select_for_new(contact(notes=("first", WritePolicy.APPEND)), "1").appended
    now = contact(notes=(None, WritePolicy.APPEND))
    assert selected(now, {"notes": "first"}, None, "1", adding=sent).appended == sent


def test_a_list_is_appended_item_by_item() -> None:
    planned = contact(tags=(["b", "c"], WritePolicy.APPEND))
    chosen = selected(planned, {"tags": ["a", "b"]}, None, "1")
    assert chosen.fields == {"tags": ["a", "b", "c"]}


def test_full_replacement_update_sends_the_other_fields_too() -> None:
    planned = contact(
        a=("new", WritePolicy.ALWAYS),
        b=("ours", WritePolicy.IF_EMPTY),
        c=("old", WritePolicy.ALWAYS),
        d=(1, WritePolicy.ALWAYS),
    )
    last_writes = {"c": FieldWrite("9", digest_of("newer")), "d": FieldWrite("1", digest_of(1))}
    remembered = KnownObject("1", b"", {}, last_writes)
    chosen = selected(planned, {"b": "theirs", "c": "newer"}, remembered, "5", whole=True)
    assert (chosen.fields, chosen.kept) == ({"a": "new"}, {"a": "new", "b": "theirs", "c": "newer", "d": 1})
    assert chosen.last_writes["c"].event == "9"


def test_equal_values_advance_only_the_marks_of_fields_the_call_has() -> None:
    last_writes = {"a": FieldWrite("1", b"x"), "b": FieldWrite("1", b"y"), "c": FieldWrite("9", b"z")}
    planned = contact(a=(1, WritePolicy.ALWAYS), c=(1, WritePolicy.ALWAYS))
    found = with_newer_event(KnownObject("1", b"", {}, last_writes), planned, "5").last_writes
    assert {name: mark.event for name, mark in found.items()} == {"a": "5", "b": "1", "c": "9"}


def test_unchanged_fields_cost_no_request() -> None:
    planned = contact(
        a=(1, WritePolicy.ALWAYS), notes=("x", WritePolicy.APPEND), none=(None, WritePolicy.APPEND)
    )
    remembered = KnownObject("1", b"", {}, {"a": FieldWrite("1", digest_of(1))})
    assert is_settled(planned, remembered, {"notes": Fingerprint(0, 1, b"")})
    assert not is_settled(planned, remembered, {})
    assert not is_settled(contact(a=(2, WritePolicy.ALWAYS)), remembered, {})
    assert needs_lookup(planned)


def test_object_of_one_call_gets_all_its_fields() -> None:
    planned = contact(shared=False, a=(1, WritePolicy.ALWAYS), b=(2, WritePolicy.CREATE))
    assert selected(planned, None, None, "1").fields == {"a": 1}
    assert select_for_new(planned, "1").fields == {"a": 1, "b": 2}


@pytest.mark.parametrize("known", [None, b"", digest_of("A")])
def test_refused_value_is_sent_again_though_known_before(known: bytes | None) -> None:
    # Nothing was known after a replay by force, or nothing was ever sent.
    last_writes = {} if known is None else {"grade": FieldWrite("000", known)}
    planned, held = contact(grade=("hot", WritePolicy.ALWAYS)), {"grade": "A"}
    remembered = KnownObject("1", last_writes=last_writes)
    for _ in range(3):
        chosen = selected(planned, held, remembered, "001")
        assert chosen.fields == {"grade": "hot"}
        remembered = with_possible_writes(remembered, planned, chosen.fields)
    assert len(remembered.last_writes.get("grade", FieldWrite("", b"")).digest) <= 16


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("known", [None, digest_of("A")])
def test_value_that_may_have_arrived_counts_as_ours(arrived: bool, known: bytes | None) -> None:
    planned = contact(grade=("B", WritePolicy.UNLESS_EDITED))
    last_writes = {} if known is None else {"grade": FieldWrite("000", known)}
    remembered = with_possible_writes(KnownObject("1", last_writes=last_writes), planned, {"grade": "B"})
    held = "B" if arrived else "" if known is None else "A"
    newer = contact(grade=("C", WritePolicy.UNLESS_EDITED))
    chosen = selected(newer, {"grade": held}, remembered, "002")
    assert chosen.fields == {"grade": "C"}
    edited = selected(newer, {"grade": "by hand"}, remembered, "002")
    assert edited.fields == {}
