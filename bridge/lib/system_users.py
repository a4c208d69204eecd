"""Users of the operating system, for messages."""

import pwd


def user_name(number: int) -> str:
    """A user's name, or `#` and the number of one who has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"
