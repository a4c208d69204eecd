"""Everything that can go wrong, as a tree whose leaves mean an action.

CallbridgeError                 a sentence for the operator; never a traceback
├── ConfigError                 what the operator wrote is wrong: all problems at once      exit 2
├── LedgerError
│   ├── LedgerBusy              cannot commit now: nothing may be acknowledged              exit 3
│   ├── LedgerLocked            another daemon owns it                                      exit 3
│   └── LedgerUnusable          missing, newer than this program, another user's            exit 3
├── SourceError                 a platform's list cannot be asked now                       exit 3
│   ├── SourceUnreachable       no answer, or only a gateway's: a later run tries again
│   └── SourceRefused           it answers and says no: a person is needed
└── DeliveryError               one attempt at a CRM failed
    ├── Transient               try again later, not before `retry_after`
    │   ├── Unsent              our own limits had no room: nothing was tried
    │   └── StillRunning        a job of the CRM still runs
    ├── Permanent               a person is needed: park
    │   ├── Gone                the CRM no longer has the object
    │   └── Deleted             it was there when we left it, and nothing else has its key
    ├── Duplicate               the CRM has the object already, and may have told its id
    └── InDoubt                 sent, and no answer proves that it was refused
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal


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
    follows: bool = False
    """It may only follow from a problem beneath its key, and is told where there is none."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{where}:{key} {self.message}{remedy}"


def nearest_name(name: str, options: Iterable[str]) -> str | None:
    """The right name that a misspelt one is nearest to; None where none is near."""
    near = get_close_matches(name, sorted(set(options)), n=1, cutoff=0.6)
    return near[0] if near else None


def suggest_nearest(name: str, options: Iterable[str]) -> str:
    """`did you mean "x"?` for the nearest right name; empty where none is near."""
    near = nearest_name(name, options)
    return "" if near is None else f'did you mean "{near}"?'


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`did you mean "x"?` for the nearest right name, or what there is to choose from."""
    known = sorted(set(options))
    return suggest_nearest(name, known) or (f"known: {', '.join(known)}" if known else "")


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


Blame = Literal["record", "limit", "quota", "account", "credentials"]


class SourceError(CallbridgeError):
    """A platform's list cannot be asked now."""


class SourceUnreachable(SourceError):
    """The platform does not answer, or only something before it does."""


class SourceRefused(SourceError):
    """The platform says no: login, rights or the address are wrong."""


class DeliveryError(CallbridgeError):
    """One attempt at a CRM failed.

    `cause` groups like failures. `blame` says whose fault it is: the record's; the limit of
    a class of requests; the day's quota; the account, which is out of reach or ill; or our
    credentials. All but the first concern every other delivery of the account too.
    """

    doubtful = False
    """Whether this try or an earlier one of the same request may have been processed."""

    status = 0
    """The HTTP status that was answered; 0: there was no answer."""

    together = 1
    """How many deliveries the request was for."""

    def __init__(self, message: str, *, cause: str = "", blame: Blame = "record") -> None:
        super().__init__(message)
        self.cause = cause or message
        self.blame: Blame = blame
        self.says = ""
        """What the connector says is to be done about it."""


class Transient(DeliveryError):
    """Worth another try; not before `retry_after` seconds where the CRM said so.

    `doubtful`: it may have been processed, which is harmless, for the request is idempotent.
    """

    def __init__(
        self,
        message: str,
        *,
        cause: str = "",
        retry_after: float | None = None,
        blame: Blame = "record",
        doubtful: bool = False,
    ) -> None:
        super().__init__(message, cause=cause, blame=blame)
        self.retry_after = retry_after
        self.doubtful = doubtful


class Unsent(Transient):
    """Nothing was sent: the account's limits, as we keep them, have no room before `retry_after` seconds."""


class StillRunning(Transient):
    """The CRM has taken a request as a job that still runs: no failure, and asked again in `retry_after`."""


class Permanent(DeliveryError):
    """The same request will be refused again: a person is needed."""


class Gone(Permanent):
    """The CRM no longer has the object that the request was about."""


class Deleted(Permanent):
    """An object that we left in the CRM is there no longer, and no other one has its key."""


class Duplicate(DeliveryError):
    """The CRM has the object already; `id` where its answer told."""

    def __init__(self, message: str, *, cause: str = "", crm_id: str | None = None) -> None:
        super().__init__(message, cause=cause)
        self.crm_id = crm_id


class InDoubt(DeliveryError):
    """A request that is not idempotent was sent, and nothing proves that it was refused."""
