"""Counts over many calls what a mapping lacks: fields that no call fills, codes that no table translates."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bridge.lib.expression import as_text
from bridge.mapping.compiler import CompiledMapping
from bridge.mapping.fields import Failed
from bridge.model.plan import Plan
from bridge.record.call import Call

# A field with more than 20 unknown codes is no enumeration, and listing more helps nobody.
MOST_CODES = 20


class Survey:
    """Looks at one call after the other; its size does not grow with their number."""

    def __init__(self, mapping: CompiledMapping) -> None:
        """Count for this mapping."""
        self._mapping = mapping
        self._filled: Counter[tuple[str, str]] = Counter()
        self._planned: Counter[str] = Counter()
        self._lacking: dict[tuple[str, str], Counter[str]] = {}
        self._tabled = [
            (one.name, field) for one in mapping.objects for field in one.fields if field.table is not None
        ]

    def take(self, call: Call, plan: Plan | None) -> None:
        """Count one more call; `plan` is None where it cannot be mapped."""
        for planned in plan.objects if plan is not None else ():
            self._planned[planned.name] += 1
            for name, each in planned.fields.items():
                if each.value not in (None, "", []):
                    self._filled[planned.name, name] += 1
        there = {planned.name for planned in plan.objects} if plan is not None else None
        tabled = [(name, field) for name, field in self._tabled if there is None or name in there]
        if not tabled:
            return
        values = self._mapping.values(call)
        for name, field in tabled:
            content = field.source.read(values)
            if type(content) is Failed or content in (None, ""):
                continue
            for item in content if isinstance(content, list | tuple) else [content]:
                code = as_text(item)
                if field.table is not None and code not in field.table:
                    lacking = self._lacking.setdefault((name, field.name), Counter())
                    if code in lacking or len(lacking) < MOST_CODES:
                        lacking[code] += 1

    def document(self) -> Mapping[str, Any]:
        """The counts as JSON: `never_filled` fields, and `unknown_codes` by field, named `object.field`."""
        never = [
            f"{one.name}.{field.name}"
            for one in self._mapping.objects
            if self._planned[one.name]
            for field in one.fields
            if not self._filled[one.name, field.name]
        ]
        unknown = {f"{name}.{field}": dict(codes) for (name, field), codes in self._lacking.items()}
        return {"never_filled": never, "unknown_codes": unknown}
