"""Rates as a connector writes them, and numbers as a CRM tells them."""

import re
from math import isfinite
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(ms|[smhd])", re.ASCII)


def parse_rate(text: str) -> tuple[int, float]:
    """`"100/10s"` as a count and seconds; `"5/s"` is `"5/1s"`."""
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]) or not int(found[2] or 1):
        raise ValueError(f"{text!r} is no rate")
    return int(found[1]), float(found[2] or 1) * _UNITS[found[3]]


def told_number(value: Any, most: float) -> float | None:
    """A number that a CRM told, put between 0 and `most`; None where it told none.

    JSON has integers beyond every float, and a header may say `nan`: neither can be waited for.
    """
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return min(max(0.0, number), most) if isfinite(number) else None
