"""Deliveries in a process of their own: what the two processes tell each other, and how both end."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from bridge.daemon.delivery_process import ANSWER, ASK, HURRY, STOP, WAKE, deliver_as_told
from bridge.ledger.sqlite import OwnerLock, SqliteLedger
from bridge.sandbox.crm import SandboxCrm
from tests.fixtures.daemon_process import EXAMPLE, DaemonProcess, wait_until, write_config

LEASED = "SELECT count(*) FROM deliveries WHERE state = 'leased'"
DELIVERED = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"


class ToldDeliveries:
    """Deliveries that only note what they were told, in order."""

    def __init__(self, failed: str = "") -> None:
        self.told: list[str] = []
        self.failed = failed
        self.responds = True
        self._give_up: Callable[[], None] = lambda: None

    def start(self, give_up: Callable[[], None]) -> None:
        self._give_up = give_up

    def die(self) -> None:
        self.failed = "deliver-0"
        self._give_up()

    def wake(self) -> None:
        self.told.append("wake")

    def respond(self) -> bool:
        return self.responds

    def stop(self) -> None:
        self.told.append("stop")

    def hurry(self) -> None:
        self.told.append("hurry")

    def join(self, within: float) -> None:
        self.told.append(f"join {within:g}")


class Told:
    """The side that delivers, on a thread of the test, and the daemon's end of the link."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.deliveries = ToldDeliveries()
        self.link, its_link = socket.socketpair()
        self.codes: list[int] = []
        self.parent_gone = threading.Event()
        self._its_link = its_link

        def run() -> None:
            code = deliver_as_told(
                its_link, ledger, lambda _: self.deliveries, parent_gone=self.parent_gone.set
            )
            self.codes.append(code)

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert self.link.recv(1) == ANSWER, "it has started"

    def tell(self, *told: bytes) -> None:
        self.link.sendall(b"".join(told))

    def code(self) -> int:
        """The exit code, once it has ended."""
        self._thread.join(60)
        return self.codes[0]

    def end(self) -> None:
        self.deliveries.die()
        self._thread.join(60)
        self.link.close()
        self.parent_gone.wait(60)
        self._its_link.close()


@pytest.fixture
def told(ledger_path: Path) -> Iterator[Told]:
    told = Told(SqliteLedger(ledger_path, create=True))
    yield told
    told.end()


def test_many_wakes_are_heard_and_then_the_question(told: Told) -> None:
    told.tell(*([WAKE] * 10_000), ASK)
    assert told.link.recv(1) == ANSWER
    wakes = told.deliveries.told
    assert set(wakes) == {"wake"}
    assert len(wakes) < 100, "what is read at once wakes once"


def test_silence_is_the_answer_of_deliveries_that_do_not_respond(told: Told) -> None:
    told.deliveries.responds = False
    told.tell(ASK, WAKE)
    wait_until(lambda: told.deliveries.told == ["wake"], "both were read")
    told.link.setblocking(False)
    with pytest.raises(BlockingIOError):
        told.link.recv(1)


def test_told_to_stop_deliveries_end_within_twenty_seconds(told: Told) -> None:
    told.tell(STOP)
    assert told.code() == 0
    assert told.deliveries.told == ["stop", "join 20"]


def test_told_to_hurry_deliveries_hear_it_while_they_end(told: Told) -> None:
    told.tell(HURRY, STOP)
    assert told.code() == 0
    assert sorted(told.deliveries.told) == ["hurry", "join 20", "stop"]


def test_death_of_a_part_ends_the_process_with_1(told: Told) -> None:
    told.deliveries.die()
    assert told.code() == 1
    assert told.deliveries.told == ["stop", "join 20"]


def test_closed_link_means_that_the_parent_is_gone(told: Told) -> None:
    told.link.close()
    assert told.parent_gone.wait(60)


# -- real processes ------------------------------------------------------------------
def hanging(crm: tuple[SandboxCrm, str], folder: Path) -> DaemonProcess:
    """A daemon with one delivery under way, at a CRM that does not answer for 25 s."""
    crm[0].add_fault(delay=25.0, path="/contacts")
    daemon = DaemonProcess(write_config(folder, crm[1]))
    assert httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes()).content == b"SUCCESS"
    wait_until(lambda: crm[0].requests()["total"] == 1, "the CRM hangs")
    return daemon


def ends(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.long
def test_killed_daemon_takes_its_deliveries_along_and_frees_the_ledger(
    tmp_path: Path, crm: tuple[SandboxCrm, str], started: list[DaemonProcess]
) -> None:
    started.append(daemon := hanging(crm, tmp_path))
    [deliveries] = daemon.children()
    daemon.kill()
    wait_until(lambda: ends(deliveries), "the deliveries are gone too")
    with OwnerLock(daemon.ledger):
        assert daemon.count(LEASED) == 1


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_death_of_the_deliveries_ends_the_daemon_which_starts_again_clean(
    tmp_path: Path, crm: tuple[SandboxCrm, str], started: list[DaemonProcess], how: signal.Signals
) -> None:
    started.append(daemon := hanging(crm, tmp_path))
    [deliveries] = daemon.children()
    os.kill(deliveries, how)
    assert daemon.wait() == 3
    assert any("daemon.part_failed" in line and f"killed by {how.name}" in line for line in daemon.log)
    assert "daemon.stopped" in daemon.log[-2]
    assert daemon.count(LEASED) == 1

    crm[0].clear_faults()
    started.append(again := DaemonProcess(tmp_path / "config.toml"))
    wait_until(lambda: again.count(DELIVERED) == 1, "it is due again, and delivered")
    assert again.stop() == 0
    assert {name: len(found) for name, found in crm[0].contents().items()} == {"contacts": 1, "calls": 1}


@pytest.mark.long
def test_signal_to_all_processes_ends_what_is_under_way(
    tmp_path: Path, crm: tuple[SandboxCrm, str], started: list[DaemonProcess]
) -> None:
    crm[0].add_fault(delay=0.5, times=1)
    started.append(daemon := DaemonProcess(write_config(tmp_path, crm[1])))
    assert httpx.post(daemon.callback_url, content=EXAMPLE.read_bytes()).content == b"SUCCESS"
    wait_until(lambda: daemon.count(LEASED) == 1, "the delivery is under way")
    for process in daemon.children():
        os.kill(process, signal.SIGINT)
        os.kill(process, signal.SIGTERM)
    assert daemon.stop() == 0
    assert (daemon.count(LEASED), daemon.count(DELIVERED)) == (0, 1)


@pytest.mark.long
def test_deliveries_that_hang_are_killed_once_a_second_signal_comes(
    tmp_path: Path, crm: tuple[SandboxCrm, str], started: list[DaemonProcess]
) -> None:
    started.append(daemon := hanging(crm, tmp_path))
    [deliveries] = daemon.children()
    os.kill(deliveries, signal.SIGSTOP)
    daemon.signal(signal.SIGTERM)
    wait_until(lambda: any("daemon.stopping" in line for line in daemon.log), "the first one was heard")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert any("daemon.stopped_late" in line and "part=deliveries" in line for line in daemon.log)
    assert ends(deliveries)
    with closing(SqliteLedger(daemon.ledger)) as ledger:
        assert ledger.release_leases() == 1


@pytest.mark.long
def test_systemd_hears_nothing_while_the_deliveries_hang(
    tmp_path: Path,
    started: list[DaemonProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"\0callbridge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name[1:]}")
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        started.append(daemon := DaemonProcess(write_config(tmp_path, "http://127.0.0.1:9")))
        [deliveries] = daemon.children()
        assert [systemd.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
        os.kill(deliveries, signal.SIGSTOP)
        systemd.settimeout(1)
        heard = 0
        with suppress(TimeoutError):
            while heard < 5:
                systemd.recv(100)
                heard += 1
        assert heard < 5, "one that was under way may still be told"
        os.kill(deliveries, signal.SIGCONT)
        systemd.settimeout(60)
        assert systemd.recv(100) == b"WATCHDOG=1"
