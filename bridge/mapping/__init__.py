"""Mapping files: they say which calls go to a CRM, as which objects, with which fields.

Owns the keys of mapping files, their filters, their own test cases, and the plan that a call becomes.
May import `record`, `model` and `lib`; it knows no CRM and asks nobody.
Begin at `compiler.py`: `CompiledMapping.plan()`, then `schema.py` for the keys and `filters.py` for the
filters.
"""

from bridge.mapping.cases import CaseResult, Difference, planned_cases, run_tests
from bridge.mapping.compiler import LANGUAGE, CompiledMapping, load_mapping
from bridge.mapping.schema import MappingFile
from bridge.mapping.survey import Survey
from bridge.mapping.values import MappingFault, json_value

__all__ = [
    "LANGUAGE",
    "CaseResult",
    "CompiledMapping",
    "Difference",
    "MappingFault",
    "MappingFile",
    "Survey",
    "json_value",
    "load_mapping",
    "planned_cases",
    "run_tests",
]
