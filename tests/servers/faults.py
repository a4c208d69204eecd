"""What a vendor's server shall do wrong, to which of the next requests or records."""

from dataclasses import dataclass
from typing import Any

BEFORE = frozenset({"cut", "expire"})
"""Faults that strike before the token is looked at."""


@dataclass(slots=True)
class Fault:
    """One thing to do wrong with the next `times` requests of a kind, once `after` of them went well."""

    what: str
    times: int
    on: str
    after: int = 0
    wait: float = 0.0
    status: int = 0

    def concerns(self, kind: str) -> bool:
        """Whether it may strike a request of this kind: `api` is everything but token requests."""
        return self.on in {kind, "any"} or (self.on == "api" and kind != "token")


class Faults:
    """The faults still to come, in the order they were asked for."""

    def __init__(self) -> None:
        self._coming: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Queue one more."""
        self._coming.append(fault)

    def clear(self) -> None:
        """Forget them all."""
        self._coming.clear()

    def take(self, kind: str, *, before: bool) -> Fault | None:
        """Use up the first one that strikes this request at this stage; the others count it as gone well."""
        struck: Fault | None = None
        for fault in self._coming:
            if not fault.concerns(kind) or (fault.what in BEFORE) is not before:
                continue
            if fault.after:
                fault.after -= 1
            elif struck is None:
                fault.times -= 1
                struck = fault
        self._coming = [fault for fault in self._coming if fault.times > 0]
        return struck


class Refusals:
    """Which records a server refuses to write for good: the next ones, or those with a value."""

    def __init__(self) -> None:
        self._next: list[tuple[str | None, int]] = []
        self._values: list[tuple[str, Any]] = []

    def add(self, times: int, field: str | None, after: int) -> None:
        """Refuse `times` records, once `after` more were written."""
        self._next.extend([("", 1)] * after + [(field, 0)] * times)

    def add_value(self, field: str, value: Any) -> None:
        """Refuse every record that carries this value."""
        self._values.append((field, value))

    def clear(self) -> None:
        """Refuse nothing any more."""
        self._next.clear()
        self._values.clear()

    def take(self, fields: dict[str, Any]) -> str | None:
        """The field this record is refused for, or None."""
        for name, value in self._values:
            if name in fields and fields[name] == value:
                return name
        if not self._next:
            return None
        field, passes = self._next.pop(0)
        if passes:
            return None
        return field or next(iter(fields), "")
