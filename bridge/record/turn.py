"""One turn of a dialogue, on every platform."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from bridge.record.turn_clock import TIME_OF_DAY

Speaker = Literal["robot", "customer"]
Number = int | float | str | None


class Turn(msgspec.Struct, frozen=True, gc=False):
    """What one speaker said at a time; `carried` names the fields that its encoding has, filled or not."""

    speaker: Speaker
    text: str = ""
    title: str | None = None
    time: datetime | None = None
    time_of_day: str | None = None
    labels: tuple[str, ...] = ()
    score: Number = None
    recording: str | None = None
    process_code: str | None = None
    similarity: Number = None
    talk_info_sn: str | None = None
    context_sn: str | None = None
    trigger_word: str | None = None
    match_type: Number = None
    jump_type: str | None = None
    agent_name: str | None = None
    extra: Mapping[str, Any] = {}
    raw: Any = None
    flagged: bool = False
    encoding: str = "array"
    """The platform's encoding that it was read from."""
    separator: str = ""
    """What separates turns in that encoding, if speakers may say it too; then it may not be a turn's end."""
    carried: frozenset[str] = frozenset()

    @property
    def is_unparsed(self) -> bool:
        """Whether no field could be recognised in it: `raw` is all there is, and `text` is read from that."""
        return self.flagged and not self.carried


CARRIED = frozenset(
    {
        *("text", "recording", "title", "labels", "score", "process_code", "similarity", "talk_info_sn"),
        *("context_sn", "time_of_day", "trigger_word", "match_type", "jump_type", "agent_name"),
    }
)
"""The fields of a turn that are compared, as far as both encodings carry them."""

_DIGESTED: Mapping[Speaker, tuple[str, ...]] = {
    "robot": ("recording", "title", "text", "process_code", "talk_info_sn", "labels", "time_of_day"),
    "customer": ("text", "recording", "score", "labels", "talk_info_sn", "time_of_day"),
}


def digested(turn: Turn) -> dict[str, Any]:
    """The part of a turn that digests cover: the fields that all full encodings carry."""
    said = {name: compared(turn, name) for name in _DIGESTED[turn.speaker]}
    said["speaker"] = turn.speaker
    if turn.is_unparsed:
        said["raw"] = turn.raw
    return {name: value for name, value in said.items() if value not in (None, "", ())}


def compared(turn: Turn, name: str) -> Any:
    """A field as it is compared: `9:05:00`, `09:05` and `2025-04-14 09:05:00` are equal times of day."""
    value = getattr(turn, name)
    if name == "time_of_day" and value is not None:
        found = TIME_OF_DAY.fullmatch(value.strip())
        return f"{int(found[2]):02}:{found[3]}:{found[4] or '00'}" if found else value
    return value.strip() if isinstance(value, str) else value


def split_labels(value: object) -> tuple[str, ...]:
    """The entries between `;` or `；`, trimmed, without empty ones; an entry may hold colons."""
    if isinstance(value, list | tuple):
        return tuple(label for item in value for label in split_labels(item))
    if value is None or value == "" or isinstance(value, bool | dict):
        return ()
    return tuple(label for part in str(value).replace("；", ";").split(";") if (label := part.strip()))
