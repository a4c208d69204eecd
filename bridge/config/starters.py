"""Writes the files of `init`: a configuration, mappings, secrets, and JSON Schemas.

Begin at `write_all()`.
"""

import re
import secrets
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from bridge.lib.errors import CallbridgeError

CALLBACK_TOKEN = Path("secrets/callback-token")
_SETTING = re.compile(r"(?m)^(?=[^#\n])")
_SECRET_FILES = {
    "CALLBACK_TOKEN": CALLBACK_TOKEN,
    "CALLBRIDGE_ADMIN_TOKEN": Path("secrets/admin-token"),
    "CRM_TOKEN": Path("secrets/crm-token"),
}


_RECORD = "tests/data/callback.json"
_LEDGER = """\
# Where everything that happened is kept; with three slashes the path is relative to this file.
url = "sqlite:////var/lib/callbridge/ledger.db"
"""
_LEDGER_HERE = """\
# Where everything that happened is kept: beside this file. Under systemd the daemon may write into one folder
# only: url = "sqlite:////var/lib/callbridge/ledger.db"
url = "sqlite:///ledger.db"
"""


def shipped(name: str) -> str:
    """The text of a shipped file: it lies beside the package in a checkout, and inside it once installed."""
    installed = resources.files("bridge") / "starters" / name
    if installed.is_file():
        return installed.read_text("utf-8")
    return (Path(str(resources.files("bridge"))).parent / name).read_text("utf-8")


def _shipped_folder(name: str) -> Traversable:
    installed = resources.files("bridge") / "starters" / name
    return installed if installed.is_dir() else Path(str(resources.files("bridge"))).parent / name


def starting_config() -> str:
    """`config.example.toml`, with secrets in files beside it and the list API still to be set."""
    text = shipped("config.example.toml").replace("#:schema ./docs/", "#:schema ./")
    for variable, file in _SECRET_FILES.items():
        text = text.replace(f'{{ env = "{variable}" }}', f'{{ file = "{file}" }}')
    text = text.replace(_LEDGER, _LEDGER_HERE)
    # Without real credentials the list API would only fail: the operator takes the # away.
    start = text.index("\n[sources.main.api]") + 1
    end = text.rindex("\n\n", start, text.index("\n[sources.main.reconcile]"))
    return text[:start] + _SETTING.sub("# ", text[start:end]) + text[end:]


def _connector_schema() -> str:
    return (resources.files("bridge.crm") / "connectors" / "connector.schema.json").read_text("utf-8")


def _starting_mappings() -> dict[Path, str]:
    """A mapping for each CRM, and the record that their own cases read, beside them."""
    names = sorted(file.name for file in _shipped_folder("mappings").iterdir() if file.name.endswith(".toml"))
    return {
        Path("mappings/callback.json"): shipped(_RECORD),
        **{
            Path("mappings") / name: shipped(f"mappings/{name}").replace(f"../{_RECORD}", "callback.json")
            for name in names
        },
    }


def write_all(directory: Path) -> list[Path]:
    """Write everything; nothing that exists is overwritten.

    Raises:
        CallbridgeError: a file is there already, or cannot be written.
    """
    files = {
        Path("config.toml"): starting_config(),
        Path("config.schema.json"): shipped("docs/config.schema.json"),
        **_starting_mappings(),
        Path("mappings/mapping.schema.json"): shipped("mappings/mapping.schema.json"),
        # Where a connector of one's own goes.
        Path("connectors/connector.schema.json"): _connector_schema(),
    } | {file: secrets.token_urlsafe(24) + "\n" for file in _SECRET_FILES.values()}
    there = [str(directory / file) for file in files if (directory / file).exists()]
    if there:
        raise CallbridgeError(f"already there, nothing was written: {', '.join(there)}")
    try:
        for file, text in files.items():
            _write(directory / file, text, private="secrets" in file.parts)
    except OSError as error:
        raise CallbridgeError(f"cannot write {error.filename}: {error.strerror}") from error
    return [directory / file for file in files]


def _write(path: Path, text: str, *, private: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o755)
    path.touch(mode=0o600 if private else 0o644)
    path.write_text(text, "utf-8")
