"""What went wrong may stand inside another error, in a list or in a sentence."""

import json
from typing import Any

import pytest

from bridge.crm.connector import Connector, shipped_connectors
from bridge.crm.connector.answer import dig, read_answer
from bridge.crm.connector.outcome import Meaning
from bridge.lib.toml_file import load_toml
from tests.fixtures.small_crm import NOW, connector_of

LOCKED = (
    "X_TaskTrigger: execution of AfterInsert caused by: System.DmlException: Upsert failed. first error:"
    " UNABLE_TO_LOCK_ROW, unable to obtain exclusive access to this record"
)
DUPLICATE = {
    "code": "DUPLICATE_DATA",
    "details": {"api_name": "Callbridge_Phone", "duplicate_record": {"id": "4150868000000999001"}},
    "message": "duplicate data",
}
INVALID = {"code": "INVALID_DATA", "details": {"api_name": "Email"}, "message": "invalid data"}
BUSY = {"code": "RECORD_LOCKED", "details": {}, "message": "locked"}


def multi(*errors: Any) -> dict[str, Any]:
    message = "Multiple errors occurred"
    return {"code": "MULTIPLE_OR_MULTI_ERRORS", "details": {"errors": list(errors)}, "message": message}


def judged(name: str, status: int, body: Any) -> Meaning:
    connector = Connector(load_toml(shipped_connectors()[name]))
    answer = read_answer(status, {}, json.dumps(body).encode(), None)
    return connector.classifier.meaning_of(answer, (), NOW, "json")


@pytest.mark.parametrize("wrapped", [True, False], ids=["alone", "an item of a batch"])
def test_every_error_is_named_with_its_field_and_the_duplicates_id(wrapped: bool) -> None:
    body = {"data": [multi(INVALID, DUPLICATE)]} if wrapped else multi(INVALID, DUPLICATE)
    found = judged("zoho", 207, body)
    assert (found.result, found.id) == ("duplicate", "4150868000000999001")
    assert found.field == "Email, Callbridge_Phone"
    assert "INVALID_DATA: invalid data (field Email)" in found.message
    assert "DUPLICATE_DATA: duplicate data (field Callbridge_Phone)" in found.message
    assert judged("zoho", 207, {"data": [multi(INVALID, INVALID)]}).result == "permanent"


def test_row_lock_among_other_errors_is_temporary() -> None:
    assert judged("zoho", 207, {"data": [multi(DUPLICATE, BUSY)]}).result == "unprocessed"


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (
            [{"message": LOCKED, "errorCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "fields": []}],
            "unprocessed",
        ),
        (
            [{"message": "x", "errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION"}, {"message": LOCKED}],
            "unprocessed",
        ),
        (
            {"errors": [{"message": LOCKED, "statusCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"}]},
            "unprocessed",
        ),
        (
            [{"message": "x", "errorCode": "A"}, {"message": "y", "errorCode": "UNABLE_TO_LOCK_ROW"}],
            "unprocessed",
        ),
        ([{"message": "bad value", "errorCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"}], "permanent"),
        ([{"message": LOCKED[:40], "errorCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"}], "permanent"),
    ],
)
def test_row_lock_met_by_a_trigger_is_temporary(body: Any, result: str) -> None:
    assert judged("salesforce", 400, body).result == result


def test_several_refusals_at_once_are_all_named() -> None:
    body = [
        {"message": "too long", "errorCode": "STRING_TOO_LONG", "fields": ["LastName"]},
        {"message": "no such value", "errorCode": "INVALID_PICKLIST", "fields": ["Grade__c"]},
    ]
    found = judged("salesforce", 400, body)
    assert (found.code, found.field) == ("STRING_TOO_LONG", "LastName, Grade__c")
    assert "INVALID_PICKLIST: no such value (field Grade__c)" in found.message


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("errors.*.code", ["A", "B"]),
        ("errors.*.in.*.x", [1, 2, 3]),
        ("errors.*", [{"code": "A", "in": [{"x": 1}, {"x": 2}]}, {"code": "B", "in": [{"x": 3}]}, {"z": 0}]),
        ("errors.*.none", None),
        ("none.*.code", None),
        ("code.*", None),
    ],
)
def test_star_in_a_path_means_every_item(path: str, found: Any) -> None:
    errors = [{"code": "A", "in": [{"x": 1}, {"x": 2}]}, {"code": "B", "in": [{"x": 3}]}, {"z": 0}]
    assert dig({"errors": errors, "code": "C"}, path) == found
    assert dig([{"a": 1}, {"a": 2}], "*.a") == [1, 2]


def test_rule_with_a_star_matches_if_any_item_does() -> None:
    connector = connector_of(
        'name = "own"\n[[outcomes]]\npath = "errors.*.code"\nis = 7\nthen = "gone"\n'
        '[objects.thing]\nkey = ["key"]\n'
        'create = { path = "/things" }\n'
    )

    def result(body: Any) -> str:
        answer = read_answer(400, {}, json.dumps(body).encode(), None)
        return connector.classifier.meaning_of(answer, (), NOW).result

    assert result({"errors": [{"code": 6}, {"code": "7"}]}) == "gone"
    assert result({"errors": [{"code": 6}]}) == "permanent"
    assert result({"errors": []}) == "permanent"
    assert result({"errors": {"code": 7}}) == "permanent"
    assert result({"errors": [{"code": 0}] * 100_000}) == "permanent"
