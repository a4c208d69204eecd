"""What an answer means: the connector's rules in their order, then what HTTP says."""

import json
from contextlib import closing
from datetime import timedelta

import pytest

from bridge.crm.connector import Connector
from bridge.crm.connector.answer import Answer, Headers, read_answer
from bridge.crm.connector.outcome import Meaning
from bridge.crm.connector.retry_after import http_date, next_time, retry_after
from bridge.lib.errors import DeliveryError, Duplicate, Gone, InDoubt, Permanent, Transient
from bridge.lib.masking import LONGEST_MASKED
from tests.fixtures.small_crm import NOW, Server, connector_of, crm_of

THING = '[objects.thing]\nkey = ["key"]\ncreate = { path = "/things", idempotent = false }\n'
ERRORS = '[errors]\nmessage = ["0.message", "message"]\ncode = ["0.errorCode", "code"]\nfield = "fields.0"\n'


def with_rules(*rules: str, errors: str = ERRORS) -> Connector:
    written = "".join(f"[[outcomes]]\n{rule}\n" for rule in rules)
    return connector_of(f'name = "own"\n{errors}{written}{THING}')


def judged(connector: Connector, status: int, body: object = None, **headers: str) -> Meaning:
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return connector.classifier.meaning_of(read_answer(status, named, raw, None), (), NOW)


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, "ok"), (201, "ok"), (204, "ok"), (302, "transient"), (400, "permanent"), (401, "refresh"),
     (403, "permanent"), (404, "gone"), (408, "transient"), (409, "permanent"), (410, "gone"),
     (422, "permanent"), (425, "transient"), (429, "unprocessed"), (500, "transient"), (502, "transient"),
     (503, "unprocessed"), (504, "transient"), (599, "transient")],
)  # fmt: skip
def test_status_has_a_default_meaning_without_a_rule(status: int, result: str) -> None:
    assert judged(with_rules(), status).result == result


@pytest.mark.parametrize(
    ("rule", "status", "body", "fits"),
    [
        ("status = 403", 403, None, True),
        ("status = 403", 404, None, False),
        ('status = [403, "5xx"]', 502, None, True),
        ('path = "success"\nis = false', 200, {"success": False}, True),
        ('path = "success"\nis = false', 200, {"success": True}, False),
        ('path = "code"\nis = [0, 200]', 200, {"code": "200"}, True),
        ('path = "code"\nis = 0', 200, {"code": 0}, True),
        ('path = "code"\nis = 0', 200, {}, False),
        ('path = "0.errorCode"\nis = "X"', 400, [{"errorCode": "X"}], True),
        ('path = "code"\nis = ""', 200, {}, True),
        ('path = ["error.code", "code"]\nis = 7', 200, {"code": 7}, True),
        ('path = ["error.code", "code"]\nis = 7', 200, {"error": {"code": 7}, "name": "x"}, True),
        ('path = ["error.code", "code"]\nis = 7', 200, {"name": "x"}, False),
        ('path = "error.code"', 200, {"error": None, "name": "x"}, False),
        ('path = "."\nmatches = "oops"', 200, {"name": "oops"}, True),
        ('path = "items.*.code"\nis = 7', 200, {"items": [{"code": 1}, {"code": 7}]}, True),
        ('header = "X-Status-Reason"\nis = "dup"', 200, {"name": "x"}, True),
        ('path = "errors"', 200, {"errors": [1]}, True),
        ('path = "errors"', 200, {"errors": []}, False),
        ('path = "errors"', 200, {"errors": {}}, False),
        ('path = "errors"', 200, [], False),
        ('path = "message"\nmatches = "(?i)locked"', 400, {"message": "is LOCKED"}, True),
        ('path = "message"\nmatches = "x"', 400, {}, False),
        ('matches = "<html"', 200, b"<html>", True),
        ('header = "x-status-reason"\nis = "dup"', 409, None, True),
        ('header = "X-STATUS-reason"', 409, None, True),
        ('header = "x-other"', 409, None, False),
        ("when = '{{ body.code > 5 }}'", 200, {"code": 6}, True),
        ("when = '{{ body.code > 5 }}'", 200, {"code": "six"}, False),
        ('when = \'{{ headers["X-Status-Reason"] == "dup" }}\'', 200, None, True),
        ('status = 409\npath = "code"\nis = 1', 409, {"code": 2}, False),
    ],
)
def test_rule_matches_if_all_its_conditions_hold(rule: str, status: int, body: object, fits: bool) -> None:
    found = judged(with_rules(f'{rule}\nthen = "done"'), status, body, X_Status_Reason="dup")
    assert (found.result == "done") is fits


def test_first_matching_rule_wins_and_a_requests_own_come_first() -> None:
    connector = with_rules('status = 409\nthen = "done"', 'status = 409\nthen = "gone"')
    assert judged(connector, 409).result == "done"
    own = with_rules('status = 409\nthen = "quota"').classifier.rules
    assert connector.classifier.meaning_of(Answer(409, Headers({}), "", None), own, NOW).result == "quota"


@pytest.mark.parametrize("body", [{}, {"errorCode": 7}, [], None, {"errorCode": None}])
def test_declared_success_rule_is_exclusive(body: object) -> None:
    found = judged(with_rules('path = "errorCode"\nis = 0\nthen = "ok"'), 200, body)
    assert (found.result, found.unknown) == ("in_doubt", True)


@pytest.mark.parametrize(
    ("body", "kind", "result"),
    [
        (b"<html>login</html>", "text/html", "transient"),
        (b"\xef\xbb\xbf <?xml version='1.0'?>", "text/xml", "transient"),
        (b'{"id": 1', "application/json", "transient"),
        (b'{"id": 1', "text/plain", "ok"),
        (b"ok", "text/html", "ok"),
        (b"null", "application/json", "ok"),
        (b"", "application/json", "ok"),
    ],
)
def test_html_page_is_no_success(body: bytes, kind: str, result: str) -> None:
    assert judged(with_rules(), 200, body, Content_Type=kind).result == result


@pytest.mark.parametrize(
    ("rule", "body", "seconds"),
    [
        ('wait = "20s"', {}, 20),
        ("wait = '{{ body.wait }}'", {"wait": "1.5"}, 1.5),
        ("wait = '{{ body.wait / 1000 }}'", {"wait": 9000}, 9),
        ("wait = '{{ body.wait }}'", {}, 3),
        ("wait = '{{ body.wait }}'", {"wait": "nan"}, 3),
        ("wait = '{{ body.wait }}'", {"wait": 1e99}, 86400),
        ("wait = '{{ body.wait }}'", {"wait": -5}, 0),
        ("wait = '{{ body.wait }}'", {"wait": 10**400}, 3),
        ("", {}, 3),
        ('until = "00:00 Asia/Shanghai"', {}, 8 * 3600),
        ('until = "09:30"', {}, 5400),
        ("until = '{{ body.at }}'", {"at": int(NOW.timestamp()) + 60}, 60),
        ("until = '{{ body.at }}'", {"at": (int(NOW.timestamp()) + 60) * 1000}, 60),
        ("until = '{{ body.at }}'", {"at": "2026-11-22T16:01:00+08:00"}, 60),
        ("until = '{{ body.at }}'", {"at": "2026-11-22T08:01:00"}, 60),
        ("until = '{{ body.at }}'", {"at": "2026-11-21T08:01:00"}, 0),
        ("until = '{{ body.at }}'", {"at": "soon"}, None),
        ("until = '{{ body.at }}'", {"at": 1e300}, None),
        ("until = '{{ body.at }}'", {}, None),
    ],
)
def test_wait_of_a_rule_is_read_from_the_answer(rule: str, body: object, seconds: float | None) -> None:
    connector = with_rules(f'status = 429\nthen = "quota"\n{rule}')
    assert judged(connector, 429, body, Retry_After="3").wait == seconds


def test_quota_day_ends_in_the_crms_zone_also_when_clocks_change() -> None:
    assert next_time("08:00 UTC", NOW) - NOW == timedelta(days=1)
    assert next_time("08:01 UTC", NOW) - NOW == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), (" 7 ", 7.0), ("0", 0.0), ("1.5", 1.5), ("-3", 0.0), ("inf", None), ("nan", None),
     ("1e30", 86400.0), ("Sun, 22 Nov 2026 08:00:07 GMT", 7.0), ("Sun, 22 Nov 2026 16:00:07 +0800", 7.0),
     ("Sun, 22 Nov 2026 07:00:00 GMT", 0.0), ("Sunday, 22-Nov-26 08:00:07 GMT", 7.0), ("", None),
     ("soon", None), ("Sun, 99 Nov 2026 08:00:07 GMT", None), ("1,5", None)],
)  # fmt: skip
def test_retry_after_header_is_read(text: str, seconds: float | None) -> None:
    assert retry_after(Answer(429, Headers({"Retry-After": text}), "", None), NOW) == seconds
    assert retry_after(Answer(429, Headers({}), "", None), NOW) is None


@pytest.mark.parametrize(
    "text", ["", "soon", "Sun, 22 Nov 2026 08:00:07 +99999999999999", "Sun, 99 Nov 2026 08:00:07"]
)
def test_impossible_retry_after_date_is_ignored(text: str) -> None:
    assert http_date(text) is None
    assert http_date("Sun, 22 Nov 2026 16:00:07 +0800") == http_date("Sun, 22 Nov 2026 08:00:07")


def test_error_details_are_read_where_the_connector_says() -> None:
    connector = with_rules('status = 400\nthen = "permanent"\nsays = "Add the option"')
    found = judged(connector, 400, [{"message": "no  such\noption", "errorCode": "X"}])
    assert (found.message, found.code, found.says, found.named) == (
        "no such option",
        "X",
        "Add the option",
        True,
    )
    found = judged(connector, 400, {"fields": ["grade"], "code": 7})
    assert (found.field, found.code, found.named) == ("grade", "7", False)
    assert len(judged(connector, 400, b"x" * 10**6).message) == LONGEST_MASKED


def test_field_named_only_in_a_message_is_found_by_an_expression() -> None:
    errors = """[errors]
message = "errorMsg"
field = ["data.field", '{{ body.errorMsg | found("字段.(.+?)]") }}']
"""
    connector = with_rules(errors=errors)
    assert judged(connector, 400, {"errorMsg": "字段[标题]长度超过15字"}).field == "标题"
    assert judged(connector, 400, {"errorMsg": "x", "data": {"field": "title"}}).field == "title"
    assert judged(connector, 400, {"errorMsg": "系统繁忙"}).field == ""
    assert judged(connector, 400, b"<html>").field == ""


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("E2011", "answered 200 E2011"),
        (20016, "answered 200 20016"),
        ("7300000000000008686", "answered 200 …"),
        ("15899770637", "answered 200 …"),
        ("no such record 12345", "answered 200 no such record …"),
    ],
)
def test_refusals_are_grouped_by_the_crms_numeric_code(server: Server, code: str | int, cause: str) -> None:
    """Else everything that a CRM refuses with status 200 would be one group, and retried as one."""
    server.answer = lambda _seen: (200, {"code": code, "message": "why"}, {})
    connector = with_rules('path = "code"\nthen = "permanent"')
    with closing(crm_of(connector, server.url)) as crm, pytest.raises(Permanent) as caught:
        crm.ask(connector.objects["thing"].create[0].request, {"key": {"key": "a"}}, "object thing, create")
    assert caught.value.cause == f"object thing, create: {cause}"


# From the meaning to the fault


@pytest.mark.parametrize(
    ("result", "repeatable", "other"),
    [
        ("ok", None, None),
        ("done", None, None),
        ("gone", Gone, Gone),
        ("duplicate", Duplicate, Duplicate),
        ("unprocessed", Transient, Transient),
        ("quota", Transient, Transient),
        ("transient", Transient, InDoubt),
        ("in_doubt", Permanent, InDoubt),
        ("refresh", Transient, Transient),
        ("permanent", Permanent, Permanent),
    ],
)
def test_each_outcome_raises_its_delivery_error(
    server: Server, result: str, repeatable: type[DeliveryError] | None, other: type[DeliveryError] | None
) -> None:
    server.answer = lambda _seen: (400, {"id": 2**53 + 1, "message": "why"}, {})
    rule = f'status = 400\nthen = "{result}"\nid = "id"'
    for idempotent, kind in ((True, repeatable), (False, other)):
        text = THING.replace("idempotent = false", f"idempotent = {str(idempotent).lower()}")
        connector = connector_of(f'name = "own"\n{ERRORS}[[outcomes]]\n{rule}\n{text}')
        request = connector.objects["thing"].create[0].request
        found: DeliveryError | None = None
        with closing(crm_of(connector, server.url)) as crm:
            try:
                crm.ask(request, {"key": {"key": "a"}}, "object thing, create")
            except DeliveryError as error:
                found = error
        assert (None if found is None else type(found)) is kind
        if isinstance(found, Duplicate):
            assert found.crm_id == "9007199254740993"
        if found is not None:
            assert str(found).startswith("object thing, create: POST /things answered 400: why")
