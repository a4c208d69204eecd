"""Parameters of statements: by number, as lists, as JSON."""

from collections.abc import Iterable, Sequence

import msgspec


def numbered(*values: object) -> dict[str, object]:
    """The values of `:1`, `:2` and so on.

    A question mark with a number is a name to Python 3.12.0 to 3.12.3, which warn where values have none.
    """
    return {str(number): value for number, value in enumerate(values, 1)}


def marks(values: Sequence[object]) -> str:
    """`?, ?, ?` for an IN list."""
    return ", ".join("?" * len(values))


def rows_of(width: int, count: int) -> str:
    """`(?, ?), (?, ?)` for a list of rows."""
    return ", ".join([f"({', '.join('?' * width)})"] * count)


def json_list(values: Iterable[object]) -> str:
    """A list for `json_each`: one parameter, however long it is, so that the statement stays prepared."""
    return msgspec.json.encode(list(values)).decode()
