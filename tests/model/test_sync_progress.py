"""How far a delivery came with an object: each state, and the form in which ledgers keep it."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from bridge.ledger.sqlite.progress_packing import packed_progress, progress_of
from bridge.model.crm_objects import Fingerprint
from bridge.model.sync_progress import (
    AwaitingDuplicate,
    Forgotten,
    Linking,
    Located,
    LookingAgain,
    NotStarted,
    RecordFaults,
    Running,
    StoredProgress,
    SyncMethod,
    SyncProgress,
    SyncState,
    from_stored,
    to_stored,
)

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
LATER = AT + timedelta(minutes=5)
NOTE = {"note": Fingerprint(0, 4, b"told")}
DIGEST = b"12345678"
CREATING = Running(SyncMethod.CREATE, 0, None, {}, DIGEST, AT)
UPDATING = Running(SyncMethod.UPDATE, 1, "7", {"version": 3}, DIGEST, AT, absent=True)
POLLING = Running(SyncMethod.UPSERT, 1, None, {"job": "9"}, DIGEST, AT, polled=True)
FAULTS = {
    "cause": "500", "revision": 1, "process": "p", "seen": 3, "together": 0, "recovered": 0, "reason": "",
}  # fmt: skip

# Each state, and the bytes that the release before these types wrote for it.
WRITTEN_BEFORE = [
    (
        SyncProgress(NotStarted(), NOTE, key="k"),
        "93a36f776e81a7636f6e746163749ba00080c0c400c081a46e6f7465930004c404746f6c64a16b80c280",
    ),
    (
        SyncProgress(Located("7"), NOTE, NOTE),
        (
            "93a36f776e81a7636f6e746163749ba00080a137c400c081a46e6f7465930004c404746f6c64a081a46e6f7465930004c404"
            "746f6c64c280"
        ),
    ),
    (
        SyncProgress(Forgotten(), adding=NOTE, key="k", elsewhere={"b": NOTE}),
        (
            "93a36f776e81a7636f6e746163749ba5616761696e0080c0c400c080a16b81a46e6f7465930004c404746f6c64c281a16281"
            "a46e6f7465930004c404746f6c64"
        ),
    ),
    (
        SyncProgress(LookingAgain("7", AT), NOTE, NOTE),
        (
            "93a36f776e81a7636f6e746163749ba46c6f6f6b0080a137c400cf000660d8dd2a400081a46e6f7465930004c404746f6c64"
            "a081a46e6f7465930004c404746f6c64c280"
        ),
    ),
    (
        SyncProgress(AwaitingDuplicate(2, AT), NOTE),
        (
            "93a36f776e81a7636f6e746163749ba574616b656e0281a573696e6365b9323032362d31312d32325430383a30303a30302b"
            "30303a3030c0c400c081a46e6f7465930004c404746f6c64a080c280"
        ),
    ),
    (
        SyncProgress(CREATING, adding=NOTE),
        (
            "93a36f776e81a7636f6e746163749ba66372656174650080c0c4083132333435363738cf000660d8dd2a400080a081a46e6f"
            "7465930004c404746f6c64c280"
        ),
    ),
    (
        SyncProgress(UPDATING),
        (
            "93a36f776e81a7636f6e746163749ba67570646174650181a776657273696f6e03a137c4083132333435363738cf000660d8"
            "dd2a400080a080c380"
        ),
    ),
    (
        SyncProgress(POLLING),
        (
            "93a36f776e81a7636f6e746163749ca67570736572740181a36a6f62a139c0c4083132333435363738cf000660d8dd2a4000"
            "80a080c280c3"
        ),
    ),
    (
        SyncProgress(Linking("contact", "7", AT, absent=True), NOTE),
        (
            "93a36f776e81a7636f6e746163749bac6c696e6b20636f6e746163740080a137c400cf000660d8dd2a400081a46e6f746593"
            "0004c404746f6c64a080c380"
        ),
    ),
    (
        SyncProgress(RecordFaults(2, FAULTS)),
        (
            "93a36f776e81a7636f6e746163749ba66661756c74730287a56361757365a3353030a87265766973696f6e01a770726f6365"
            "7373a170a47365656e03a8746f67657468657200a97265636f766572656400a6726561736f6ea0c0c400c080a080c280"
        ),
    ),
]
LOCK_KEYS = "9193a36f776ea7636f6e74616374a161"
STATES = [progress.state for progress, _ in WRITTEN_BEFORE]


def named(state: object) -> str:
    return type(state).__name__


@pytest.mark.parametrize(("progress", "packed"), WRITTEN_BEFORE, ids=map(named, STATES))
def test_each_state_is_stored_as_by_the_previous_release(progress: SyncProgress, packed: str) -> None:
    written = bytes.fromhex(packed + LOCK_KEYS)
    assert progress_of(written) == {"contact": progress}
    assert packed_progress("own", {"contact": progress}, [("own", "contact", "a")]) == written


@pytest.mark.parametrize(
    ("way", "state"),
    [
        ("", NotStarted()),
        ("a way of a later release", NotStarted()),
        ("link contact", NotStarted()),
        ("look", NotStarted()),
    ],
)
def test_incomplete_stored_state_counts_as_not_started(way: str, state: SyncState) -> None:
    assert from_stored(to_stored(SyncProgress())._replace(way=way)) == SyncProgress(state)
    located = from_stored(to_stored(SyncProgress())._replace(way=way, crm_id="7"))
    assert located == SyncProgress(Located("7"))


def test_unknown_state_with_a_request_in_doubt_is_no_link() -> None:
    unknown = to_stored(SyncProgress(CREATING))._replace(way="a way of a later release")
    assert from_stored(unknown) == SyncProgress(NotStarted())


def test_progress_starts_at_the_first_step_without_a_lookup() -> None:
    assert Running(SyncMethod.CREATE) == Running(SyncMethod.CREATE, 0, None, {}, b"", None)
    assert not Running(SyncMethod.CREATE).absent
    assert not Linking("contact", "7", AT).absent


def test_stored_form_keeps_its_positions() -> None:
    assert StoredProgress._fields == (
        "way", "step", "captured", "crm_id", "sent_digest", "sent_at", "appended", "key", "adding", "absent",
        "elsewhere", "polled",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("way", "crm_id", "sent_at", "state"),
    [
        ("", None, AT, NotStarted()),
        ("", "7", AT, Located("7")),
        ("of a later release", "7", AT, Located("7")),
        ("of a later release", None, AT, NotStarted()),
        # What tells of a request in doubt without the time of one tells nothing.
        ("look", "7", None, Located("7")),
        ("link contact", "7", None, Located("7")),
    ],
)
def test_missing_parts_of_a_stored_form_are_not_invented(
    way: str, crm_id: str | None, sent_at: datetime | None, state: SyncState
) -> None:
    stored = StoredProgress(way, 0, {}, crm_id, b"", sent_at, {}, "", {}, False, {})
    assert from_stored(stored) == SyncProgress(state)


@pytest.mark.parametrize(
    ("state", "sent_at", "crm_id", "steps_done"),
    [
        (NotStarted(), None, None, 0),
        (Located("7"), None, "7", 0),
        (Forgotten(), None, None, 0),
        (LookingAgain("7", AT), AT, "7", 0),
        (AwaitingDuplicate(2, AT), None, None, 0),
        (CREATING, AT, None, 0),
        (UPDATING, AT, "7", 1),
        (replace(UPDATING, sent_at=None), None, "7", 1),
        (Linking("contact", "7", AT), AT, "7", 0),
        (RecordFaults(2, FAULTS), None, None, 0),
    ],
)
def test_properties_of_each_state(
    state: SyncState, sent_at: datetime | None, crm_id: str | None, steps_done: int
) -> None:
    progress = SyncProgress(state)
    assert (progress.sent_at, progress.crm_id, progress.steps_done) == (sent_at, crm_id, steps_done)


@pytest.mark.parametrize("state", STATES, ids=named)
def test_start_of_a_doubt_can_be_changed(state: SyncState) -> None:
    before = SyncProgress(state, NOTE, NOTE, "k", {"b": NOTE})
    after = before.with_sent_at(LATER)
    assert after.sent_at == (LATER if before.sent_at is not None else None)
    assert after.with_sent_at(AT) == before


def test_start_of_a_doubt_changes_only_for_unanswered_requests() -> None:
    answered = SyncProgress(replace(UPDATING, sent_at=None))
    assert answered.with_sent_at(LATER) == answered


@pytest.mark.parametrize(
    ("method", "step", "digest", "continues"),
    [
        (SyncMethod.UPDATE, 1, DIGEST, True),
        (SyncMethod.UPDATE, 1, b"other", False),
        (SyncMethod.UPDATE, 0, DIGEST, False),
        (SyncMethod.UPSERT, 1, DIGEST, True),
        (SyncMethod.UPSERT, 1, b"other", False),
        (SyncMethod.CREATE, 1, b"other", True),
        (SyncMethod.CREATE, 0, DIGEST, False),
    ],
)
def test_steps_resume_if_unchanged_and_a_create_always(
    method: SyncMethod, step: int, digest: bytes, continues: bool
) -> None:
    run = Running(method, step, sent_digest=DIGEST)
    assert run.continues(method, digest) is continues
    assert not any(run.continues(other, digest) for other in SyncMethod if other is not method)


def test_restarted_progress_keeps_only_appended_texts() -> None:
    before = SyncProgress(UPDATING, NOTE, NOTE, "k", {"b": NOTE})
    assert before.restarted() == SyncProgress(appended=NOTE)
    assert before.restarted(Located("7")) == SyncProgress(Located("7"), NOTE)


def test_changed_key_keeps_the_possible_appends_of_each_object() -> None:
    more = {"tags": Fingerprint(-1, 1, b"digested")}
    there = SyncProgress(UPDATING, NOTE, more, "first", {"second": more})
    moved = there.moved("second")
    assert moved == SyncProgress(Forgotten(), adding=more, elsewhere={"first": {**NOTE, **more}})
    assert there.moved("third") == SyncProgress(
        Forgotten(), elsewhere={"first": {**NOTE, **more}, "second": more}
    )
