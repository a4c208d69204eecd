"""The names of a call in the platform's record."""

from typing import Any, ClassVar

import msgspec

from bridge.record.head import Head
from bridge.record.identity import NIL_UUID, UUID, IdentityConflict, is_uuid, name_in


def call_names_of(uuid: Any, base_info: Any) -> tuple[str, ...]:
    """The call's names, lower case, the first one first; empty where the record has none.

    A name is the record's `uuid`, the UUID that `base_info` starts with, or `base_info`
    whole when it starts with none.

    Raises:
        IdentityConflict: `uuid` and a `base_info` that starts with another UUID.
    """
    own = name_in(uuid)
    unique = name_in(base_info)
    if found := UUID.match(unique):
        carried = found.group() if found.group() != NIL_UUID else ""
        if is_uuid(own) and carried and own != carried:
            raise IdentityConflict(f"uuid is {own}, base_info starts with {carried}")
        unique = carried
    # U+FFFD: a character could not be decoded, so the name is not known.
    return tuple(dict.fromkeys(name for name in (own, unique) if name and "\ufffd" not in name))


class OutcallHead(Head):
    """The fields of the platform's record that filing reads."""

    NAMES: ClassVar[tuple[str, ...]] = ("uuid", "base_info")

    uuid: Any = None
    base_info: Any = None
    user: Any = msgspec.field(default=None, name="user_sn")
    phone: Any = msgspec.UNSET

    def names(self) -> tuple[str, ...]:
        return call_names_of(self.uuid, self.base_info)

    def holds_name(self) -> bool:
        return bool(self.uuid or self.base_info)

    def is_no_envelope(self) -> bool:
        # An envelope may have a `uuid` of its own, but no phone.
        return self.phone is not msgspec.UNSET
