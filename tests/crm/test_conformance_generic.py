"""EspoCRM and 纷享销客 keep what every connector promises; and what only they have to."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.crm.connector import Connector, shipped_connectors
from bridge.crm.connector.answer import Answer
from bridge.lib.toml_file import load_toml
from tests.crm.conformance.bench import (
    OTHER_PHONE,
    PHONE,
    ConformanceBench,
    ConnectorCase,
    bench_of,
    bench_on,
    planted,
)
from tests.crm.conformance.cases import ESPOCRM, FXIAOKE, REMARK
from tests.crm.conformance.online import found_online
from tests.crm.conformance.suite import Conformance
from tests.fixtures.daemon_process import EXAMPLE
from tests.servers.base import CALL, CONTACT
from tests.servers.clock import Clock
from tests.servers.espocrm import EspoCrm
from tests.servers.fxiaoke import Fxiaoke


class TestEspocrm(Conformance):
    case = ESPOCRM


@pytest.mark.long
class TestFxiaoke(Conformance):
    case = FXIAOKE


def park(one: ConformanceBench, **changes: Any) -> str:
    """Feed a call that is refused for good; why."""
    one.feed(**changes)
    one.drain()
    assert one.state() == "parked"
    return one.reason()


# EspoCRM


def espo(one: ConformanceBench) -> EspoCrm:
    assert isinstance(one.server, EspoCrm)
    return one.server


def test_espocrm_matches_leads_too(tmp_path: Path) -> None:
    case = replace(ESPOCRM, server=lambda clock: EspoCrm(clock=clock, person="Lead"))
    changes = {"objects.contact.type": "lead", "objects.call.link": {"lead": "contact"}}
    with bench_of(tmp_path, case, changes) as one:
        there = one.server.seed_contact(phoneNumber="158 9977 0637")
        one.send()
        one.settled()
        assert one.call()["leadsIds"] == [there]


def test_espocrm_before_version_8_works(tmp_path: Path) -> None:
    case = replace(ESPOCRM, server=lambda clock: EspoCrm(clock=clock, version=(7, 4, 6)))
    with bench_of(tmp_path, case) as one:
        one.send()
        one.settled()


def test_espocrm_signs_requests_of_an_hmac_user(tmp_path: Path) -> None:
    """The connector's commented lines, as an operator would take them in."""
    text = shipped_connectors()["espocrm"].read_text("utf-8")
    text = re.sub(r"(?m)^headers = \{ \"X-Api-Key\".*\n", "", text)
    text = re.sub(r"(?m)^# (headers = \{ \"X-Hmac)", r"\1", text)
    text = text.replace('secrets = ["api_key"]\n', 'secrets = ["api_key", "secret_key"]\n', 1)
    own = tmp_path / "espocrm.toml"
    own.write_text(text, "utf-8")
    case = replace(ESPOCRM, own=own, server=lambda clock: EspoCrm(clock=clock, login="hmac"))
    with bench_of(tmp_path / "b", case) as one:
        one.send()
        one.settled()
        assert "x-api-key" not in one.server.log()[0].headers


def test_espocrm_keeps_two_people_of_one_name_apart(tmp_path: Path) -> None:
    with bench_of(tmp_path, ESPOCRM) as one:
        one.send(1, name="")
        one.send(2, name="", phone=OTHER_PHONE)
        names = [(each["lastName"], each["phoneNumber"]) for each in one.server.contacts()]
        assert names == [("未知", f"+86{PHONE}"), ("未知", f"+86{OTHER_PHONE}")]


def test_espocrm_uses_the_contact_named_by_the_duplicate_check(tmp_path: Path) -> None:
    def serve(clock: Clock) -> EspoCrm:
        server = EspoCrm(clock=clock, duplicate_check=("phoneNumber",))
        server.settings["skip_duplicate_check"] = "false"
        return server

    with bench_of(tmp_path, replace(ESPOCRM, server=serve)) as one:
        there = one.server.seed_contact(phoneNumber=f"+86{PHONE}")
        # No search finds it, as when another program made it this very moment.
        one.server.index_lag = 10**6
        one.send()
        assert one.call()["contact_ids"] == [there]
        assert len(one.server.contacts()) == 1


def test_espocrm_keeps_attendees_added_by_users(tmp_path: Path) -> None:
    with bench_of(tmp_path, ESPOCRM) as one:
        one.send()
        other = one.server.seed_contact(phoneNumber="+8613900000000")
        both = [*one.call()["contact_ids"], other]
        one.server.edit(CALL, one.call()["id"], contactsIds=both)
        one.send(mark="改过")
        assert one.call()["contact_ids"] == both


@pytest.mark.parametrize("right", [("Contact", "create"), ("Call", "create"), ("Contact", "read")])
def test_espocrm_names_a_missing_right(tmp_path: Path, right: tuple[str, str]) -> None:
    with bench_of(tmp_path, ESPOCRM) as one:
        espo(one).forbidden.add(right)
        assert "rights to create, read and edit" in park(one)
        espo(one).forbidden.clear()
        one.ledger.retry([one.delivery()["id"]], one.clock())
        one.drain()
        one.settled()


def test_espocrm_names_the_setting_for_the_assigned_user(tmp_path: Path) -> None:
    with bench_of(tmp_path, ESPOCRM, {"objects.call.fields.assignedUserId": "somebody"}) as one:
        assert "setting user_id" in park(one)


def test_espocrm_lockout_is_waited_out(tmp_path: Path) -> None:
    with bench_of(tmp_path, ESPOCRM) as one:
        for _ in range(10):
            refused = httpx.get(f"{one.server.url}/api/v1/Call", headers={"x-api-key": "wrong"})
            assert refused.status_code == 401
        one.feed()
        one.attempt()
        assert (one.state(), "locks an address out" in one.reason()) == ("due", True)
        one.drain()
        one.settled()


def test_espocrm_is_checked_online(tmp_path: Path) -> None:
    clock = Clock()
    with EspoCrm(clock=clock) as server:
        assert found_online(ESPOCRM, server, clock) == []
        del server.fields[CALL]["cCallUuid"]
        server.settings["user_id"] = "somebody"
        problems = "\n".join(found_online(ESPOCRM, server, clock))
        assert "make a Varchar field callUuid" in problems
        assert "give the id of the API user itself" in problems
        server.settings["user_id"] = server.user_id
        server.create(CALL, {"name": "by hand"})
        with bench_on(tmp_path, ESPOCRM, server, clock) as one:
            assert "make it in the Entity Manager" in park(one)


@pytest.mark.parametrize(
    ("right", "level", "remedy"),
    [
        (("Contact", "create"), "no", "Contact, create: yes"),
        (("Contact", "read"), "own", "would be made a second time"),
        (("Contact", "read"), "team", "would be made a second time"),
        (("Contact", "edit"), "own", "Contact, edit: all"),
        (("Call", "create"), "no", "Call, create: yes"),
        (("Call", "read"), "own", "calls that it does not see"),
        (("Call", "edit"), "team", "Call, edit: all"),
    ],
)
def test_espocrm_role_is_checked_right_by_right(right: tuple[str, str], level: str, remedy: str) -> None:
    clock = Clock()
    with EspoCrm(clock=clock) as server:
        server.levels[right] = level
        [problem] = [one for one in found_online(ESPOCRM, server, clock) if "not what was expected" in one]
        assert remedy in problem


def test_role_without_rights_to_calls_gets_no_advice_about_fields() -> None:
    clock = Clock()
    with EspoCrm(clock=clock) as server:
        server.forbidden |= {("Call", action) for action in ("create", "read", "edit")}
        problems = "\n".join(found_online(ESPOCRM, server, clock))
        assert "Call, create: yes" in problems
        assert "make a Varchar field" not in problems


def test_mapped_field_the_role_may_not_edit_is_reported_at_its_line() -> None:
    clock = Clock()
    with EspoCrm(clock=clock) as server:
        server.field_rights = {
            "Contact": {"addressCity": {"read": "yes", "edit": "no"}, "title": {"read": "yes", "edit": "no"}},
            "Call": {"status": {"read": "yes", "edit": "yes"}},
        }
        [problem] = found_online(ESPOCRM, server, clock)
        assert "object contact, field addressCity: the destination's user may not write it" in problem
        assert "espocrm.toml:" in problem


def test_espocrms_time_format_is_checked_against_the_mapping(tmp_path: Path) -> None:
    clock = Clock()
    text = ESPOCRM.mapping_path.read_text("utf-8")
    old = "(call.connected_at or call.started_at or call.created_at) | local('%Y-%m-%d %H:%M:%S', 'UTC')"
    assert old in text
    mapping = tmp_path / "espocrm.toml"
    cases = text.index("[[tests]]")
    own = text[:cases].replace(old, "call.connected_at | iso8601") + text[cases:].replace(
        "../tests/data/callback.json", str(EXAMPLE)
    ).replace('dateStart = "2025-04-14 02:19:21", ', "")
    mapping.write_text(own, "utf-8")
    with EspoCrm(clock=clock) as server:
        problems = found_online(ESPOCRM, server, clock, mapping)
    assert problems
    assert "is not written as the CRM takes a datetime: 2026-11-22 16:30:00" in problems[0]
    assert "use | local('%Y-%m-%d %H:%M:%S', 'UTC')" in problems[0]


# 纷享销客


def fx(one: ConformanceBench) -> Fxiaoke:
    assert isinstance(one.server, Fxiaoke)
    return one.server


def test_fxiaoke_triggers_no_flows_and_requests_one_token(tmp_path: Path) -> None:
    with bench_of(tmp_path, FXIAOKE) as one:
        one.send(1, name="王芳", mark="一")
        one.send(2, name="王芳", phone=OTHER_PHONE, mark="二")
        one.send(1, name="王芳", mark="三")
        assert fx(one).triggered == []
        assert one.server.token_requests() == 1


def test_fxiaoke_triggers_flows_where_configured(tmp_path: Path) -> None:
    def serve(clock: Clock) -> Fxiaoke:
        server = Fxiaoke(clock=clock, token_latency=0, call_fields=[REMARK])
        server.settings |= {"trigger_workflow": "true"}
        return server

    with bench_of(tmp_path, replace(FXIAOKE, server=serve)) as one:
        one.send()
        assert {each.flow for each in fx(one).triggered} == {"workflow"}


def test_fxiaoke_contacts_may_be_another_object(tmp_path: Path) -> None:
    def serve(clock: Clock) -> Fxiaoke:
        server = Fxiaoke(clock=clock, person="ContactObj", token_latency=0, call_fields=[REMARK])
        server.settings |= {"call_person_field": "contact__c", "owner": "1007"}
        return server

    with bench_of(tmp_path, replace(FXIAOKE, server=serve)) as one:
        one.send()
        one.settled()
        assert one.contact()["owner"] == one.call()["owner"] == ["1007"]
        assert one.contact()["mobile"] == PHONE


def test_fxiaoke_searches_both_number_fields(tmp_path: Path) -> None:
    with bench_of(tmp_path, FXIAOKE) as one:
        there = one.server.seed_contact(name="王", tel=f"+86{PHONE}")
        one.send()
        assert one.call()["contact_ids"] == [there]


def old_style(folder: Path) -> Path:
    """The connector with its commented half in, and the other out, as an operator would do it."""
    text = shipped_connectors()["fxiaoke"].read_text("utf-8")
    before, rest = text.split("# --- new style\n")
    _, rest = rest.split("# --- old style")
    old, after = rest.split("# --- both\n")
    _, old = old.split("\n", 1)
    own = folder / "fxiaoke.toml"
    own.write_text(before + re.sub(r"(?m)^# ", "", old) + after, "utf-8")
    return own


def test_fxiaoke_old_style_sends_credentials_in_each_body(tmp_path: Path) -> None:
    case = replace(
        FXIAOKE,
        own=old_style(tmp_path),
        server=lambda clock: Fxiaoke(clock=clock, style="old", token_latency=0, call_fields=[REMARK]),
    )
    with bench_of(tmp_path / "b", case) as one:
        one.send(name="王芳")
        one.server.expire_token()
        one.send(name="王芳", mark="改过")
        one.settled()
        last = one.server.log()[-1]
        assert last.body["currentOpenUserId"] == one.server.settings["open_user_id"]
        assert "authorization" not in last.headers
        assert one.server.token_requests() == 2


@pytest.mark.parametrize(
    ("code", "result", "says"),
    [
        (0, "ok", ""),
        (20016, "refresh", ""),
        (20005, "refresh", ""),
        (30004, "unprocessed", "20 seconds"),
        (30002, "quota", "midnight"),
        (30003, "permanent", "bought no API requests"),
        (-1, "transient", ""),
        (50009, "transient", ""),
        (10006, "permanent", "permanentCode"),
        (20021, "permanent", "whitelist"),
        (201112008, "permanent", "names the field"),
    ],
)
def test_fxiaoke_error_codes_have_their_outcomes(code: int, result: str, says: str) -> None:
    connector = Connector(load_toml(shipped_connectors()["fxiaoke"]))
    body = {"errorCode": code, "errorMessage": "…"}
    meaning = connector.classifier.meaning_of(Answer(200, {}, "", body), (), Clock().now)
    assert meaning.result == result
    assert says in meaning.says
    if code == 30002:
        # It is 16:00 in China.
        assert meaning.wait == 8 * 3600


@pytest.mark.parametrize(("status", "result"), [(200, "transient"), (302, "transient"), (502, "transient")])
def test_fxiaoke_takes_no_web_page_for_an_answer(status: int, result: str) -> None:
    connector = Connector(load_toml(shipped_connectors()["fxiaoke"]))
    answer = Answer(status, {}, "<html></html>", None)
    assert connector.classifier.meaning_of(answer, (), Clock().now).result == result


def test_fxiaoke_is_checked_online() -> None:
    clock = Clock()
    with Fxiaoke(clock=clock, token_latency=0) as server:
        assert found_online(FXIAOKE, server, clock) == []
        del server.fields[CALL]["call_uuid__c"]
        del server.fields[CONTACT]["company"]
        problems = "\n".join(found_online(FXIAOKE, server, clock))
        assert "make the object as docs/crm/fxiaoke.md says" in problems
        assert "field company: the CRM has no such field" in problems
        server.secrets["app_secret"] = "another"
        server.expire_token()
        secrets = server.secrets["app_secret"]
        assert secrets not in "\n".join(found_online(FXIAOKE, server, clock))


# What is seen of a wrong connector


@pytest.mark.parametrize(("case", "requests"), [(ESPOCRM, 5), (FXIAOKE, 7)])
def test_new_call_takes_few_requests_and_one_attempt(
    tmp_path: Path, case: ConnectorCase, requests: int
) -> None:
    with bench_of(tmp_path, case) as one:
        one.feed()
        one.attempt()
        one.settled()
        assert len(one.server.log()) == requests


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "old", "new"),
    [(ESPOCRM, 'id = "id"', 'id = "data.id"'), (FXIAOKE, "reread = true\n", "")],
)
def test_wrong_id_path_costs_a_second_attempt(
    tmp_path: Path, case: ConnectorCase, old: str, new: str
) -> None:
    """It doubles nothing: what carries no id is in doubt, and found again by its key."""
    with bench_of(tmp_path / "run", replace(case, own=planted(tmp_path, case, old, new))) as one:
        one.feed()
        one.attempt()
        assert one.state() == "due"
        one.drain()
        one.settled()
