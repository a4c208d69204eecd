"""Mutated bodies against a live daemon: it answers all, keeps what it acknowledged, and stays calm."""

import gzip
import http.client
import json
import re
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

import pytest

from bridge.ledger.sqlite.payloads import Payloads
from bridge.record.identity import NO_NAMES
from tests.fixtures.daemon_process import TOKEN, DaemonProcess, wait_until
from tests.fixtures.mutated_bodies import Mutant, Mutations

pytestmark = pytest.mark.long

SEED = 20_250_414
CONNECTIONS = 32
AT_ONCE = 2500
MOST_GARBAGE = 10_000
SAMPLE_EVERY = 10
GZIP = b"\x1f\x8b"
MAX_DEPTH = 200
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def write_config(folder: Path) -> Path:
    """One source whose calls go nowhere."""
    path = folder / "config.toml"
    path.write_text(
        '[server]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
        '[ledger]\nurl = "sqlite:///ledger.db"\n[sources.main]\ncallback_token = { env = "TOKEN" }\n',
        "utf-8",
    )
    return path


# -- what a body is, read without any of the product's code -----------------------------
def plain_object(body: bytes) -> dict[str, Any] | None:
    """The object of a body that nobody can argue about: UTF-8, strict JSON, not deep."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        return None
    try:
        value = json.loads(body.decode(), parse_constant=_refuse)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def is_some_object(body: bytes) -> bool:
    """Whether a patient reader finds an object: unzipped, in any charset, form-wrapped, with raw controls."""
    if body.startswith(GZIP):
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error):
            return False
    for text in _texts(body):
        candidates = [text, text.partition("=")[2]]
        if not text.lstrip().startswith("{"):
            candidates += _fields(body)
        for candidate in candidates:
            try:
                value = _PATIENT.decode(candidate.strip())
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                return True
    return False


def could_hold_one(body: bytes) -> bool:
    """Whether there is anything of an object in a body: one that is acknowledged must have it.

    A value that JSON does not know costs no record, and records may be wrapped: how exactly is for the tests
    of the door to say.
    """
    if body.startswith(GZIP):
        body = b"".join(_unzipped(body))
    bare = body.replace(b"\0", b"")
    return (b"{" in bare and b"}" in bare) or b"%7b" in bare.lower() or b"=" in bare


def _unzipped(body: bytes) -> Iterator[bytes]:
    unzip = zlib.decompressobj(wbits=31)
    while body:
        try:
            yield unzip.decompress(body, 1 << 22)
        except zlib.error:
            return
        body, unzip = unzip.unused_data, zlib.decompressobj(wbits=31)


def _texts(body: bytes) -> Iterator[str]:
    for charset in ("utf-8-sig", "utf-16", "gb18030"):
        try:
            yield body.decode(charset, "strict" if charset == "gb18030" else "surrogatepass")
        except UnicodeError:
            continue


def _fields(body: bytes) -> list[str]:
    if body.count(b"&") > 1000:
        return []
    pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    parts = [part.encode("latin-1") for pair in pairs for part in pair]
    return [text for part in parts for text in _texts(part)]


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


_PATIENT = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=_refuse)


# -- sending ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one mutant, and whether it is an object: plainly, or to a patient reader."""

    mutant: Mutant
    status: int
    text: bytes
    plain: dict[str, Any] | None
    is_object: bool
    holds: bool
    """There is anything of an object in it."""

    @property
    def fault(self) -> str:
        """What is wrong with the answer; empty where nothing is."""
        if self.status not in (200, 400, 413):
            return f"answered {self.status}"
        if (self.status == 200) != (self.text == b"SUCCESS"):
            return "the text is another than the status says"
        if self.plain is not None and self.status != 200:
            return f"plainly an object, answered {self.status}"
        return "acknowledged without being an object" if self.status == 200 and not self.holds else ""


def send_all(url: str, mutants: Sequence[Mutant]) -> list[Answered]:
    """Every body once, over kept-alive connections."""
    waiting, answered = iter(mutants), list[Answered]()
    senders = [threading.Thread(target=_send, args=(url, waiting, answered)) for _ in range(CONNECTIONS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(answered) == len(mutants), "a sender broke off"
    return answered


def _send(url: str, waiting: Iterator[Mutant], answered: list[Answered]) -> None:
    place = urlsplit(url)
    with closing(http.client.HTTPConnection(place.netloc, timeout=30)) as connection:
        for mutant in waiting:
            connection.request("POST", place.path, mutant.body)
            response = connection.getresponse()
            text = response.read()
            plain = plain_object(mutant.body)
            is_object = plain is not None or is_some_object(mutant.body)
            holds = is_object or could_hold_one(mutant.body)
            answered.append(Answered(mutant, response.status, text, plain, is_object, holds))


def resident(daemon: DaemonProcess) -> int:
    """The daemon's resident memory, in KiB."""
    status = Path(f"/proc/{daemon._process.pid}/status").read_text("ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


# -- finding again --------------------------------------------------------------------
class Found:
    """Looks up in the ledger's file what was acknowledged."""

    def __init__(self, ledger: sqlite3.Connection) -> None:
        self._ledger = ledger
        self._payloads = Payloads()
        self._payloads.load(ledger)

    def __call__(self, body: bytes, record: dict[str, Any]) -> bool:
        """Whether the body is in quarantine, or a receipt of its call carries it or repeats another."""
        if self._ledger.execute("SELECT 1 FROM quarantine WHERE digest = ?", (digest_of(body),)).fetchone():
            return True
        name = name_of(record)
        if name is None:
            # It joined a call by an sn and a time that later records of that call may have changed;
            # that it is there is counted with all the others.
            return True
        rows = self._ledger.execute(
            "SELECT r.verdict, p.codec, p.body FROM receipts r LEFT JOIN payloads p ON p.receipt_id = r.id"
            " WHERE r.call_id IN (SELECT call_id FROM call_names WHERE name = ?)",
            (name,),
        )
        return any(
            verdict == "duplicate" or (codec is not None and self._payloads.unpack(codec, packed) == body)
            for verdict, codec, packed in rows.fetchall()
        )


def name_of(record: dict[str, Any]) -> str | None:
    """A call's name: the uuid, else the UUID that `base_info` starts with, else it whole."""
    own, info = (
        text
        if isinstance(value := record.get(field), str | int | float)
        and (text := str(value).strip().lower()) not in NO_NAMES
        else ""
        for field in ("uuid", "base_info")
    )
    found = UUID.match(info)
    return own or (found.group() if found else info) or None


def is_plainly_named(answer: Answered) -> bool:
    """Whether the ledger keeps the body and its names letter by letter."""
    if answer.plain is None or not answer.mutant.body.startswith(b"{"):
        return False
    words = [answer.plain.get(name) for name in ("uuid", "base_info", "sn")]
    plain = all(
        word is None or (isinstance(word, str) and re.fullmatch(r"[ -~]{0,200}", word)) for word in words
    )
    return answer.status == 200 and plain


# -- the test --------------------------------------------------------------------------
def fuzz(folder: Path, seed: int, count: int, warm: int) -> None:
    """Send `count` mutants, then look at what the daemon made of them."""
    mutations = Mutations(seed)
    tally = Tally()
    settled_memory = 0
    daemon = DaemonProcess(write_config(folder))
    try:
        for sent in range(0, count, AT_ONCE):
            tally.add(send_all(daemon.callback_url, mutations.take(AT_ONCE)))
            if not settled_memory and sent + AT_ONCE >= warm:
                settled_memory = resident(daemon)
        waiting = "SELECT count(*) FROM receipts WHERE verdict IS NULL"
        wait_until(lambda: daemon.count(waiting) == 0, "everything has its verdict", within=120)
        memory = resident(daemon)
        assert daemon.stop() == 0
    finally:
        daemon.kill()
    print(
        f"seed {seed}: {count} bodies, {tally.objects} JSON objects, answers {dict(tally.statuses)},"
        f" resident {settled_memory // 1024} → {memory // 1024} MiB, {len(tally.sample)} looked up"
    )
    check_log(daemon.log)
    assert not tally.faults, f"{len(tally.faults)} wrong answers, such as {tally.faults[0]}"
    check_ledger(daemon.ledger, tally)
    assert tally.statuses.total() == count
    assert tally.objects >= count / 2
    assert tally.statuses[200] >= count / 3
    assert memory <= max(settled_memory * 1.4, settled_memory + 30 * 1024)


@dataclass
class Tally:
    """All answers, counted."""

    statuses: Counter[int] = field(default_factory=Counter)
    objects: int = 0
    refused: set[bytes] = field(default_factory=set)
    sample: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, answers: Sequence[Answered]) -> None:
        """Count them; keep some of the acknowledged ones for looking up."""
        self.statuses.update(answer.status for answer in answers)
        self.objects += sum(answer.is_object for answer in answers)
        self.refused.update(digest_of(answer.mutant.body) for answer in answers if answer.status == 400)
        self.sample += [
            (answer.mutant.body, answer.plain)
            for answer in answers[::SAMPLE_EVERY]
            if answer.plain is not None and is_plainly_named(answer)
        ]
        self.faults += [
            f"{answer.fault}: {answer.mutant.steps}: {answer.mutant.body[:2000]!r}"
            for answer in answers
            if answer.fault
        ]


def digest_of(body: bytes) -> bytes:
    """As quarantine tells bodies apart."""
    return blake2b(body, digest_size=16).digest()


def check_ledger(path: Path, tally: Tally) -> None:
    """As many arrivals as acknowledgements, each of the sample among them."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:

        def count(sql: str) -> int:
            found: int = ledger.execute(sql).fetchone()[0]
            return found

        receipts = count("SELECT count(*) FROM receipts")
        # A receipt that could not be judged is in quarantine, too.
        twice = count("SELECT count(*) FROM receipts WHERE verdict = 'quarantined'")
        arrivals = count("SELECT coalesce(sum(arrivals), 0) FROM quarantine WHERE reason <> 'not_an_object'")
        # Of several records in one body each has its own.
        assert receipts + arrivals - twice >= tally.statuses[200]
        garbage = count("SELECT count(*) FROM quarantine WHERE reason = 'not_an_object'")
        assert garbage >= min(len(tally.refused), MOST_GARBAGE)
        assert count("SELECT count(*) FROM calls WHERE revision = 0") <= twice
        found = Found(ledger)
        assert len(tally.sample) >= tally.statuses[200] / (SAMPLE_EVERY * 3)
        lost = [body for body, record in tally.sample if not found(body, record)]
        assert not lost, f"{len(lost)} of {len(tally.sample)}, such as {lost[0]!r}"
        verdicts = dict(ledger.execute("SELECT verdict, count(*) FROM receipts GROUP BY verdict"))
        reasons = dict(ledger.execute("SELECT reason, count(*) FROM quarantine GROUP BY reason"))
        print(f"verdicts {verdicts}, quarantined {reasons}")
        # The mutations reach every corner of the rules.
        assert {"new", "revision", "duplicate", "stale"} <= verdicts.keys()
        assert {"identity_conflict", "ambiguous", "unidentified", "not_an_object"} <= reasons.keys()


def check_log(lines: Sequence[str]) -> None:
    """Refusals are told, faults there are none, and the token is nowhere."""
    loud = [line for line in lines if "Traceback" in line or re.search(r"level=(error|critical)", line)]
    assert not loud, f"{len(loud)} lines, the first: {loud[0][:3000]}"
    assert any("callback.refused" in line for line in lines)
    assert not any(TOKEN in line for line in lines)


def test_ten_thousand_mutated_bodies_are_answered_by_the_rules(tmp_path: Path) -> None:
    fuzz(tmp_path, SEED, 10_000, warm=5000)


@pytest.mark.slow
def test_hundred_thousand_mutated_bodies_are_answered_by_the_rules(tmp_path: Path) -> None:
    fuzz(tmp_path, SEED + 1, 100_000, warm=10_000)
