"""The order of calls that feed one CRM object: the newest call wins."""

from datetime import datetime

from bridge.model.call_order import event_text, event_time
from bridge.record.call import Call


def event_of(call: Call, first_seen_at: datetime) -> str:
    """The text by which calls are ordered: the call's time, then its key."""
    return event_text(event_time(call.started_at, call.created_at, first_seen_at), call.key)
