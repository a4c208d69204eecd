"""Delivering: a real ledger, a real CRM behind a socket, and everything that a CRM can do wrong."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bridge.lib.stored_times import LONGEST_PAUSE
from bridge.model.deliveries import Lane
from bridge.sandbox.crm import SandboxCrm
from bridge.sandbox.server import LocalServer
from tests.fixtures.delivery_bench import NOW, RETRY, SECRET, TOP, DeliveryBench

KEY = "db57f262-18d6-11f0-88c8-2f2b0aba51d7"
PHONE = "15899770637"
CONTACT, CALL = f"/contacts/+86{PHONE}", f"/calls/{KEY}"
ALL_SENT = [(CONTACT, 201), (CALL, 201), (f"{CALL}/contact", 200)]
ZONE = ZoneInfo("Asia/Shanghai")


Benches = Callable[..., DeliveryBench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Benches]:
    """Benches that owe one call to a CRM: an app that is served meanwhile, or an address."""
    with ExitStack() as stack:

        def make(crm: ASGIApp | str, record: dict[str, Any] | None = None, **options: Any) -> DeliveryBench:
            url = crm if isinstance(crm, str) else stack.enter_context(LocalServer(crm)).url
            made = stack.enter_context(closing(DeliveryBench(tmp_path, url, **options)))
            made.feed(**record or {})
            return made

        yield make


def always(answer: Callable[[Request], Response]) -> ASGIApp:
    """A CRM that answers everything alike."""
    return Starlette(routes=[Route("/{path:path}", answer, methods=["PUT"])])


def statuses(crm: SandboxCrm) -> list[tuple[str, int | None]]:
    return [(entry["path"], entry["status"]) for entry in crm.log()]


def hides(text: str) -> bool:
    return PHONE not in text and SECRET not in text


# What goes well


def test_a_call_is_delivered_once_with_its_contact(bench: Benches) -> None:
    crm = SandboxCrm(SECRET)
    one = bench(crm.app)
    delivery = one.deliver()
    assert (delivery.state, delivery.delivered, delivery.reason) == ("delivered", 1, None)
    assert statuses(crm) == ALL_SENT
    (contact,), (call,) = crm.contents()["contacts"], crm.contents()["calls"]
    assert (contact["phone"], contact["interest"]) == (f"+86{PHONE}", "warm")
    assert (call["call_key"], call["contact_id"], call["score"]) == (KEY, contact["id"], 80)
    assert len(call["transcript"].split("\n")) == 17
    assert [(row.object, row.crm_id) for row in one.call.crm_objects] == [
        ("call", call["id"]),
        ("contact", contact["id"]),
    ]
    assert [row.outcome for row in one.call.attempts] == ["delivered"]
    assert not one.worker.deliver_one(NOW + timedelta(days=30))


def test_false_rule_skips_the_call_by_the_rules_name(bench: Benches) -> None:
    crm = SandboxCrm()
    one = bench(crm.app, {"call_from_type": 3})
    delivery = one.deliver()
    assert (delivery.state, delivery.reason) == ("skipped", "no voice tests")
    assert crm.log() == []


def test_revision_during_a_lease_is_delivered_after_it(bench: Benches) -> None:
    crm = SandboxCrm()
    one = bench(crm.app)
    one.meanwhile = lambda: one.feed(status_manual="A", updated_at="2025-04-14 11:00:00")
    delivery = one.deliver()
    assert (delivery.state, delivery.wanted, delivery.delivered) == ("due", 2, 1)
    assert crm.contents()["calls"][0]["grade"] == "B"
    delivery = one.deliver()
    assert (delivery.state, delivery.wanted, delivery.delivered) == ("delivered", 2, 2)
    (contact,), (call,) = crm.contents()["contacts"], crm.contents()["calls"]
    assert (contact["grade"], contact["interest"], call["grade"]) == ("A", "hot", "A")
    assert statuses(crm) == [*ALL_SENT, ("/contacts/c_1", 200), ("/calls/k_1", 200)], "a link stays"


# Faults that pass


def test_a_short_retry_after_is_waited_for_within_the_attempt(bench: Benches) -> None:
    crm = SandboxCrm()
    crm.add_fault(status=429, retry_after=1, path="/calls/")
    one = bench(crm.app, quick=True)
    delivery = one.deliver()
    assert (delivery.state, delivery.tries) == ("delivered", 1)
    assert statuses(crm) == [ALL_SENT[0], (CALL, 429), *ALL_SENT[1:]]
    refused, repeated = (datetime.fromisoformat(entry["time"]) for entry in crm.log()[1:3])
    assert 1.0 <= (repeated - refused).total_seconds() < 1.5


def test_a_shutdown_ends_the_wait(bench: Benches) -> None:
    made: list[DeliveryBench] = []

    def refuse(_request: Request) -> Response:
        made[0].stop.set()
        return PlainTextResponse("slow down", 429, {"Retry-After": "2"})

    made.append(bench(always(refuse), quick=True))
    before = time.monotonic()
    assert made[0].deliver().state == "due"
    assert time.monotonic() - before < 1.5


@pytest.mark.parametrize("status", [429, 503, 500])
def test_long_retry_after_sets_the_deliverys_due_time(bench: Benches, status: int) -> None:
    crm = SandboxCrm()
    crm.add_fault(status=status, retry_after=90)
    one = bench(crm.app, quick=True)
    delivery = one.deliver()
    assert (delivery.state, len(crm.log())) == ("due", 1)
    wait = one.wait()
    # Its clock goes on while a slow machine works; the first step of the schedule would be ten seconds.
    assert 90 <= wait < 150
    assert str(delivery.reason).startswith("destination crm, object contact, upsert: PUT /contacts/")
    assert f"answered {status}" in str(delivery.cause)
    assert not one.worker.deliver_one(NOW + timedelta(seconds=wait - 1))
    assert one.deliver(after=timedelta(seconds=wait + 1)).state == "delivered"
    assert [row.outcome for row in one.call.attempts] == ["due", "delivered"]


@pytest.mark.parametrize("asked", ["inf", "1e30", "nan", "99999999999999999999", "soon", "-5"])
def test_a_nonsensical_retry_after_parks_nothing(bench: Benches, asked: str) -> None:
    answer = PlainTextResponse("slow down", 429, {"Retry-After": asked})
    one = bench(always(lambda _request: answer))
    assert one.deliver().state == "due"
    assert 9 <= one.wait() <= 35 * 86400


@pytest.mark.parametrize(
    ("status", "effect"), [(503, False), (500, False), (408, False), (500, True), (None, True)]
)
def test_brief_failure_is_repeated_at_once_and_makes_one_object(
    bench: Benches, status: int | None, effect: bool
) -> None:
    crm = SandboxCrm()
    lost = status is None
    crm.add_fault(path=CONTACT, status=status, after_effect=effect and not lost, lost_answer=lost)
    one = bench(crm.app, quick=True)
    assert one.deliver().state == "delivered"
    assert statuses(crm) == [(CONTACT, status), (CONTACT, 200 if effect else 201), *ALL_SENT[1:]]
    assert [len(crm.contents()[kind]) for kind in ("contacts", "calls")] == [1, 1]


def test_waits_grow_until_the_retry_policy_gives_up(bench: Benches) -> None:
    crm = SandboxCrm()
    crm.add_fault(status=500, times=-1)
    one = bench(crm.app)
    for number, expected in enumerate([10, 20, 40, 80, 160, 300, 300], start=1):
        delivery = one.deliver()
        assert (delivery.state, delivery.tries) == ("due", number)
        assert 0.9 * expected <= one.wait() <= 1.1 * expected
        # The breaker may hold the account back for longer than this one delivery waits.
        one.now = (delivery.due_at or one.now) + LONGEST_PAUSE
    delivery = one.deliver(after=RETRY.give_up_after)
    assert delivery.state == "parked"
    assert str(delivery.reason).startswith(
        "given up after 1:00:00: destination crm, object contact, upsert: "
    )
    assert not one.worker.deliver_one(NOW + timedelta(days=9))
    crm.clear_faults()
    assert one.ledger.retry([], one.now) == 1
    assert one.deliver(after=LONGEST_PAUSE).state == "delivered"


def test_a_crm_that_is_down_is_tried_again(bench: Benches) -> None:
    down = LocalServer(SandboxCrm().app)
    down.stop()
    one = bench(down.url)
    delivery = one.deliver()
    assert (delivery.state, delivery.cause) == ("due", "the CRM cannot be reached")
    assert "destination crm, object contact, upsert: PUT" in str(delivery.reason)
    assert hides(str(delivery.reason))
    assert 9 <= one.wait() <= 11
    with LocalServer(SandboxCrm().app, port=down.port):
        assert one.deliver(after=timedelta(seconds=11)).state == "delivered"


# Faults that need a person


@pytest.mark.parametrize("phone", [PHONE, "+49151123456789"])
def test_refusal_names_object_and_field_and_masks_the_phone(bench: Benches, phone: str) -> None:
    crm = SandboxCrm()
    one = bench(crm.app, {"status": "A" * 40, "phone": phone})
    delivery = one.deliver()
    assert (delivery.state, len(crm.log())) == ("parked", 1)
    assert str(delivery.reason).startswith("destination crm, object contact, upsert: PUT /contacts/")
    assert "answered 422" in str(delivery.reason)
    assert "(field grade)" in str(delivery.reason)
    assert delivery.cause == "object contact, upsert: answered 422 too_long grade"
    assert f"****{phone[-4:]}" in str(delivery.reason)
    assert phone.strip("+") not in str(delivery.reason)


def test_objects_sent_before_a_refusal_are_remembered(bench: Benches) -> None:
    crm = SandboxCrm()
    crm.add_fault(status=422, path="/calls/")
    one = bench(crm.app)
    assert one.deliver().state == "parked"
    assert [row.object for row in one.call.crm_objects] == ["contact"]
    one.ledger.retry([], one.now)
    assert one.deliver().state == "delivered"
    assert len(crm.contents()["contacts"]) == 1


def test_a_wrong_secret_pauses_the_account_and_says_where_to_look(bench: Benches) -> None:
    crm = SandboxCrm("another token")
    one = bench(crm.app)
    delivery = one.deliver()
    assert (delivery.state, len(crm.log())) == ("due", 1)
    assert "answered 401" in str(delivery.reason)
    assert "Check the destination's secrets" in str(delivery.reason)
    assert hides(str(delivery.reason))
    other = KEY.replace("db57", "db58")
    one.feed(uuid=other, base_info=other)
    assert not one.worker.deliver_one(one.now), "another call would only be refused as well"
    assert len(crm.log()) == 1


def test_unusable_answer_is_parked(bench: Benches) -> None:
    one = bench(always(lambda _request: JSONResponse({"ok": True})))
    delivery = one.deliver()
    assert delivery.state == "parked"
    assert "object contact: the answer carries no id at 'id'" in str(delivery.reason)


def test_unmappable_call_is_parked_with_place_and_masked_phone(bench: Benches, tmp_path: Path) -> None:
    text = (TOP / "mappings/sandbox.toml").read_text("utf-8")
    path = tmp_path / "own.toml"
    path.write_text(
        text.replace('name = "{{ call.name }}"', 'name = { value = "{{ call.phone }}", map = {} }')
    )
    crm = SandboxCrm()
    one = bench(crm.app, mapping=path)
    delivery = one.deliver()
    assert (delivery.state, crm.log()) == ("parked", [])
    assert str(delivery.reason).startswith("mapping: objects.contact.fields.name in own.toml: ")
    assert "****0637" in str(delivery.reason)
    assert hides(str(delivery.reason) + str(delivery.cause))


# Faults of ours


class Jammed(random.Random):
    """Chance that fails, as nothing in a CRM can make the worker fail."""

    def random(self) -> float:
        raise RuntimeError(f"no chance for {PHONE}")


def test_internal_fault_parks_one_delivery_and_no_other(bench: Benches) -> None:
    crm = SandboxCrm()
    crm.add_fault(status=500)
    one = bench(crm.app, rng=Jammed())
    delivery = one.deliver()
    assert (delivery.state, delivery.cause) == ("parked", "a fault in callbridge")
    assert "no chance for 158****0637" in str(delivery.reason)
    other = KEY.replace("db57", "db58")
    one.feed(uuid=other, base_info=other)
    assert one.deliver().state == "parked"
    assert [row.state for row in one.ledger.show_call(2).deliveries] == ["delivered"]


def test_unreadable_state_parks_its_delivery(bench: Benches) -> None:
    one = bench(SandboxCrm().app)
    with closing(sqlite3.connect(one.path, isolation_level=None)) as connection:
        connection.execute("UPDATE payloads SET body = x'00'")
    one.worker.deliver_one(NOW)
    assert [row.state for row in one.ledger.list_deliveries(None, None, 9)] == ["parked"]


def test_state_that_is_no_json_parks_its_delivery(bench: Benches) -> None:
    one = bench(SandboxCrm().app)
    with closing(sqlite3.connect(one.path, isolation_level=None)) as connection:
        connection.execute("""UPDATE payloads SET codec = 0, body = CAST('{"uuid": "' AS BLOB)""")
    one.worker.deliver_one(NOW)
    (row,) = one.ledger.list_deliveries(None, None, 9)
    assert (row.state, row.cause) == ("parked", "unreadable record")
    assert row.reason is not None
    assert row.reason.startswith("the stored record cannot be read: not JSON")


DELIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bridge.lib.log import configure
from tests.fixtures.delivery_bench import SECRET, DeliveryBench
configure("debug", "json")
bench = DeliveryBench(Path(sys.argv[2]), sys.argv[3])
bench.deliver()
bench.close()
"""


def test_logs_show_neither_secrets_nor_full_phones(bench: Benches, tmp_path: Path) -> None:
    def refuse(request: Request) -> Response:
        message = f"{PHONE} {request.headers['authorization']}"
        return JSONResponse({"error": {"message": message}}, 403)

    one = bench(always(refuse))
    command = [sys.executable, "-c", DELIVER, str(TOP), str(tmp_path), one.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert ended.stdout == ""
    assert "delivery.parked" in ended.stderr
    assert KEY in ended.stderr
    assert "****0637" in ended.stderr
    assert hides(ended.stderr)


def test_shadow_delivery_is_planned_and_not_sent(bench: Benches, tmp_path: Path) -> None:
    text = (TOP / "mappings/sandbox.toml").read_text("utf-8")
    path = tmp_path / "own.toml"
    path.write_text(f"shadow = true\n{text}", "utf-8")
    crm = SandboxCrm()
    delivery = bench(crm.app, mapping=path).deliver()
    assert (delivery.state, delivery.reason) == ("skipped", "shadow: nothing is sent")
    assert crm.log() == []


def test_delivery_delayed_by_our_own_limits_has_not_failed(bench: Benches) -> None:
    crm = SandboxCrm()
    other = {"uuid": "aa57f262-18d6-11f0-88c8-2f2b0aba51d7", "base_info": "", "phone": "15899770638"}
    one = bench(crm.app, rate="4/60s")
    assert one.deliver().state == "delivered"
    one.feed(**other)
    assert one.worker.deliver_one(one.now)
    second = one.ledger.show_call(2)
    (delivery,) = second.deliveries
    assert (delivery.state, delivery.lane, delivery.tries) == ("due", Lane.LIVE, 0)
    assert "waits 60 s for the CRM's limits" in (delivery.reason or "")
    assert second.attempts == [], "no attempt was made"
    assert not one.worker.deliver_one(one.now + timedelta(seconds=50)), "nothing is begun without room for it"
    one.now += timedelta(seconds=60)
    assert one.worker.deliver_one(one.now)
    second = one.ledger.show_call(2)
    assert second.deliveries[0].state == "delivered"
    assert [attempt.outcome for attempt in second.attempts] == ["delivered"]
    assert len(crm.log()) == 6, "what was sent before is not sent again"
