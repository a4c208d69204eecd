"""What many calls make of a mapping: fields that none of them fills, codes that its tables lack."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bridge.lib.expression import as_text
from bridge.mapping.compiler import CompiledMapping
from bridge.mapping.fields import Failed
from bridge.model.plan import Plan
from bridge.record.call import Call

# So many different codes of a field are told; a field with more is no enumeration.
MOST_CODES = 20


class Survey:
    """Sees one call after the other; small however many there are."""

    def __init__(self, mapping: CompiledMapping) -> None:
        self._mapping = mapping
        self._filled: Counter[tuple[str, str]] = Counter()
        self._planned: Counter[str] = Counter()
        self._lacking: dict[tuple[str, str], Counter[str]] = {}
        self._tabled = [
            (one.name, field) for one in mapping.objects for field in one.fields if field.table is not None
        ]

    def take(self, call: Call, plan: Plan | None) -> None:
        """One more call; without a plan where it cannot be mapped."""
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
            content = field.place.read(values)
            if type(content) is Failed or content in (None, ""):
                continue
            for item in content if isinstance(content, list | tuple) else [content]:
                code = as_text(item)
                if field.table is not None and code not in field.table:
                    lacking = self._lacking.setdefault((name, field.name), Counter())
                    if code in lacking or len(lacking) < MOST_CODES:
                        lacking[code] += 1

    def document(self) -> Mapping[str, Any]:
        """`never_filled` and `unknown_codes`, by `object.field`."""
        never = [
            f"{one.name}.{field.name}"
            for one in self._mapping.objects
            if self._planned[one.name]
            for field in one.fields
            if not self._filled[one.name, field.name]
        ]
        unknown = {f"{name}.{field}": dict(codes) for (name, field), codes in self._lacking.items()}
        return {"never_filled": never, "unknown_codes": unknown}
