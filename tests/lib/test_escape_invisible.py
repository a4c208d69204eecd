"""What people read shows everything that is in it, and nothing from outside makes a line of its own."""

import ast
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import bridge
from bridge.cli import cli
from bridge.ledger.sqlite import SqliteLedger
from bridge.lib import escape_invisible
from bridge.lib.errors import CallbridgeError
from bridge.model.deliveries import DeliveryState, Settlement
from tests.fixtures.daemon_process import environment, write_config
from tests.fixtures.ledger_calls import NOW, arrival, call_of, leased, news, settle

HOSTILE = "a\x1b]0;x\x07\x1b[2J\rb\nlevel=error\x85\x9b31m\u202e\u2066\u200b\u200d\ufeff\ud800\u00ad"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r\nc", "a\\nb\\r\\nc"),
        ("\x9b31m", "\\x9b31m"),
        ("x\u202ey\u2069", "x\\u202ey\\u2069"),
        ("a\u200bb\u200cc\u200dd", "a\\u200bb\\u200cc\\u200dd"),
        ("\ufeffa", "\\ufeffa"),
        ("\ud83d", "\\ud83d"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_invisible_character_is_written_as_an_escape(text: str, shown: str) -> None:
    assert escape_invisible.line(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "客户 王芳：A转人工，￥12.50",
        "𠮷野家 髙橋 葛󠄀城",
        "👩‍⚕️ 👨‍👩‍👧‍👦 🏳️‍🌈 🐈‍⬛ 👍🏽 1️⃣ ❤️‍🔥",
        "ÀéîõØ ß — “quotes” … \t tab",
        "مرحبا שלום",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert escape_invisible.line(text) == text
    assert escape_invisible.in_json(json.dumps(text, ensure_ascii=False)) == json.dumps(
        text, ensure_ascii=False
    )


def test_json_means_the_same_and_shows_everything() -> None:
    shown = escape_invisible.in_json(json.dumps({"name": HOSTILE}, ensure_ascii=False))
    assert json.loads(shown) == {"name": HOSTILE}
    assert shown.isprintable()
    assert shown.encode()


_PRINTING = {"print", "echo", "secho", "write", "writelines", "isatty", "close"}


def test_all_output_goes_through_one_function() -> None:
    """Commands print by `say`; helper processes write numbers and faults of their own to their parent."""
    allowed = {"cli/output.py"}
    helpers = {f"ledger/sqlite/{name}.py" for name in ("backup_check", "backup_copy", "dictionary_process")}
    root = Path(bridge.__file__).parent
    found = set()
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not any(each in text for each in ("print(", "echo", "sys.std")):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            if not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            called = ast.unparse(node.func) if name in _PRINTING else ""
            if called in ("print", "click.echo", "click.secho") or called.startswith(
                ("sys.stdout.", "sys.stderr.")
            ):
                found.add((path.relative_to(root).as_posix(), called))
    printing = {name for name, called in found if not called.endswith((".isatty", ".close"))}
    assert printing <= allowed | helpers
    assert allowed <= printing


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger in which everything that came from outside is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    written = write_config(folder, "http://127.0.0.1:9", "")
    ledger = SqliteLedger(folder / "ledger.db", create=True)
    stored = HOSTILE.replace("\ud800", "")
    news(ledger, stored, sn=stored, name=stored, base_info=stored, dialogue=stored)
    parked = Settlement(DeliveryState.PARKED, reason=stored, cause=stored, remedy=stored, account=stored)
    settle(ledger, leased(ledger), parked, NOW, NOW)
    call_of(ledger, arrival("", payload=json.dumps({"name": stored}).encode()))
    ledger.close()
    return written


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        ("calls", "list"),
        ("calls", "show", HOSTILE.replace("\ud800", "")),
        ("calls", "show", "nobody\x1b[2J\u202e"),
        ("deliveries", "list", "--state", "parked"),
        ("quarantine", "list"),
        ("quarantine", "show", "1"),
        ("status",),
        ("audit", "--local"),
        ("map", "plan"),
    ],
)
def test_outside_text_cannot_break_a_commands_lines(
    config: Path, command: tuple[str, ...], as_json: bool
) -> None:
    asked = [*command, "-c", str(config), *(["--json"] if as_json else [])]
    ended = CliRunner(env=environment()).invoke(cli, asked)
    # An error that is expected is printed by `main`, by the same function.
    assert ended.exception is None or isinstance(ended.exception, SystemExit | CallbridgeError)
    for line in (ended.stdout + ended.stderr).split("\n"):
        assert escape_invisible.line(line) == line
        assert not line.startswith("level=")
