"""Compares two encodings of one dialogue, and merges them.

Two encodings are compared only on the fields that both carry. What only the richer one holds is kept when the
poorer one arrives. A platform's `DialogueForm` reads and writes its encodings.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from msgspec.structs import replace

from bridge.record.turn import CARRIED, Speaker, Turn, compared

_SPEAKERS: tuple[Speaker, ...] = ("robot", "customer")

# Aligning compares every pair of turns: beyond 500 by 500 the turns are paired by position.
_MOST_PAIRS = 250_000


def same_dialogue(a: Sequence[Turn], b: Sequence[Turn]) -> bool:
    """Whether both have the same turns, compared on the fields that both carry."""
    if len(a) != len(b):
        return False
    a, b = _realigned(a, b), _realigned(b, a)
    return all(_same_turn(one, other) for one, other in zip(a, b, strict=True))


def lay_over(known: tuple[Turn, ...], incoming: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The dialogue after `incoming` has arrived; `known` itself where that adds nothing.

    It is news exactly when `incoming` is not empty and not `same_dialogue` as `known`.
    """
    if not incoming:
        return known
    if same_dialogue(known, incoming):
        pairs = zip(_realigned(known, incoming), _realigned(incoming, known), strict=True)
        merged = tuple(_merged(old, new) for old, new in pairs)
        return known if merged == known else merged
    result = list(incoming)
    for old, new in _pairs(known, incoming):
        if _same_turn(known[old], incoming[new]):
            result[new] = _merged(known[old], incoming[new])
    return tuple(result)


def _same_turn(a: Turn, b: Turn) -> bool:
    if a == b:
        return True
    if a.is_unparsed or b.is_unparsed:
        # An unparsed turn still shows whether it contains the other turn's words.
        return _same_unparsed(a, b)
    return (
        a.speaker == b.speaker
        and all(compared(a, name) == compared(b, name) for name in a.carried & b.carried)
        and all(_same_value(a.extra[key], b.extra[key]) for key in a.extra.keys() & b.extra.keys())
    )


def _same_unparsed(a: Turn, b: Turn) -> bool:
    if a.is_unparsed and b.is_unparsed:
        return bool(a.raw == b.raw)
    unparsed, honest = (a, b) if a.is_unparsed else (b, a)
    heard = unparsed.raw if isinstance(unparsed.raw, str) else unparsed.text
    return unparsed.speaker == honest.speaker and bool(honest.text) and honest.text in heard


def _same_value(a: Any, b: Any) -> bool:
    if a in ("", None) and b in ("", None):
        return True
    if isinstance(a, str | int | float) and isinstance(b, str | int | float):
        return str(a) == str(b)
    return bool(a == b)


def _merged(known: Turn, incoming: Turn) -> Turn:
    """One turn from two encodings: each field from the one that carries it, from `known` where both do."""
    if incoming.is_unparsed:
        return known
    if known.is_unparsed:
        return incoming
    told = {name: getattr(incoming, name) for name in incoming.carried - known.carried}
    learnt: dict[str, Any] = {name: value for name, value in told.items() if value not in (None, "", ())}
    if known.time is None and incoming.time is not None:
        learnt["time"] = incoming.time
    unknown = incoming.extra.keys() - known.extra.keys()
    if not (learnt or unknown):
        return known
    if known.flagged and not incoming.flagged:
        learnt |= {"flagged": False, "raw": None}
    return replace(
        known,
        extra={**incoming.extra, **known.extra},
        encoding=incoming.encoding,
        separator=incoming.separator,
        carried=known.carried | incoming.carried,
        **learnt,
    )


def _pairs(known: Sequence[Turn], incoming: Sequence[Turn]) -> list[tuple[int, int]]:
    """Pairs of indexes: which known turn each incoming turn continues, in order."""
    if len(known) * len(incoming) > _MOST_PAIRS:
        return [(index, index) for index in range(min(len(known), len(incoming)))]
    common = {
        speaker: sorted(
            frozenset.intersection(
                *(
                    turn.carried
                    for turn in (*known, *incoming)
                    if turn.speaker == speaker and not turn.is_unparsed
                ),
                CARRIED,
            )
        )
        for speaker in _SPEAKERS
    }

    def key(turn: Turn) -> tuple[Any, ...]:
        return (turn.speaker, turn.is_unparsed, *(compared(turn, name) for name in common[turn.speaker]))

    matcher = SequenceMatcher(
        None, [key(turn) for turn in known], [key(turn) for turn in incoming], autojunk=False
    )
    pairs: list[tuple[int, int]] = []
    for _, old, old_end, new, new_end in matcher.get_opcodes():
        if old_end - old == new_end - new:
            pairs.extend(zip(range(old, old_end), range(new, new_end), strict=True))
    return pairs


def _realigned(turns: Sequence[Turn], other: Sequence[Turn]) -> tuple[Turn, ...]:
    """`turns`, cut again where a speaker said the separator and `other`, as long, shows the turn's true end.

    An encoding that separates turns by `##` cuts `A: yes` / `B: no##never` into `A: yes##no` / `B: never`.
    """
    result = list(turns)
    for index in range(len(result) - 1):
        before, after = result[index], result[index + 1]
        text = other[index].text
        separator = before.separator
        if not separator or not before.text.startswith(text + separator):
            continue
        whole = before.text[len(text) + len(separator) :] + separator + after.text
        if whole == other[index + 1].text:
            result[index : index + 2] = [replace(before, text=text), replace(after, text=whole)]
    return tuple(result)
