"""The median of all runs is judged by its budget."""

import pytest

from benchmarks.figures import Budget, Figures


@pytest.mark.parametrize(
    ("values", "budget", "kept"),
    [
        ((0.4, 0.5, 0.9), Budget("share", at_least=0.5), True),
        ((0.4, 0.49, 0.9), Budget("share", at_least=0.5), False),
        ((0.1, 0.28, 0.9), Budget("share", at_most=0.28), True),
        ((0.1, 0.29, 0.9), Budget("share", at_most=0.28), False),
        ((0.0,), Budget("share", at_most=0), True),
        ((1.0,), Budget("share", at_most=0), False),
        ((1.0,), Budget("another", at_least=0.0), False),
    ],
)
def test_a_budget_is_kept_by_the_median(values: tuple[float, ...], budget: Budget, kept: bool) -> None:
    figures = Figures()
    for value in values:
        figures.note("share", value)

    assert figures.print([budget]) is kept


def test_the_spread_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures()
    for value in (0.31, 0.123456, 2200.4):
        figures.note("share", value)
    figures.print([])

    assert "share: 0.31 (0.123 to 2200)" in capsys.readouterr().out
