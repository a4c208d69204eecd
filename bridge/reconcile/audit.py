"""The audit of one source: compares its whole list with the ledger, and explains each difference."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from bridge.ledger import InspectionLedger, JobQueue, ReconciliationLedger
from bridge.lib.documents import document_of
from bridge.lib.iso_times import moment, stamp
from bridge.model.calls import Arrival
from bridge.model.jobs import Job
from bridge.model.listing import RowMatch, WindowStanding
from bridge.reconcile.balance import SOURCE_HEADINGS, Balance
from bridge.reconcile.counts import SHORT_LISTS_FROM, is_suspiciously_short
from bridge.reconcile.diff import ListedRow, explain, explaining_fields, read_row, stray_key, user_of
from bridge.reconcile.paging import ListWalker, RowIdentity
from bridge.reconcile.window import ListWindow, WalkResult
from bridge.record.arrival import read_head
from bridge.record.dialect import Dialect
from bridge.record.identity import IdentityConflict
from bridge.record.json_body import NotAnObject
from bridge.record.origin import Origin
from bridge.source import Source

log = structlog.get_logger("bridge.audit")

MOST_IDS = 100_000
"""So many ids of a heading are shown with what explains them; all are counted."""
MOST_REASONS = 1000
"""So many reasons why the list could not be read are shown; a list that is broken gives one for each page."""
WARNED_SHARE = 0.05
"""With a greater share of calls that the list does not show, the balance is told with a warning."""
EXPLAINED_AT_ONCE = 500
"""Calls whose records are read together: 500 decoded records take about 30 MB."""
# Why a call is on one side only, or not counted yet; shown to the operator.
CAME = "it came while the list was walked"
WAITS = "it waits in quarantine: callbridge quarantine list"
DROPPED = "a person dropped it from quarantine"
LACKING = "it never came here: callbridge reconcile files it"


@dataclass(frozen=True, slots=True)
class AuditRules:
    """How the calls of one source are audited."""

    origin: Origin
    settle: timedelta
    lookback: timedelta
    start_at: datetime | None
    page_size: int
    destinations: tuple[str, ...]

    @property
    def source(self) -> str:
        """The source's name in the configuration."""
        return self.origin.source


def audited_window(
    rules: AuditRules, args: Mapping[str, Any], first: datetime | None, now: datetime
) -> ListWindow:
    """An audit's window: from the ledger's first call until now less `settle`, unless `args` name it."""
    # Without calls in the ledger it looks back as far as a first reconciliation would.
    start = first or rules.start_at or now - rules.lookback
    since = moment(args["since"]) if args.get("since") else start
    until = moment(args["until"]) if args.get("until") else now - rules.settle
    since, until = since.replace(microsecond=0), until.replace(microsecond=0)
    return ListWindow(since, max(since, until))


class AuditLedger(ReconciliationLedger, InspectionLedger, JobQueue, Protocol):
    """What an audit asks of a ledger."""


class SourceAudit:
    """One audit of one source: walks the whole list, and files nothing."""

    def __init__(
        self,
        rules: AuditRules,
        ledger: AuditLedger,
        job: Job,
        clock: Callable[[], datetime],
        go_on: Callable[[], None],
    ) -> None:
        self._rules = rules
        self._ledger = ledger
        self._job_id = job.id
        self._clock = clock
        self._go_on = go_on
        self._began_at = clock()
        self._window = audited_window(
            rules, job.args or {}, ledger.first_call_at(rules.source), self._began_at
        )
        self._known: set[int] = set()
        self._unknown: dict[str, Arrival] = {}
        """Rows of calls that the ledger does not have: without their records, which may be many."""
        self._users: set[str] = set()

    def carry_out(self, sources: Sequence[Source]) -> Balance:
        """Walk the whole window, then count both sides at once."""
        walked, reasons = WalkResult(), list[str]()
        for window, each in ListWalker(sources, self._rules.page_size, self).windows([self._window]):
            walked += each
            reasons += [each.reason] if each.reason else []
            self._ledger.note_progress(self._job_id, self._progress(window))
        rules, window = self._rules, self._window
        standing = self._ledger.window_standing(
            rules.source,
            (window.since, window.until),
            self._known,
            list(self._unknown.values()),
            rules.destinations,
        )
        if short := self._short(standing):
            reasons.append(short)
        found = self._counted(standing) | {
            "unlisted": walked.unlisted,
            "complete": not reasons,
            "reasons": reasons[:MOST_REASONS],
            "destinations": document_of(standing.destinations),
        }
        if warning := self._doubtful(standing):
            found["warnings"] = [warning]
        counts = {name: found[name] for name in SOURCE_HEADINGS}
        log.info("audit.ended", source=rules.source, id=self._job_id, complete=found["complete"], **counts)
        return found

    def _progress(self, window: ListWindow) -> dict[str, Any]:
        whole = self._window
        seen = len(self._known) + len(self._unknown)
        times = {"since": stamp(whole.since), "until": stamp(whole.until), "at": stamp(window.until)}
        return times | {"seen": seen, "missing": len(self._unknown)}

    # -- what the walk wants of us -----------------------------------------------------
    def before_page(self) -> None:
        """Called before each page is asked for; raises where the walk must end."""
        self._go_on()

    def take_rows(self, window: ListWindow, rows: Sequence[bytes]) -> Sequence[RowIdentity]:
        """Note which calls the rows of a page are of; an audit does not compare what they say."""
        now, rules = self._clock(), self._rules
        listed = [read_row(rules.origin, row, now) for row in rows]
        since, until = stamp(window.since), stamp(window.until)
        inside = [one for one in listed if _inside(one.arrival, since, until)]
        self._users.update(one.user for one in inside if one.user is not None)
        places = self._ledger.match_rows(rules.source, [one.arrival for one in inside])
        for one, place in zip(inside, places, strict=True):
            self._note(one, place)
        return [RowIdentity(one.key, one.arrival.created_at) for one in listed]

    def _note(self, listed: ListedRow, place: RowMatch) -> None:
        if place.call_id is not None:
            self._known.add(place.call_id)
            return
        arrival, key = listed.arrival, listed.key
        if place.trouble is not None:
            key = stray_key(arrival.payload, self._rules.origin.dialect, edited=False)
        self._unknown.setdefault(key, _without_record(arrival))

    # -- the end -------------------------------------------------------------------------
    def _counted(self, standing: WindowStanding) -> Balance:
        """Every listed call, and every call of the ledger, under its headings."""
        keys = list(self._unknown)
        left = [keys[place] for place in standing.unknown]
        kept = _kept(standing.quarantined, self._rules.origin.dialect)
        waiting = [key for key in left if kept.get(key) == "waiting"]
        lacking = [key for key in left if kept.get(key) != "waiting"]
        missed, users = self._explained(standing.unlisted)
        strangers = sorted(users - self._users)
        if strangers:
            log.warning("reconcile.users_unlisted", source=self._rules.source, users=", ".join(strangers))
        whole = self._window
        return {
            "since": stamp(whole.since),
            "until": stamp(whole.until),
            "platform": len(self._known) + len(standing.known - self._known) + len(left),
            "ledger": standing.ledger,
            "quarantined": len(waiting),
            "erased": 0,
            "platform_only": len(lacking),
            "ledger_only": len(standing.unlisted),
            "ids": {
                "platform_only": lacking[:MOST_IDS],
                "ledger_only": list(missed),
                "quarantined": waiting[:MOST_IDS],
            },
            "ledger_only_because": dict(_grouped(missed.values()).most_common()),
            "explanations": missed
            | dict.fromkeys(waiting[:MOST_IDS], WAITS)
            | {key: DROPPED if key in kept else LACKING for key in lacking[:MOST_IDS]},
            "users_unlisted": strangers,
        }

    def _explained(self, call_ids: Sequence[int]) -> tuple[dict[str, str], set[str]]:
        """Key → why the list does not show the call; and the users who own these calls."""
        origin = self._rules.origin
        found: dict[str, str] = {}
        users: set[str] = set()
        for start in range(0, min(len(call_ids), MOST_IDS), EXPLAINED_AT_ONCE):
            asked = call_ids[start : start + EXPLAINED_AT_ONCE]
            for call in self._ledger.unlisted(asked, explaining_fields(origin.dialect)):
                came = call.first_seen_at > self._began_at
                found[call.key] = CAME if came else explain(call, self._users, origin)
                if (user := user_of(call, origin)) is not None:
                    users.add(user)
        return found, users

    def _short(self, standing: WindowStanding) -> str:
        """Why the list proves nothing; empty where it may be believed."""
        ours = standing.listed + len(standing.unlisted)
        if not is_suspiciously_short(ours, standing.listed):
            return ""
        return f"the list shows {standing.listed} of the {ours} calls that the ledger has"

    def _doubtful(self, standing: WindowStanding) -> str:
        """The warning where the list lacks more than 5 % of what the ledger has; empty: it does not."""
        lacks, ours = len(standing.unlisted), standing.listed + len(standing.unlisted)
        if ours < SHORT_LISTS_FROM or lacks <= WARNED_SHARE * ours:
            return ""
        return f"the list shows {standing.listed} of the {ours} calls here ({standing.listed / ours:.0%})"


def _inside(arrival: Arrival, since: str, until: str) -> bool:
    return arrival.created_at is None or since <= arrival.created_at < until


def _grouped(explanations: Iterable[str]) -> Counter[str]:
    """How many calls each kind of explanation holds for."""
    return Counter(text.partition(":")[0].partition(",")[0] for text in explanations)


def _kept(strays: Sequence[tuple[str, bytes]], dialect: Dialect) -> dict[str, str]:
    """Key → state of each record in quarantine, under every key that a listed row of it may have."""
    kept: dict[str, str] = {}
    for state, body in strays:
        keys = {stray_key(body, dialect, edited=False)}
        with suppress(NotAnObject, IdentityConflict):
            keys.update(read_head(body, dialect).names())
        for key in keys:
            # One record of a call may have been dropped while another waits: then the call waits.
            kept[key] = state if kept.get(key) != "waiting" else "waiting"
    return kept


def _without_record(arrival: Arrival) -> Arrival:
    return Arrival(
        arrival.source,
        arrival.via,
        arrival.received_at,
        b"",
        arrival.names,
        arrival.trouble,
        sn=arrival.sn,
        started_at=arrival.started_at,
        created_at=arrival.created_at,
        local_time=arrival.local_time,
    )
