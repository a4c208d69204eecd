"""What every connector promises, whatever CRM it is for: one class, run once for each, on a local server."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.crm.conformance.bench import (
    OTHER_PHONE,
    PHONE,
    ConformanceBench,
    ConnectorCase,
    bench_of,
    bench_on,
    phone_of,
)
from tests.servers.base import CALL, CONTACT


def without_emoji(value: Any) -> Any:
    """A text as a database of three bytes a character keeps it."""
    return re.sub("[\U00010000-\U0010ffff]", "????", value) if isinstance(value, str) else value


class Conformance:
    """Tests take a folder and nothing else, so that a planted fault can run them one by one."""

    case: ClassVar[ConnectorCase]

    def bench(
        self, folder: Path, changes: Mapping[str, Any] | None = None
    ) -> AbstractContextManager[ConformanceBench]:
        """A bench on a server of its own."""
        return bench_of(folder, self.case, changes)

    def contact_requests(self, bench: ConformanceBench, since: int) -> list[str]:
        """The requests that concern contacts."""
        shown = [f"{each.path} {each.query} {each.body}" for each in bench.server.log()[since:]]
        return [each for each in shown if re.search(self.case.contact_path, each)]

    # -- once -------------------------------------------------------------------------
    def test_a_call_becomes_one_contact_and_one_linked_call(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            one.feed(name="王芳", mark="有意向")
            one.attempt()
            one.settled()
            assert one.contact()[self.case.name] == self.case.written_as("王芳")
            assert PHONE in str(one.contact()[self.case.phone])
            assert one.call()[self.case.note] == self.case.written_as("有意向")
            ids = {row.object: row.crm_id for row in one.ledger.show_call(1).crm_objects}
            assert ids == {"contact": one.contact()["id"], "call": one.call()["id"]}

    def test_unchanged_call_causes_no_request(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            one.send()
            assert one.send() == []
            assert one.send(data7="not mapped") == []
            assert one.delivery()["delivered"] == 2
            one.settled()

    def test_a_revision_sends_only_what_changed(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            one.send(name="王芳")
            before = len(one.server.log())
            one.send(name="王芳", mark="改过")
            assert one.call()[self.case.note] == self.case.written_as("改过")
            assert len(one.writes(before)) == 1
            assert self.contact_requests(one, before) == []
            one.settled()

    def test_second_call_causes_no_request_for_an_unchanged_contact(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            one.send(name="王芳")
            before = len(one.server.log())
            one.send(2, name="王芳")
            assert self.contact_requests(one, before) == []
            one.settled(2)

    def test_newest_of_several_calls_names_the_contact(self, tmp_path: Path) -> None:
        with self.bench(tmp_path, {f"objects.contact.fields.{self.case.name}.write": "always"}) as one:
            one.send(2, name="新")
            one.send(1, name="旧")
            assert one.contact()[self.case.name] == self.case.written_as("新")
            one.settled(2)

    def test_two_concurrent_calls_of_one_contact_create_one(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            for number in (1, 2, 3):
                one.feed(number, name="王芳")
            workers = [one.worker, one.new_worker()]
            threads = [threading.Thread(target=worker.deliver_one, args=(one.clock(),)) for worker in workers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            one.drain()
            one.settled(3)

    def test_many_calls_are_batched(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            alone = [entry.kind for entry in one.send() if entry.kind != "token"]
            before = len(one.server.log())
            for number in range(2, 7):
                one.feed(number, phone=phone_of(number), name=f"第{number}")
            one.attempt()
            for number in range(2, 7):
                one.alone(number)
                assert one.contact(number)[self.case.name] == self.case.written_as(f"第{number}")
            if one.connector.together > 1:
                assert len(one.server.log()) - before < 5 * len(alone)
                assert len(one.writes(before)) == alone.count("write")

    # -- what is there already ----------------------------------------------------------
    def test_contact_made_by_a_user_is_found(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            for number, form in enumerate(self.case.forms, 1):
                # The same form of another number.
                written = form.replace("0637", f"06{number:02}")
                there = one.server.seed_contact(**{**self.case.required, self.case.phone: written})
                one.send(number, phone=f"158997706{number:02}")
                assert one.call(number)["contact_ids"] == [there], written
                assert len(one.server.contacts()) == number, written
                one.clock.pass_by(60)

    def test_lost_memory_creates_no_duplicates(self, tmp_path: Path) -> None:
        with self.bench(tmp_path / "one") as one:
            one.send(name="王芳", mark="一")
            if self.case.unique:
                # No search finds it yet: the CRM refuses a second one, and that is understood.
                one.server.index_lag = 10**6
            else:
                one.clock.pass_by(600)
            with bench_on(tmp_path / "two", self.case, one.server, one.clock) as two:
                two.send(name="王芳", mark="二")
                two.settled()
                assert two.call()[self.case.note] == self.case.written_as("二")

    def test_object_created_by_another_at_the_same_moment_is_used(self, tmp_path: Path) -> None:
        if not self.case.contact_key:
            pytest.skip("it refuses no second one")
        own = {field: f"+86{phone_of(2)}" for field in (self.case.phone, self.case.contact_key)}
        # Alone, and in a batch with others.
        for numbers in ((2,), (1, 2, 3)):
            with self.bench(tmp_path / str(len(numbers))) as one:
                made: list[str] = []
                one.ledger.meanwhile = partial(self.make, one, made, {**self.case.required, **own})
                for number in numbers:
                    one.feed(number, phone=phone_of(number), name="王芳")
                one.drain()
                for number in numbers:
                    one.alone(number)
                assert [one.contact(2)["id"]] == made

    def make(self, one: ConformanceBench, made: list[str], fields: Mapping[str, Any]) -> None:
        """A person makes a contact."""
        made.append(one.server.seed_contact(**fields))

    def test_changed_key_moves_the_call_to_its_new_contact(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            one.send()
            first = one.contact()["id"]
            one.send(phone=OTHER_PHONE)
            contacts = {each["id"] for each in one.server.contacts()}
            assert len(contacts) == 2
            assert len(one.server.calls()) == 1
            assert set(one.call()["contact_ids"]) - {first} == contacts - {first}

    # -- faults on the way ----------------------------------------------------------------
    def test_token_expiring_midway_is_renewed_once(self, tmp_path: Path) -> None:
        if not self.case.refreshes:
            pytest.skip("its token is a secret that does not expire")
        with self.bench(tmp_path) as one:
            for number, after in self.each_request(one):
                before = one.server.token_requests()
                one.server.expire_token(after)
                one.feed(number, phone=phone_of(number))
                one.attempt()
                one.alone(number)
                assert one.server.token_requests() == before + 1
                # Zoho and others give few tokens at a time.
                one.clock.pass_by(300)

    def test_refused_secret_does_no_harm(self, tmp_path: Path) -> None:
        if self.case.refreshes:
            pytest.skip("its token is renewed")
        with self.bench(tmp_path) as one:
            one.server.expire_token()
            one.feed()
            one.attempt()
            assert one.state() in ("due", "parked")
            assert "secret" in one.reason()
            assert (one.server.contacts(), one.server.calls()) == ([], [])
            one.server.unexpire()
            one.ledger.retry([one.delivery()["id"]], one.clock())
            one.drain()
            one.settled()

    def each_request(self, one: ConformanceBench, kind: str = "") -> Iterator[tuple[int, int]]:
        """For each request (of a kind) that a new call takes: a new call, and how many go before it."""
        asked = [entry for entry in one.send() if entry.kind != "token" and kind in ("", entry.kind)]
        yield from ((after + 2, after) for after in range(len(asked)))

    def test_rate_limit_is_respected(self, tmp_path: Path) -> None:
        wait = self.case.limit_wait or 45
        with self.bench(tmp_path / "count") as one:
            every = list(self.each_request(one))
        for number, after in every:
            # Each on a bench of its own: what one refusal teaches the budget slows the next.
            with self.bench(tmp_path / str(number)) as one:
                one.server.limit_next(wait=45, after=after)
                one.feed()
                one.attempt()
                assert one.state() == "due", one.reason()
                assert wait - 1 <= one.wait() <= wait * 1.5 + 15
                asked = len(one.server.log())
                one.clock.pass_by(one.wait() - 1)
                one.attempt()
                assert len(one.server.log()) == asked
                one.drain()
                one.settled()

    def test_daily_quota_is_waited_out(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            if not one.server.has_quota:
                pytest.skip("it has no quota with an answer of its own")
            one.server.quota_next()
            one.feed()
            one.attempt()
            assert one.state() == "due", one.reason()
            assert one.wait() >= 600
            one.drain(timedelta(days=2))
            one.settled()

    def test_failing_crm_is_retried(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            for number, after in self.each_request(one):
                one.server.fail_next(2, 500, after=after)
                one.feed(number, phone=phone_of(number))
                one.drain()
                one.alone(number)

    def test_lost_answer_creates_no_duplicate(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            for number, after in self.each_request(one, "write"):
                one.server.lose_next_answer(after=after)
                one.feed(number, phone=phone_of(number), name="王芳", mark="有意向")
                one.drain()
                one.alone(number)
                assert one.contact(number)[self.case.name] == self.case.written_as("王芳")
                assert one.call(number)[self.case.note] == self.case.written_as("有意向")

    def test_request_cut_off_before_its_effect_is_repeated(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            for number, after in self.each_request(one):
                one.server.cut_next(after=after)
                one.feed(number, phone=phone_of(number))
                one.drain()
                one.alone(number)

    # -- refusals -------------------------------------------------------------------------
    def test_bad_record_is_parked_alone(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            one.server.refuse_value(self.case.note, self.case.written_as("拒绝"))
            for number in range(1, 6):
                mark = "拒绝" if number == 3 else f"第{number}"
                one.feed(number, phone=phone_of(number), mark=mark)
            # At the first attempt, with nothing in doubt.
            one.attempt()
            states = [one.state(number) for number in range(1, 6)]
            assert states == ["delivered", "delivered", "parked", "delivered", "delivered"]
            assert "destination crm" in one.reason(3)
            assert "object call" in one.reason(3)
            assert self.case.note in one.reason(3)
            assert len(one.server.contacts()) == 5
            assert len(one.server.calls()) == 4
            asked = len(one.server.log())
            one.clock.pass_by(86400)
            one.attempt()
            assert len(one.server.log()) == asked
            one.server.heal()
            one.ledger.retry([one.delivery(3)["id"]], one.clock())
            one.drain()
            assert one.state(3) == "delivered", one.reason(3)
            assert len(one.server.contacts()) == len(one.server.calls()) == 5

    def test_bad_contact_is_parked_alone(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            one.server.refuse_value(self.case.name, self.case.written_as("拒绝"))
            for number in range(1, 5):
                one.feed(number, phone=phone_of(number), name="拒绝" if number == 2 else f"第{number}")
            one.attempt()
            states = [one.state(number) for number in range(1, 5)]
            assert states == ["delivered", "parked", "delivered", "delivered"]
            assert self.case.name in one.reason(2)
            assert len(one.server.contacts()) == len(one.server.calls()) == 3

    def test_field_dropped_by_the_crm_is_not_sent_for_ever(self, tmp_path: Path) -> None:
        with self.bench(tmp_path) as one:
            one.server.drop_field(self.case.note)
            one.send(mark="有意向")
            assert not one.call().get(self.case.note)
            assert one.send(mark="有意向", data7="not mapped") == []
            one.settled()

    # -- people at work -------------------------------------------------------------------
    def test_contact_deleted_by_a_user_parks(self, tmp_path: Path) -> None:
        with self.bench(tmp_path, {f"objects.contact.fields.{self.case.name}.write": "always"}) as one:
            one.send(name="王芳")
            one.server.delete(CONTACT, one.contact()["id"])
            one.feed(2, name="王小芳")
            one.drain()
            assert one.state(2) == "parked"
            assert "recreate" in one.reason(2)
            assert one.server.contacts() == []

    def test_contact_deleted_by_a_user_is_recreated_where_configured(self, tmp_path: Path) -> None:
        changes = {
            "objects.contact.on_deleted": "recreate",
            f"objects.contact.fields.{self.case.name}.write": "always",
        }
        with self.bench(tmp_path, changes) as one:
            one.send(name="王芳")
            one.server.delete(CONTACT, one.contact()["id"])
            one.send(2, name="王小芳")
            assert one.contact()[self.case.name] == self.case.written_as("王小芳")
            assert one.call(2)["contact_ids"] == [one.contact()["id"]]

    def test_deleted_contact_is_noticed_when_a_call_is_linked(self, tmp_path: Path) -> None:
        if not self.case.checks_links:
            pytest.skip("it links to whatever it is told")
        with self.bench(tmp_path / "park") as one:
            one.send()
            one.server.delete(CONTACT, one.contact()["id"])
            one.feed(2)
            one.drain()
            assert one.state(2) == "parked"
            assert one.server.contacts() == []
        # It is noticed with the next call, or where its own call changes.
        for number in (1, 2):
            with self.bench(tmp_path / str(number), {"objects.contact.on_deleted": "recreate"}) as one:
                one.send()
                one.server.delete(CONTACT, one.contact()["id"])
                one.send(number, mark="改过")
                one.send(2, mark="改过")
                assert one.call(2)["contact_ids"] == [one.contact()["id"]]
                assert len(one.server.calls()) == 2

    def test_call_deleted_by_a_user_parks_or_is_recreated(self, tmp_path: Path) -> None:
        for wish in ("park", "recreate"):
            with self.bench(tmp_path / wish, {"objects.call.on_deleted": wish}) as one:
                one.send()
                one.server.delete(CALL, one.call()["id"])
                one.feed(mark="改过")
                one.drain()
                if wish == "recreate" or self.case.upserts_calls:
                    one.settled()
                else:
                    assert one.state() == "parked"
                    assert "recreate" in one.reason()
                    assert one.server.calls() == []

    def test_if_empty_keeps_a_users_value(self, tmp_path: Path) -> None:
        with self.bench(tmp_path, {f"objects.contact.fields.{self.case.name}.write": "if_empty"}) as one:
            by_hand = {**self.case.required, self.case.phone: self.case.forms[0]}
            there = one.server.seed_contact(**{**by_hand, self.case.name: "手写"})
            one.send(name="王芳")
            assert one.contact()[self.case.name] == "手写"
            one.server.edit(CONTACT, there, **{self.case.name: None})
            one.send(2, name="李强")
            assert one.contact()[self.case.name] == self.case.written_as("李强")

    @pytest.mark.long
    def test_default_name_is_replaced_by_the_first_real_one(self, tmp_path: Path) -> None:
        name = {"value": "{{ call.name }}", "default": "未知", "write": "while_default"}
        with self.bench(tmp_path, {f"objects.contact.fields.{self.case.name}": name}) as one:
            one.send(2, name="")
            assert one.contact()[self.case.name] == self.case.written_as("未知")
            # An older call may know it; then nothing replaces it any more.
            for number, said in ((1, "王芳"), (3, "李强"), (4, "")):
                one.send(number, name=said)
                assert one.contact()[self.case.name] == self.case.written_as("王芳")

    @pytest.mark.long
    def test_values_altered_by_the_crm_or_sent_under_another_policy_are_ours(self, tmp_path: Path) -> None:
        contact, note = (
            f"objects.contact.fields.{self.case.name}.write",
            f"objects.call.fields.{self.case.note}",
        )
        with self.bench(tmp_path, {contact: "always", f"{note}.write": "always"}) as one:
            one.server.alter_field(self.case.name, without_emoji)
            one.send(1, name="王👍芳", mark="一")
            changes = {contact: "unless_edited", f"{note}.write": "unless_edited"}
            with bench_on(tmp_path, self.case, one.server, one.clock, changes, after=one) as two:
                # The newest call writes over what is there as we left it, whatever the CRM made of it.
                two.send(1, name="王👍芳", mark="二")
                two.send(2, name="李👍强", mark="三")
                two.send(3, name="李👍", mark="四")
                assert two.contact()[self.case.name] == self.case.written_as("李????")
                assert two.call()[self.case.note] == self.case.written_as("二")
                told = two.ledger.counts().altered
                assert {(each.field, each.kind) for each in told} == {(self.case.name, "characters")}
                two.server.edit(CONTACT, two.contact()["id"], **{self.case.name: "手写"})
                two.send(4, name="别人")
                assert two.contact()[self.case.name] == "手写"

    def test_unless_edited_stops_at_a_users_edit(self, tmp_path: Path) -> None:
        with self.bench(tmp_path, {f"objects.contact.fields.{self.case.name}.write": "unless_edited"}) as one:
            one.send(1, name="王芳")
            one.send(2, name="王小芳")
            assert one.contact()[self.case.name] == self.case.written_as("王小芳")
            one.server.edit(CONTACT, one.contact()["id"], **{self.case.name: "手写"})
            one.send(3, name="王大芳")
            assert one.contact()[self.case.name] == "手写"
            one.settled(3)
