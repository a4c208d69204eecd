"""One object: once in effect in a CRM that refuses, lags, forgets to answer; restarts between."""

from typing import Any

import pytest

from bridge.model.write_policy import WritePolicy
from tests.fixtures.crm_connector_parts import ALL, COMMON, CREATE, FIND, READ, UPDATE
from tests.fixtures.small_crm import HANG_UP, Crash, MakesBench, planned

SEARCH, POST = "GET /contacts", "POST /contacts"


def contact(key: str = "a", /, **fields: Any) -> Any:
    return planned("contact", {"key": key}, fields)


# Find, create, update


def test_a_new_object_is_looked_up_and_created_and_then_unchanged(make: MakesBench) -> None:
    bench, crm = make()
    assert bench.deliver(contact(grade="A")) == "delivered"
    assert bench.server.told() == [SEARCH, POST]
    assert crm.held() == [{"key": "a", "grade": "A"}]
    bench.restart()
    assert bench.deliver(contact(grade="A")) == "delivered"
    assert bench.server.told() == []


def test_object_made_by_a_user_is_found_and_updated(make: MakesBench) -> None:
    bench, crm = make()
    crm.make(key="a", grade="C", city="Bern")
    assert bench.deliver(contact(grade="A")) == "delivered"
    assert bench.server.told() == [SEARCH, "PATCH /contacts/1"]
    assert crm.held() == [{"key": "a", "grade": "A", "city": "Bern"}]


def test_only_changes_are_sent_and_a_remembered_id_saves_the_search(make: MakesBench) -> None:
    bench, _ = make()
    bench.deliver(contact(grade="A", city="Bern"))
    bench.server.told()
    bench.deliver(contact(grade="B", city="Bern"), event="6", call="c2")
    assert [(seen.method, seen.json) for seen in bench.server.log] == [("PATCH", {"grade": "B"})]


def test_older_call_overwrites_nothing_but_fills_unset_fields(make: MakesBench) -> None:
    bench, crm = make()
    bench.deliver(contact(grade="A"), event="5")
    bench.deliver(contact(grade="B", city="Bern"), event="4", call="c2")
    assert crm.held() == [{"key": "a", "grade": "A", "city": "Bern"}]


def test_equal_values_advance_only_the_marks_of_fields_sent(make: MakesBench) -> None:
    bench, crm = make()
    bench.deliver(contact(grade="A", city="Bern"), event="1", call="c1")
    bench.deliver(contact(grade="B"), event="5", call="c2")
    bench.deliver(contact(grade="B"), event="9", call="c3")
    bench.deliver(contact(grade="C", city="Chur"), event="7", call="c4")
    assert crm.held() == [{"key": "a", "grade": "B", "city": "Chur"}]


def test_changed_key_means_another_object(make: MakesBench) -> None:
    bench, crm = make()
    bench.deliver(contact(grade="A"))
    bench.deliver(contact("b", grade="A"))
    assert [held["key"] for held in crm.held()] == ["a", "b"]


@pytest.mark.parametrize("answer", [{"data": []}, [], 7, "x", {"items": "x"}, {"items": 5}])
def test_unclear_search_answer_creates_nothing(make: MakesBench, answer: object) -> None:
    bench, crm = make()
    crm.next("GET", (200, answer, {}))
    assert bench.deliver(contact()) == "Permanent"
    assert "carries no list at 'items'" in str(bench.error)
    assert crm.held() == []


@pytest.mark.parametrize("answer", [(204, None), (200, {"items": None}), (200, {"items": {}}), (404, {})])
def test_every_not_found_form_leads_to_a_create(make: MakesBench, answer: tuple[int, object]) -> None:
    bench, crm = make()
    crm.next("GET", (*answer, {}))
    assert bench.deliver(contact()) == "delivered"
    assert len(crm.held()) == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [("", "Permanent"), ('several = "first"', "1"), ('several = "oldest"\nby = "fields.at"', "2"),
     ('several = "newest"\nby = "fields.at"', "3"), ("where = '{{ hit.fields.at == 5 }}'", "1")],
)  # fmt: skip
def test_several_hits_follow_the_connectors_rule(make: MakesBench, more: str, expected: str) -> None:
    bench, crm = make(ALL.replace('hits = "items"\nfields', f'hits = "items"\n{more}\nfields', 1))
    for at in (5, 3, 9):
        crm.make(key="a", at=at)
    outcome = bench.deliver(contact(grade="A"))
    chosen = [crm_id for crm_id, held in crm.objects.items() if "grade" in held]
    assert (chosen or [outcome]) == [expected]


def test_undecidable_where_condition_creates_no_second_object(make: MakesBench) -> None:
    where = "where = '{{ hit.fields.at > 3 }}'"
    bench, crm = make(ALL.replace('hits = "items"\nfields', f'hits = "items"\n{where}\nfields', 1))
    crm.make(key="a", at="x")
    assert bench.deliver(contact()) == "Permanent"
    assert len(crm.held()) == 1


# What is in doubt


@pytest.mark.parametrize("processed", [True, False])
def test_lost_create_is_looked_up_once_the_index_has_caught_up(make: MakesBench, processed: bool) -> None:
    bench, crm = make()
    crm.next("POST", "lost" if processed else (502, None, {}))
    assert bench.deliver(contact(grade="A")) == "Transient"
    assert (bench.wait, bench.in_doubt) == (30, True)
    bench.restart()
    bench.clock.tick(29)
    bench.server.told()
    assert bench.deliver(contact(grade="A")) == "Transient"
    assert (bench.wait, bench.server.told()) == (1, [])
    bench.clock.tick(1)
    assert bench.deliver(contact(grade="A")) == "delivered"
    assert crm.held() == [{"key": "a", "grade": "A"}]
    assert not bench.in_doubt


def test_create_delayed_by_the_rate_limit_counts_from_when_it_was_sent(make: MakesBench) -> None:
    bench, crm = make()
    bench.slow = 60
    crm.next("POST", "lost")
    assert bench.deliver(contact(grade="A")) == "Transient"
    bench.slow = 0
    assert bench.deliver(contact(grade="B")) == "Transient", (
        "a revision came, and the index has not caught up"
    )
    assert bench.wait == 30
    bench.clock.tick(30)
    assert bench.deliver(contact(grade="B")) == "delivered"
    assert crm.held() == [{"key": "a", "grade": "B"}]


def test_crash_during_a_create_makes_no_second_object(make: MakesBench) -> None:
    bench, crm = make()
    bench.crash_after = 1
    with pytest.raises(Crash):
        bench.deliver(contact(grade="A"))
    bench.restart()
    assert bench.deliver(contact(grade="A")) == "Transient"
    bench.clock.tick(30)
    assert bench.deliver(contact(grade="A")) == "delivered"
    assert len(crm.held()) == 1


def test_refused_create_leaves_nothing_in_doubt_and_looks_up_again(make: MakesBench) -> None:
    bench, crm = make()
    crm.next("POST", (429, None, {"Retry-After": "7"}))
    assert bench.deliver(contact(grade="A"), call="c1") == "Transient"
    assert (bench.wait, bench.left) == (7, {})
    bench.deliver(contact(grade="A"), call="c2")
    assert bench.deliver(contact(grade="A"), call="c1") == "delivered"
    assert len(crm.held()) == 1


def test_create_in_doubt_without_a_find_is_parked(make: MakesBench) -> None:
    bench, crm = make(COMMON + CREATE)
    crm.next("POST", "lost")
    assert bench.deliver(contact()) == "InDoubt"
    bench.restart()
    assert bench.deliver(contact()) == "InDoubt"
    assert len(crm.held()) == 1


@pytest.mark.parametrize("told", ["", "data.id"])
def test_duplicate_named_by_the_crm_is_updated(make: MakesBench, told: str) -> None:
    rule = '\n[[objects.contact.create.outcomes]]\nstatus = 409\nthen = "duplicate"\n'
    rule += f'id = "{told}"\n' if told else ""
    bench, crm = make(COMMON + FIND.replace("LAG", "5s") + CREATE + rule + UPDATE)
    crm.next("GET", (200, {"items": []}, {}))
    crm.next("POST", (409, {"data": {"id": 1}}, {}))
    crm.make(key="a", grade="C")
    assert bench.deliver(contact(grade="A")) == "delivered"
    assert crm.held() == [{"key": "a", "grade": "A"}]
    assert bench.server.told() == [SEARCH, POST, SEARCH, "PATCH /contacts/1"]


def test_create_answered_without_an_id_is_looked_up_and_not_repeated(make: MakesBench) -> None:
    text = ALL.replace('id = "data.id"', "reread = true", 1)
    bench, crm = make(text)
    assert bench.deliver(contact()) == "Transient"
    assert bench.in_doubt
    bench.clock.tick(10**4)
    crm.next("GET", (200, {"items": []}, {}))
    assert bench.deliver(contact()) == "Transient"
    bench.restart()
    assert bench.deliver(contact()) == "delivered"
    assert len(crm.held()) == 1


@pytest.mark.parametrize("answer", [(201, {}), (204, None), (200, [1]), (201, {"data": {"id": ""}})])
def test_create_without_an_id_is_in_doubt(make: MakesBench, answer: tuple[int, object]) -> None:
    bench, crm = make()
    crm.next("POST", (*answer, {}))
    assert bench.deliver(contact()) == "Transient"
    assert "carries no id at 'data.id'" in str(bench.error)
    assert bench.in_doubt


def test_non_idempotent_update_in_doubt_is_parked(make: MakesBench) -> None:
    bench, crm = make(ALL.replace('merge(links) }}"\n', 'merge(links) }}"\nidempotent = false\n', 1))
    crm.make(key="a")
    crm.next("PATCH", "lost")
    assert bench.deliver(contact(grade="A")) == "InDoubt"
    bench.restart()
    bench.server.told()
    assert bench.deliver(contact(grade="A")) == "InDoubt"
    assert bench.server.told() == []


# Policies that look


def test_append_with_a_lost_answer_is_not_appended_twice(make: MakesBench) -> None:
    bench, crm = make()
    crm.make(key="a", notes="one")
    crm.next("PATCH", "lost")
    note = contact(notes=("two", WritePolicy.APPEND))
    assert bench.deliver(note) == "Transient"
    bench.restart()
    assert bench.deliver(note) == "delivered"
    assert bench.deliver(note) == "delivered"
    assert bench.deliver(contact(notes=("three", WritePolicy.APPEND)), call="c2") == "delivered"
    assert crm.held()[0]["notes"] == "one\ntwo\nthree"


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_text_changed_while_its_append_is_in_doubt_is_appended_once(
    make: MakesBench, arrived: bool, there: bool
) -> None:
    bench, crm = make()
    if there:
        crm.make(key="a", notes="one")
    crm.next("PATCH" if there else "POST", "lost" if arrived else HANG_UP)
    assert bench.deliver(contact(notes=("two", WritePolicy.APPEND))) == "Transient"
    bench.restart()
    bench.clock.tick(30)
    for _ in range(2):
        assert bench.deliver(contact(notes=("two, revised", WritePolicy.APPEND))) == "delivered"
    assert crm.held()[0]["notes"] == ("one\n" if there else "") + ("two" if arrived else "two, revised")


def test_recreated_object_in_doubt_holds_an_appended_text_once(make: MakesBench) -> None:
    bench, crm = make()
    texts = [{"notes": (text, WritePolicy.APPEND), "grade": text} for text in ("one", "two", "three")]
    one, two, three = (planned("contact", {"key": "a"}, each, on_deleted="recreate") for each in texts)
    assert bench.deliver(one) == "delivered"
    crm.objects.clear()
    crm.next("POST", "lost")
    assert bench.deliver(two) == "Transient"
    bench.clock.tick(30)
    assert bench.deliver(three) == "delivered"
    assert crm.held()[0]["notes"] == "two"


def test_two_calls_with_the_same_text_both_append_even_in_doubt(make: MakesBench) -> None:
    bench, crm = make()
    crm.make(key="a", notes="no answer")
    crm.next("PATCH", HANG_UP)
    note = contact(notes=("no answer", WritePolicy.APPEND))
    assert bench.deliver(note) == "Transient"
    assert bench.deliver(note) == "delivered"
    assert crm.held()[0]["notes"] == "no answer\nno answer"


def test_text_changed_between_steps_of_an_update_is_appended_once(make: MakesBench) -> None:
    steps = """
[[objects.contact.update]]
name = "write"
method = "PATCH"
path = "/contacts/{{ id | path }}"
json = "{{ fields }}"
[[objects.contact.update]]
name = "touch"
method = "PATCH"
path = "/contacts/{{ id | path }}"
json = { touched = true }
"""
    bench, crm = make(COMMON + FIND.replace("LAG", "30s") + READ + CREATE + steps)
    crm.make(key="a", notes="one")
    crm.next("PATCH", "pass")
    crm.next("PATCH", (429, None, {}))
    assert bench.deliver(contact(notes=("two", WritePolicy.APPEND))) == "Transient"
    bench.restart()
    assert bench.deliver(contact(notes=("two, revised", WritePolicy.APPEND))) == "delivered"
    assert crm.held()[0]["notes"] == "one\ntwo"


def test_created_object_with_a_lost_answer_holds_an_append_once(make: MakesBench) -> None:
    bench, crm = make()
    crm.next("POST", "lost")
    note = contact(notes=("two", WritePolicy.APPEND))
    bench.deliver(note)
    bench.clock.tick(30)
    assert bench.deliver(note) == "delivered"
    assert crm.held()[0]["notes"] == "two"


def test_each_policy_against_a_users_value(make: MakesBench) -> None:
    bench, crm = make()
    crm.make(key="a", empty="", kept="mine", best=5, edited="mine", made="mine")
    fields = {
        "empty": ("new", WritePolicy.IF_EMPTY),
        "kept": ("new", WritePolicy.IF_EMPTY),
        "best": (7, WritePolicy.GREATEST),
        "edited": ("new", WritePolicy.UNLESS_EDITED),
        "made": ("new", WritePolicy.CREATE),
        "always": "new",
    }
    assert bench.deliver(contact(**fields)) == "delivered"
    held = {"empty": "new", "kept": "mine", "best": 7, "edited": "mine", "made": "mine", "always": "new"}
    assert crm.held() == [{"key": "a", **held}]


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": 5}])
def test_read_without_fields_overwrites_nothing(make: MakesBench, answer: object) -> None:
    bench, crm = make()
    bench.deliver(contact(city=("Bern", WritePolicy.IF_EMPTY)))
    crm.objects["1"]["city"] = "Chur"
    crm.next("GET /contacts/1", (200, answer, {}))
    assert bench.deliver(contact(city=("Genf", WritePolicy.IF_EMPTY)), call="c2") == "Permanent"
    assert crm.held()[0]["city"] == "Chur"
