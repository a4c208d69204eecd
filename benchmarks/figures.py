"""Figures of several runs: the median is judged, and the spread told."""

import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """What a figure must reach, or stay within."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def kept(self, value: float) -> bool:
        """Whether a value keeps to it."""
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)

    def shown(self) -> str:
        """For people."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


class Figures:
    """Values by name, one of each run."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def note(self, figure: str, value: float) -> float:
        """Keep one run's value, and return it."""
        self._values.setdefault(figure, []).append(value)
        return value

    def median(self, figure: str) -> float:
        """Of all runs so far."""
        return statistics.median(self._values[figure])

    def print(self, budgets: Iterable[Budget]) -> bool:
        """Print every figure with its spread; whether all budgets are kept.

        A figure with a budget that no run has noted is missed.
        """
        asked, kept = {budget.figure: budget for budget in budgets}, True
        runs = max(map(len, self._values.values()), default=0)
        print(f"\nmedian of {runs} (from least to most):")
        for figure, values in self._values.items():
            value = statistics.median(values)
            line = f"  {figure}: {digits(value)} ({digits(min(values))} to {digits(max(values))})"
            if budget := asked.pop(figure, None):
                good = budget.kept(value)
                kept = kept and good
                line += f", {budget.shown()}: {'kept' if good else 'MISSED'}"
            print(line)
        for figure, budget in asked.items():
            kept = False
            print(f"  {figure}: not measured, {budget.shown()}: MISSED")
        print("budgets kept" if kept else "a budget is MISSED", flush=True)
        return kept


def digits(value: float) -> str:
    """A number with three digits that count, and none behind the point from 100 on."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def load_now() -> str:
    """How busy the machine is; a run that has just ended leaves a load of the cores and a little more."""
    load = os.getloadavg()[0]
    busy = load > (os.cpu_count() or 1) + 1
    return f"load {load:.1f}" + ": others are busy here, so that rates and their shares mean little" * busy
