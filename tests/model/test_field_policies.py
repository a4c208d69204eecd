"""Write policies: what each decides about one field, from what a call says, a CRM holds and was sent last."""

from typing import Any

import pytest

from bridge.model.appending import fingerprint_of, standing_anywhere
from bridge.model.crm_alterations import Alteration
from bridge.model.crm_objects import FieldWrite, Fingerprint
from bridge.model.field_digests import NOTHING, digest_of, short_of, with_altered
from bridge.model.field_policies import (
    LEFT_ALONE,
    POLICIES,
    FieldChoice,
    FieldView,
    SendingCall,
    ShapeMismatch,
    policy_named,
)
from bridge.model.plan import PlannedField
from bridge.model.write_policy import WritePolicy

OLDER, NOW, NEWER = "001 call-a", "002 call-b", "003 call-c"
ALWAYS, CREATE, IF_EMPTY, UNLESS_EDITED, APPEND, GREATEST, WHILE_DEFAULT = (
    WritePolicy.ALWAYS,
    WritePolicy.CREATE,
    WritePolicy.IF_EMPTY,
    WritePolicy.UNLESS_EDITED,
    WritePolicy.APPEND,
    WritePolicy.GREATEST,
    WritePolicy.WHILE_DEFAULT,
)
SAYS = "new"
SENT = FieldChoice(SAYS, send=True, is_ours=True)
SENT_OR_KEPT = FieldChoice(SAYS, send=True, is_ours=True, goes_along=True)
KEPT = FieldChoice(SAYS, is_ours=True, goes_along=True)
HELD_BY_CHANCE = FieldChoice(SAYS, is_ours=True)


def wrote(value: Any, event: str = OLDER) -> FieldWrite:
    return FieldWrite(event, digest_of(value))


def choice(
    policy: WritePolicy,
    value: Any,
    held: Any,
    last_write: FieldWrite | None = None,
    *,
    shared: bool = True,
    **more: Any,
) -> FieldChoice:
    call = SendingCall(NOW, shared, in_doubt=more.pop("in_doubt", False))
    field = PlannedField(value, policy, default=more.pop("default", None))
    return POLICIES[policy].choose(FieldView("city", field, held, last_write, call, **more))


def test_defaults_leave_a_field_alone_and_nothing_in_doubt() -> None:
    assert FieldChoice(None, False, False, False, None, None, False) == LEFT_ALONE
    assert not SendingCall(NOW, shared=True).in_doubt
    assert not FieldView("city", PlannedField(SAYS), None, None, SendingCall(NOW, shared=True)).is_added


def test_every_write_policy_has_its_own_class() -> None:
    assert list(POLICIES) == [each.policy for each in POLICIES.values()]
    assert set(POLICIES) == set(WritePolicy)
    assert len({each.written for each in POLICIES.values()}) == len(POLICIES)


@pytest.mark.parametrize("word", [*WritePolicy])
def test_a_policy_is_known_by_its_word(word: WritePolicy) -> None:
    assert policy_named(word.value) is POLICIES[word]


@pytest.mark.parametrize("word", ["", "Always", None, 7, ["always"], {"always": 1}])
def test_no_other_word_names_a_policy(word: object) -> None:
    assert policy_named(word) is None


@pytest.mark.parametrize(
    ("policy", "looks", "looks_to_upsert", "newest_wins", "can_clear", "spots_edits"),
    [
        (ALWAYS, False, False, True, True, False),
        (CREATE, False, True, False, False, False),
        (IF_EMPTY, True, True, False, False, False),
        (UNLESS_EDITED, True, True, True, True, True),
        (APPEND, True, True, False, False, False),
        (GREATEST, True, True, False, False, False),
        (WHILE_DEFAULT, True, True, False, False, False),
    ],
)
def test_needs_and_allowances_of_each_policy(
    policy: WritePolicy,
    looks: bool,
    looks_to_upsert: bool,
    newest_wins: bool,
    can_clear: bool,
    spots_edits: bool,
) -> None:
    one = POLICIES[policy]
    assert (one.needs_lookup(upserts=False), one.needs_lookup(upserts=True)) == (looks, looks_to_upsert)
    assert (one.newest_wins, one.can_clear, one.spots_edits) == (newest_wins, can_clear, spots_edits)
    assert one.takes_separator is (policy is APPEND)
    assert one.needs_default is (policy is WHILE_DEFAULT)


@pytest.mark.parametrize("policy", [*WritePolicy])
def test_new_object_notes_only_appended_fields_as_added(policy: WritePolicy) -> None:
    field = PlannedField("text", policy)
    expected = fingerprint_of(field, None) if policy is APPEND else None
    assert POLICIES[policy].added_to_new(field) == expected
    assert POLICIES[policy].added_to_new(PlannedField("", policy)) is None


@pytest.mark.parametrize(
    ("policy", "value", "last_write", "is_added", "settled"),
    [
        (ALWAYS, SAYS, None, False, True),
        (ALWAYS, SAYS, wrote(SAYS, NEWER), False, True),
        (ALWAYS, SAYS, wrote("other"), False, False),
        (UNLESS_EDITED, SAYS, wrote("other"), False, False),
        (IF_EMPTY, SAYS, wrote("other"), False, True),
        (APPEND, SAYS, None, False, False),
        (APPEND, SAYS, None, True, True),
        (APPEND, None, None, False, True),
        (APPEND, [], None, False, True),
    ],
)
def test_fields_that_need_no_request(
    policy: WritePolicy, value: Any, last_write: FieldWrite | None, is_added: bool, settled: bool
) -> None:
    field = PlannedField(value, policy)
    assert POLICIES[policy].is_settled(field, last_write, is_added=is_added) is settled


@pytest.mark.parametrize(
    ("last_write", "shared", "expected"),
    [
        (None, True, SENT_OR_KEPT),
        (wrote("old"), True, SENT_OR_KEPT),
        (wrote(SAYS), True, KEPT),
        (wrote("newer", NEWER), True, LEFT_ALONE),
        (wrote("old", NOW), True, SENT_OR_KEPT),
        (None, False, SENT),
        (wrote("newer", NEWER), False, SENT),
        (wrote(SAYS), False, SENT),
    ],
)
def test_always_writes_the_newest_value(
    last_write: FieldWrite | None, shared: bool, expected: FieldChoice
) -> None:
    for held in ("theirs", {"a": "table"}, None):
        assert choice(ALWAYS, SAYS, held, last_write, shared=shared) == expected


@pytest.mark.parametrize(
    ("held", "last_write", "expected"),
    [
        (None, None, LEFT_ALONE),
        ("theirs", None, LEFT_ALONE),
        (SAYS, None, HELD_BY_CHANCE),
        (SAYS, wrote("old"), LEFT_ALONE),
    ],
)
def test_create_writes_nothing_over_what_is_there(
    held: Any, last_write: FieldWrite | None, expected: FieldChoice
) -> None:
    assert choice(CREATE, SAYS, held, last_write) == expected


@pytest.mark.parametrize(
    ("value", "held", "last_write", "expected"),
    [
        (SAYS, None, None, SENT),
        (SAYS, "", wrote("old"), SENT),
        (SAYS, [], None, SENT),
        (SAYS, "theirs", None, LEFT_ALONE),
        (SAYS, ["theirs"], None, LEFT_ALONE),
        (SAYS, SAYS, None, HELD_BY_CHANCE),
        (SAYS, SAYS, wrote("old"), LEFT_ALONE),
        (None, None, None, LEFT_ALONE),
        ("", "theirs", None, LEFT_ALONE),
    ],
)
def test_if_empty_fills_only_an_empty_field(
    value: Any, held: Any, last_write: FieldWrite | None, expected: FieldChoice
) -> None:
    assert choice(IF_EMPTY, value, held, last_write) == expected


@pytest.mark.parametrize(
    ("held", "last_write", "shared", "expected"),
    [
        (None, None, True, SENT_OR_KEPT),
        ("theirs", None, True, LEFT_ALONE),
        (SAYS, None, True, SENT_OR_KEPT),
        ("old", wrote("old"), True, SENT_OR_KEPT),
        ("theirs", wrote("old"), True, LEFT_ALONE),
        (None, wrote("old"), True, LEFT_ALONE),
        ("old", wrote("old", NEWER), True, LEFT_ALONE),
        (SAYS, wrote(SAYS), True, KEPT),
        (None, None, False, SENT),
        ("old", wrote("old", NEWER), False, SENT),
        ("theirs", wrote("old"), False, LEFT_ALONE),
        # What may have arrived counts as ours, too.
        (SAYS, FieldWrite("", NOTHING + digest_of(SAYS)), True, SENT_OR_KEPT),
        ("", FieldWrite("", NOTHING + digest_of(SAYS)), True, SENT_OR_KEPT),
    ],
)
def test_unless_edited_keeps_a_users_edit(
    held: Any, last_write: FieldWrite | None, shared: bool, expected: FieldChoice
) -> None:
    assert choice(UNLESS_EDITED, SAYS, held, last_write, shared=shared) == expected


def test_value_altered_by_the_crm_is_no_edit_and_is_reported() -> None:
    spaced = choice(UNLESS_EDITED, "a  b", "a b", wrote("a  b"))
    assert (spaced.is_ours, spaced.send, spaced.altered) == (True, False, ("a b", Alteration.SPACES))
    # Shorter by a person, or by the CRM: only the first look after a lost answer takes it for the CRM's.
    assert choice(UNLESS_EDITED, "a long text", "a long", wrote("a long text")) == LEFT_ALONE
    unsettled = FieldWrite("", NOTHING + digest_of("a long text"))
    cut = choice(UNLESS_EDITED, "a long text", "a long", unsettled)
    assert (cut.send, cut.altered) == (True, ("a long", Alteration.SHORTENED))
    # Once it is known what the CRM makes of it, anything else is an edit.
    known = FieldWrite(OLDER, with_altered(digest_of("a  b"), "a b", Alteration.SPACES))
    assert choice(UNLESS_EDITED, "a  b", "a   b", known) == LEFT_ALONE


@pytest.mark.parametrize(
    ("value", "held", "last_write", "written"),
    [
        (SAYS, None, None, True),
        (SAYS, "default", None, True),
        (SAYS, "theirs", None, False),
        (SAYS, SAYS, None, False),
        (None, None, None, False),
        (SAYS, "DEFAULT", wrote("default"), True),
        (SAYS, "DEFAULT", None, False),
        (SAYS, "DEFAULT", wrote("other"), False),
        (SAYS, "theirs", wrote("default"), False),
        ("default", "default", None, False),
        ("default", "default", wrote("default"), False),
    ],
)
def test_while_default_replaces_only_the_default(
    value: Any, held: Any, last_write: FieldWrite | None, written: bool
) -> None:
    assert choice(WHILE_DEFAULT, value, held, last_write, default="default").send is written


@pytest.mark.parametrize(
    ("held", "written"), [("", True), (None, True), ([], True), ("theirs", False), (0, False)]
)
def test_while_default_without_a_default_fills_only_an_empty_field(held: Any, written: bool) -> None:
    assert choice(WHILE_DEFAULT, SAYS, held).send is written


@pytest.mark.parametrize(
    ("value", "held", "last_write", "expected"),
    [
        (7, 5, None, FieldChoice(7, send=True, is_ours=True)),
        (7, None, None, FieldChoice(7, send=True, is_ours=True)),
        (7, 9, None, LEFT_ALONE),
        (7, "7.0", None, LEFT_ALONE),
        (7, 7, None, FieldChoice(7, is_ours=True)),
        (7, 7, wrote(5), LEFT_ALONE),
        (None, 5, None, LEFT_ALONE),
        # What we sent is compared, whatever its shape.
        (7, "a text", wrote("a text"), LEFT_ALONE),
    ],
)
def test_greatest_keeps_the_maximum(
    value: Any, held: Any, last_write: FieldWrite | None, expected: FieldChoice
) -> None:
    assert choice(GREATEST, value, held, last_write) == expected


OURS = PlannedField("ours", APPEND)


def test_append_adds_after_the_text_of_others_and_keeps_it() -> None:
    added = choice(APPEND, "ours", "theirs")
    assert added == FieldChoice(
        "theirs\nours", send=True, added=fingerprint_of(OURS, "theirs"), is_mixed=True
    )


@pytest.mark.parametrize(("held", "last_write"), [(None, None), ("", wrote("x")), ("a", wrote("a"))])
def test_text_appended_to_our_own_is_ours_entirely(held: Any, last_write: FieldWrite | None) -> None:
    added = choice(APPEND, "ours", held, last_write)
    text = f"{held}\nours" if held else "ours"
    assert added == FieldChoice(text, send=True, is_ours=True, added=fingerprint_of(OURS, held))


def test_append_adds_each_call_once() -> None:
    assert choice(APPEND, "ours", "theirs", is_added=True) == LEFT_ALONE
    assert choice(APPEND, None, "theirs") == LEFT_ALONE
    sent = fingerprint_of(PlannedField("said then", APPEND), "theirs")
    assert choice(APPEND, "ours", "theirs\nsaid then", adding=sent) == FieldChoice(added=sent)
    assert choice(APPEND, None, "theirs\nsaid then", adding=sent) == FieldChoice(added=sent)
    assert choice(APPEND, "ours", "theirs", adding=sent).send
    # What was sent is not there: that the text of today stands there is somebody else's doing.
    assert choice(APPEND, "ours", "theirs\nours", adding=sent, in_doubt=True).send


def test_append_in_doubt_looks_for_the_text_sent_then() -> None:
    theirs = fingerprint_of(OURS, "ours")
    # It stands there once, as it did before: nothing of this call has arrived.
    assert choice(APPEND, "ours", "ours", adding=theirs, in_doubt=True).value == "ours\nours"
    assert choice(APPEND, "ours", "ours\nours", adding=theirs) == FieldChoice(added=theirs)


@pytest.mark.parametrize(("in_doubt", "sends"), [(True, False), (False, True)])
def test_append_in_doubt_counts_as_done_if_its_text_is_there(in_doubt: bool, sends: bool) -> None:
    found = choice(APPEND, "ours", "theirs\nours", in_doubt=in_doubt)
    assert found.send is sends
    assert choice(APPEND, "ours", "theirs", in_doubt=in_doubt).send
    if in_doubt:
        assert found == FieldChoice(added=standing_anywhere(fingerprint_of(OURS, "theirs\nours")))


@pytest.mark.parametrize(
    ("event", "shared", "sends"),
    [(NOW, True, False), ("001 call-b", True, False), (OLDER, True, True), (OLDER, False, False)],
)
def test_value_written_under_another_policy_is_not_appended(event: str, shared: bool, sends: bool) -> None:
    found = choice(APPEND, "ours", "ours", FieldWrite(event, short_of("ours")), shared=shared)
    assert found.send is sends
    assert found.added is not None


def test_empty_text_is_not_taken_for_one_this_call_wrote() -> None:
    assert choice(APPEND, None, "ours", wrote("ours", NOW)) == LEFT_ALONE


def test_sent_append_is_looked_for_though_the_call_wrote_the_field() -> None:
    sent = fingerprint_of(PlannedField("said then", APPEND), "theirs")
    assert choice(APPEND, "ours", "theirs", wrote("x", NOW), adding=sent).send


def test_default_altered_by_the_crm_is_still_the_default() -> None:
    replaced = FieldWrite(OLDER, with_altered(digest_of("default"), "another word", Alteration.REPLACED))
    assert choice(WHILE_DEFAULT, SAYS, "another word", replaced, default="default").send


@pytest.mark.parametrize(
    ("event", "last_event", "shared", "wrote_it"),
    [
        ("002 call-b", "002 call-b", True, True),
        ("002 call-b", "001 call-b", True, True),
        ("002 call-b", "002 call-a", True, False),
        ("002 call-b", "", True, False),
        # An event without a time is its call's key alone.
        ("call-b", "002 call-b", True, True),
        ("call-b", "call-a", True, False),
        # Whatever was written to an object of one call, that call wrote.
        ("002 call-b", "001 call-a", False, True),
        ("002 call-b", "", False, True),
    ],
)
def test_field_mark_with_a_calls_key_was_written_by_that_call(
    event: str, last_event: str, shared: bool, wrote_it: bool
) -> None:
    assert SendingCall(event, shared).wrote(FieldWrite(last_event, b"")) is wrote_it


def test_forced_replay_appends_to_a_text_no_longer_known() -> None:
    assert choice(APPEND, "ours", "theirs", FieldWrite(NOW, b"")).send


@pytest.mark.parametrize(
    ("policy", "value", "held", "shape"),
    [
        (IF_EMPTY, "a", {"x": 1}, "a table"),
        (IF_EMPTY, "a", ["x"], ""),
        (IF_EMPTY, ["a"], "x", ""),
        (IF_EMPTY, "a", False, "true or false"),
        (IF_EMPTY, "a", True, ""),
        (WHILE_DEFAULT, "a", ["x"], ""),
        (UNLESS_EDITED, "a", ["x"], "a list"),
        (UNLESS_EDITED, ["a"], "x", "one value, and no list,"),
        (APPEND, ["a"], "x", "one value, and no list,"),
        (APPEND, "a", [{"x": 1}], "a list of tables"),
        (APPEND, [{"a": 1}], [{"x": 1}], ""),
        (APPEND, {"a": 1}, {"x": 1}, ""),
        (APPEND, "true", False, ""),
        (GREATEST, 1, "x", "a text that is no number"),
        (GREATEST, "a", 5, "a number"),
        (GREATEST, "a", "x", ""),
        (GREATEST, 1, True, ""),
        (GREATEST, 5, True, "true or false"),
        (GREATEST, 1, ["x"], "a list"),
        (GREATEST, [1], [2], ""),
        (GREATEST, {"a": 1}, "x", ""),
        (GREATEST, 1, None, ""),
    ],
)
def test_value_of_unreadable_shape_under_each_policy(
    policy: WritePolicy, value: Any, held: Any, shape: str
) -> None:
    assert POLICIES[policy].shape_mismatch(PlannedField(value, policy), held) == shape


@pytest.mark.parametrize(
    ("policy", "value", "held"),
    [
        (IF_EMPTY, SAYS, {"x": 1}),
        (WHILE_DEFAULT, SAYS, {"x": 1}),
        (UNLESS_EDITED, SAYS, {"x": 1}),
        (APPEND, SAYS, {"x": 1}),
        (GREATEST, 5, "x"),
    ],
)
def test_unreadable_shape_is_refused_and_names_its_field(policy: WritePolicy, value: Any, held: Any) -> None:
    with pytest.raises(ShapeMismatch) as refused:
        choice(policy, value, held)
    assert refused.value.field == "city"
    assert refused.value.shape == POLICIES[policy].shape_mismatch(PlannedField(value, policy), held)


def test_shape_that_certainly_holds_a_value_is_an_edit() -> None:
    assert choice(UNLESS_EDITED, SAYS, ["x"]) == LEFT_ALONE
    with pytest.raises(ShapeMismatch):
        choice(UNLESS_EDITED, SAYS, ["x"], wrote("old"))


def test_a_list_is_recognised_by_its_items() -> None:
    added = choice(APPEND, ["b", "c"], ["a", "b"])
    assert added.value == ["a", "b", "c"]
    assert added.added == Fingerprint(-1, 2, digest_of("b") + digest_of("c"))
    assert standing_anywhere(added.added) == added.added
