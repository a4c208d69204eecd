"""Whole numbers as programs spell them in JSON."""

import re

_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}(?:\.0*)?")


def parse_int(value: object) -> int | None:
    """A whole number, however it is spelt (`88`, `"88"`, `88.0`, true); None for anything else."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and _INTEGER.fullmatch(text := value.strip()):
        return int(text.partition(".")[0])
    return None
