"""Times as the file keeps them: microseconds since the epoch, UTC, a third of the text's bytes.

Nothing of it leaves the package: what is handed out are moments.
"""

import sqlite3
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar, overload

from bridge.lib.iso_times import moment, stamp
from bridge.lib.stored_times import LONGEST_STORED_WAIT

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Model = TypeVar("Model", bound="DataclassInstance")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# Of something that is due, with its time and twice the time of now: `bridge.lib.stored_times.bounded` in SQL.
_LONGEST = LONGEST_STORED_WAIT // timedelta(microseconds=1)
IS_DUE = f"({{0}} <= {{1}} OR {{0}} > {{1}} + {_LONGEST})"

# `bridge.model.call_order.is_ahead` in the words of the index of migration 0004, which serves no others.
IS_AHEAD = "coalesce(started_at, created_at) > first_seen_at + 86400000000"


@overload
def micros(at: datetime | str) -> int: ...
@overload
def micros(at: None) -> None: ...
def micros(at: datetime | str | None) -> int | None:
    """Returns a moment, or its ISO text, in microseconds."""
    if at is None:
        return None
    since = (moment(at) if isinstance(at, str) else at) - _EPOCH
    # Whole milliseconds, as people see them: a delivery is due exactly at the time that is shown.
    return since // _MILLISECOND * 1000


def moment_of(kept: int) -> datetime:
    """The inverse of `micros`, to the millisecond."""
    return _EPOCH + timedelta(microseconds=kept)


def stamp_of(kept: int | None) -> str | None:
    """Returns the ISO text of a stored time."""
    return None if kept is None else stamp(moment_of(kept))


def at_or_none(kept: int | None) -> datetime | None:
    """`moment_of`, of a time that may be missing."""
    return None if kept is None else moment_of(kept)


def model_of(kind: type[Model], row: sqlite3.Row, **more: object) -> Model:
    """A read model from the columns that are named as its fields are; those that end in `_at` are times."""
    names = [each.name for each in fields(kind) if each.name not in more]
    values = {name: at_or_none(row[name]) if name.endswith("_at") else row[name] for name in names}
    return kind(**values, **more)
