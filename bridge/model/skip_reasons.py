"""Why a call is skipped for a destination, where no rule of the mapping says so.

A skip is stored with the name of the rule that made it, and a replay compares that name with what the mapping
says now. These stand beside the operator's own rules: they are names, and stay as they are in every language.
"""

BEFORE_DESTINATION = "before this destination"
BEFORE_START = "before start_at"
SHADOW = "shadow: nothing is sent"
NOT_IN_TRIAL = "not in the trial"
NO_OBJECT = "no object: the call has no key for any"


def without_key(object_name: str, part: str) -> str:
    """The reason of a call that has no value for a part of an object's key."""
    return f"{object_name} without {part}"


def of_another_source(source: str) -> str:
    """The reason of a call that a source has already sent to the same CRM account under this key."""
    return f"belongs to source {source}"
