"""A plan: links between its objects, upserts, steps, and what a person deleted or merged meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from bridge.model.write_policy import WritePolicy
from tests.fixtures.crm_connector_parts import ALL, COMMON, CREATE, FIND, UPDATE
from tests.fixtures.small_crm import Crash, MakesBench, Seen, SyncBench, planned, serving

SEARCH, POST = "GET /contacts", "POST /contacts"


def contact(key: str = "a", /, **fields: Any) -> Any:
    return planned("contact", {"key": key}, fields)


# Deleted and merged by a person


@pytest.mark.parametrize("policy", ["park", "recreate"])
@pytest.mark.parametrize("looks", [False, True])
def test_object_deleted_by_a_user_parks_or_is_recreated(make: MakesBench, policy: str, looks: bool) -> None:
    bench, crm = make()
    bench.deliver(contact(grade="A"))
    crm.objects.clear()
    bench.server.told()
    value = ("B", WritePolicy.IF_EMPTY if looks else WritePolicy.ALWAYS)
    changed = planned("contact", {"key": "a"}, {"grade": value}, on_deleted=policy)
    outcome = bench.deliver(changed, event="6")
    assert outcome == ("Deleted" if policy == "park" else "delivered")
    assert bench.server.told()[1:] == ([SEARCH] if policy == "park" else [SEARCH, POST])
    assert len(crm.held()) == (policy == "recreate")


def test_object_merged_by_a_user_is_found_by_its_key(make: MakesBench) -> None:
    bench, crm = make()
    bench.deliver(contact(grade="A"))
    del crm.objects["1"]
    crm.make(key="a", city="Bern")
    assert bench.deliver(contact(grade="B"), event="6") == "delivered"
    assert crm.objects == {"2": {"key": "a", "city": "Bern", "grade": "B"}}


def test_object_not_yet_in_the_search_index_is_not_taken_for_deleted(make: MakesBench) -> None:
    bench, crm = make(COMMON + FIND.replace("LAG", "30s") + CREATE + UPDATE)
    bench.deliver(contact(grade="A"))
    assert bench.deliver(contact(city=("Bern", WritePolicy.IF_EMPTY)), call="c2") == "Transient"
    assert bench.in_doubt
    bench.clock.tick(30)
    assert bench.deliver(contact(city=("Bern", WritePolicy.IF_EMPTY)), call="c2") == "delivered"
    assert crm.held() == [{"key": "a", "grade": "A", "city": "Bern"}]


# Links


def both(**fields: Any) -> tuple[Any, Any]:
    call = planned("call", {"key": "k"}, fields, links={"contact": "contact"}, shared=False)
    return contact(grade="A"), call


def test_failed_link_is_retried_alone(make: MakesBench) -> None:
    bench, crm = make()
    crm.next("POST /links", (503, None, {}))
    assert bench.deliver(*both(score=1)) == "Transient"
    bench.restart()
    bench.server.told()
    assert bench.deliver(*both(score=1)) == "delivered"
    assert bench.server.told() == ["POST /links"]
    assert crm.links == [{"id": "2", "to": "1"}]
    assert bench.deliver(*both(score=2)) == "delivered"
    assert bench.server.told() == ["PATCH /calls/2"]


def test_link_to_a_merged_object_goes_to_the_surviving_one(make: MakesBench) -> None:
    bench, crm = make()
    bench.deliver(contact(grade="A"))
    crm.objects = {"9": {"key": "a"}}
    crm._born["9"] = bench.clock.now
    bench.clock.tick(60)
    assert bench.deliver(*both(score=1), call="c2") == "delivered"
    assert [link["to"] for link in crm.links] == ["9"]


def test_non_idempotent_link_is_in_doubt_after_a_crash(make: MakesBench) -> None:
    bench, crm = make(ALL.replace("}\nidempotent = true", "}"))
    bench.crash_after = 4
    with pytest.raises(Crash):
        bench.deliver(*both(score=1))
    bench.restart()
    assert bench.deliver(*both(score=1)) == "InDoubt"
    assert len(crm.links) == 1


# Upserts and steps

UPSERT = """\
name = "own"
[objects.contact]
key = ["key"]
upsert = { method = "PATCH", path = "/contacts/{{ key.key }}", json = "{{ fields }}", idempotent = true }
"""


def test_native_upsert_is_sent_once_and_then_only_changes(make: MakesBench) -> None:
    bench, crm = make(UPSERT)
    crm.objects["a"] = {}
    assert bench.deliver(contact(grade="A", city="Bern")) == "delivered"
    assert bench.deliver(contact(grade="A", city="Bern")) == "delivered"
    assert bench.deliver(contact(grade="B", city="Bern"), event="6") == "delivered"
    assert [seen.json for seen in bench.server.log] == [{"grade": "A", "city": "Bern"}, {"grade": "B"}]


def test_non_idempotent_upsert_is_not_repeated_after_a_crash(make: MakesBench) -> None:
    bench, crm = make(UPSERT.replace("true", "false"))
    crm.objects["a"] = {}
    bench.crash_after = 0
    with pytest.raises(Crash):
        bench.deliver(contact(grade="A"))
    bench.restart()
    assert bench.deliver(contact(grade="A")) == "InDoubt"
    assert len(bench.server.log) == 1


STEPS = (
    CREATE.replace('id = "data.id"', 'id = "data.id"\ncapture = { number = "data.id" }').replace(
        "[objects.contact.create]", "[[objects.contact.create]]"
    )
    + """
[[objects.contact.create]]
method = "PATCH"
path = "/contacts/{{ captured.number }}"
json = { closed = true }
[[objects.contact.create]]
when = "{{ fields.never }}"
path = "/never"
"""
)


def test_steps_resume_at_the_failed_one_with_the_calls_new_state(make: MakesBench) -> None:
    bench, crm = make(COMMON + FIND.replace("LAG", "5s") + STEPS + UPDATE)
    crm.next("PATCH", (503, None, {}))
    assert bench.deliver(contact(grade="A")) == "Transient"
    bench.restart()
    bench.server.told()
    assert bench.deliver(contact(grade="B")) == "delivered"
    assert bench.server.told() == ["PATCH /contacts/1", "PATCH /contacts/1"]
    assert crm.held() == [{"key": "a", "grade": "B", "closed": True}]


def test_steps_after_a_lost_answer_go_on_with_the_object_found(make: MakesBench) -> None:
    bench, crm = make(COMMON + FIND.replace("LAG", "30s") + STEPS + UPDATE)
    crm.next("POST", "lost")
    assert bench.deliver(contact(grade="A")) == "Transient"
    bench.clock.tick(30)
    assert bench.deliver(contact(grade="A")) == "delivered"
    assert crm.held() == [{"key": "a", "grade": "A", "closed": True}]


def test_inline_link_is_sent_with_the_object_and_again_when_it_changes(make: MakesBench) -> None:
    link = "[objects.call.link.contact]\ninline = true\n"
    text = ALL[: ALL.index("[objects.call.link.contact]")] + link
    text = text.replace('json = "{{ fields | merge(key) }}"', 'json = "{{ fields | merge(key, links) }}"')
    text = text.replace(
        'path = "/calls/{{ id }}"\njson = "{{ fields }}"', 'path = "/calls/{{ id }}"\njson = "{{ links }}"'
    )
    bench, crm = make(text)
    assert bench.deliver(*both(score=1)) == "delivered"
    assert crm.objects["2"]["contact"] == {"id": "1", "key": {"key": "a"}}
    bench.server.told()
    assert bench.deliver(*both(score=1)) == "delivered"
    assert bench.server.told() == []
    other = planned("contact", {"key": "b"}, {"grade": "A"})
    assert bench.deliver(other, both(score=1)[1]) == "delivered"
    assert crm.objects["2"]["contact"]["id"] == "3"


VERSIONED = """
[[objects.contact.update]]
path = "/get"
json = { id = "{{ id }}" }
capture = { version = "data.version" }
[[objects.contact.update]]
path = "/change"
json = { id = "{{ id }}", version = "{{ captured.version }}", fields = "{{ fields }}" }
"""


@pytest.mark.parametrize("answer", ["lost", "conflict"])
def test_retried_update_reads_the_objects_version_again(tmp_path: Path, answer: str) -> None:
    """Else it would send the old one for ever: our own lost answer, or a person's edit, made another."""
    held: dict[str, Any] = {"version": 1}
    faults = [answer]

    def answers(seen: Seen) -> Any:
        if seen.path == "/contacts":
            return 201, {"data": {"id": "1"}}, {}
        if seen.path == "/get":
            return 200, {"data": {"version": held["version"]}}, {}
        fault = faults.pop() if faults else ""
        held["version"] += fault == "conflict"
        if seen.json["version"] != held["version"]:
            return 429, {}, {}
        held.update(seen.json["fields"], version=held["version"] + 1)
        return (502, None, {}) if fault else (200, {}, {})

    with serving() as server:
        server.answer = answers
        bench = SyncBench(
            tmp_path / "ledger.db", COMMON + CREATE + FIND.replace("LAG", "0s") + VERSIONED, server
        )
        server.answer = lambda seen: (200, {"items": []}, {}) if seen.method == "GET" else answers(seen)
        assert bench.deliver(contact(grade="A")) == "delivered"
        server.answer = answers
        assert bench.deliver(contact(grade="B")) == "Transient"
        bench.restart()
        server.told()
        assert bench.deliver(contact(grade="B")) == "delivered"
        assert server.told() == ["POST /get", "POST /change"]
        assert held["grade"] == "B"
        bench.close()
