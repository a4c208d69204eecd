"""Many requests as one: what is sent, and how the answer is taken apart item by item."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.crm.client import Crm
from bridge.crm.connector.request import Find, Link, Read
from bridge.crm.connector.steps import Step
from bridge.delivery.batch import BatchSender
from bridge.delivery.crm_requests import CrmReply, CrmRequest
from bridge.lib.errors import DeliveryError, Duplicate, Gone, InDoubt, Permanent, Transient
from bridge.lib.phone import mask_phone
from tests.fixtures.small_crm import HANG_UP, Seen, Server, ServerAnswer, connector_of, crm_of, serving

PHONES = [f"+861380013800{number}" for number in range(8)]
CONNECTOR = """
name = "own"
secrets = ["token"]
settings.key_field = "phone_key"
auth.headers = { Authorization = "Bearer {{ secrets.token }}" }
errors = { code = "error", field = "field", message = "message" }

[[outcomes]]
path = "error"
is = "TAKEN"
then = "duplicate"
id = "there"
[[outcomes]]
path = "error"
is = "BUSY"
then = "unprocessed"
wait = "20s"
[[outcomes]]
path = "error"
then = "permanent"
says = "Correct it"

[objects.contact]
key = ["phone"]
[objects.contact.find]
path = "/find/{{ key.phone | path }}"
hits = "hits"
[objects.contact.find.batch]
max = 4
method = "POST"
path = "/find"
item = { phone = "{{ key.phone }}" }
json = { phones = "{{ items | map(attribute='phone') | list }}", fields = "{{ fields }}" }
results = "hits"
match = ["phone", "{{ [result[settings.key_field], result.mobile] }}"]
complete = "{{ not body.more }}"

[objects.contact.create]
path = "/create"
json = { phone = "{{ key.phone }}", fields = "{{ fields }}" }
id = "id"
[objects.contact.create.batch]
max = 4
path = "/create/many"
headers = { X-Many = "yes" }
item = { phone = "{{ key.phone }}", fields = "{{ fields }}" }
json = { items = "{{ items }}" }
results = "results"
outcomes = [{ path = "results", then = "ok" }]
id = "id"
#atomic

[objects.contact.update]
path = "/update/{{ id }}"
json = "{{ fields }}"
[objects.contact.update.batch]
max = 4
path = "/update"
item = { id = "{{ id }}", mark = "{{ index }}", fields = "{{ fields }}" }
json = { items = "{{ items }}" }
results = "results"
match = ["mark", "mark"]
errors = "errors"
error_match = "about"

[objects.contact.read]
path = "/read/{{ id }}"
id = "id"
fields = "fields"
[objects.contact.read.batch]
max = 4
method = "POST"
path = "/read"
item = "{{ id }}"
json = { ids = "{{ items }}", fields = "{{ fields }}" }
results = "."
match = [".", "id"]

[objects.call]
key = ["call"]
[objects.call.upsert]
path = "/calls/{{ key.call }}"
json = "{{ fields }}"
id = "id"
idempotent = true
[objects.call.upsert.batch]
max = 4
path = "/calls"
item = "{{ fields }}"
json = "{{ items }}"
results = "ids"
id = "{{ result }}"
[objects.call.link.contact]
path = "/link/{{ id }}/{{ to.id }}"
[objects.call.link.contact.batch]
max = 4
path = "/link"
item = { one = "{{ id }}", other = "{{ to.id }}" }
json = { items = "{{ items }}" }
results = "linked"
match = ["{{ [item.one ~ '>' ~ item.other, item.other] }}", "pair"]
errors = "errors"
error_match = "gone"
"""


@dataclass
class Desk:
    """A CRM client, its connector, and the server behind it."""

    server: Server
    crm: Crm

    def contact(self, way: str) -> Step | Find | Read:
        kind = self.crm.connector.objects["contact"]
        if way == "read":
            assert kind.read is not None
            return kind.read
        if way == "find":
            return kind.find[0]
        return (kind.create if way == "create" else kind.update)[0]

    def ask(self, way: str, count: int = 3, answer: Any = None, **more: Any) -> list[Any]:
        """Ask for `count` contacts together; an id, hits, fields, or a fault for each."""
        asks = [
            CrmRequest(
                self.contact(way),
                {"key": {"phone": PHONES[n]}, "fields": [f"f{n}"] if way in ("find", "read") else {"n": n}}
                | ({"id": f"c{n}"} if way in ("update", "read") else {})
                | more,
                f"object contact, {way}",
            )
            for n in range(count)
        ]
        return self.together(asks, answer)

    def together(self, asks: list[CrmRequest], answer: Any = None) -> list[Any]:
        if answer is not None:
            self.server.answer = answer if callable(answer) else lambda _seen: (200, answer, {})
        return [shown(each) for each in BatchSender(self.crm, self.crm.ask).send_together(asks)]


def shown(result: Any) -> Any:
    """What a result says, in short."""
    if isinstance(result, DeliveryError):
        return result
    assert isinstance(result, CrmReply)
    found = [each for each in (result.id, result.hits, result.fields) if each is not None]
    return found[0] if found else result.answer.body


@contextmanager
def desk_of(text: str = CONNECTOR) -> Iterator[Desk]:
    with (
        serving() as server,
        closing(
            crm_of(
                connector_of(text), server.url, {"token": "canary-77"}, settings={"key_field": "phone_key"}
            )
        ) as crm,
    ):
        yield Desk(server, crm)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with desk_of() as made:
        yield made


def kinds(results: list[Any]) -> list[str]:
    return [type(each).__name__ if isinstance(each, DeliveryError) else str(each) for each in results]


def by_path(**answers: Any) -> Callable[[Seen], ServerAnswer]:
    """Answers by the first part of the path."""

    def answer(seen: Seen) -> ServerAnswer:
        found = answers[seen.path.split("/")[1]]
        told: ServerAnswer = found(seen) if callable(found) else (200, found, {})
        return told

    return answer


# By order


def test_results_are_matched_by_order(desk: Desk) -> None:
    assert desk.ask("create", answer={"results": [{"id": 7}, {"id": "8"}, {"id": 9}]}) == ["7", "8", "9"]
    (seen,) = desk.server.log
    assert (seen.method, seen.path, seen.headers["x-many"]) == ("POST", "/create/many", "yes")
    assert seen.headers["authorization"] == "Bearer canary-77"
    assert seen.json == {"items": [{"phone": PHONES[n], "fields": {"n": n}} for n in range(3)]}


def test_one_refused_item_fails_alone(desk: Desk) -> None:
    bad = {"error": "WRONG", "field": "grade", "message": f"{PHONES[1]} is wrong"}
    results = desk.ask("create", answer={"results": [{"id": 1}, bad, {"id": 3}]})
    assert kinds(results) == ["1", "Permanent", "3"]
    told = str(results[1])
    assert told == (
        "object contact, create (item 2 of 3): answered 200: WRONG:"
        f" {mask_phone(PHONES[1])} is wrong (field grade). Correct it"
    )
    assert len(desk.server.log) == 1


def test_items_can_have_every_outcome_of_an_answer(desk: Desk) -> None:
    taken = {"error": "TAKEN", "there": "c9"}
    results = desk.ask("create", answer={"results": [taken, {"error": "BUSY"}, {"nothing": 1}]})
    assert kinds(results)[:2] == ["Duplicate", "Transient"]
    assert (results[0].crm_id, results[1].retry_after) == ("c9", 20.0)
    assert results[2] == {"nothing": 1}, "without an id: the way says that it is in doubt"


def test_duplicate_without_an_id_is_looked_up_alone(desk: Desk) -> None:
    def create(seen: Seen) -> ServerAnswer:
        if seen.path == "/create/many":
            return 200, {"results": [{"id": 1}, {"error": "TAKEN"}, {"id": 3}]}, {}
        return 409, {"error": "TAKEN", "there": seen.json["phone"]}, {}

    results = desk.ask("create", answer=by_path(create=create))
    assert kinds(results) == ["1", "Duplicate", "3"]
    assert results[1].crm_id == PHONES[1]


@pytest.mark.parametrize("results", [[{"id": 1}], [{"id": n} for n in range(4)], None, "x", {"id": 1}])
def test_items_that_cannot_be_told_apart_are_in_doubt(desk: Desk, results: Any) -> None:
    # Whole, it says neither yes nor no of anybody.
    answer = {"results": results} if isinstance(results, list) else {"results": results, "other": 1}
    told = desk.ask("create", answer=answer)
    assert set(kinds(told)) == {"InDoubt"}
    assert len(desk.server.log) == 1


def test_indistinct_items_are_repeated_where_that_is_harmless(desk: Desk) -> None:
    call = desk.crm.connector.objects["call"].upsert[0]
    asks = [
        CrmRequest(call, {"key": {"call": n}, "fields": {"n": n}, "links": {}}, "object call, upsert")
        for n in (1, 2)
    ]
    ok = by_path(calls=lambda seen: (200, {"ids": ["7"]} if seen.path == "/calls" else {"id": seen.path}, {}))
    assert [each["id"] for each in desk.together(asks, ok)] == ["/calls/1", "/calls/2"]
    assert desk.together(asks, {"ids": ["7", "8"]}) == ["7", "8"]


# As a whole


def test_refused_batch_is_halved_down_to_the_bad_item(desk: Desk) -> None:
    def create(seen: Seen) -> ServerAnswer:
        items = seen.json["items"] if seen.path == "/create/many" else [seen.json]
        if any(item["phone"] == PHONES[2] for item in items):
            return 400, {"error": "WRONG", "message": f"one of {len(items)}"}, {}
        if seen.path == "/create/many":
            return 200, {"results": [{"id": item["phone"]} for item in items]}, {}
        return 200, {"id": items[0]["phone"]}, {}

    results = desk.ask("create", 4, by_path(create=create))
    assert kinds(results)[2] == "Permanent"
    assert "one of 1" in str(results[2])
    assert results[:2] == PHONES[:2]
    assert results[3]["id"] == PHONES[3]
    assert desk.server.told() == ["POST /create/many"] * 3 + ["POST /create"] * 2


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (HANG_UP, InDoubt),
        ((500, {}, {}), InDoubt),
        ((429, {}, {"Retry-After": "9"}), Transient),
        ((401, {}, {}), Transient),
    ],
)
def test_fault_of_the_whole_batch_counts_for_each_item(
    desk: Desk, told: ServerAnswer, kind: type[Exception]
) -> None:
    results = desk.ask("create", 3, lambda _seen: told)
    assert [type(each) for each in results] == [kind] * 3
    assert len(desk.server.log) == 1
    assert "batch of 3" in str(results[0])
    assert "canary-77" not in str(results[0])


def test_atomic_batch_with_a_bad_item_changes_nothing() -> None:
    def create(seen: Seen) -> ServerAnswer:
        if seen.path == "/create":
            return (
                200,
                {"id": seen.json["phone"]} if seen.json["phone"] != PHONES[0] else {"error": "WRONG"},
                {},
            )
        bad = [item["phone"] == PHONES[0] for item in seen.json["items"]]
        told = [{"error": "WRONG"} if one else {"id": "lost"} if any(bad) else {"id": "kept"} for one in bad]
        return 200, {"results": told}, {}

    with desk_of(CONNECTOR.replace("#atomic", "atomic = true")) as desk:
        results = desk.ask("create", 4, by_path(create=create))
    assert kinds(results)[0] == "Permanent"
    assert results[1]["id"] == PHONES[1]
    assert results[2:] == ["kept", "kept"]


def test_batch_that_cannot_be_rendered_is_sent_one_by_one() -> None:
    text = CONNECTOR.replace('item = { id = "{{ id }}", mark', 'item = { id = "{{ 1 // fields.n }}", mark')
    with desk_of(text) as desk:
        results = desk.ask("update", 2, {"results": []})
        assert [seen.path for seen in desk.server.log] == ["/update/c0", "/update/c1"]
    assert not any(isinstance(each, DeliveryError) for each in results)


# By match


def test_results_are_matched_by_key_in_any_order(desk: Desk) -> None:
    answer = {
        "results": [{"mark": 2, "x": "c"}, {"mark": "0", "x": "a"}],
        "errors": [{"about": 1, "error": "WRONG"}],
    }
    results = desk.ask("update", answer=answer)
    assert [each["x"] for each in (results[0], results[2])] == ["a", "c"]
    assert isinstance(results[1], Permanent)
    assert "WRONG" in str(results[1])


def test_one_failure_may_name_several_items_with_any_outcome(desk: Desk) -> None:
    answer = {"errors": [{"about": [0, 2], "error": "BUSY"}, {"about": None, "error": "WRONG"}]}
    results = desk.ask("update", answer=answer)
    assert kinds(results) == ["Transient", "Transient", "Transient"]
    assert "BUSY" in str(results[0])
    assert "says nothing of it" in str(results[1])


def test_failure_without_a_rule_is_a_refusal(desk: Desk) -> None:
    results = desk.ask("update", 1, {"results": [], "errors": [{"about": 0, "odd": PHONES[0]}]})
    assert kinds(results) == ["Permanent"]
    assert "odd" in str(results[0])
    assert PHONES[0] not in str(results[0])


def test_item_missing_from_the_answer_is_repeated_where_harmless(desk: Desk) -> None:
    # An update may be sent again, so it is.
    assert kinds(desk.ask("update", 2, {"results": [{"mark": 1}]}))[0] == "Transient"


# Finding and reading


def test_batch_find_with_several_hits(desk: Desk) -> None:
    hits = [
        {"id": 1, "phone_key": PHONES[0], "n": "first"},
        {"id": 2, "mobile": PHONES[0]},
        {"id": 3, "phone_key": PHONES[2], "mobile": PHONES[2]},
        {"id": 4, "phone_key": None, "mobile": None},
    ]
    results = desk.ask("find", answer={"hits": hits})
    assert [[hit["id"] for hit in each] for each in results] == [[1, 2], [], [3]]
    assert desk.server.log[0].json == {"phones": PHONES[:3], "fields": ["f0", "f1", "f2"]}


@pytest.mark.parametrize("answer", [{"hits": []}, {"hits": None}, (204, None, {})])
def test_batch_find_without_hits(desk: Desk, answer: Any) -> None:
    told = (lambda _seen: answer) if isinstance(answer, tuple) else answer
    assert desk.ask("find", answer=told) == [[], [], []]


def test_batch_find_without_a_list_is_not_an_empty_result(desk: Desk) -> None:
    results = desk.ask("find", 2, by_path(find={"odd": 1}))
    assert results == [{"odd": 1}, {"odd": 1}], "the way judges single answers strictly"
    assert desk.server.told() == ["POST /find", f"GET /find/{PHONES[0]}", f"GET /find/{PHONES[1]}"]


def test_incomplete_hits_are_requested_in_halves(desk: Desk) -> None:
    def find(seen: Seen) -> ServerAnswer:
        phones = seen.json["phones"] if seen.method == "POST" else [seen.path.removeprefix("/find/")]
        return (
            200,
            {"hits": [{"id": phone, "mobile": phone} for phone in phones[:2]], "more": len(phones) > 2},
            {},
        )

    results = desk.ask("find", 4, by_path(find=find))
    assert [[hit["id"] for hit in each] for each in results] == [[phone] for phone in PHONES[:4]]
    assert desk.server.told() == ["POST /find"] * 3


@pytest.mark.parametrize("gone", [True, False])
def test_batch_read_repeats_missing_items_alone(desk: Desk, gone: bool) -> None:
    def answer(seen: Seen) -> ServerAnswer:
        if seen.path == "/read":
            return 200, [{"id": "c2", "fields": {"f2": 5}}, {"id": "c0", "fields": {}}], {}
        return (404, {}, {}) if gone else (200, {"id": "c1", "fields": {"f1": 4}}, {})

    results = desk.ask("read", answer=answer)
    assert results[0] == {}
    assert isinstance(results[1], Gone) if gone else results[1]["fields"] == {"f1": 4}
    assert results[2] == {"f2": 5}
    assert desk.server.log[0].json == {"ids": ["c0", "c1", "c2"], "fields": ["f0", "f1", "f2"]}
    assert desk.server.told() == ["POST /read", "GET /read/c1"]


# Linking


def test_link_results_are_matched_by_both_ends_or_the_missing_one(desk: Desk) -> None:
    link = desk.crm.connector.objects["call"].link["contact"]
    assert isinstance(link, Link)
    ends = [("k1", "c1"), ("k2", "c1"), ("k3", "c3")]
    asks = [
        CrmRequest(
            link,
            {"id": one, "key": {"call": one}, "to": {"id": other, "key": {}}},
            "object call, link contact",
        )
        for one, other in ends
    ]
    answer = {
        "linked": [{"pair": "k3>c3"}, {"pair": "c3>k3"}],
        "errors": [{"gone": ["c1"], "error": "WRONG"}],
    }
    assert kinds(desk.together(asks, answer)) == ["Permanent", "Permanent", "{'pair': 'k3>c3'}"]
    assert [isinstance(each, Duplicate) for each in desk.together(asks, answer)] == [False] * 3
