"""Quarantine: where a body stands that no call took."""

from enum import StrEnum


class QuarantineState(StrEnum):
    """Where a quarantined body stands."""

    WAITING = "waiting"
    """A person has to decide."""
    RELEASED = "released"
    """A call has taken a record of it."""
    DROPPED = "dropped"
    """A person has said that it is worth nothing."""


def after_another_arrival(state: QuarantineState) -> QuarantineState:
    """The state of a body that came once more; what a person dropped stays dropped."""
    return state if state is QuarantineState.DROPPED else QuarantineState.WAITING
