"""Is it news? The table of the contract row by row, stamps, and laying over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.model.calls import DIGEST_SIZE, Verdict, Via, digests
from bridge.record.verdict import is_repeat, read_incoming, rule
from tests.fixtures.origins import MAIN
from tests.fixtures.verdicts import (
    CALLBACK,
    DUPLICATE,
    LIST,
    NEW,
    NOTHING,
    RECEIVED,
    REVISION,
    STALE,
    ZONE,
    Arrived,
    Record,
    after,
    clock,
    epoch,
    hear,
    meaning,
    record,
    say,
)

# -- the table ---------------------------------------------------------------------
# What was heard; what arrives; its verdict as a callback and from the list; the name then known
# after each; the stamp then known.
A: Record = {"name": "A"}
B: Record = {"name": "B"}
C: Record = {"name": "C"}
TABLE: dict[str, tuple[list[Arrived], Record, tuple[Verdict, Verdict], tuple[str, str], int | None]] = {
    "newer, changes": ([say(1, **A)], record(2, **B), (REVISION, REVISION), ("B", "B"), 2),
    "newer, changes what the list said": (
        [say(1, LIST, **A)],
        record(2, **B),
        (REVISION, REVISION),
        ("B", "B"),
        2,
    ),
    "newer, a state it already had": (
        [say(1, **A), say(2, **B)],
        record(3, **A),
        (REVISION, REVISION),
        ("A", "A"),
        3,
    ),
    "newer, the same": ([say(1, **A)], record(2, **A), (DUPLICATE, DUPLICATE), ("A", "A"), 2),
    "newer than one without a stamp": ([say(None, **A)], record(2, **B), (REVISION, REVISION), ("B", "B"), 2),
    "older, fills": ([say(2, **A)], record(1, data1="x"), (REVISION, REVISION), ("A", "A"), 2),
    "older, fills and differs": (
        [say(2, **A)],
        record(1, data1="x", **B),
        (REVISION, REVISION),
        ("A", "A"),
        2,
    ),
    "older, fills what a third said earlier": (
        [say(1, **A), say(3, data1="x")],
        record(2, **B),
        (REVISION, REVISION),
        ("B", "B"),
        3,
    ),
    "older, differs": ([say(2, **A)], record(1, **B), (STALE, STALE), ("A", "A"), 2),
    "older, differs from the list": ([say(2, LIST, **A)], record(1, **B), (STALE, STALE), ("A", "A"), 2),
    "older, the same": ([say(2, **A)], record(1, **A), (DUPLICATE, DUPLICATE), ("A", "A"), 2),
    "equal, the same": ([say(1, **A)], record(1, **A), (DUPLICATE, DUPLICATE), ("A", "A"), 1),
    "missing, the same": ([say(1, **A)], record(None, **A), (DUPLICATE, DUPLICATE), ("A", "A"), 1),
    "both missing, the same": (
        [say(None, **A)],
        record(None, **A),
        (DUPLICATE, DUPLICATE),
        ("A", "A"),
        None,
    ),
    "equal, a state it had": (
        [say(1, **A), say(1, **B)],
        record(1, **A),
        (STALE, REVISION),
        ("B", "A"),
        1,
    ),
    "missing, a state it had": (
        [say(1, **A), say(2, **B)],
        record(None, **A),
        (STALE, REVISION),
        ("B", "A"),
        2,
    ),
    "both missing, a state it had": (
        [say(None, **A), say(None, **B)],
        record(None, **A),
        (STALE, REVISION),
        ("B", "A"),
        None,
    ),
    "equal, never seen": ([say(1, **A)], record(1, **B), (REVISION, REVISION), ("B", "B"), 1),
    "missing, never seen": ([say(1, **A)], record(None, **B), (REVISION, REVISION), ("B", "B"), 1),
    "equal, never seen, the list knows": (
        [say(1, LIST, **A)],
        record(1, **B),
        (STALE, REVISION),
        ("A", "B"),
        1,
    ),
    "missing, never seen, the list knows": (
        [say(1, LIST, **A)],
        record(None, **B),
        (STALE, REVISION),
        ("A", "B"),
        1,
    ),
    "both missing, never seen, the list knows": (
        [say(None, LIST, **A)],
        record(None, **B),
        (STALE, REVISION),
        ("A", "B"),
        None,
    ),
    "equal, the list has confirmed it": (
        [say(1, **A), say(1, LIST, **A)],
        record(1, **B),
        (STALE, REVISION),
        ("A", "B"),
        1,
    ),
    "equal, a callback repeats what the list said": (
        [say(1, LIST, **A), say(1, **A)],
        record(1, **B),
        (STALE, REVISION),
        ("A", "B"),
        1,
    ),
    "equal, a newer callback took over from the list": (
        [say(1, LIST, **A), say(2, **B)],
        record(2, **C),
        (REVISION, REVISION),
        ("C", "C"),
        2,
    ),
}


@pytest.mark.parametrize("via", [CALLBACK, LIST])
@pytest.mark.parametrize("row", TABLE)
def test_verdict_of_each_case_in_the_table(row: str, via: Via) -> None:
    heard, said, verdicts, names, stamp = TABLE[row]
    ruling = hear(after(*heard), said, via)
    index = 0 if via is CALLBACK else 1
    assert ruling.verdict is verdicts[index]
    assert ruling.known.values["name"] == names[index]
    assert ruling.known.stamp == (None if stamp is None else epoch(stamp))


@pytest.mark.parametrize("via", [CALLBACK, LIST])
def test_the_first_record_is_new_and_kept_whole(via: Via) -> None:
    said = record(1, name="A", unheard_of={"x": 1})
    ruling = hear(None, said, via)
    assert (ruling.verdict, ruling.kept, ruling.unchanged) == (NEW, True, False)
    assert (ruling.known.values, ruling.known.via, ruling.known.revision) == (said, via, 1)
    assert ruling.known.stamps == dict.fromkeys(said, epoch(1))


def test_stale_record_changes_nothing() -> None:
    known = after(say(2, name="A", data1="x"))
    for said, via in (say(1, name="B", data1="x"), say(1, LIST, name="B")):
        ruling = hear(known, said, via)
        assert (ruling.verdict, ruling.known) == (STALE, known)
        assert (ruling.unchanged, ruling.kept) == (True, False)
    listed = after(say(2, LIST, name="A", data1="x"))
    ruling = hear(listed, record(2, name="B", data1="x"))
    assert (ruling.verdict, ruling.known) == (STALE, listed)
    assert (ruling.unchanged, ruling.kept) == (True, False)


def test_list_keeps_fields_only_a_callback_had() -> None:
    """Its rows may lack columns; a field that nobody else said is filled, not refused."""
    known = after(say(1, LIST, name="A"))
    ruling = hear(known, record(1, name="B", data30="x"))
    assert ruling.verdict is REVISION
    assert meaning(ruling.known) == {"uuid": "u", "name": "A", "data30": "x"}
    assert ruling.known.via is LIST


# -- stamps ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ahead", "believed"), [(timedelta(days=1), True), (timedelta(days=1, seconds=1), False)]
)
def test_a_stamp_more_than_a_day_ahead_counts_as_missing(ahead: timedelta, *, believed: bool) -> None:
    future = (RECEIVED + ahead).astimezone(ZONE).strftime("%Y-%m-%d %H:%M:%S")
    said = read_incoming({"uuid": "u", "name": "A", "updated_at": future}, CALLBACK, MAIN, RECEIVED)
    assert said.stamp == (int((RECEIVED + ahead).timestamp()) if believed else None)
    assert said.flags == (() if believed else ("stamp_ahead",))
    known = after(say(1, LIST, name="B"))
    ruling = rule(known, said, NOTHING, MAIN)
    assert ruling.verdict is (REVISION if believed else STALE)


@pytest.mark.parametrize(
    "stamp", ["", None, "0000-00-00 00:00:00", "1970-01-01 08:00:00", "-0001-11-30", 0, "0", [], {}]
)
def test_invalid_time_is_no_stamp(stamp: Any) -> None:
    said = read_incoming({"uuid": "u", "updated_at": stamp}, CALLBACK, MAIN, RECEIVED)
    assert (said.stamp, said.flags) == (None, ())


UNREADABLE = ["soon", "04/14/2025 10:05:00", "14/04/2025", "25-04-14 10:05:00", "2025-02-30", True, {"a": 1}]


@pytest.mark.parametrize("stamp", UNREADABLE)
def test_unreadable_stamp_is_flagged_and_kept_raw(stamp: Any) -> None:
    said = read_incoming({"uuid": "u", "updated_at": stamp}, CALLBACK, MAIN, RECEIVED)
    assert (said.stamp, said.flags) == (None, ("unreadable:updated_at",))
    assert after(({"uuid": "u", "updated_at": stamp}, CALLBACK)).values["updated_at"] == stamp


@pytest.mark.parametrize("stamp", UNREADABLE)
def test_state_with_an_unreadable_stamp_loses_to_one_with_a_stamp(stamp: Any) -> None:
    undatable = {"uuid": "u", "updated_at": stamp, "name": "B", "data1": "x"}
    known = after(say(2, name="A"))
    ruling = hear(known, undatable)
    assert ruling.verdict is REVISION
    assert meaning(ruling.known) == {"uuid": "u", "name": "A", "data1": "x"}
    assert hear(known, undatable | {"data1": None}).verdict is STALE
    assert hear(known, {"uuid": "u", "updated_at": stamp, "name": "A"}).verdict is DUPLICATE
    # Whatever it filled in is said again by one whose time is known, however old.
    older = hear(ruling.known, record(1, data1="y", name="C"))
    assert older.verdict is REVISION
    assert meaning(older.known) == {"uuid": "u", "name": "A", "data1": "y"}
    # What the list shows is so now, and any readable stamp is newer than one that is not.
    listed = hear(known, undatable, LIST)
    assert listed.verdict is REVISION
    assert meaning(listed.known) == {"uuid": "u", "name": "B", "data1": "x"}
    # Beside a state that has no stamp either it is as good as any.
    assert hear(after(say(None, name="A")), undatable).known.values["name"] == "B"
    assert hear(after((undatable, CALLBACK)), record(1, name="A")).verdict is REVISION


def test_unreadable_other_times_are_flagged_by_field() -> None:
    odd = {"created_at": "soon", "connected_at": "1970-01-01 08:00:00", "disconnected_at": "14/04/2025"}
    said = read_incoming(record(1) | odd, CALLBACK, MAIN, RECEIVED)
    assert said.flags == ("unreadable:created_at", "unreadable:disconnected_at")


@pytest.mark.parametrize("stamp", [clock(5), "2025-04-14T02:05:00Z", epoch(5), str(epoch(5) * 1000)])
def test_stamp_is_read_in_any_spelling(stamp: Any) -> None:
    said = read_incoming({"uuid": "u", "updated_at": stamp}, CALLBACK, MAIN, RECEIVED)
    assert said.stamp == epoch(5)


# -- laying over -------------------------------------------------------------------
@pytest.mark.parametrize("via", [CALLBACK, LIST])
def test_absent_field_never_clears_a_known_one(via: Via) -> None:
    known = after(say(1, name="A", data1="x", foo="y"))
    ruling = hear(known, record(2, name="B"), via)
    assert meaning(ruling.known) == {"uuid": "u", "name": "B", "data1": "x", "foo": "y"}
    assert (ruling.verdict, ruling.kept) == (REVISION, False)
    assert "talk_info" not in ruling.known.values
    assert ruling.known.stamps == {
        "uuid": epoch(2),
        "updated_at": epoch(2),
        "name": epoch(2),
        "data1": epoch(1),
        "foo": epoch(1),
    }


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("name", "", None),
        ("name", None, "  "),
        ("talktimes", "88", 88),
        ("talktimes", 88.0, 88),
        ("name", 5, "5"),
        ("uuid", "U", "u"),
        ("connected_at", "2025-04-14 10:19:21", "2025-04-14T02:19:21Z"),
        ("labelling", "a;b", " a ；b;"),
        ("connected_at", "0000-00-00 00:00:00", None),
        ("unheard_of", "", None),
    ],
)
def test_two_spellings_of_one_meaning_are_no_news(name: str, ours: Any, theirs: Any) -> None:
    for first, second in ((ours, theirs), (theirs, ours)):
        known = after((record(1, **{name: first}), CALLBACK))
        for minute, via in ((1, CALLBACK), (2, CALLBACK), (2, LIST)):
            assert hear(known, record(minute, **{name: second}), via, frozenset({name})).verdict is DUPLICATE


@pytest.mark.parametrize("empty", ["", None])
def test_zero_is_a_value_not_absence(empty: Any) -> None:
    ruling = hear(after(say(1, talktimes=88)), record(2, talktimes=0))
    assert (ruling.verdict, ruling.known.values["talktimes"]) == (REVISION, 0)
    ruling = hear(after(say(1, talktimes=empty)), record(2, talktimes=0))
    assert (ruling.verdict, ruling.known.values["talktimes"]) == (REVISION, 0)
    # Empty is a value too, once it is said.
    ruling = hear(after(say(1, talktimes=0)), record(2, talktimes=empty))
    assert (ruling.verdict, ruling.known.values["talktimes"]) == (REVISION, empty)


def test_a_field_said_to_be_empty_is_not_filled_by_an_older_record() -> None:
    known = after(say(1), say(3, name=""))
    ruling = hear(known, record(2, name="A"))
    assert (ruling.verdict, meaning(ruling.known)) == (STALE, {"uuid": "u"})


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("unheard_of", 1, 2),
        ("unheard_of", {"a": 1}, None),
        ("push_crm_at", clock(1), clock(2)),
        ("pushed_at", 0, 1744597250),
    ],
)
@pytest.mark.parametrize("via", [CALLBACK, LIST])
def test_unknown_and_bookkeeping_fields_are_news_only_if_read(
    name: str, before: Any, now: Any, via: Via
) -> None:
    known = after((record(1, **{name: before}), CALLBACK))
    unread = hear(known, record(2, **{name: now}), via)
    assert (unread.verdict, unread.unchanged) == (DUPLICATE, False)
    assert (unread.known.values[name], unread.known.stamps[name]) == (now, epoch(2))
    read = hear(known, record(2, **{name: now}), via, frozenset({name}))
    assert (read.verdict, read.known.values[name]) == (REVISION, now)
    # A mapping that starts to read it revises nothing that is stored.
    again = hear(unread.known, record(3, **{name: now}), via, frozenset({name}))
    assert again.verdict is DUPLICATE


@pytest.mark.parametrize("minute", [1, None])
@pytest.mark.parametrize(
    ("known_via", "via", "now"),
    [(CALLBACK, CALLBACK, 2), (CALLBACK, LIST, 2), (LIST, LIST, 2), (LIST, CALLBACK, 1)],
)
def test_callback_at_an_equal_stamp_changes_no_field_of_the_list(
    minute: int | None, known_via: Via, via: Via, now: int
) -> None:
    known = after(say(minute, known_via, name="A", unheard_of=1))
    ruling = hear(known, record(minute, name="A", unheard_of=2, other=3), via)
    assert ruling.verdict is DUPLICATE
    assert (ruling.known.values["unheard_of"], ruling.known.values["other"]) == (now, 3)
    assert ruling.known.via is (LIST if LIST in (known_via, via) else CALLBACK)


def test_first_states_digest_is_returned_once_at_the_second_news() -> None:
    first = after(say(1, name="A"))
    second = hear(first, record(2, name="B"))
    assert len(second.previous_digest) == DIGEST_SIZE
    assert second.known.history == {second.previous_digest} | digests(second.digest)
    third = hear(second.known, record(3, name="C"))
    assert third.previous_digest == b""
    assert third.known.history == second.known.history | digests(third.digest)


HEARD = [{"vocfile": "listen", "is_answer": 1, "answer": "好", "score": "5"}]


@pytest.mark.parametrize(
    ("said", "verdicts"),
    [
        (
            [{"status": "A"}, {"status": "B"}, {"name": "N"}, {"status": "A"}],
            [NEW, REVISION, REVISION, STALE],
        ),
        (
            [{"status": "A"}, {"status": "B"}, {"name": "N"}, {"status": "B"}],
            [NEW, REVISION, REVISION, DUPLICATE],
        ),
        (
            [
                {"status": "A", "talk_info": HEARD},
                {"status": "B", "talk_info": HEARD},
                {"status": "A", "talk_info": "好#@"},
            ],
            [NEW, REVISION, STALE],
        ),
        (
            [
                {"status": "A", "talk_info": HEARD},
                {"talk_info": "不#@"},
                {"status": "B"},
                {"status": "A", "talk_info": "不#@"},
            ],
            [NEW, REVISION, REVISION, STALE],
        ),
    ],
    ids=[
        "said again after a fill",
        "the same after a fill",
        "said again in a poorer encoding",
        "a state that two records made together, said by one",
    ],
)
def test_repeated_earlier_state_is_no_news(said: list[dict[str, Any]], verdicts: list[Verdict]) -> None:
    """Without stamps, by callback: a state that the call already had never comes back."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    known, given = None, []
    for fields in said:
        incoming = read_incoming({"uuid": "u", **fields}, Via.CALLBACK, MAIN, now)
        ruling = rule(known, incoming, frozenset(), MAIN)
        known = ruling.known
        given.append(ruling.verdict)
    assert given == verdicts


def test_identical_bytes_are_judged_only_if_the_list_confirms_a_callback() -> None:
    judged = {(via, known) for via in Via for known in Via if not is_repeat(via, known)}
    assert judged == {(Via.LIST, Via.CALLBACK)}
