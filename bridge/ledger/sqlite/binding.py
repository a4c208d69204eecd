"""Values for statements that name their parameters by number because they use one of them twice."""


def numbered(*values: object) -> dict[str, object]:
    """The values of `:1`, `:2` and so on.

    A question mark with a number is a name to Python 3.12.0 to 3.12.3, which warn where values have none.
    """
    return {str(number): value for number, value in enumerate(values, 1)}
