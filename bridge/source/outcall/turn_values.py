"""Reads the values of a turn's fields: numbers that come as text, and texts that are paths of sound files."""

import re
from functools import lru_cache
from typing import Any, cast

from bridge.record.turn import Number

_PATH = re.compile(r"(?:[A-Za-z]:)?[\\/][^\s#]{1,500}|[A-Za-z0-9_.-]{1,99}[\\/][A-Za-z0-9_./\\-]{1,400}")
SOUNDS = (".wav", ".mp3", ".amr", ".pcm", ".gsm", ".ogg", ".opus", ".m4a", ".aac", ".wma")
"""How the names of sound files end."""

# Some samples of the platform's show a score of 0 as `_0`.
_DECIMAL = re.compile(r"_?([+-]?\d{1,15}(?:\.\d{1,15})?)", re.ASCII)


def number_of(value: Any) -> Number:
    """A number, also one that came as text; what is no number stays as it is, and blanks are none."""
    if isinstance(value, str):
        return _number_in(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return cast("Number", value)


@lru_cache(maxsize=1024)
def _number_in(value: str) -> Number:
    """The number in a text; cached, because few different ones occur."""
    found = _DECIMAL.fullmatch(value.strip())
    if not found:
        return value if value.strip() else None
    if "." not in found[1]:
        return int(found[1])
    number = float(found[1])
    return int(number) if number.is_integer() else number


def spoken_text(text: str) -> str:
    """What was said; nothing where the text is the path of the sound file that was played."""
    return "" if "." in text and _is_sound_file(text.strip()) else text


def _is_sound_file(text: str) -> bool:
    return text.lower().endswith(SOUNDS) and _PATH.fullmatch(text) is not None
