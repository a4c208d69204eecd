"""A mapping file: which calls go to a CRM, as which objects, with which fields."""

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
