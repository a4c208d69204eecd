"""A real daemon in a process of its own, for tests that kill it, stop it or watch it from outside."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.canary import leaks

ROOT = Path(__file__).parent.parent
EXAMPLE = Path(__file__).parent / "data" / "callback.json"
TOKEN = "callback-token-of-the-tests"
# A machine that is busy with other things takes ten times as long; only what fails waits so long.
WITHIN = 120.0


def wait_until(condition: Callable[[], bool], what: str, within: float = WITHIN) -> None:
    """Poll until a condition holds; fail with its name when it never does."""
    pause = threading.Event()
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        pause.wait(0.01)


def write_config(folder: Path, crm_url: str, extra: str = "") -> Path:
    """A configuration for one source and one destination, on free ports."""
    path = folder / "config.toml"
    path.write_text(
        f"""
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[ledger]
url = "sqlite:///ledger.db"
[sources.main]
callback_token = {{ env = "TOKEN" }}
[destinations.crm]
mapping = "{ROOT / "mappings" / "sandbox.toml"}"
base_url = "{crm_url}"
secrets = {{ token = {{ env = "CRM_TOKEN" }} }}
[delivery]
first_retry = "200ms"
longest_retry = "1s"
{extra}
""",
        "utf-8",
    )
    return path


def environment() -> dict[str, str]:
    """The environment of a command, with the secrets of `write_config`."""
    return {**os.environ, "TOKEN": TOKEN, "CRM_TOKEN": "crm-token-of-the-tests"}


def callbridge(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its data may hold phone numbers, its messages none, and neither a secret."""
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *args],
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not leaks(done.stdout, phones=False), f"callbridge {args} shows a secret"
    assert not leaks(done.stderr), f"callbridge {args} shows {leaks(done.stderr)}"
    return done


def callbridge_json(*args: str, cwd: Path) -> Any:
    """The document that a command prints with `--json`."""
    return json.loads(callbridge(*args, "--json", cwd=cwd).stdout)


class DaemonProcess:
    """`callbridge run`, started and ready; `env` is laid over its environment."""

    def __init__(self, config: Path, env: Mapping[str, str] | None = None) -> None:
        self.ledger = config.parent / "ledger.db"
        self.log: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "run", "--config", str(config)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment() | dict(env or {}),
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        assert self._ready.wait(WITHIN), "\n".join(self.log)
        line = next(line for line in self.log if "daemon.ready" in line)
        self.url, self.admin_url = (re.findall(rf"{name}=(\S+)", line)[0] for name in ("callbacks", "admin"))
        self.callback_url = f"{self.url}/callback/main/{TOKEN}"

    def _read_log(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                self.log.append(line.rstrip())
                if "daemon.ready" in line:
                    self._ready.set()
        self._ready.set()

    def kill(self) -> None:
        """What a power cut does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(WITHIN)
        self._reader.join(WITHIN)
        self._check_log()

    def _check_log(self) -> None:
        found = leaks("\n".join(self.log))
        assert not found, f"the daemon's log shows {found}"

    def stop(self) -> int:
        """What systemd does; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(WITHIN)
        self._reader.join(WITHIN)
        self._check_log()
        return code

    def count(self, sql: str) -> int:
        """A count from the ledger's file, read from outside."""
        connection = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)
        try:
            found: int = connection.execute(sql).fetchone()[0]
        finally:
            connection.close()
        return found
