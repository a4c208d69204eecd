"""From a call's known state to the plan of one destination."""

from datetime import datetime

from bridge.model.call_order import event_text, event_time
from bridge.record.call import Call


def event_of(call: Call, first_seen_at: datetime) -> str:
    """A call's place among calls: its time, then its key."""
    return event_text(event_time(call.started_at, call.created_at, first_seen_at), call.key)
