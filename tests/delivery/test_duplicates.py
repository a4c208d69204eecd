"""Ids are believed only with our key, and however a CRM's answers lead in circles, a try ends."""

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.crm.key_matching import has_key, key_shown
from bridge.delivery.attempt import MOST_QUESTIONS
from bridge.delivery.request_sender import QUICK_TRIES
from bridge.ledger import Window
from bridge.lib.phone import mask_phones_in, of_crm
from tests.fixtures.delivery_simulation import DATA
from tests.fixtures.scripted_crm import ScriptedCrmBench, plain_connector

PHONE, OTHER = "15899770631", "13900000001"
E164, OTHER_E164 = f"+86{PHONE}", f"+86{OTHER}"
TAKEN = '\n[[outcomes]]\nstatus = 409\nthen = "duplicate"\nid = "id"\n'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScriptedCrmBench]:
    with closing(ScriptedCrmBench(tmp_path, plain_connector(TAKEN))) as made:
        yield made


def seeded(world: ScriptedCrmBench, **fields: Any) -> str:
    return str(world.crm.carry_out("POST", ["contacts"], {}, fields)[1]["id"])


def is_create(request: httpx.Request) -> bool:
    return request.method == "POST" and request.url.path == "/contacts"


def refuses(crm_id: str | None) -> Callable[[httpx.Request], httpx.Response | None]:
    told = {} if crm_id is None else {"id": crm_id}
    return lambda request: httpx.Response(409, json=told) if is_create(request) else None


def test_a_duplicate_with_our_key_is_updated(world: ScriptedCrmBench) -> None:
    there = seeded(world, phone="0158 9977-0631", grade="C")
    world.answer = refuses(there)
    world.feed(1, PHONE)
    world.drain()
    (contact,) = world.contents()["contacts"]
    assert (contact["id"], contact["grade"]) == (there, "A")
    (call,) = world.contents()["calls"]
    assert call["contact_id"] == there


def test_duplicate_with_another_key_is_parked_and_names_both(world: ScriptedCrmBench) -> None:
    there = seeded(world, phone=OTHER_E164, grade="C")
    world.answer = refuses(there)
    world.feed(1, PHONE)
    world.drain()
    row = world.row(1)
    assert row["state"] == "parked"
    assert f"a duplicate of crm_id={there}, which has another key (phone +86139****0001" in row["reason"]
    assert "ours is +86158****0631" in row["reason"]
    assert world.contents()["contacts"][0]["grade"] == "C", "nothing was written to it"
    assert world.contents()["calls"] == []
    assert row["cause"] == "object contact: the CRM takes it for a duplicate of a record with another key"


def test_create_answered_with_another_persons_record_is_a_duplicate(world: ScriptedCrmBench) -> None:
    there = seeded(world, phone=OTHER_E164, grade="C")
    shows = {"id": there, "phone": OTHER_E164, "message": "created"}
    world.answer = lambda request: httpx.Response(201, json=shows) if is_create(request) else None
    world.feed(1, PHONE)
    world.drain()
    row = world.row(1)
    assert (row["state"], row["cause"]) == (
        "parked",
        "object contact: the CRM takes it for a duplicate of a record with another key",
    )
    assert "answers with a record of another key" in row["reason"]
    assert world.contents()["contacts"][0]["grade"] == "C", "nothing was written to it"
    assert world.contents()["calls"] == []


def test_update_answered_with_another_persons_record_keeps_the_link(tmp_path: Path) -> None:
    told = plain_connector().replace(
        'method = "PATCH"\npath = "/contacts/{{ id | path }}"',
        'method = "PATCH"\npath = "/contacts/{{ id | path }}"\nid = "id"',
    )
    with closing(ScriptedCrmBench(tmp_path, told)) as world:
        ours, theirs = (seeded(world, phone=phone) for phone in (E164, OTHER_E164))

        def odd(request: httpx.Request) -> httpx.Response | None:
            if request.method != "PATCH":
                return None
            world.effect(request)
            return httpx.Response(200, json={"id": theirs, "phone": OTHER_E164})

        world.answer = odd
        world.feed(1, PHONE)
        world.drain()
        assert world.row(1)["state"] == "delivered"
        assert [call["contact_id"] for call in world.contents()["calls"]] == [ours]


@pytest.mark.parametrize("shift", [1, -1])
def test_batch_results_in_another_order_are_matched_by_key(tmp_path: Path, shift: int) -> None:
    with closing(ScriptedCrmBench(tmp_path, plain_connector(batches=True))) as world:

        def odd(request: httpx.Request) -> httpx.Response | None:
            if not request.url.path.endswith("/batch"):
                return None
            results = world.effect(request).json()["results"]
            return httpx.Response(200, json={"results": [*results[shift:], *results[:shift]]})

        world.answer = odd
        phones = {number: f"158997706{number:02}" for number in range(1, 7)}
        for number, phone in phones.items():
            world.feed(number, phone)
        world.drain()
        for number, phone in phones.items():
            world.feed(number, phone, stamp=2, status="B")
        world.drain()
        assert {row["state"] for row in world.rows()} == {"delivered"}
        contacts = {each["phone"]: each["id"] for each in world.contents()["contacts"]}
        calls = {int(each["call_key"][:8], 16): each["contact_id"] for each in world.contents()["calls"]}
        assert calls == {number: contacts[f"+86{phone}"] for number, phone in phones.items()}


def test_created_record_shown_with_another_key_is_found_by_ours(world: ScriptedCrmBench) -> None:
    def odd(request: httpx.Request) -> httpx.Response | None:
        if not is_create(request):
            return None
        # It writes the key down, and shows its own short form of it.
        return httpx.Response(201, json={**world.effect(request).json(), "phone": "0631"})

    world.answer = odd
    world.feed(1, PHONE)
    world.drain()
    assert world.row(1)["state"] == "delivered"
    assert len(world.contents()["contacts"]) == 1
    assert len(world.contents()["calls"]) == 1


@pytest.mark.parametrize("told", ["c_77", None])
def test_duplicate_never_found_is_parked_after_a_few_lookups(
    world: ScriptedCrmBench, told: str | None
) -> None:
    def knows_no_phone(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == f"/contacts/{told}":
            return httpx.Response(200, json={"id": told, "email": "x@example.com"})
        return refuses(told)(request)

    world.answer = knows_no_phone
    world.feed(1, PHONE)
    world.drain(longest=timedelta(hours=1))
    row = world.row(1)
    assert row["state"] == "parked"
    assert "nothing is found by its key after 4 looks" in row["reason"]
    assert "restore it, correct its key" in row["reason"]
    if told:
        assert f"crm_id={told}" in row["reason"]
    creates = [path for method, path in world.requests if (method, path) == ("POST", "/contacts")]
    assert len(creates) == 4


def test_duplicate_shown_late_by_the_index_is_used(world: ScriptedCrmBench) -> None:
    world.answer = refuses(None)
    world.feed(1, PHONE)
    world.deliver()
    assert world.row(1)["state"] == "due"
    there = seeded(world, phone=E164)
    world.drain()
    assert world.row(1)["state"] == "delivered"
    assert world.contents()["calls"][0]["contact_id"] == there


@pytest.mark.parametrize("on_deleted", ["park", "recreate"])
def test_duplicate_of_a_deleted_record_is_parked(tmp_path: Path, on_deleted: str) -> None:
    def recreated(text: str) -> str:
        return text.replace('on_deleted = "park"', f'on_deleted = "{on_deleted}"')

    with closing(ScriptedCrmBench(tmp_path, plain_connector(TAKEN), mapping=recreated)) as world:
        world.answer = refuses("X")
        world.feed(1, PHONE)
        world.drain()
        row = world.row(1)
        assert row["state"] == "parked"
        assert "The CRM keeps the id of a deleted record, crm_id=X" in row["reason"]
        assert len(world.requests) == 4, "find, create, read back, find"


def test_duplicate_of_a_deleted_record_is_parked_without_a_read_too(tmp_path: Path) -> None:
    connector = plain_connector(TAKEN).replace(
        '[objects.contact.read]\npath = "/contacts/{{ id | path }}"\n', ""
    )

    def recreated(text: str) -> str:
        # Without a read only what needs none.
        kept = [line for line in text.splitlines() if " write = " not in line]
        return "\n".join(kept).replace('on_deleted = "park"', 'on_deleted = "recreate"')

    with closing(ScriptedCrmBench(tmp_path, connector, mapping=recreated)) as world:
        world.answer = refuses("X")
        world.feed(1, PHONE)
        world.drain(longest=timedelta(hours=1))
        row = world.row(1)
        assert row["state"] == "parked"
        assert "crm_id=X" in row["reason"]
        assert "keeps the id of a deleted record" in row["reason"]
        assert len(world.requests) <= 12


# Searches

LISTS_ALL = '{"items": [{"id": "c_8", "phone": "+8613900000002"}, {"id": "c_9", "phone": "+8613900000003"}]}'


def is_search(request: httpx.Request) -> bool:
    return request.method == "GET" and request.url.path == "/contacts"


@pytest.mark.parametrize(
    ("several", "items"),
    [("", 1), ("", 2), ('several = "first"\n', 2), ('several = "oldest"\nby = "id"\n', 2)],
)
def test_search_that_lists_everybody_matches_nobody(tmp_path: Path, several: str, items: int) -> None:
    connector = plain_connector().replace('hits = "items"\n', f'hits = "items"\n{several}', 1)
    with closing(ScriptedCrmBench(tmp_path, connector)) as world:
        listed = json.loads(LISTS_ALL)["items"][:items]
        world.answer = lambda request: (
            httpx.Response(200, json={"items": listed}) if is_search(request) else None
        )
        for number in range(1, 4):
            world.feed(number, f"1589977063{number}")
        world.drain()
        assert {row["state"] for row in world.rows()} == {"parked"}
        assert "records of other keys, such as crm_id=c_8" in world.row(1)["reason"]
        assert "+86139****0002" in world.row(1)["reason"]
        assert {method for method, _ in world.requests} == {"GET"}, "nothing is written"


def test_search_that_lists_everybody_matches_the_record_with_our_key(world: ScriptedCrmBench) -> None:
    there = seeded(world, phone=PHONE)
    everybody = [*json.loads(LISTS_ALL)["items"], {"id": there, "phone": PHONE}, {"id": "c_10"}]
    world.answer = lambda request: (
        httpx.Response(200, json={"items": everybody}) if is_search(request) else None
    )
    world.feed(1, PHONE)
    world.drain()
    assert world.row(1)["state"] == "delivered"
    assert world.contents()["calls"][0]["contact_id"] == there


def test_where_condition_replaces_the_key_check(tmp_path: Path) -> None:
    connector = plain_connector().replace('hits = "items"\n', 'hits = "items"\nwhere = "{{ hit.vip }}"\n', 1)
    with closing(ScriptedCrmBench(tmp_path, connector)) as world:
        there = seeded(world, phone=OTHER_E164)
        told = {"id": there, "phone": OTHER_E164, "vip": True}
        world.answer = lambda request: (
            httpx.Response(200, json={"items": [told]}) if is_search(request) else None
        )
        world.feed(1, PHONE)
        world.drain()
        assert world.contents()["calls"][0]["contact_id"] == there


@pytest.mark.parametrize(
    ("key", "fields", "verdict"),
    [
        ({"phone": E164}, {"phone": E164}, True),
        ({"phone": E164}, {"Phone": "158 9977 0631"}, True),
        ({"phone": E164}, {"phone": "015899770631"}, True),
        ({"phone": E164}, {"phone": "008615899770631"}, True),
        ({"phone": E164}, {"phone": "(158) 9977-0631 ext. 12"}, True),
        ({"phone": E164}, {"phone": OTHER, "mobile": PHONE}, True),
        ({"phone": E164}, {"phone": [{"value": OTHER}, {"value": PHONE}]}, True),
        ({"phone": PHONE}, {"phone": E164}, True),
        ({"phone": E164}, {"phone": 8615899770631}, True),
        ({"phone": E164}, {"phone": OTHER}, False),
        ({"phone": "+8613800138000"}, {"phone": "15900138000"}, False),
        ({"phone": "+862188888888"}, {"phone": "+861088888888"}, False),
        ({"phone": E164}, {"phone": "99770631"}, False),
        ({"phone": E164}, {"phone": None}, None),
        ({"phone": E164}, {"phone": ""}, None),
        ({"phone": E164}, {"name": "王"}, None),
        ({"phone": E164}, {"phone": "158****0631"}, None),
        ({"email": "A@x.example"}, {"email": "a@X.example "}, True),
        ({"email": "a@x.example"}, {"email": "b@x.example"}, False),
        ({"ref": "10000001"}, {"ref": "20000001"}, False),
        ({"ref": 7}, {"ref": "7"}, True),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, False),
        ({"a": "1", "b": "2"}, {"a": "1"}, None),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, True),
        ({}, {"a": "1"}, None),
    ],
)
def test_has_key_compares_a_records_fields_with_our_key(key: Any, fields: Any, verdict: bool | None) -> None:
    assert has_key(key, fields) is verdict


def test_has_key_reads_only_part_of_a_huge_record() -> None:
    assert has_key({"phone": E164}, {"a": [[["x"]] * 100_000]}) is None


@pytest.mark.parametrize("told", [{"x": 1}, [1], [], True, 0.5, "", "  ", None, "x" * 600])
def test_value_that_cannot_be_an_id_is_looked_up_instead(tmp_path: Path, told: Any) -> None:
    """Made, and the answer says so in no way that tells the id: it is looked up, and not made again."""
    with closing(ScriptedCrmBench(tmp_path, plain_connector(TAKEN))) as world:

        def answer(request: httpx.Request) -> httpx.Response | None:
            if not is_create(request):
                return None
            world.effect(request)
            return httpx.Response(201, json={"id": told})

        world.answer = answer
        world.feed(1, PHONE)
        world.drain()
        assert world.row(1)["state"] == "delivered"
        (contact,) = world.contents()["contacts"]
        assert world.contents()["calls"][0]["contact_id"] == contact["id"]


@pytest.mark.parametrize("on_deleted", ["park", "recreate"])
def test_record_gone_by_id_but_found_by_key_is_not_recreated(tmp_path: Path, on_deleted: str) -> None:
    def recreated(text: str) -> str:
        return text.replace('on_deleted = "park"', f'on_deleted = "{on_deleted}"')

    with closing(ScriptedCrmBench(tmp_path, plain_connector(), mapping=recreated)) as world:
        world.feed(1, PHONE)
        world.drain()
        error = {"error": {"code": "not_found", "message": "no right to see it"}}
        world.answer = lambda request: httpx.Response(404, json=error) if request.method == "PATCH" else None
        world.feed(1, PHONE, stamp=2, status="B")
        world.drain()
        row = world.row(1)
        assert row["state"] == "parked"
        assert "is gone, and finds it by its key" in row["reason"]
        assert len(world.contents()["contacts"]) == 1


def test_update_is_not_written_to_another_persons_merged_record(tmp_path: Path) -> None:
    connector = plain_connector().replace(
        '[objects.contact.read]\npath = "/contacts/{{ id | path }}"\n',
        '[objects.contact.read]\npath = "/contacts/{{ id | path }}"\nid = "id"\n',
    )
    with closing(ScriptedCrmBench(tmp_path, connector)) as world:
        world.feed(1, PHONE)
        world.drain()
        other = seeded(world, phone=OTHER_E164, grade="C")
        mine = next(one["id"] for one in world.contents()["contacts"] if one["phone"] == E164)
        world.crm.carry_out("DELETE", ["contacts", mine], {}, None)
        merged = {"id": other, "phone": OTHER_E164, "grade": "C"}
        world.answer = lambda request: (
            httpx.Response(200, json=merged)
            if (request.method, request.url.path) == ("GET", f"/contacts/{mine}")
            else None
        )
        world.feed(1, PHONE, stamp=2, status="B")
        world.drain()
        assert world.row(1)["state"] == "parked"
        assert "no longer in the CRM" in world.row(1)["reason"]
        assert [stored.gone for stored in world.ledger.page_of_calls("crm", "main", Window(), None, 9)] == [
            True
        ]
        assert world.contents()["contacts"][0]["grade"] == "C"


def test_created_record_never_found_is_parked_after_hours(tmp_path: Path) -> None:
    text = plain_connector()
    create = '[objects.contact.create]\npath = "/contacts"\njson = "{{ key | merge(fields) }}"\n'
    assert f'{create}id = "id"\n' in text
    with closing(
        ScriptedCrmBench(tmp_path, text.replace(f'{create}id = "id"\n', f"{create}reread = true\n"))
    ) as world:
        none = httpx.Response(200, json={"items": []})
        world.answer = lambda request: (
            httpx.Response(none.status_code, content=none.content, headers=none.headers)
            if is_search(request)
            else None
        )
        world.feed(1, PHONE)
        world.drain()
        row = world.row(1)
        assert row["state"] == "parked"
        assert "not found by its key for 6:00:00" in row["reason"]
        assert len(world.contents()["contacts"]) == 1
        world.answer = lambda _request: None
        world.ledger.retry([row["id"]], world.clock())
        world.drain()
        assert world.row(1)["state"] == "delivered"
        assert len(world.contents()["contacts"]) == 1


# Circles


def test_random_answers_cause_a_bounded_number_of_requests(tmp_path: Path) -> None:
    chance = random.Random(5)  # noqa: S311 -- a test's dice
    odd = (
        lambda: httpx.Response(404, json={"error": {"code": "not_found"}}),
        lambda: httpx.Response(409, json={"id": f"c_{chance.randrange(10**6)}"}),
        lambda: httpx.Response(200, json={"id": f"c_{chance.randrange(10**6)}", "items": []}),
        lambda: httpx.Response(
            200, json={"id": "c_5", "items": [{"id": f"c_{chance.randrange(10**6)}", "phone": E164}]}
        ),
    )

    def recreated(text: str) -> str:
        return text.replace('on_deleted = "park"', 'on_deleted = "recreate"')

    with closing(ScriptedCrmBench(tmp_path, plain_connector(TAKEN), mapping=recreated)) as world:
        world.answer = lambda _request: chance.choice(odd)()
        for number in range(15):
            world.feed(number, f"158997706{number:02}")
        world.deliver(50)
        assert max(world.tries) <= MOST_QUESTIONS * 2
        assert max(world.tries) > 5, "it went round"


def test_circular_answers_end_in_a_parked_delivery(tmp_path: Path) -> None:
    """Each look-up finds another one, which is gone when it is written to."""
    numbers = iter(range(10**9))

    def circles(request: httpx.Request) -> httpx.Response:
        if is_search(request):
            return httpx.Response(200, json={"items": [{"id": f"n{next(numbers)}", "phone": E164}]})
        if is_create(request):
            return httpx.Response(409, json={})
        if request.method == "GET":
            return httpx.Response(200, json={"id": request.url.path.rsplit("/", 1)[-1], "phone": E164})
        return httpx.Response(404, json={"error": {"code": "not_found", "message": "gone"}})

    def recreated(text: str) -> str:
        return text.replace('on_deleted = "park"', 'on_deleted = "recreate"')

    with closing(ScriptedCrmBench(tmp_path, plain_connector(TAKEN), mapping=recreated)) as world:
        world.answer = circles
        world.feed(1, PHONE)
        world.drain()
        row = world.row(1)
        assert row["state"] == "parked"
        assert "lead in circles" in row["reason"]
        assert "Look at the record in the CRM" in row["reason"]
        assert max(world.tries) <= MOST_QUESTIONS * 2


def test_ever_refused_token_costs_few_requests_per_attempt(tmp_path: Path) -> None:
    tokens = iter(range(10**6))

    def captcha(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return httpx.Response(200, json={"access_token": f"t{next(tokens)}", "expires_in": 3600})
        page = "<html>prove that you are human</html>"
        return httpx.Response(401, text=page, headers={"content-type": "text/html"})

    with closing(ScriptedCrmBench(tmp_path, (DATA / "connector.toml").read_text("utf-8"))) as world:
        world.answer = captcha
        world.feed(1, PHONE)
        for _ in range(20):
            world.deliver()
            world.clock.pass_by(400)
        assert 0 < max(world.tries) <= 2 * (QUICK_TRIES + 1)
        assert world.row(1)["state"] == "due"
        assert world.budget.state()["breaker"]["open_until"] is not None


def test_duplicate_by_email_of_another_person_is_parked(tmp_path: Path) -> None:
    """HubSpot names the existing contact in a sentence only; its id looks like a phone number."""
    rule = """
[[outcomes]]
path = "message"
matches = 'Existing ID:'
then = "duplicate"
id = '{{ text | found("Existing ID:\\\\s*(\\\\d+)") }}'
"""
    with closing(ScriptedCrmBench(tmp_path, plain_connector(rule))) as world:
        told = {"message": "Contact already exists. Existing ID: 15000000001", "category": "CONFLICT"}
        owner = {"id": "15000000001", "phone": OTHER_E164}

        def answer(request: httpx.Request) -> httpx.Response | None:
            if is_create(request):
                return httpx.Response(409, json=told)
            is_owner = request.url.path == "/contacts/15000000001"
            return httpx.Response(200, json=owner) if is_owner else None

        world.answer = answer
        world.feed(1, PHONE)
        world.drain()
        reason = world.row(1)["reason"]
        assert world.row(1)["state"] == "parked"
        assert "a duplicate of crm_id=15000000001, which has another key (phone +86139****0001" in reason
        assert "Existing ID: crm_id=15000000001" in reason
        assert not [path for method, path in world.requests if method == "PATCH"]


# What is shown


def test_record_ids_are_shown_and_phones_are_masked() -> None:
    text = f"Existing ID: {of_crm('15000000001')}, phone 15899770637"
    assert mask_phones_in(text) == "Existing ID: crm_id=15000000001, phone 158****0637"
    assert of_crm("a b 15899770637") == "a b 15899770637", "what is no id is no marker"


def test_refused_record_is_named_by_its_id(tmp_path: Path) -> None:
    """Its id looks like a phone number; the customer's number beside it stays masked."""
    with closing(ScriptedCrmBench(tmp_path, plain_connector())) as world:
        found = {"id": "15000000001", "phone": E164}
        refused = {"error": {"code": "locked", "message": f"15000000001 of {E164} is archived"}}

        def answer(request: httpx.Request) -> httpx.Response | None:
            if is_search(request):
                return httpx.Response(200, json={"items": [found]})
            return (
                httpx.Response(200, json=found)
                if request.method == "GET"
                else httpx.Response(422, json=refused)
            )

        world.answer = answer
        world.feed(1, PHONE)
        world.drain()
        reason = world.row(1)["reason"]
        assert "PATCH /contacts/crm_id=15000000001 answered 422" in reason
        assert "crm_id=15000000001 of +86158****0631 is archived" in reason


@pytest.mark.parametrize("before", range(275, 300))
def test_shown_key_is_masked_before_it_is_cut(before: int) -> None:
    text = key_shown({"name": "", "phone": ""}, {"name": "x" * before, "phone": PHONE})
    assert not re.search(r"\d{5}", text)


def test_refusal_of_an_id_with_a_backslash_parks(tmp_path: Path) -> None:
    crm_id = "15000000001\\g"
    with closing(ScriptedCrmBench(tmp_path, plain_connector())) as world:
        found = {"id": crm_id, "phone": E164}

        def answer(request: httpx.Request) -> httpx.Response | None:
            if is_search(request):
                return httpx.Response(200, json={"items": [found]})
            if request.method == "GET":
                return httpx.Response(200, json=found)
            return httpx.Response(422, json={"error": {"code": "locked", "message": f"{crm_id} is archived"}})

        world.answer = answer
        world.feed(1, PHONE)
        world.drain()
        assert world.row(1)["state"] == "parked"
        assert "is archived" in world.row(1)["reason"]
