"""How the outbound-call platform writes its records."""

from bridge.record.dialect import CallFields, Dialect
from bridge.source.outcall.dialogue import OutcallDialogue
from bridge.source.outcall.fields import BOOKKEEPING, COLUMNS, COMPUTED, ENVELOPE, KINDS
from bridge.source.outcall.names import OutcallHead

OUTCALL_DIALECT = Dialect(
    kinds=KINDS,
    bookkeeping=BOOKKEEPING,
    call=CallFields(COLUMNS, COMPUTED),
    head=OutcallHead,
    dialogue=OutcallDialogue(),
    envelope=ENVELOPE,
)
