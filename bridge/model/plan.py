"""A plan: what a CRM should hold for one call, before it is asked or sent anything."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from bridge.lib.expression import as_text
from bridge.model.write_policy import WritePolicy

OnDeleted = Literal["park", "recreate"]


class PlannedField(msgspec.Struct, frozen=True):
    """One field's value, as JSON carries it, and when it is written; None clears the field."""

    value: Any
    write: WritePolicy = WritePolicy.ALWAYS
    separator: str = "\n"
    """What `append` puts between the CRM's text and the value."""
    default: Any = None
    """Of `while_default`: the mapping's own default."""


class PlannedObject(msgspec.Struct, frozen=True):
    """One object that the CRM should hold for a call; `links` are link name → object name."""

    name: str
    type: str
    key: Mapping[str, Any]
    fields: Mapping[str, PlannedField]
    links: Mapping[str, str] = {}
    absent: Mapping[str, str] = {}
    """Fields that are left out, each with the reason."""
    on_deleted: OnDeleted = "park"
    shared: bool = True
    """Whether other calls feed it too: its key does not use `call.key`."""
    by_source: bool = False
    """Whether its key uses `call.source`, so that two sources never mean the same object."""

    @property
    def key_text(self) -> str:
        """The rendered key, as the ledger keeps it: the same however a mapping orders its parts."""
        if len(self.key) == 1:
            return as_text(next(iter(self.key.values())))
        parts = [as_text(part) for _, part in sorted(self.key.items())]
        return " ".join(part.replace("\\", r"\\").replace(" ", r"\ ") for part in parts)


class Plan(msgspec.Struct, frozen=True):
    """What a call becomes, in the order in which it is sent."""

    objects: tuple[PlannedObject, ...]
    left_out: Mapping[str, str] = {}
    """Objects that are left out, each with the reason."""
    shadow: bool = False
    """Planned and recorded, never sent."""


class Skip(msgspec.Struct, frozen=True):
    """A named rule keeps the call out of the CRM."""

    rule: str
