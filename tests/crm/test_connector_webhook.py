"""The signed webhook against a receiver that verifies as Standard Webhooks says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crm.conformance.bench import OTHER_PHONE, PHONE, ConformanceBench, ConnectorCase, bench_of, uuid_of
from tests.servers.clock import Clock
from tests.servers.webhook import WebhookReceiver

E164 = f"+86{PHONE}"


def serve(clock: Clock, **how: Any) -> WebhookReceiver:
    return WebhookReceiver(clock=clock, is_contact=lambda body: body["object"] == "contact", **how)


def case(server: Callable[[Clock], WebhookReceiver] = serve) -> ConnectorCase:
    return ConnectorCase(
        connector="webhook",
        server=server,
        name="name",
        phone="phone",
        note="remark",
        key="call_key",
        contact_path="contact",
        forms=(),
        refreshes=False,
    )


def receiver(one: ConformanceBench) -> WebhookReceiver:
    assert isinstance(one.server, WebhookReceiver)
    return one.server


def delivered(one: ConformanceBench, *numbers: int) -> None:
    states = {number: one.reason(number) for number in numbers if one.state(number) != "delivered"}
    assert not states


def test_a_call_becomes_two_signed_events(tmp_path: Path) -> None:
    with bench_of(tmp_path, case()) as one:
        one.send(name="王芳", mark="有意向 “好”")
        (contact,), (call,) = one.server.contacts(), one.server.calls()
        assert (contact["phone"], contact["name"], contact["last_call"]) == (E164, "王芳", uuid_of(1))
        assert (call["call_key"], call["contact"], call["remark"]) == (uuid_of(1), E164, "有意向 “好”")
        assert call["id"].startswith("msg_")
        assert {entry.path for entry in one.server.log()} == {"/"}, "to base_url itself"


def test_key_that_is_no_base64_signs_as_it_is(tmp_path: Path) -> None:
    with bench_of(tmp_path, case(lambda clock: serve(clock, secret="as it stands"))) as one:
        one.send()
        assert len(one.server.calls()) == 1


def test_base_url_is_the_whole_url(tmp_path: Path) -> None:
    class Deep(WebhookReceiver):
        @property
        def url(self) -> str:
            return f"{super().url}/hooks/calls?tenant=7"

    def deep(clock: Clock) -> WebhookReceiver:
        return Deep(clock=clock, is_contact=lambda body: body["object"] == "contact")

    with bench_of(tmp_path, case(deep)) as one:
        one.send()
        assert {(entry.path, entry.query["tenant"]) for entry in one.server.log()} == {("/hooks/calls", "7")}


def test_unchanged_call_sends_nothing(tmp_path: Path) -> None:
    with bench_of(tmp_path, case()) as one:
        one.send()
        assert one.send(updated_at="2025-04-14 10:20:00", data7="not mapped") == []


def test_each_revision_is_an_event_even_back_to_an_old_state(tmp_path: Path) -> None:
    with bench_of(tmp_path, case()) as one:
        for mark in ("一", "二", "一"):
            assert len(one.send(mark=mark)) >= 1
        assert [call["remark"] for call in one.server.calls()] == ["一", "二", "一"]
        assert len({call["id"] for call in one.server.calls()}) == 3


def test_return_to_an_earlier_grade_is_sent_each_time(tmp_path: Path) -> None:
    with bench_of(tmp_path, case()) as one:
        for number, grade in enumerate("BAB", start=1):
            one.send(number, status=grade)
        assert [contact["grade"] for contact in one.server.contacts()] == list("BAB")


def test_older_call_sends_no_contact_event(tmp_path: Path) -> None:
    with bench_of(tmp_path, case()) as one:
        one.send(2, name="新")
        one.send(1, name="旧")
        assert [contact["name"] for contact in one.server.contacts()] == ["新"]
        assert len(one.server.calls()) == 2


@pytest.mark.parametrize("after", [0, 1])
def test_lost_answer_is_resent_under_the_same_id(tmp_path: Path, after: int) -> None:
    with bench_of(tmp_path, case()) as one:
        one.server.lose_next_answer(after=after)
        one.feed()
        one.drain()
        delivered(one, 1)
        assert (len(one.server.contacts()), len(one.server.calls())) == (1, 1)
        sent = receiver(one).deliveries
        assert (len(sent), len(set(sent))) == (3, 2)


def test_slow_failing_or_absent_receiver_is_retried(tmp_path: Path) -> None:
    with bench_of(tmp_path, case()) as one:
        one.server.limit_next(wait=45)
        one.feed()
        one.attempt()
        assert one.state() == "due"
        assert 44 <= one.wait() <= 90
        one.server.fail_next(2, 503)
        one.server.cut_next()
        one.drain()
        delivered(one, 1)
        assert (len(one.server.contacts()), len(one.server.calls())) == (1, 1)


def test_wrong_key_does_no_harm(tmp_path: Path) -> None:
    with bench_of(tmp_path, case()) as one:
        one.server.expire_token()
        one.feed()
        one.attempt()
        assert one.state() == "due"
        assert "signing_key" in one.reason()
        one.server.unexpire()
        one.drain()
        delivered(one, 1)


def test_refused_event_parks_alone(tmp_path: Path) -> None:
    with bench_of(tmp_path, case()) as one:
        one.server.refuse_value("remark", "拒绝")
        one.feed(1, mark="拒绝")
        one.feed(2, phone=OTHER_PHONE, mark="好")
        one.drain()
        assert one.state(1) == "parked"
        assert "remark is not acceptable. The receiver refuses this event" in one.reason(1)
        delivered(one, 2)
        one.server.heal()
        one.ledger.retry([one.delivery(1)["id"]], one.clock())
        one.drain()
        delivered(one, 1, 2)


@pytest.mark.parametrize(("status", "says"), [(404, "the whole address"), (410, "switched this address off")])
def test_wrong_url_is_reported_and_parks_nothing(tmp_path: Path, status: int, says: str) -> None:
    with bench_of(tmp_path, case()) as one:
        one.server.fail_next(1000, status)
        one.feed()
        one.attempt()
        assert one.state() == "due"
        assert says in one.reason()
        one.server.heal()
        one.drain()
        assert one.state() == "delivered"


def test_calls_may_be_sent_without_contacts(tmp_path: Path) -> None:
    with bench_of(tmp_path, case(), {"objects.contact": None, "objects.call.link": None}) as one:
        one.send()
        assert one.server.contacts() == []
        (call,) = one.server.calls()
        assert "contact" not in call
        assert call["phone"] == E164
