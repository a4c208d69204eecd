"""What a line of the log shows of what came from outside."""

import json
import subprocess
import sys
from typing import Any

import pytest
import structlog

from bridge.lib.log import OncePerMinute

SAYS = """
import json, logging, sys, structlog
from bridge.lib.log import configure, hide
configure("info", sys.argv[1])
said = json.loads(sys.argv[2])
structlog.get_logger("x").info("delivery.settled", **said)
hide(["canary-9f/3c=77"])
logging.getLogger("library").warning("it refused %s %s", "13800138000", "canary-9f%2F3c%3D77")
"""


def said(form: str, **fields: Any) -> list[str]:
    command = [sys.executable, "-c", SAYS, form, json.dumps(fields)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.removesuffix("\n").split("\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_outside_text_cannot_move_the_cursor_or_start_a_line(form: str) -> None:
    lines = said(form, call="a\x1b[31m\x07\r\nlevel=error\x85\u202e张 x")
    assert len(lines) == 2
    assert "张" in lines[0]
    if form == "json":
        assert lines[0].isprintable()
        assert json.loads(lines[0])["call"] == "a\x1b[31m\x07\r\nlevel=error\x85\u202e张 x"
    else:
        assert lines[0].isprintable()


@pytest.mark.parametrize("form", ["text", "json"])
def test_phones_are_masked_wherever_they_stand(form: str) -> None:
    text = "\n".join(said(form, users=["13800138000", {"of": "+8613800138001"}], reason="to 13800138002"))
    assert "138****8000" in text
    assert "***" in text
    assert "canary" not in text
    assert "0138" not in text


def test_busy_ledger_is_logged_once_a_minute() -> None:
    clock = [0.0]
    told = OncePerMinute(lambda: clock[0])
    busy = {"event": "runs.ledger_busy", "error": "disk full"}
    assert told(None, "warning", dict(busy)) == busy
    for clock[0] in (0.25, 0.5, 59.0):
        with pytest.raises(structlog.DropEvent):
            told(None, "warning", dict(busy))
        # Other events, and the same of another part, are not held up.
        assert told(None, "info", {"event": "delivery.settled"}) == {"event": "delivery.settled"}
    other = {"event": "delivery.ledger_busy", "error": "disk full"}
    assert told(None, "warning", dict(other)) == other
    clock[0] = 61.0
    assert told(None, "warning", dict(busy)) == busy | {"more": 3}
    clock[0] = 200.0
    assert told(None, "warning", dict(busy)) == busy
