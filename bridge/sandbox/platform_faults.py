"""What the sandbox platform's list does wrong on demand, so that walks are tried against it.

Begin at `Disturbances`.
"""

import random
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from bridge.sandbox.conversation import as_marked_text
from bridge.sandbox.records import Record

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Whole = Annotated[int, msgspec.Meta(ge=0)]

BUSY = 1
"""The code of a refusal that does not come again at the next try."""
_KEPT = {"uuid", "sn", "created_at", "started_at", "status_manual", "mark", "return_visit", "updated_at"}
"""Fields that every row keeps: they identify the call and show that it was edited."""


class Disturbances(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong; a share is of requests, of pages or of rows, from 0 to 1.

    `unlisted` rows for each listed one are counted in `total` and shown nowhere. `rows_move`: before so
    many pages a row appears in the window that is asked for, or one of these goes again.
    """

    down: bool = False
    session_dies_every: Whole = 0
    bad_gateways: Share = 0.0
    cut_connections: Share = 0.0
    refusals: Share = 0.0
    page_cap: Whole = 0
    empty_pages: Share = 0.0
    short_pages: Share = 0.0
    total: Literal["number", "text", "absent"] = "number"
    total_moves: Share = 0.0
    unlisted: Share = 0.0
    rows_move: Share = 0.0
    order: Literal["oldest", "newest", "any"] = "oldest"
    start: Literal["inclusive", "exclusive"] = "inclusive"
    end: Literal["inclusive", "exclusive"] = "exclusive"
    dialogue_as_text: Share = 0.0
    types_as_text: Share = 0.0
    fields_missing: Share = 0.0
    unknown_fields: Share = 0.0


def shown_row(record: Record, faults: Disturbances, rng: random.Random) -> dict[str, Any]:
    """A record as the list shows it this time, with random changes of its form."""
    row = dict(record)
    turns = row.get("talk_info")
    if turns and isinstance(turns, list) and rng.random() < faults.dialogue_as_text:
        row["talk_info"] = (
            as_marked_text(turns) if rng.random() < 0.5 else msgspec.json.encode(turns).decode()
        )
    if rng.random() < faults.types_as_text:
        row |= {name: str(value) for name, value in row.items() if type(value) is int and rng.random() < 0.5}
    if faults.fields_missing:
        row = {name: value for name, value in row.items() if not left_out(record, name, faults)}
    if rng.random() < faults.unknown_fields:
        row["list_version"] = 7
        row["list_note"] = {"seen": True, "by": ["list"]}
    return row


def left_out(record: Record, name: str, faults: Disturbances) -> bool:
    """Whether the list never shows this field of this record."""
    if name in _KEPT:
        return False
    drawn = zlib.crc32(f"{record['uuid']} {name}".encode()) / 2**32
    return drawn < faults.fields_missing


def shown_total(count: int, faults: Disturbances, rng: random.Random) -> int | str | None:
    """The `total` that is sent with a page."""
    total = count + round(count * faults.unlisted)
    if rng.random() < faults.total_moves:
        total = max(0, total + rng.choice((-2, -1, 1, 2)))
    if faults.total == "absent":
        return None
    return str(total) if faults.total == "text" else total


def cut_page(rows: Sequence[Record], faults: Disturbances, rng: random.Random) -> list[Record]:
    """The rows of a page that are really sent."""
    if rng.random() < faults.empty_pages:
        return []
    if rows and rng.random() < faults.short_pages:
        return rng.sample(list(rows), rng.randrange(len(rows)))
    return list(rows)
