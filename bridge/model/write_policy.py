"""The words of the write policies. To add one: a member here, and a class in `field_policies`."""

from enum import StrEnum


class WritePolicy(StrEnum):
    """When a field is written."""

    ALWAYS = "always"
    """Whenever it differs from what was sent; of several calls the newest wins."""
    CREATE = "create"
    """Only with a new object."""
    IF_EMPTY = "if_empty"
    """Only while the CRM holds nothing there."""
    UNLESS_EDITED = "unless_edited"
    """Only while the CRM still holds what was last sent."""
    APPEND = "append"
    """Behind what the CRM holds, each call once."""
    GREATEST = "greatest"
    """Only where it is greater than what the CRM holds."""
    WHILE_DEFAULT = "while_default"
    """Only while the CRM holds nothing there, or still the mapping's own default."""
