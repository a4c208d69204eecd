"""Runs a mapping's own test cases, its `[[tests]]`: a record, and what must become of it.

Begin at `run_tests()`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.mapping.compiler import CompiledMapping
from bridge.mapping.schema import CaseSection
from bridge.mapping.values import MappingFault, json_value
from bridge.model.plan import Plan, PlannedObject, Skip
from bridge.record.call import Call
from bridge.record.dialect import Dialect
from bridge.record.identity import IdentityConflict
from bridge.record.json_body import NotAnObject, parse_object
from bridge.record.origin import Origin
from bridge.record.unwrap_body import read_record

ABSENT = {"absent": True}
CLEARED = {"null": True}
"""What a case writes for a field that is left out, and for one that is cleared: TOML has no null."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between what a case expects and what came out."""

    place: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of one case."""

    name: str
    line: int | None
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether everything came out as expected."""
        return not self.differences


def run_tests(mapping: CompiledMapping, origin: Origin) -> list[CaseResult]:
    """Run every case of a mapping; nothing is asked or sent."""
    results = []
    for number, case in enumerate(mapping.file.tests):
        outcome = _outcome(mapping, case, origin)
        differences = tuple(_differences(case, outcome))
        name = case.name or f"case {number + 1}"
        results.append(CaseResult(name, mapping.problem(("tests", number), "").line, differences))
    return results


def planned_cases(mapping: CompiledMapping, origin: Origin) -> Iterator[tuple[str, Plan]]:
    """The plans of all cases that become one, each with the case's name."""
    for number, case in enumerate(mapping.file.tests):
        outcome = _outcome(mapping, case, origin)
        if isinstance(outcome, Plan):
            yield case.name or f"case {number + 1}", outcome


class _NoRecord(Exception):
    """The record of a case cannot be read, or would go to quarantine."""


def _outcome(
    mapping: CompiledMapping, case: CaseSection, origin: Origin
) -> Plan | Skip | MappingFault | _NoRecord:
    try:
        record = {**_record(mapping, case, origin.dialect), **case.fields}
        return mapping.plan(Call.of(record, _key(record, origin.dialect), origin))
    except (MappingFault, _NoRecord) as fault:
        return fault


def _record(mapping: CompiledMapping, case: CaseSection, dialect: Dialect) -> Mapping[str, Any]:
    if case.record is None:
        return {}
    path = mapping.path.parent / case.record
    try:
        record: Mapping[str, Any] = parse_object(read_record(path.read_bytes(), dialect))
    except OSError as error:
        raise _NoRecord(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except NotAnObject as error:
        raise _NoRecord(f"{path}: {error}") from error
    return record


def _key(record: Mapping[str, Any], dialect: Dialect) -> str:
    """The call key that the ledger would give a first record."""
    head = dialect.head_of(record)
    try:
        names = head.names()
    except IdentityConflict as conflict:
        raise _NoRecord(f"goes to quarantine: {conflict}") from conflict
    return names[0] if names else f"{head.sn}@{head.started_at or head.created_at}"


def _differences(case: CaseSection, outcome: Plan | Skip | MappingFault | _NoRecord) -> Iterator[Difference]:
    if isinstance(outcome, _NoRecord):
        yield Difference("record", "a record", str(outcome))
    elif case.expect_error is not None:
        if not isinstance(outcome, MappingFault) or case.expect_error not in str(outcome):
            yield Difference("expect_error", _as_json(case.expect_error), _outcome_text(outcome))
    elif case.expect_skip is not None:
        if outcome != Skip(case.expect_skip):
            yield Difference("expect_skip", _as_json(case.expect_skip), _outcome_text(outcome))
    elif isinstance(outcome, Plan):
        planned = {planned_object.name: planned_object for planned_object in outcome.objects}
        for name, expected in case.expect.items():
            yield from _object_differences(name, expected, planned.get(name), outcome.left_out)
    else:
        yield Difference("expect", "a plan", _outcome_text(outcome))


def _object_differences(
    name: str, expected: Any, actual: PlannedObject | None, left_out: Mapping[str, str]
) -> Iterator[Difference]:
    if expected is False:
        if actual is not None:
            yield Difference(name, "no such object", f"one with the key {actual.key_text}")
        return
    if actual is None:
        yield Difference(name, "an object", f"none: {left_out.get(name, 'it is not planned')}")
        return
    for field, value in expected.items():
        place = f"{name}.{field}"
        absent = field not in actual.fields and field not in actual.key
        if absent or value == ABSENT:
            if absent != (value == ABSENT):
                seen = _absence(actual, field) if absent else _as_json(_value(actual, field))
                yield Difference(place, "no value" if value == ABSENT else _as_json(value), seen)
            continue
        wanted = None if value == CLEARED else json_value(value)
        if not _same(wanted, _value(actual, field)):
            yield Difference(place, _as_json(wanted), _as_json(_value(actual, field)))


def _value(actual: PlannedObject, field: str) -> Any:
    return actual.fields[field].value if field in actual.fields else actual.key[field]


def _absence(actual: PlannedObject, field: str) -> str:
    return f"no value: {actual.absent.get(field, 'it is not planned')}"


def _same(expected: Any, actual: Any) -> bool:
    """Whether two values are equal, where true is not 1 and the text "1" is not the number 1."""
    return _as_json(expected) == _as_json(actual) or (
        expected == actual
        and not isinstance(expected, bool)
        and not isinstance(actual, bool)
        and isinstance(expected, int | float)
        and isinstance(actual, int | float)
    )


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _outcome_text(outcome: Plan | Skip | MappingFault) -> str:
    if isinstance(outcome, Skip):
        return f"skipped: {outcome.rule}"
    if isinstance(outcome, Plan):
        return f"a plan with {', '.join(planned_object.name for planned_object in outcome.objects)}"
    return f"parked: {outcome}"
