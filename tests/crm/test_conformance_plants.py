"""The conformance suite finds what it is there for: a copy of each connector with one mistake fails it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crm.conformance.bench import ConnectorCase, planted
from tests.crm.conformance.cases import ESPOCRM, FXIAOKE, HUBSPOT, SALESFORCE, ZOHO
from tests.crm.conformance.suite import Conformance

pytestmark = pytest.mark.long


class Plant(NamedTuple):
    """A mistake in a connector's text, and the test of the suite that must fail because of it."""

    case: ConnectorCase
    what: str
    old: str
    new: str
    found_by: Callable[[Conformance, Path], None]


BECOMES = Conformance.test_a_call_becomes_one_contact_and_one_linked_call
LIMIT = Conformance.test_rate_limit_is_respected
QUOTA = Conformance.test_daily_quota_is_waited_out
TOKEN = Conformance.test_token_expiring_midway_is_renewed_once
BAD = Conformance.test_bad_record_is_parked_alone
PERSON = Conformance.test_contact_made_by_a_user_is_found
DELETED = Conformance.test_contact_deleted_by_a_user_parks
MEMORY = Conformance.test_lost_memory_creates_no_duplicates
TAKEN = Conformance.test_object_created_by_another_at_the_same_moment_is_used

PLANTS = [
    Plant(HUBSPOT, "wrong id path", 'id = "results.0.id"', 'id = "results.0.properties.id"', BECOMES),
    Plant(
        HUBSPOT,
        "wrong id path of a batch",
        'id = "id"\n[objects.call.upsert.batch.item]',
        'id = "vid"\n[objects.call.upsert.batch.item]',
        Conformance.test_many_calls_are_batched,
    ),
    Plant(
        HUBSPOT,
        "expiry not known",
        'status = 401\nthen = "refresh"',
        'status = 401\nthen = "ok"',
        Conformance.test_refused_secret_does_no_harm,
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
    Plant(ESPOCRM, "search of one form only", "variants | ", "", PERSON),
    Plant(ESPOCRM, "wrong hits path", 'hits = "list"', 'hits = "data"', MEMORY),
    Plant(FXIAOKE, "wrong hits path", '"data.dataList"', '"data.list"', MEMORY),
    Plant(FXIAOKE, "expiry not known", "[20016, 20005]", "[20005]", TOKEN),
    Plant(FXIAOKE, "wrong limit code", "is = 30004", "is = 30005", LIMIT),
    Plant(FXIAOKE, "wrong quota code", "is = 30002", "is = 30007", QUOTA),
    Plant(
        FXIAOKE, "wrong busy codes", "[-1, -2, 50009, 14001]", "[-2]", Conformance.test_failing_crm_is_retried
    ),
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.case.connector}: {plant.what}")
def test_conformance_suite_detects_the_planted_mistake(plant: Plant, tmp_path: Path) -> None:
    suite = Conformance()
    suite.case = replace(  # type: ignore[misc]
        plant.case, own=planted(tmp_path, plant.case, plant.old, plant.new)
    )
    folder = tmp_path / "bench"
    folder.mkdir()
    with pytest.raises((AssertionError, ValueError)):
        plant.found_by(suite, folder)
