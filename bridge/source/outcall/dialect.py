"""How the outbound-call platform writes its records."""

from bridge.record.dialect import AttributeFields, Dialect
from bridge.source.outcall.dialogue import OutcallDialogue
from bridge.source.outcall.fields import (
    BOOKKEEPING,
    COMPUTED_ATTRIBUTES,
    DIRECT_ATTRIBUTES,
    ENVELOPE,
    FIELD_KINDS,
)
from bridge.source.outcall.names import OutcallHead

OUTCALL_DIALECT = Dialect(
    kinds=FIELD_KINDS,
    bookkeeping=BOOKKEEPING,
    attributes=AttributeFields(DIRECT_ATTRIBUTES, COMPUTED_ATTRIBUTES),
    head=OutcallHead,
    dialogue=OutcallDialogue(),
    envelope=ENVELOPE,
)
