"""Structures as JSON documents."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from bridge.lib.iso_times import stamp

Document = dict[str, Any]
"""A JSON object."""


def document_of(value: Any) -> Any:
    """A structure, or any nesting of them, as JSON has it: fields as keys, times as text."""
    if is_dataclass(value):
        return {each.name: document_of(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, Mapping):
        return {key: document_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [document_of(each) for each in value]
    return value
