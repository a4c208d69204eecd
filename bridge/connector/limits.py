"""Rates as a connector writes them."""

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(ms|[smhd])", re.ASCII)


def parse_rate(text: str) -> tuple[int, float]:
    """`"100/10s"` as a count and seconds; `"5/s"` is `"5/1s"`."""
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]) or not int(found[2] or 1):
        raise ValueError(f"{text!r} is no rate")
    return int(found[1]), float(found[2] or 1) * _UNITS[found[3]]
