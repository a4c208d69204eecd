"""The conformance suite finds what it is there for: a copy of each connector with one mistake fails it."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crm.conformance.cases import HUBSPOT, SALESFORCE, ZOHO
from tests.crm.conformance.steps import ConnectorCase, planted
from tests.crm.conformance.suite import Conformance

pytestmark = pytest.mark.long


class Plant(NamedTuple):
    """A mistake, and the test that finds it."""

    case: ConnectorCase
    what: str
    old: str
    new: str
    found_by: str


BECOMES = "test_a_call_becomes_one_contact_and_one_linked_call"
LIMIT = "test_a_rate_limit_is_obeyed"
QUOTA = "test_a_days_quota_is_waited_for"
TOKEN = "test_a_token_that_expires_in_the_middle_is_renewed_once"
BAD = "test_a_bad_record_is_parked_and_spoils_nothing"
PERSON = "test_a_contact_that_a_person_made_is_found"
DELETED = "test_a_contact_that_a_person_deleted_parks"
TAKEN = "test_what_somebody_else_makes_at_the_same_moment_is_taken"

PLANTS = [
    Plant(HUBSPOT, "wrong id path", 'id = "results.0.id"', 'id = "results.0.properties.id"', BECOMES),
    Plant(
        HUBSPOT,
        "wrong id path of a batch",
        'id = "id"\n[objects.call.upsert.batch.item]',
        'id = "vid"\n[objects.call.upsert.batch.item]',
        "test_many_calls_go_together",
    ),
    Plant(
        HUBSPOT,
        "expiry not known",
        'status = 401\nthen = "refresh"',
        'status = 401\nthen = "ok"',
        "test_a_secret_that_is_refused_harms_nothing",
    ),
    Plant(HUBSPOT, "quota taken for a limit", 'wait = "1h"', 'wait = "1s"', QUOTA),
    Plant(
        HUBSPOT,
        "limit taken for a refusal",
        'status = 429\nthen = "unprocessed"',
        'status = 429\nthen = "permanent"',
        LIMIT,
    ),
    Plant(
        HUBSPOT,
        "gone not known",
        'is = "OBJECT_NOT_FOUND"\nthen = "gone"',
        'is = "OBJECT_NOT_FOUND"\nthen = "permanent"',
        DELETED,
    ),
    Plant(
        HUBSPOT,
        "failed items not read",
        'error_match = "context.objectWriteTraceId"',
        'error_match = "context.trace"',
        BAD,
    ),
    Plant(
        HUBSPOT,
        "search of one form only",
        "(hit.properties.phone | digits) in (key.phone | variants)",
        "hit.properties.phone == key.phone",
        PERSON,
    ),
    Plant(
        HUBSPOT,
        "duplicate not known",
        'already has that value\'\nthen = "duplicate"',
        'already has that value\'\nthen = "permanent"',
        TAKEN,
    ),
    Plant(ZOHO, "wrong duplicate code", 'is = "DUPLICATE_DATA"', 'is = "DUPLICATE"', TAKEN),
    Plant(SALESFORCE, "wrong duplicate code", 'is = "DUPLICATE_VALUE"', 'is = "DUPLICATE"', TAKEN),
    Plant(ZOHO, "wrong id path", 'id = "data.0.details.id"', 'id = "data.0.id"', BECOMES),
    Plant(
        ZOHO, "wrong expiry code", 'status = 401\nthen = "refresh"', 'status = 401\nthen = "permanent"', TOKEN
    ),
    Plant(
        ZOHO,
        "items of a batch not judged",
        'is = "INVALID_DATA"\nthen = "permanent"',
        'is = "INVALID_DATA"\nthen = "ok"',
        BAD,
    ),
    Plant(ZOHO, "quota taken for a limit", 'wait = "1h"', 'wait = "1s"', QUOTA),
    Plant(ZOHO, "limit's end not read", "headers['x-ratelimit-reset']", "headers['retry-after']", LIMIT),
    Plant(ZOHO, "gone not known", 'is = "id"\nthen = "gone"', 'is = "id"\nthen = "permanent"', DELETED),
    Plant(
        ZOHO,
        "search left out",
        '{{ key.phone | national }}" }',
        '{{ key.phone | last_digits(4) }}" }',
        PERSON,
    ),
    Plant(SALESFORCE, "wrong id path", 'id = "id"\n', 'id = "Id"\n', BECOMES),
    Plant(
        SALESFORCE,
        "wrong expiry code",
        'status = 401\nthen = "refresh"',
        'status = 401\nthen = "permanent"',
        TOKEN,
    ),
    Plant(SALESFORCE, "quota taken for a refusal", 'then = "quota"', 'then = "permanent"', QUOTA),
    Plant(
        SALESFORCE,
        "failed items not read",
        'path = ["errors.0.statusCode"]\nthen = "permanent"',
        'path = ["errors.0.statusCode"]\nthen = "ok"',
        BAD,
    ),
    Plant(
        SALESFORCE,
        "gone not known",
        'is = ["ENTITY_IS_DELETED", "NOT_FOUND"]\nthen = "gone"',
        'is = ["ENTITY_IS_DELETED", "NOT_FOUND"]\nthen = "permanent"',
        DELETED,
    ),
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.case.connector}: {plant.what}")
def test_a_planted_mistake_is_found(plant: Plant, tmp_path: Path) -> None:
    class Planted(Conformance):
        case = replace(plant.case, own=planted(tmp_path, plant.case, plant.old, plant.new))

    suite = Planted()
    folder = tmp_path / "bench"
    folder.mkdir()
    with pytest.raises((AssertionError, ValueError)):
        getattr(suite, plant.found_by)(folder)
