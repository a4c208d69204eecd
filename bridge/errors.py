"""Everything that can go wrong, as a tree whose leaves mean an action.

CallbridgeError                 a sentence for the operator; never a traceback
├── ConfigError                 what the operator wrote is wrong: all problems at once      exit 2
├── LedgerError
│   ├── LedgerBusy              cannot commit now: nothing may be acknowledged              exit 3
│   ├── LedgerLocked            another daemon owns it                                      exit 3
│   └── LedgerUnusable          missing, newer than this program, another user's            exit 3
└── DeliveryError               one attempt at a CRM failed
    ├── Transient               try again later, not before `retry_after`
    ├── Permanent               a person is needed: park
    └── InDoubt                 sent, and no answer proves that it was refused
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class CallbridgeError(Exception):
    """Base of all expected faults; `str()` is a sentence an operator can act on."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file the operator wrote."""

    file: str
    key: str
    message: str
    remedy: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{where}:{key} {self.message}{remedy}"


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`did you mean "x"?` for the nearest right name, or what there is to choose from."""
    known = sorted(set(options))
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known: {', '.join(known)}" if known else ""


class ConfigError(CallbridgeError):
    """Configuration, connector or mapping files with all their problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class LedgerError(CallbridgeError):
    """The ledger cannot do what was asked."""


class LedgerBusy(LedgerError):
    """The ledger cannot commit now (locked by another process, disk full, shutting down)."""


class LedgerLocked(LedgerError):
    """Another living daemon owns this ledger."""


class LedgerUnusable(LedgerError):
    """The ledger is missing, newer than this program, damaged or another user's."""


class DeliveryError(CallbridgeError):
    """One attempt at a CRM failed; `cause` groups like failures."""

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or message


class Transient(DeliveryError):
    """Worth another try; not before `retry_after` seconds where the CRM said so."""

    def __init__(self, message: str, *, cause: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, cause=cause)
        self.retry_after = retry_after


class Permanent(DeliveryError):
    """The same request will be refused again: a person is needed."""


class InDoubt(DeliveryError):
    """A request that is not idempotent was sent, and nothing proves that it was refused."""
