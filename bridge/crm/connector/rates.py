"""Reads rates such as `100/10s`, and numbers in a CRM's answers."""

import re
from math import isfinite
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_RATE = 366 * 86400.0
"""Seconds: a rate over more than a year is a mistake, and such a wait would leave the calendar."""
_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(ms|[smhd])", re.ASCII)


def parse_rate(text: str) -> tuple[int, float]:
    """`"100/10s"` as count and seconds: (100, 10.0); `"5/s"` means `"5/1s"`.

    Raises:
        ValueError: the text is no rate.
    """
    match = _RATE.fullmatch(text)
    if match is None or not int(match[1]) or not int(match[2] or 1):
        raise ValueError(f"{text!r} is no rate")
    seconds = float(match[2] or 1) * _UNITS[match[3]]
    if seconds > _LONGEST_RATE:
        raise ValueError(f"{text!r} is no rate: it is of more than a year")
    return int(match[1]), seconds


def bounded_number(value: Any, most: float) -> float | None:
    """A number of an answer, put between 0 and `most`; None where the value is no number.

    JSON has integers beyond every float, and a header may say `nan`: nobody can wait for either.
    """
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return min(max(0.0, number), most) if isfinite(number) else None
