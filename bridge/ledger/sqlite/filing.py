"""Files arrivals under their calls, or in quarantine; `bridge.record.call_match` decides which call it is.

A statement gives up the interpreter's lock, and must then win it back from the door's threads. One statement
for each row would cost more than the row itself, so a batch is written with one statement for each table, its
rows as JSON.
"""

import sqlite3
from collections.abc import Sequence
from hashlib import blake2b

import structlog
from msgspec.structs import replace

from bridge.ledger.sqlite.binding import json_list
from bridge.ledger.sqlite.call_finding import any_nameless, calls_by_sn_and_time, names_sought, uuid_of
from bridge.ledger.sqlite.delivery_rows import NewDelivery, add_deliveries
from bridge.ledger.sqlite.payloads import Payloads, insert_payloads
from bridge.ledger.sqlite.times import micros
from bridge.lib.iso_times import moment
from bridge.model.calls import LONGEST_GARBAGE, Arrival, Filed, NewCall, Quarantined, Verdict
from bridge.model.delivery_rules import News, lane_of, owed
from bridge.record.call_match import Joins, KnownCall, Opens, Refused, match_call

log = structlog.get_logger("bridge.ledger")

# Bodies that are no records are kept for a person to look at: this many, each cut to 64 KiB.
MOST_GARBAGE = 10_000
# Quarantined records of one source. Whoever has its token can send any number of them, and all sources
# share the disk: beyond these bounds they are refused and not acknowledged.
MOST_UNFILED = 100_000
MOST_UNFILED_BYTES = 1 << 30

_KNOWN = """
SELECT n.source, n.name, n.call_id, c.key, c.sn IS NULL OR c.started_at IS NULL OR c.created_at IS NULL
FROM json_each(?) j
JOIN call_names n ON n.source = json_extract(j.value, '$[0]') AND n.name = json_extract(j.value, '$[1]')
JOIN calls c ON c.id = n.call_id
"""
_CALL_COLUMNS = (
    *("id", "source", "key", "revision", "first_seen_at", "sn", "started_at", "created_at"),
    *("via", "updated_at", "phone", "name", "grade", "talk_seconds", "from_type", "task", "state_receipt"),
)
_RECEIPT_COLUMNS = ("id", "call_id", "via", "received_at", "verdict", "revision", "stamp", "flags")


def _insert(table: str, columns: Sequence[str]) -> str:
    """The statement that inserts rows which come as a JSON list of lists."""
    values = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(columns)))
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM json_each(?)"


_CALLS = _insert("calls", _CALL_COLUMNS)
_NAMES = _insert("call_names", ("source", "name", "call_id"))
_RECEIPTS = _insert("receipts", _RECEIPT_COLUMNS)


def file_arrivals(
    connection: sqlite3.Connection, payloads: Payloads, arrivals: Sequence[Arrival]
) -> list[Filed]:
    """File a batch in the order of arrival; a record that cannot be filed is quarantined alone."""
    connection.execute("SAVEPOINT batch")
    try:
        filed = _ArrivalBatch(connection, payloads, arrivals).file()
    except sqlite3.OperationalError:
        # The disk failed, not a record: nothing of the batch may be acknowledged.
        raise
    except Exception as error:
        connection.execute("ROLLBACK TO batch")
        if len(arrivals) > 1:
            filed = [one for arrival in arrivals for one in file_arrivals(connection, payloads, [arrival])]
        elif arrivals[0].new_call is not None:
            # What the door read of it cannot be kept: then the judge has to look.
            filed = file_arrivals(connection, payloads, [replace(arrivals[0], new_call=None)])
        else:
            log.exception("arrival.unreadable", source=arrivals[0].source)
            detail = f"it could not be filed: {error!r}"
            filed = [quarantine(connection, payloads, arrivals[0], Quarantined.UNREADABLE, detail)]
    connection.execute("RELEASE batch")
    return filed


class _ArrivalBatch:
    """Matches arrivals one by one, gathers their rows, and writes them table by table."""

    def __init__(
        self, connection: sqlite3.Connection, payloads: Payloads, arrivals: Sequence[Arrival]
    ) -> None:
        self._connection = connection
        self._payloads = payloads
        self._arrivals = arrivals
        # Ids are given here, because receipts and names refer to calls that are written in the same flush; no
        # other thread inserts.
        self._next_call = self._highest("calls")
        self._next_receipt = self._highest("receipts")
        self._any_nameless = any_nameless(connection)
        self._known: dict[tuple[str, str], KnownCall] = {}
        # Calls that lack what a nameless record finds them by: `sn`, or one of their times.
        self._lacking: set[int] = set()
        self._calls: list[tuple[object, ...]] = []
        self._names: list[tuple[object, ...]] = []
        self._receipts: list[tuple[object, ...]] = []
        self._bodies: list[tuple[int, bytes]] = []
        self._owed: list[NewDelivery] = []

    def _highest(self, table: str) -> int:
        found: int = self._connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
        return found

    def file(self) -> list[Filed]:
        names = [(arrival.source, name) for arrival in self._arrivals for name in names_sought(arrival)]
        for source, name, call_id, key, lacking in self._connection.execute(_KNOWN, (json_list(names),)):
            self._known[source, name] = KnownCall(call_id, key)
            if lacking:
                self._lacking.add(call_id)
        filed = [self._file(arrival) for arrival in self._arrivals]
        self._flush()
        return filed

    def _file(self, arrival: Arrival) -> Filed:
        match match_call(arrival, self):
            case Refused(trouble, detail):
                return quarantine(self._connection, self._payloads, arrival, trouble, detail)
            case Opens(key, nameless=True):
                call = self._add_call(arrival, key, None)
                self._flush()
                self._connection.execute("UPDATE calls SET nameless = 1 WHERE id = ?", (call.call_id,))
                self._any_nameless = True
            case Opens(key):
                call = self._add_call(arrival, key, arrival.new_call)
                return self._add_receipt(arrival, call, arrival.new_call)
            case Joins(call, new_names, names_it):
                self._join(arrival, call, new_names, names_it=names_it)
        return self._add_receipt(arrival, call, None)

    def _join(self, arrival: Arrival, call: KnownCall, new_names: Sequence[str], *, names_it: bool) -> None:
        if names_it:
            self._connection.execute("UPDATE calls SET nameless = NULL WHERE id = ?", (call.call_id,))
        for name in new_names:
            self._names.append((arrival.source, name, call.call_id))
            self._known[arrival.source, name] = call
        if names_it or not arrival.names:
            # It was found by sn and time, so nobody has looked yet whether it has both times.
            self._lacking.add(call.call_id)
        if call.call_id in self._lacking:
            self._flush()
            self._complete(call.call_id, arrival)

    def _add_call(self, arrival: Arrival, key: str, new: NewCall | None) -> KnownCall:
        """Gather a call's row; without `new` the judge completes it later."""
        self._next_call += 1
        call = KnownCall(self._next_call, key)
        known = (arrival.sn, arrival.started_at, arrival.created_at)
        told: tuple[object, ...] = (None,) * 9
        if new is not None:
            columns = new.columns
            known = (columns.sn, columns.started_at, columns.created_at)
            told = (
                *(arrival.via, None if new.stamp is None else new.stamp * 1_000_000),
                *(columns.phone, columns.name, columns.grade),
                *(columns.talk_seconds, columns.from_type, columns.task),
                self._next_receipt + 1,
            )
            self._owe(arrival, call, new)
        sn, started_at, created_at = known
        self._calls.append(
            (
                *(call.call_id, arrival.source, key, int(new is not None), micros(arrival.received_at)),
                *(sn, micros(started_at), micros(created_at), *told),
            )
        )
        if None in known:
            self._lacking.add(call.call_id)
        for name in arrival.names or (key,):
            self._names.append((arrival.source, name, call.call_id))
            self._known[arrival.source, name] = call
        return call

    def _owe(self, arrival: Arrival, call: KnownCall, new: NewCall) -> None:
        """Gather the deliveries of a new call."""
        called_at = None if new.called_at is None else moment(new.called_at)
        for name in new.destinations:
            told = News(1, lane_of(arrival.via), called_at, new.skip.get(name))
            self._owed.append((call.call_id, name, owed(None, told, arrival.received_at)))

    def _add_receipt(self, arrival: Arrival, call: KnownCall, new: NewCall | None) -> Filed:
        self._next_receipt += 1
        judged: tuple[object, ...] = (None,) * 4
        if new is not None:
            judged = (Verdict.NEW, 1, new.stamp, " ".join(new.flags) or None)
        self._receipts.append(
            (self._next_receipt, call.call_id, arrival.via, micros(arrival.received_at), *judged)
        )
        self._bodies.append((self._next_receipt, arrival.payload))
        owes = new is not None and len(new.skip) < len(new.destinations)
        return Filed(call.call_id, call.key, is_new=new is not None, owes=owes)

    def _flush(self) -> None:
        """Write what was gathered, so that SQL finds it."""
        for sql, rows in ((_CALLS, self._calls), (_NAMES, self._names), (_RECEIPTS, self._receipts)):
            if rows:
                self._connection.execute(sql, (json_list(rows),))
        if self._bodies:
            packed = self._payloads.pack_quickly([body for _, body in self._bodies])
            insert_payloads(
                self._connection,
                [(receipt_id, *each) for (receipt_id, _), each in zip(self._bodies, packed, strict=True)],
            )
        add_deliveries(self._connection, self._owed)
        self._calls, self._names, self._receipts, self._bodies, self._owed = [], [], [], [], []

    # -- what the matching asks ---------------------------------------------------------
    def by_name(self, source: str, name: str) -> KnownCall | None:
        return self._known.get((source, name))

    def by_sn_and_time(self, arrival: Arrival, *, nameless: bool) -> Sequence[KnownCall]:
        if nameless and not self._any_nameless:
            return ()
        self._flush()
        return calls_by_sn_and_time(self._connection, arrival, nameless=nameless)

    def uuid_of(self, call_id: int) -> str | None:
        self._flush()
        return uuid_of(self._connection, call_id)

    def _complete(self, call_id: int, arrival: Arrival) -> None:
        """Give a call the sn and times that it lacked, so that nameless records find it at once."""
        self._connection.execute(
            "UPDATE calls SET sn = coalesce(sn, ?), started_at = coalesce(started_at, ?),"
            " created_at = coalesce(created_at, ?) WHERE id = ?",
            (arrival.sn, micros(arrival.started_at), micros(arrival.created_at), call_id),
        )


def quarantine(
    connection: sqlite3.Connection,
    payloads: Payloads,
    arrival: Arrival,
    trouble: Quarantined,
    detail: str,
    *,
    acknowledged: bool = False,
) -> Filed:
    """Keep a body that no call took, once, however often it comes.

    Where quarantine is full it is refused, so that the platform sends it again later. `acknowledged`: the
    platform will not send it again, so it is kept even then.
    """
    digest = blake2b(arrival.payload, digest_size=16).digest()
    if not _came_again(connection, arrival, digest):
        garbage = trouble is Quarantined.NOT_AN_OBJECT
        full = _full_of_garbage(connection) if garbage else _full(connection, arrival.source)
        if full and not acknowledged:
            return Filed(None, trouble=trouble, kept=False)
        body = arrival.payload[:LONGEST_GARBAGE] if garbage else arrival.payload
        at = micros(arrival.received_at)
        connection.execute(
            "INSERT INTO quarantine (source, via, reason, detail, state, digest, arrivals,"
            " received_at, last_at, codec, body) VALUES (?, ?, ?, ?, 'waiting', ?, 1, ?, ?, ?, ?)",
            (arrival.source, arrival.via, trouble, detail, digest, at, at, *payloads.pack(body)),
        )
    return Filed(None, trouble=trouble)


def _came_again(connection: sqlite3.Connection, arrival: Arrival, digest: bytes) -> bool:
    """Count one more arrival of a body that is there; what a person dropped stays dropped."""
    counted = connection.execute(
        "UPDATE quarantine SET arrivals = arrivals + 1, last_at = ?,"
        " state = iif(state = 'dropped', 'dropped', 'waiting') WHERE source = ? AND digest = ?",
        (micros(arrival.received_at), arrival.source, digest),
    )
    return counted.rowcount > 0


def _full(connection: sqlite3.Connection, source: str) -> bool:
    sql = "SELECT kind, count FROM counters WHERE kind IN ('unfiled', 'unfiled_bytes') AND part = ?"
    counts: dict[str, int] = dict(connection.execute(sql, (source,)).fetchall())
    return counts.get("unfiled", 0) >= MOST_UNFILED or counts.get("unfiled_bytes", 0) >= MOST_UNFILED_BYTES


def _full_of_garbage(connection: sqlite3.Connection) -> bool:
    # Not a parameter: SQLite uses the partial index only where the query's text has its condition.
    sql = "SELECT count(*) FROM quarantine WHERE reason = 'not_an_object'"
    kept: int = connection.execute(sql).fetchone()[0]
    return kept >= MOST_GARBAGE
