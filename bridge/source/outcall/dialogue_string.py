"""Cuts the string form of a dialogue into turns.

There are two: one turn between two `##`, as the platform's table has it, and pairs of turns, as its
samples have them, in which `@@` stands between the robot's part and the customer's:

    ##v.wav#!title#!caption#!code#!#!#!#!context#!10:00:01@@#@words#@r.wav#@20#@label#@sn#@10:00:05
    ##listen@@words#@r.wav#@_0#@#@sn#@10:00:12

People say `##` and `@@` too, once in a while.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

ROBOT_FIELDS, CUSTOMER_FIELDS = 9, 6
SEPARATOR = "##"
"""Stands between two turns; speakers may say it too."""
_LISTEN = "listen@@"
_STRAY = " 、,，;；.。\t\r\n"
_PAIRED = re.compile(
    r"(?:^|##|、)\s{0,9}listen@@|#!(?:\d{1,2}:\d{2}(?::\d{2})?@@|[^#!]{0,200}@@(?=#@|##|\s{0,9}$))",
    re.ASCII,
)


class Segment(NamedTuple):
    """One turn, its fields not yet split; `more` is what follows a `##` that the speaker said."""

    speaker: Literal["robot", "customer"]
    text: str
    more: str = ""
    marked: bool = True
    """Whether it contains separators of fields."""


def segments(value: str) -> list[Segment]:
    """The turns of a dialogue in either string form."""
    pieces = [piece for piece in value.split("##") if piece.strip()]
    if pieces and not pieces[0].strip(_STRAY):
        del pieces[0]
    return list(_of_pairs(pieces) if _PAIRED.search(value) else _one_by_one(_mended(pieces)))


def _of_pairs(pieces: list[str]) -> Iterator[Segment]:
    """Turns of the form in pairs. A piece that begins no pair was said behind a `##`."""
    pair: list[str] = []
    fields = ROBOT_FIELDS
    for piece in pieces:
        piece_fields = piece.count("#!") + 1
        is_open = fields < ROBOT_FIELDS
        begins = piece.lstrip().startswith(_LISTEN) or piece_fields >= ROBOT_FIELDS
        if pair and (begins or (piece_fields > 1 and not is_open)):
            yield from _pair("##".join(pair))
            pair = []
        if not pair:
            # A piece without fields of a robot's turn is not continued by later pieces.
            fields = piece_fields if piece_fields > 1 else ROBOT_FIELDS
        else:
            fields += piece_fields - 1
        pair.append(piece)
    if pair:
        yield from _pair("##".join(pair))


def _pair(text: str) -> Iterator[Segment]:
    bare = text.lstrip()
    robot, customer = "", text
    if bare.startswith(_LISTEN):
        customer = bare[len(_LISTEN) :]
    elif "#!" in text:
        *fields, last = text.split("#!", ROBOT_FIELDS - 1)
        end, _, customer = last.partition("@@")
        robot = "#!".join([*fields, end])
    if robot:
        yield Segment("robot", robot)
    if any(field.strip() for field in customer.split("#@")):
        yield Segment("customer", customer, marked="#@" in customer or bool(robot) or customer != text)


def _mended(pieces: list[str]) -> list[str]:
    """The pieces, after joining robot turns that a `##` in their caption had cut in two."""
    whole: list[str] = []
    for piece in pieces:
        cut = bool(whole) and piece.count("#!") == ROBOT_FIELDS - 3 and whole[-1].count("#!") == 2
        if cut and "#@" not in piece and "#@" not in whole[-1]:
            whole[-1] += f"##{piece}"
        else:
            whole.append(piece)
    return whole


def _one_by_one(pieces: list[str]) -> Iterator[Segment]:
    """Turns of the form one by one. A piece without `#!` and `#@` was said behind a `##`."""
    before: Segment | None = None
    unmarked: list[str] = []
    for piece in pieces:
        speaker = _speaker(piece)
        if speaker is None:
            unmarked.append(piece)
        elif before is None and speaker == "customer":
            before, unmarked = Segment(speaker, "##".join([*unmarked, piece])), []
        else:
            yield from _closed(before, unmarked)
            before, unmarked = Segment(speaker, piece), []
    yield from _closed(before, unmarked)


def _closed(segment: Segment | None, unmarked: list[str]) -> Iterator[Segment]:
    more = "##".join(unmarked)
    if segment is not None:
        yield segment._replace(more=more)
    elif more:
        yield Segment("customer", more, marked=False)


def _speaker(piece: str) -> Literal["robot", "customer"] | None:
    robot, customer = piece.count("#!"), piece.count("#@")
    if robot and customer:
        return "robot" if robot + 1 == ROBOT_FIELDS else "customer"
    if robot:
        return "robot"
    return "customer" if customer else None
