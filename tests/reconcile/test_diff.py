"""The list beside the ledger: what tells rows apart, what each row is, and why a call is not listed."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import pytest

from bridge.model.calls import Known, Quarantined, Via
from bridge.model.listing import RowMatch, UnlistedCall
from bridge.reconcile.diff import (
    Comparison,
    DiffOutcome,
    compare_by_digest,
    compare_by_meaning,
    explain,
    explaining_fields,
    read_row,
    stray_key,
    stronger_outcome,
    user_of,
)
from tests.fixtures.origins import MAIN
from tests.fixtures.second_platform import SECOND_DIALECT
from tests.fixtures.verdicts import CALLBACK, LIST, NOTHING, RECEIVED, after, clock, epoch, record, say

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
SECOND = replace(MAIN, dialect=SECOND_DIALECT)
ONE = "db57f262-18d6-11f0-88c8-2f2b0aba51d7"
TWO = "db57f262-18d6-11f0-88c8-2f2b0aba51d8"
AT = "2025-04-14 10:19:21"
MATCHED, MISSING, REVISED = DiffOutcome.MATCHED, DiffOutcome.MISSING, DiffOutcome.REVISED
STALE, CONFLICTING, DEFERRED = DiffOutcome.STALE, DiffOutcome.CONFLICTING, DiffOutcome.DEFERRED


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


# -- a call that is listed twice ---------------------------------------------------
def test_stronger_of_two_outcomes_counts() -> None:
    weakest_first = [DEFERRED, MATCHED, STALE, REVISED, MISSING, CONFLICTING]
    assert set(weakest_first) == set(DiffOutcome)
    for place, one in enumerate(weakest_first):
        assert stronger_outcome(None, one) is one
        for other_place, other in enumerate(weakest_first):
            assert stronger_outcome(one, other) is weakest_first[max(place, other_place)]


# -- a row as it is listed ---------------------------------------------------------
@pytest.mark.parametrize(
    ("row", "key"),
    [
        (body(uuid=ONE.upper(), base_info="Call-17", sn="s", created_at=AT), ONE),
        (body(base_info="Call-17"), "call-17"),
        (body(sn="s", started_at=AT), f"s@{AT}"),
        (body(sn=" s ", created_at=AT), f"s@{AT}"),
        # What belongs to no call is told apart by all that could have named one.
        (body(sn="S"), " |  | s |  |  | "),
        (body(created_at=AT, updated_at=clock(1)), f" |  |  |  | {AT} | {clock(1)}"),
        (body(uuid=ONE, base_info=TWO, sn="s", started_at=AT), f"{ONE} | {TWO} | s | {AT} |  | "),
        (body(phone="1"), " |  |  |  |  | "),
        (body(uuid=None, sn=7, started_at=0), " |  | 7 | 0 |  | "),
        # Nor can it where it says nothing.
        (b"{}", digest(b"{}").hex()),
    ],
)
def test_row_is_identified_by_its_key_and_digest(row: bytes, key: str) -> None:
    listed = read_row(MAIN, row, NOW)
    assert (listed.key, listed.digest) == (key, digest(row))
    assert (listed.arrival.payload, listed.arrival.via) == (row, Via.LIST)
    assert (listed.arrival.source, listed.arrival.received_at) == ("main", NOW)


@pytest.mark.parametrize(
    ("fields", "user", "edited_at"),
    [
        ({"user_sn": "SYSUSER|demo", "updated_at": clock(1)}, "SYSUSER|demo", clock(1)),
        ({"user_sn": " demo ", "updated_at": "soon"}, "demo", "soon"),
        ({"user_sn": 7, "updated_at": ""}, "7", None),
        ({"user_sn": None, "updated_at": None}, None, None),
        ({"user_sn": "", "updated_at": epoch(1)}, None, None),
        ({}, None, None),
    ],
)
def test_a_row_tells_whose_it_is_and_when_it_was_edited(
    fields: dict[str, Any], user: str | None, edited_at: str | None
) -> None:
    listed = read_row(MAIN, body(uuid=ONE, **fields), NOW)
    assert (listed.user, listed.edited_at) == (user, edited_at)


INNER = body(uuid=ONE, sn="s")


@pytest.mark.parametrize(
    ("row", "key", "payload"),
    [
        (b'{"data": ' + INNER + b"}", ONE, INNER),
        (json.dumps(INNER.decode()).encode(), ONE, INNER),
        (b"[" + INNER + b"]", ONE, INNER),
        # A row that names a call is a record, whatever it wraps; two records in one row are none.
        (b'{"uuid": "call-17", "data": ' + INNER + b"}", "call-17", None),
        (b'{"sn": "s", "data": ' + INNER + b"}", " |  | s |  |  | ", None),
        (b'{"data": [' + INNER + b", " + INNER + b"]}", " |  |  |  |  | ", None),
    ],
)
def test_a_row_that_names_no_call_may_wrap_one_that_does(row: bytes, key: str, payload: bytes | None) -> None:
    listed = read_row(MAIN, row, NOW)
    assert listed.arrival.trouble is None
    assert (listed.key, json.loads(listed.arrival.payload)) == (key, json.loads(payload or row))
    assert listed.digest == digest(row)


@pytest.mark.parametrize("row", [b"not json", b"[]", b'""', b"7", b'[{"uuid": "a"}, {"uuid": "b"}]'])
def test_a_row_without_a_record_is_kept_as_it_came(row: bytes) -> None:
    listed = read_row(MAIN, row, NOW)
    assert (listed.key, listed.digest) == (digest(row).hex(), digest(row))
    assert (listed.user, listed.edited_at) == (None, None)
    assert (listed.arrival.payload, listed.arrival.trouble) == (row, Quarantined.NOT_AN_OBJECT)
    assert listed.arrival.detail == "the body is not a JSON object"
    assert (listed.arrival.names, listed.arrival.source, listed.arrival.via) == ((), "main", Via.LIST)


def test_a_platform_that_does_not_list_plain_json_has_its_rows_decoded() -> None:
    listed = read_row(SECOND, b'{"callNo": 17, "party": {"tel": "1"}}', NOW)
    assert (listed.key, json.loads(listed.arrival.payload)) == ("17", {"callNo": 17, "party_tel": "1"})
    garbage = read_row(SECOND, b"not json", NOW)
    assert garbage.arrival.trouble is Quarantined.NOT_AN_OBJECT
    assert garbage.arrival.detail == "the JSON is a str, not an object"


def test_row_without_a_record_is_identified_by_its_quarantined_form() -> None:
    kept = b"x" * 65_536
    assert read_row(MAIN, kept + b"a", NOW).key == read_row(MAIN, kept + b"b", NOW).key
    assert read_row(MAIN, kept[1:] + b"a", NOW).key != read_row(MAIN, kept[1:] + b"b", NOW).key


@pytest.mark.parametrize(
    ("values", "size", "read"),
    [(300_000, 2**20 + 1, True), (300_001, 2**20 + 1, False), (300_001, 2**20, True)],
)
def test_a_row_of_more_values_than_memory_can_take_is_not_read(values: int, size: int, read: bool) -> None:
    # Each comma and each opening bracket may begin a value: three of them stand before the zeros.
    start, zeros = b'{"sn":"s","b":[', b"0," * (values - 3) + b"0]"
    row = start + zeros + b" " * (size - len(start) - len(zeros) - 1) + b"}"
    assert (len(row), sum(map(row.count, (b",", b"{", b"[")))) == (size, values)
    listed = read_row(MAIN, row, NOW)
    assert listed.arrival.trouble is (None if read else Quarantined.NOT_AN_OBJECT)
    assert listed.arrival.detail == ("" if read else "it holds more than 300000 values")
    assert (stray_key(row, MAIN.dialect) == " |  | s |  |  | ") is read


@pytest.mark.parametrize(
    ("text", "with_edit", "without"),
    [
        (body(uuid=" A ", sn=7, updated_at=clock(1)), f"a |  | 7 |  |  | {clock(1)}", "a |  | 7 |  | "),
        (body(base_info="\ud800"), " | \\ud800 |  |  |  | ", " | \\ud800 |  |  | "),
        (b"not json", digest(b"not json").hex(), digest(b"not json").hex()),
        (b"{}", digest(b"{}").hex(), digest(b"{}").hex()),
    ],
)
def test_stray_is_identified_with_or_without_its_last_edit(text: bytes, with_edit: str, without: str) -> None:
    assert stray_key(text, MAIN.dialect) == stray_key(text, MAIN.dialect, edited=True) == with_edit
    assert stray_key(text, MAIN.dialect, edited=False) == without


# -- what a row is -----------------------------------------------------------------
ROW = read_row(MAIN, body(uuid="u"), NOW)
KNOWN_ROW = RowMatch(1, "u", newest=5, digest=ROW.digest)


@pytest.mark.parametrize(
    ("place", "outcome"),
    [
        (KNOWN_ROW, MATCHED),
        (replace(KNOWN_ROW, stale=True), STALE),
        # It must be read where the list shows another row than the last time.
        (replace(KNOWN_ROW, digest=b""), None),
        (replace(KNOWN_ROW, digest=b"", stale=True), None),
        # What changed since the list was asked is compared by the next run.
        (replace(KNOWN_ROW, newest=6), DEFERRED),
        (replace(KNOWN_ROW, newest=4), MATCHED),
        (replace(KNOWN_ROW, judged=False), DEFERRED),
        (replace(KNOWN_ROW, newest=6, digest=b""), DEFERRED),
        (RowMatch(None, "u"), MISSING),
        (RowMatch(None, "u", newest=6, judged=False), MISSING),
        (RowMatch(None, "u", Quarantined.AMBIGUOUS), CONFLICTING),
        (replace(KNOWN_ROW, trouble=Quarantined.IDENTITY_CONFLICT), CONFLICTING),
    ],
)
def test_outcome_of_a_row_known_without_parsing_it(place: RowMatch, outcome: DiffOutcome | None) -> None:
    assert compare_by_digest(ROW, place, asked_at=5) is outcome


READ = frozenset({"unheard_of"})
FILLED = after(say(2, name="A"), say(1, data1="x"))
"""A state whose `data1` was said earlier than the rest."""
MEANINGS: dict[str, tuple[Known, dict[str, Any], frozenset[str], DiffOutcome, bool]] = {
    "the same": (after(say(1, name="A")), record(1, name="A"), NOTHING, MATCHED, False),
    "the same, from the list": (after(say(1, LIST, name="A")), record(1, name="A"), NOTHING, MATCHED, False),
    "another spelling": (after(say(1, talktimes="88")), record(1, talktimes=88), NOTHING, MATCHED, False),
    "less": (after(say(1, name="A", data1="x")), record(1, name="A"), NOTHING, MATCHED, False),
    "the same, later": (after(say(1, name="A")), record(2, name="A"), NOTHING, MATCHED, True),
    "the same, earlier": (after(say(2, name="A")), record(1, name="A"), NOTHING, MATCHED, False),
    "all of it, of which a part was said earlier": (
        FILLED,
        record(2, name="A", data1="x"),
        NOTHING,
        MATCHED,
        True,
    ),
    "a field that nobody reads": (
        after(say(1, unheard_of=1)),
        record(1, unheard_of=2),
        NOTHING,
        MATCHED,
        True,
    ),
    "a field that a mapping reads": (
        after(say(1, unheard_of=1)),
        record(1, unheard_of=2),
        READ,
        REVISED,
        True,
    ),
    "news": (after(say(1, name="A")), record(2, name="B"), NOTHING, REVISED, True),
    "news of the same time": (after(say(1, name="A")), record(1, name="B"), NOTHING, REVISED, True),
    "a state that it had before, of the same time": (
        after(say(1, name="A"), say(1, name="B")),
        record(1, name="A"),
        NOTHING,
        REVISED,
        True,
    ),
    "a field more, from earlier": (after(say(2, name="A")), record(1, data1="x"), NOTHING, REVISED, True),
    "news from earlier": (after(say(2, name="A")), record(1, name="B"), NOTHING, STALE, False),
    "news from earlier, and a field that nobody reads": (
        after(say(2, name="A")),
        record(1, name="B", unheard_of=1),
        NOTHING,
        STALE,
        True,
    ),
}


@pytest.mark.parametrize("row", MEANINGS)
def test_outcome_of_a_row_compared_with_the_known_state(row: str) -> None:
    known, listed, reads, outcome, adds = MEANINGS[row]
    read = read_row(MAIN, body(**listed), RECEIVED)
    assert compare_by_meaning(read, known, reads, MAIN) == Comparison(outcome, adds)


def test_a_row_far_ahead_of_its_receipt_has_no_time() -> None:
    ahead = read_row(MAIN, body(uuid="u", name="B", updated_at="2026-04-14 10:00:00"), RECEIVED)
    known = after(say(1, CALLBACK, name="A"))
    assert compare_by_meaning(ahead, known, NOTHING, MAIN) == Comparison(REVISED, adds=True)


# -- a call that is not listed -----------------------------------------------------
def unlisted(said: dict[str, Any] | None = None, **more: Any) -> UnlistedCall:
    fields: dict[str, Any] = {"created_at": NOW, "successor": None} | more
    return UnlistedCall("u", said=said or {}, first_seen_at=NOW, **fields)


UNKNOWN_TIME = "when it was created is not known here: it counts from its arrival, and is listed elsewhere"


@pytest.mark.parametrize(
    ("call", "listed_users", "why"),
    [
        (unlisted(), {"demo"}, "not listed"),
        (unlisted({"is_deleted": 1, "user_sn": "other"}, successor="v"), {"demo"}, "deleted there"),
        (unlisted({"is_deleted": 0}), {"demo"}, "not listed"),
        (
            unlisted({"user_sn": "other"}, successor="v", created_at=None),
            {"demo"},
            "redialled: its sn now belongs to call v",
        ),
        (
            unlisted({"user_sn": "other"}, created_at=None),
            {"demo"},
            "belongs to user other, whom no login's list shows",
        ),
        (unlisted({"user_sn": "other"}), set(), "not listed"),
        (unlisted({"user_sn": "demo"}), {"demo"}, "not listed"),
        (unlisted(created_at=None), {"demo"}, UNKNOWN_TIME),
    ],
)
def test_why_a_call_may_not_be_listed(call: UnlistedCall, listed_users: set[str], why: str) -> None:
    assert explain(call, listed_users, MAIN) == why


def test_fields_that_may_explain_an_unlisted_call() -> None:
    assert explaining_fields(MAIN.dialect) == ("user_sn", "is_deleted")
    assert user_of(unlisted({"user_sn": " other "}), MAIN) == "other"
    assert user_of(unlisted(), MAIN) is None
