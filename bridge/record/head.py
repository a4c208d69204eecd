"""The few fields of a record that say which call it belongs to: all that filing reads."""

from typing import Any, ClassVar

import msgspec

from bridge.record.identity import IdentityConflict


class Head(msgspec.Struct):
    """The fields of a record that filing reads, as they are written; reading all takes three times as long.

    A platform's own struct inherits this one: it adds the fields that name a call, and gives the others
    the names that the platform has for them.
    """

    NAMES: ClassVar[tuple[str, ...]] = ()
    """The platform's fields that name a call."""

    sn: Any = None
    started_at: Any = None
    created_at: Any = None
    updated_at: Any = None
    user: Any = None
    """The user who owns the record, as the list names users."""

    def names(self) -> tuple[str, ...]:
        """The call's names, in lower case, the first one first; empty where the record has none.

        Raises:
            IdentityConflict: they are the names of two calls.
        """
        raise NotImplementedError

    def holds_name(self) -> bool:
        """Whether a field that names a call is filled, readable or not."""
        raise NotImplementedError

    def is_no_envelope(self) -> bool:
        """Whether it has a field that nearly all records have, and no envelope around a record has."""
        return True

    def is_identified(self) -> bool:
        """Whether the record says which call it belongs to: by a name, or by `sn` and a time."""
        try:
            if self.names():
                return True
        except IdentityConflict:
            return True
        return bool(self.sn) and bool(self.started_at or self.created_at)
