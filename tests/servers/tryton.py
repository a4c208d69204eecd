"""A real Tryton on SQLite: prepared once into a cache, copied for each test, served by its own `trytond`.

Run as a script (`python tryton.py FOLDER MODULE…`) it makes the database, which is how it stays
out of the test's own process: Tryton keeps its configuration and its pool of models for a whole process.
"""

import base64
import fcntl
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

DATABASE = "lab"
PARTY_ONLY = ("party",)
WITH_OPPORTUNITIES = ("party", "sale_opportunity")
_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
_PREPARE_WITHIN = 300
_STOP_WITHIN = 20
_EMAIL = "rest@example.com"
_COMPANY = "Callbridge Lab"


def available(modules: tuple[str, ...] = PARTY_ONLY) -> bool:
    """Whether Tryton and these modules of it are installed."""
    if importlib.util.find_spec("trytond") is None:
        return False
    return all(importlib.util.find_spec(f"trytond.modules.{module}") is not None for module in modules)


def cache_folder(config: pytest.Config, otherwise: Path) -> Path:
    """Where pytest keeps things from run to run; `otherwise` when it was told not to."""
    # With `-p no:cacheprovider` there is not even a None.
    kept = getattr(config, "cache", None)
    return otherwise if kept is None else kept.mkdir("tryton")


class TrytonServer:
    """One Tryton with an empty database and a key for its REST user application, as a context manager.

    `cache` keeps the prepared database from run to run (see `cache_folder`); it is named for the versions
    it was made with, and is made again when one of them changes.
    """

    def __init__(self, folder: Path, cache: Path, modules: tuple[str, ...] = PARTY_ONLY) -> None:
        self.url = ""
        self.key = ""
        self._folder = folder
        self._cache = cache
        self._modules = modules
        self._said: list[str] = []
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        if not available(self._modules):
            raise RuntimeError(f"Tryton with {', '.join(self._modules)} is not installed; see the dev extra")
        with self._exits as exits:
            self._copy(prepared(self._cache, self._modules))
            self._start(exits)
            self._client = exits.enter_context(
                httpx.Client(
                    base_url=f"{self.url}/rest/model/", headers={"authorization": f"Bearer {self.key}"}
                )
            )
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    @property
    def secrets(self) -> dict[str, str]:
        """What a destination must be given."""
        return {"key": self.key}

    @property
    def settings(self) -> dict[str, str]:
        """The same, of what is no secret; the base address `url` ends with the database's name."""
        settings = {"database": DATABASE}
        if "sale_opportunity" in self._modules:
            # Without it a new opportunity has no company: the header X-Tryton-Context of every request.
            settings["context"] = base64.urlsafe_b64encode(b'{"company": 1}').decode()
        return settings

    def said(self) -> str:
        """What `trytond` wrote so far: one line a request, and its tracebacks."""
        return "".join(self._said)

    def contacts(self) -> list[dict[str, Any]]:
        """The parties with their numbers and identifiers, flat; a company's own party is left out."""
        mechanisms = self.contact_mechanisms()
        identifiers = self.identifiers()
        return [
            party
            | {
                "numbers": [m["value_compact"] for m in mechanisms if m["party"] == party["id"]],
                "codes": [i["code"] for i in identifiers if i["party"] == party["id"]],
            }
            for party in self.parties()
            if party["name"] != _COMPANY
        ]

    def calls(self) -> list[dict[str, Any]]:
        """The notes, which is where a call is kept."""
        return self.notes()

    def parties(self) -> list[dict[str, Any]]:
        """id, code and name of each party."""
        return self.search("party.party", "code", "name")

    def contact_mechanisms(self) -> list[dict[str, Any]]:
        """Numbers and addresses, each with its party's id."""
        return self.search("party.contact_mechanism", "party", "type", "value", "value_compact")

    def identifiers(self) -> list[dict[str, Any]]:
        """Foreign ids, each with its party's id."""
        return self.search("party.identifier", "party", "type", "code")

    def notes(self) -> list[dict[str, Any]]:
        """Notes; `resource` is `party.party,<id>`."""
        return self.search("ir.note", "resource", "message")

    def opportunities(self) -> list[dict[str, Any]]:
        """Sales opportunities, where their module is in."""
        return self.search("sale.opportunity", "party", "description", "comment", "state")

    def search(self, model: str, *fields: str, domain: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """The records of a model that a domain admits, oldest first, as the server gives them."""
        encoded = base64.urlsafe_b64encode(json.dumps(domain).encode()).decode()
        answer = self._client.get(model, params={"f": fields, "d": encoded})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        for record in found:
            record.pop("__name__", None)
        return sorted(found, key=lambda record: int(record["id"]))

    def seed_contact(self, **fields: Any) -> str:
        """One more party; `phone` becomes a mobile number of it."""
        phone = fields.pop("phone", None)
        if phone is not None:
            fields["contact_mechanisms"] = [["create", [{"type": "mobile", "value": phone}]]]
        answer = self._client.post("party.party", json=fields)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def edit(self, model: str, identity: str, **fields: Any) -> None:
        """Change a record as a person would."""
        self._client.put(f"{model}/{identity}", json=fields).raise_for_status()

    def delete(self, model: str, identity: str) -> None:
        """Delete a record as a person would."""
        self._client.delete(f"{model}/{identity}").raise_for_status()

    def revoke_key(self) -> None:
        """Cancel the key in the database: every later request is a 401 with an HTML body."""
        with closing(sqlite3.connect(self._folder / f"{DATABASE}.sqlite")) as database, database:
            database.execute("UPDATE res_user_application SET state = 'cancelled'")

    def _copy(self, prepared_database: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"{DATABASE}.sqlite"
        with closing(sqlite3.connect(prepared_database)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            row = copy.execute("SELECT key FROM res_user_application WHERE state = 'validated'").fetchone()
        self.key = row[0]

    def _start(self, exits: ExitStack) -> None:
        config = self._folder / "trytond.conf"
        config.write_text(
            f"[database]\nuri = sqlite://\npath = {self._folder}\n[web]\nlisten = 127.0.0.1:0\n", "utf-8"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "trytond.cli", "-v", "-c", str(config), "-d", DATABASE],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        exits.callback(_stop, process)
        lines = self._kept(process)
        address = next((found[1] for found in map(_RUNNING.search, lines) if found), None)
        if address is None:
            raise RuntimeError(f"trytond did not start:\n{self.said()}")
        self.url = f"{address}/{DATABASE}"
        # Nobody else empties the pipe, and a full one would stop the server.
        drain = threading.Thread(target=lambda: deque(lines, maxlen=0), daemon=True)
        drain.start()
        exits.callback(drain.join)
        exits.callback(_stop, process)

    def _kept(self, process: subprocess.Popen[str]) -> Iterator[str]:
        with process.stderr or io.StringIO() as stderr:
            for line in stderr:
                self._said.append(line)
                yield line


def prepared(cache: Path, modules: tuple[str, ...]) -> Path:
    """An initialised database of these modules with a validated key, made at most once."""
    cache.mkdir(parents=True, exist_ok=True)
    versions = [importlib.metadata.version("trytond")]
    versions += [importlib.metadata.version(f"trytond_{module}") for module in modules]
    names = "-".join(f"{name}{version}" for name, version in zip(("", *modules), versions, strict=True))
    made = cache / f"tryton{names}.sqlite"
    with _locked(cache / "lock"):
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                _run_preparation(Path(folder), modules)
                (Path(folder) / "whole.sqlite").replace(made)
    return made


def _run_preparation(folder: Path, modules: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(folder), *modules],
        capture_output=True,
        text=True,
        timeout=_PREPARE_WITHIN,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"no database of Tryton could be made:\n{done.stderr}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: pytest's workers all want the same database."""
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _prepare(folder: Path, modules: tuple[str, ...]) -> None:
    """In a process of its own: what `trytond-admin -u` does, a company where one is needed, and the key."""
    (folder / "trytond.conf").write_text(f"[database]\nuri = sqlite://\npath = {folder}\n", "utf-8")
    (folder / "password").write_text("a-password-nobody-uses", "utf-8")
    os.environ["TRYTONPASSFILE"] = str(folder / "password")
    path = folder / f"{DATABASE}.sqlite"
    path.touch()
    importlib.import_module("trytond.config").update_etc([str(folder / "trytond.conf")])
    commandline = importlib.import_module("trytond.commandline")
    options = commandline.get_parser_admin().parse_args(
        ["-d", DATABASE, "-u", *modules, "--activate-dependencies", "--email", _EMAIL]
    )
    importlib.import_module("trytond.admin").run(options)
    pool = importlib.import_module("trytond.pool").Pool(DATABASE)
    transaction = importlib.import_module("trytond.transaction").Transaction()
    with transaction.start(DATABASE, 0):
        (user,) = pool.get("res.user").search([("login", "=", "admin")])
        if "sale_opportunity" in modules:
            _give_company(pool, user)
        pool.get("res.user.application").create(
            [{"user": user.id, "application": "rest", "state": "validated"}]
        )
    with closing(sqlite3.connect(path)) as database:
        database.execute("VACUUM INTO ?", (str(folder / "whole.sqlite"),))


def _give_company(pool: Any, user: Any) -> None:
    """An opportunity belongs to a company, and only a user of that company may write it."""
    (currency,) = pool.get("currency.currency").create([{"name": "Yuan", "code": "CNY", "symbol": "¥"}])
    (party,) = pool.get("party.party").create([{"name": _COMPANY}])
    (company,) = pool.get("company.company").create([{"party": party.id, "currency": currency.id}])
    pool.get("res.user").write([user], {"companies": [("add", [company.id])], "company": company.id})


if __name__ == "__main__":
    _prepare(Path(sys.argv[1]), tuple(sys.argv[2:]))
