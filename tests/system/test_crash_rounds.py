"""kill -9 at random moments under 64 senders: what was acknowledged is in the ledger, none of it twice."""

import http.client
import json
import random
import sqlite3
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fixtures.daemon_process import EXAMPLE, DaemonProcess, callbridge, wait_until, write_config

pytestmark = pytest.mark.long

SEED = 64
SENDERS = 64
ROUNDS = 30
MOST_PER_ROUND = 500
SLOW_FSYNC = 0.010
# Nobody listens there: deliveries are tried and tried again, and some are leased at every kill.
NO_CRM = "http://127.0.0.1:9"
UNJUDGED = "SELECT count(*) FROM receipts WHERE verdict IS NULL"
LEASED = "SELECT count(*) FROM deliveries WHERE state = 'leased'"

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int slowly(const char *name, int fd) {
    struct timespec wait = {0, 10 * 1000 * 1000};
    nanosleep(&wait, NULL);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
"""


class Post:
    """One request: what it carried, when it was begun, wholly sent, and answered."""

    def __init__(self, key: str, changed: int) -> None:
        self.key = key
        self.changed = changed
        self.begun_at = time.monotonic()
        self.sent_at = float("inf")
        self.answered_at = float("inf")
        self.acknowledged = False


class Traffic:
    """What 64 senders post: calls, again and again, some of them changed meanwhile."""

    def __init__(self, seed: int) -> None:
        self.posts: list[Post] = []
        self._rng = random.Random(seed)  # noqa: S311  -- sample data, not secrets
        self._record = json.loads(EXAMPLE.read_bytes())
        self._keys: list[str] = []
        self._lock = threading.Lock()

    def next(self) -> tuple[Post, bytes]:
        """The next request: a new call, or one of the latest once more, maybe under way just now."""
        with self._lock:
            rng = self._rng
            if not self._keys or rng.random() < 0.6:
                self._keys.append(str(uuid.UUID(int=rng.getrandbits(128), version=4)))
                post = Post(self._keys[-1], 0)
            else:
                post = Post(rng.choice(self._keys[-100:]), rng.choice((0, 0, 1, 2)))
            self.posts.append(post)
        return post, self._body(post)

    def _body(self, post: Post) -> bytes:
        record: dict[str, Any] = self._record | {
            "uuid": post.key,
            "base_info": f"{post.key}out",
            "sn": f"account|{post.key}",
            "mark": f"state {post.changed}",
            "updated_at": f"2025-04-15 10:00:0{post.changed}",
        }
        return json.dumps(record).encode()


class Senders:
    """Threads that post until the daemon is gone."""

    def __init__(self, url: str, traffic: Traffic) -> None:
        self._place = urlsplit(url)
        self._traffic = traffic
        self._first = len(traffic.posts)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    @property
    def posts(self) -> list[Post]:
        """This round's."""
        return self._traffic.posts[self._first :]

    def acknowledged(self) -> int:
        """How many of this round were, until now."""
        return sum(post.acknowledged for post in self.posts)

    def waiting(self) -> int:
        """How many requests are sent and not answered now."""
        never = float("inf")
        return sum(post.sent_at < never and post.answered_at == never for post in self.posts)

    def join(self) -> None:
        """After the kill."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        connection = http.client.HTTPConnection(self._place.netloc, timeout=30)
        with closing(connection):
            while not self._stop.is_set():
                post, body = self._traffic.next()
                try:
                    connection.request("POST", self._place.path, body)
                    post.sent_at = time.monotonic()
                    text = connection.getresponse().read()
                except (OSError, http.client.HTTPException):
                    # The daemon is dead: its port answers nobody.
                    return
                post.answered_at = time.monotonic()
                post.acknowledged = text == b"SUCCESS"


def slow_disk(folder: Path) -> dict[str, str]:
    """The environment of a process each of whose fsyncs takes 10 ms longer."""
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SHIM, "ascii")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}


def crash(folder: Path, seed: int, rounds: int, env: Mapping[str, str] | None = None) -> list[Post]:
    """Kill the daemon `rounds` times under load, start it once more, and hold it to its promise."""
    rng = random.Random(seed)  # noqa: S311  -- moments, not secrets
    config = write_config(folder, NO_CRM, "workers = 2")
    traffic = Traffic(seed)
    unanswered: list[int] = []
    leased = unjudged = 0
    for _ in range(rounds):
        daemon = DaemonProcess(config, env)
        senders = Senders(daemon.callback_url, traffic)
        enough = rng.randrange(1, MOST_PER_ROUND)
        wait_until(lambda s=senders, n=enough: s.acknowledged() >= n and s.waiting() > 0, "a moment to kill")  # type: ignore[misc]
        killed_at = time.monotonic()
        daemon.kill()
        senders.join()
        unanswered.append(
            sum(post.sent_at < killed_at and post.answered_at == float("inf") for post in senders.posts)
        )
        leased += daemon.count(LEASED)
        unjudged += daemon.count(UNJUDGED)
    daemon = DaemonProcess(config, env)
    wait_until(lambda: daemon.count(UNJUDGED) == 0, "every receipt has its verdict", within=120)
    assert daemon.stop() == 0
    acknowledged = [post for post in traffic.posts if post.acknowledged]
    print(
        f"seed {seed}: {rounds} kills, {len(traffic.posts)} posts, {len(acknowledged)} acknowledged,"
        f" {sum(unanswered)} unanswered (at least {min(unanswered)} at each kill), {leased} leased and"
        f" {unjudged} unjudged at the kills"
    )
    assert min(unanswered) > 0
    assert len(unanswered) == rounds
    assert unjudged > 0
    check_ledger(daemon.ledger, traffic.posts)
    check_balance(daemon.ledger)
    assert not [line for line in daemon.log if "level=error" in line]
    return traffic.posts


def check_ledger(path: Path, posts: list[Post]) -> None:
    """Each acknowledgement has its receipt, each key one call, no call came from nowhere."""
    sent = Counter(post.key for post in posts)
    acknowledged = Counter(post.key for post in posts if post.acknowledged)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
        assert [row[0] for row in ledger.execute("PRAGMA integrity_check")] == ["ok"]
        calls = Counter(row[0] for row in ledger.execute("SELECT key FROM calls"))
        names = list(
            ledger.execute("SELECT n.name, c.key FROM call_names n JOIN calls c ON c.id = n.call_id")
        )
        by_call = "SELECT c.key, count(*) FROM receipts r JOIN calls c ON c.id = r.call_id"
        receipts = Counter(dict(ledger.execute(f"{by_call} GROUP BY c.key")))
        news = Counter(dict(ledger.execute(f"{by_call} WHERE verdict = 'new' GROUP BY c.key")))
        orphans = ledger.execute("SELECT count(*) FROM receipts WHERE call_id NOT IN (SELECT id FROM calls)")
        assert orphans.fetchone()[0] == 0
        assert ledger.execute("SELECT count(*) FROM quarantine").fetchone()[0] == 0
        states = dict(
            ledger.execute(
                "SELECT c.key, datetime(max(c.updated_at) / 1e6, 'unixepoch') FROM receipts r"
                " JOIN calls c ON c.id = r.call_id GROUP BY 1"
            )
        )
    assert not acknowledged.keys() - calls.keys(), "an acknowledged call is lost"
    assert not calls.keys() - sent.keys(), "a call that nobody sent"
    assert set(calls.values()) == {1}, "a call is there twice"
    assert sorted(names) == sorted((key, key) for key in calls)
    assert set(news.values()) == {1}
    assert news.keys() == calls.keys()
    assert all(receipts[key] >= count for key, count in acknowledged.items()), "a receipt is lost"
    assert all(receipts[key] <= sent[key] for key in receipts), "a receipt is there twice"
    newest = Counter[str]()
    for post in posts:
        if post.acknowledged:
            newest[post.key] = max(newest[post.key], post.changed)
    behind = [key for key, changed in newest.items() if states[key] < f"2025-04-15 02:00:0{changed}"]
    assert not behind, "an acknowledged state is not counted"


def check_balance(ledger: Path) -> None:
    """`audit --local`: every call stands under one heading."""
    done = callbridge("audit", "--local", "--json", cwd=ledger.parent)
    assert done.returncode == 0, done.stderr
    balance = json.loads(done.stdout)
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        calls: int = connection.execute("SELECT count(*) FROM calls").fetchone()[0]
    counts = balance["destinations"]["crm"]
    assert balance["balanced"] is True
    assert balance["sources"]["main"]["ledger"] == counts["ledger"] == calls > 0
    assert sum(counts[name] for name in ("delivered", "skipped", "parked", "under_way")) == calls


def test_three_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    crash(tmp_path, SEED, 3)


@pytest.mark.slow
def test_thirty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    crash(tmp_path, SEED + 1, ROUNDS)


@pytest.mark.slow
def test_thirty_kills_on_a_slow_disk_lose_and_double_nothing(tmp_path: Path) -> None:
    posts = crash(tmp_path, SEED + 2, ROUNDS, slow_disk(tmp_path))
    fastest = min(post.answered_at - post.begun_at for post in posts if post.acknowledged)
    print(f"the fastest acknowledgement took {fastest * 1000:.1f} ms")
    # Also the proof that the shim was at work: nothing is acknowledged before its fsync.
    assert fastest >= SLOW_FSYNC
