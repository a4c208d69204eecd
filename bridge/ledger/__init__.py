"""The ledger: what callbridge knows and owes. One interface, one contract suite.

Every method that writes is one durable commit: when it returns, a power cut loses
nothing of it. All raise `LedgerBusy` where the ledger cannot commit now; then nothing
of the call has happened.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bridge.ledger.listing import ListLedger
from bridge.model.calls import Arrival, Filed, Judgment, Lease, Pending, Settlement
from bridge.model.crm_state import Done, Progress, Remembered
from bridge.model.key_claims import Claim
from bridge.model.plan import PlannedObject

if TYPE_CHECKING:
    from bridge.ledger.sqlite.connection import OwnerLock

Row = dict[str, Any]
Held = tuple[str, str, str]
"""A line: account, type and key of a CRM object."""
Wanted = tuple[int, str, Sequence[PlannedObject]]
"""A delivery's id, its call's key, and what it plans."""
Settled = tuple[Lease, Settlement, datetime]
"""A lease, how it ended, and when it was started."""
Destinations = Mapping[str, Sequence[str]]
"""Which destinations a source's calls go to: source → destination names."""


@dataclass(frozen=True, slots=True)
class Window:
    """Calls by their `created_at`: `since` inclusive, `until` exclusive, None open."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """How far a leased delivery is, and the lines that it holds."""

    lease: Lease
    account: str
    progress: Mapping[str, Progress]
    lines: Sequence[Held]
    objects: Sequence[Done] = ()
    """What is known of objects that were settled, or to which something is sent now."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a delivery last told one object."""

    type: str
    key: str
    crm_id: str
    digest: bytes
    """Empty: nobody knows."""


@dataclass(frozen=True, slots=True)
class Swept:
    """One call as a walk through the ledger finds it, with its delivery to a destination, if there is one."""

    call_id: int
    key: str
    source: str
    delivery_id: int | None
    state: str | None
    reason: str
    held: bool
    """Whether a person holds it back."""
    gone: bool
    """Whether it is parked because what it wrote is no longer in the CRM."""
    values: Mapping[str, Any] | None
    """The call's known state; None where it cannot be read."""
    told: Mapping[str, Told]
    place: tuple[int, int]
    """Where the walk goes on behind it."""


class Ledger(ListLedger, Protocol):
    """What every ledger promises."""

    # -- taking in ---------------------------------------------------------------
    def submit(self, arrivals: Sequence[Arrival]) -> Future[list[Filed]]:
        """File arrivals in one commit; the future ends after it. Order is kept."""

    def record(self, arrivals: Sequence[Arrival]) -> list[Filed]:
        """`submit`, waited for."""

    def waiting(self, limit: int, sources: Sequence[str] | None = None) -> list[Pending]:
        """The oldest receipts without a verdict (of these sources), each with its call's known state."""

    def judge(self, judgments: Sequence[Judgment], destinations: Destinations, now: datetime) -> None:
        """Write verdicts; news makes the call's deliveries due."""

    def set_aside(self, pending: Pending, reason: str, destinations: Destinations, now: datetime) -> None:
        """A receipt whose record cannot be judged: kept, and its deliveries parked with the reason."""

    # -- delivering --------------------------------------------------------------
    def start_destinations(self, destinations: Destinations, now: datetime) -> None:
        """Register destinations; calls older than a later one are skipped for it."""

    def skipped_before(self) -> dict[str, datetime]:
        """For destinations added to a ledger that had calls: their first start."""

    def release_leases(self, now: datetime | None = None) -> int:
        """Make the leases of a dead daemon due again. Only for the ledger's one owner.

        With `now`, what they had on the wire counts as sent now: it may arrive though its sender is dead.
        So does all that is in doubt: nobody knows what the clock told when it was sent.
        """

    def lease(self, destinations: Sequence[str], sources: Sequence[str], now: datetime) -> Lease | None:
        """Take the first of these that is due: by lane, then by the call's own time."""

    def lease_more(self, destination: str, sources: Sequence[str], now: datetime, limit: int) -> list[Lease]:
        """Take up to `limit` more of one destination, in the same order."""

    def settle_all(self, settled: Sequence[Settled], now: datetime) -> None:
        """`settle` for many in one commit, each with the time it was started."""

    def settle_soon(self, settled: Sequence[Settled], now: datetime) -> Future[None]:
        """`settle_all`; the future ends after the commit, which a lease that is asked for next shares."""

    def settle(self, lease: Lease, settlement: Settlement, started_at: datetime, now: datetime) -> None:
        """End an attempt. A revision that came meanwhile makes the delivery due again."""

    def give_back(self, lease: Lease, due_at: datetime) -> bool:
        """End a lease with which nothing was done, as if it had not been taken; whether it is due again."""

    def key_claims(self, call_ids: Sequence[int], destinations: Sequence[str]) -> dict[int, list[Claim]]:
        """Calls of other sources that have a call's key as a name and came to the same CRM account before it.

        `destinations` are those of the account; the earliest comes first, calls without any are left out.
        """

    def recall(self, lease: Lease, account: str, planned: Sequence[PlannedObject]) -> dict[str, Remembered]:
        """The objects of a plan as they were last left, by the mapping's names."""

    def recall_all(self, account: str, wanted: Sequence[Wanted]) -> list[dict[str, Remembered]]:
        """`recall` for many deliveries of an account at once."""

    def note(self, notes: Sequence[Note]) -> None:
        """How far deliveries are, before they send what must not be sent twice; one commit."""

    def in_doubt(self) -> dict[int, list[Held]]:
        """Deliveries with a request of which nothing is known, each with the lines it holds."""

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """What was saved of a CRM account's token."""

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Keep a CRM account's token."""

    # -- putting deliveries right ---------------------------------------------------
    def retriable(self, ids: Sequence[int] = (), cause: str = "", destination: str = "") -> list[Row]:
        """What `retry` would make due: groups of `destination`, `state`, `cause` with their `count`."""

    def retry(self, ids: Sequence[int], now: datetime, *, cause: str = "", destination: str = "") -> int:
        """Make deliveries due now; how many.

        By ids those that are parked, wait, or are held by a person; by a cause (its words, or
        some of them) those that failed so, parked or waiting; else all that are parked.
        Who names one that is parked in doubt, by its id or its whole cause, says that what was
        sent did not arrive; else these stay.
        """

    def hold(self, ids: Sequence[int], reason: str, now: datetime, *, skip: bool) -> dict[str, list[int]]:
        """A person parks what is due, or skips: which are so `now`, and which `later`, once they are settled.

        What is in doubt is so later too: it holds its lines until its request can be seen, or never came.
        A revision makes what was parked due again; what was skipped stays so until `retry`.
        """

    def sweep(
        self, destination: str, source: str, window: Window, after: tuple[int, int] | None, limit: int
    ) -> list[Swept]:
        """The next calls of a source by creation, behind a `place`; fewer than `limit`: the last ones."""

    def replay(self, ids: Sequence[int], account: str, now: datetime, *, forget: bool) -> int:
        """Make delivered and skipped deliveries due in the last lane, unless a person skipped them.

        `forget`: as if nothing had been sent for them, except for who wrote which field last.
        """

    def save_budget(self, account: str, saved: Mapping[str, Any], now: datetime) -> None:
        """Keep what a CRM account allows, as it was learned, and its breaker."""

    def load_budgets(self) -> dict[str, Row]:
        """What was kept of every CRM account; `at` is when."""

    def demote(self, destinations: Sequence[str], before: datetime) -> int:
        """What has been owed since before then leaves the live lane; how many."""

    # -- work that an operator asks for -----------------------------------------
    def request_run(self, kind: str, args: Mapping[str, Any], now: datetime) -> int:
        """Add one row of work for the daemon; its id."""

    def take_run(self, now: datetime) -> Row | None:
        """The oldest requested run, now running; its `args` are None where they are no JSON."""

    def end_run(self, run_id: int, state: str, result: Mapping[str, Any], now: datetime) -> None:
        """Write what came of a run: `done` or `failed`."""

    def last_prune(self) -> datetime | None:
        """As of when was last removed what is old; of a prune before that was told, when it was asked for."""

    def last_run(self, kind: str) -> datetime | None:
        """When a run of this kind was last asked for."""

    def run(self, run_id: int) -> Row:
        """One run as it stands."""

    # -- quarantine ---------------------------------------------------------------
    def list_quarantine(self, state: str | None, limit: int) -> list[Row]:
        """What could not be filed: `waiting`, `released`, `dropped`; the newest first."""

    def show_quarantine(self, entry: int) -> Row | None:
        """One entry with its `body` (bytes)."""

    def refile(self, entry: int, arrivals: Sequence[Arrival]) -> bool:
        """File a quarantined body again; released where a call takes a record of it, else it waits on."""

    def drop(self, entries: Sequence[int]) -> int:
        """Take waiting entries as worth nothing; how many there were."""

    # -- upkeep -------------------------------------------------------------------
    def prune(self, name: str, before: datetime, pause: Callable[[float], bool]) -> int:
        """Remove the old rows of a class of data in small steps.

        `pause` is given each step's seconds and says whether to go on.
        """

    def backup(self, target: Path, go_on: Callable[[], bool]) -> Row:
        """A consistent copy while all goes on, opened and read through: `bytes` and `calls`.

        `go_on` is asked between the steps; once it says no, `LedgerBusy` is raised and nothing left.
        """

    def retrain(self, now: datetime) -> bool:
        """Make a new dictionary of the ledger's own records, where it has grown enough."""

    def space(self) -> Row:
        """`ledger_bytes`, `wal_bytes`, `free_bytes`, and `floor_bytes`, below which nothing is taken."""

    # -- looking -----------------------------------------------------------------
    def counts(self) -> Row:
        """Receipts, calls, deliveries, quarantine by state; failures by cause; what is owed, and its pace.

        Under `lists`, by source: `covered_until`, the `last` reconciliation, and `gaps`, the calls of the
        last day covered that only the list has told of.
        """

    def balance(self, destination: str, sources: Sequence[str], window: Window) -> dict[str, int]:
        """`ledger = delivered + skipped + parked + under_way`, of one moment."""

    def source_counts(self, source: str, window: Window) -> dict[str, int]:
        """Of one source: `ledger`, `quarantined`, `erased`."""

    def losses(self) -> list[Row]:
        """What had been acknowledged and is not here: `since_at`, `until_at`, how many `receipts` and more.

        Under `open`: the sources whose list has not been walked beyond `until_at` since.
        """

    def keys(self, source: str) -> list[str]:
        """All call keys of a source."""

    def first_call_at(self, source: str | None = None) -> datetime | None:
        """When the first call of the ledger was created."""

    def list_calls(self, words: Sequence[str], limit: int) -> list[Row]:
        """Calls whose name, phone or sn is one of `words` (all without any), newest first."""

    def show_call(self, call_id: int) -> Row:
        """One call's whole history: receipts, deliveries, attempts, CRM ids, state."""

    def list_deliveries(
        self, state: str | None, destination: str | None, limit: int, cause: str = ""
    ) -> list[Row]:
        """Deliveries with their calls, those changed last first; of a cause, or those that hold its words."""

    def pragmas(self) -> Row:
        """The durability settings of the connection that writes."""

    def writable(self) -> bool:
        """Whether a commit would succeed now."""

    def close(self) -> None:
        """Finish what was submitted, then close."""


def open_ledger(
    path: Path,
    *,
    create: bool = False,
    read_only: bool = False,
    min_free: int = 0,
    owner: "OwnerLock | None" = None,
) -> Ledger:
    """Open the SQLite ledger at `path`; with less than `min_free` bytes on its disk it takes nothing in.

    `owner` is the lock of a daemon, which is told what the ledger has lost since its last one.

    Raises:
        LedgerUnusable: missing (and not `create`), newer than this program, another user's.
    """
    from bridge.ledger.sqlite import SqliteLedger  # noqa: PLC0415 -- loads sqlite-utils: 80 ms

    return SqliteLedger(path, create=create, read_only=read_only, min_free=min_free, owner=owner)
