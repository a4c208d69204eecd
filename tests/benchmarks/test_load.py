"""What is sent is told apart, and what is answered is counted."""

import json
from pathlib import Path

import pytest

from benchmarks.bodies import StoredBodies, stored_bodies
from benchmarks.crm import serving, told
from benchmarks.load import flood


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> StoredBodies:
    folder: Path = tmp_path_factory.mktemp("bodies")
    return stored_bodies(folder, 40)


def test_every_body_is_another_call_of_another_phone(bodies: StoredBodies) -> None:
    records = [json.loads(body) for body in bodies]

    for name in ("uuid", "phone", "sn", "id", "recordfile", "talk_info"):
        assert len({str(record[name]) for record in records}) == len(bodies) == 40, name


def test_a_part_begins_where_the_last_one_ended(bodies: StoredBodies) -> None:
    assert [*bodies.part(0, 15), *bodies.part(15, 25)] == list(bodies)


def test_no_body_is_sent_a_second_time_for_want_of_others(bodies: StoredBodies) -> None:
    with pytest.raises(IndexError):
        bodies.part(20, 21)


def test_a_flood_tells_which_payloads_were_acknowledged(bodies: StoredBodies) -> None:
    with serving("upserts") as url:
        outcome = flood(f"{url}/calls", bodies, 4, 60.0)
        told(url, "outage/60")
        refused = flood(f"{url}/calls", bodies.part(0, 3), 1, 60.0)

    assert sorted(outcome.acknowledged) == list(range(40))
    assert outcome.answers == {200: 40}
    assert outcome.rate_until(60.0) == pytest.approx(40 / 60)
    assert (refused.answers, refused.acknowledged) == ({503: 3}, [])
