"""Rates as a connector writes them, and numbers as a CRM tells them."""

import re
from math import isfinite
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_RATE = 366 * 86400.0
"""No account's limit is of more than a year; what waits longer leaves the calendar."""
_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(ms|[smhd])", re.ASCII)


def parse_rate(text: str) -> tuple[int, float]:
    """`"100/10s"` as a count and seconds; `"5/s"` is `"5/1s"`."""
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]) or not int(found[2] or 1):
        raise ValueError(f"{text!r} is no rate")
    seconds = float(found[2] or 1) * _UNITS[found[3]]
    if seconds > _LONGEST_RATE:
        raise ValueError(f"{text!r} is no rate: it is of more than a year")
    return int(found[1]), seconds


def bounded_number(value: Any, most: float) -> float | None:
    """A number that a CRM told, put between 0 and `most`; None where it told none.

    JSON has integers beyond every float, and a header may say `nan`: neither can be waited for.
    """
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return min(max(0.0, number), most) if isfinite(number) else None
