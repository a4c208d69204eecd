"""Node-RED as a peer: installed by npm into a folder, with two flows that do the daemon's job for one CRM.

`/accepted` answers first: HTTP In → a function with two outputs, one to HTTP Response (`SUCCESS`), one to
HTTP Request. `/delivered` answers when the CRM has: HTTP In → the same function → HTTP Request → HTTP
Response, which says `SUCCESS` only where the CRM took the call. The function makes of a record what
`one_request.toml` makes of it. One function with two outputs is the quick way: with two wires Node-RED would
copy the whole record. The requests to the CRM keep their connections (`persist`), which is off by default.
There is no editor, and no log but of errors.
"""

import http.client
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INSTALL_WITHIN = 300.0
_START_WITHIN = 60.0

_SETTINGS = """module.exports = {
  uiHost: "127.0.0.1", uiPort: PORT, httpAdminRoot: false, flowFile: "flows.json", credentialSecret: false,
  telemetry: { enabled: false, updateNotification: false },
  logging: { console: { level: "error", metrics: false, audit: false } },
};
"""
_MAP = """
const r = msg.payload;
const iso = (t) => (t ? new Date(t.replace(" ", "T") + "+08:00").toISOString() : undefined);
const listed = (t) => (t || "").split(";").filter((one) => one);
const fields = {
  phone: "+86" + r.phone, direction: r.call_from_type === 2 ? "inbound" : "outbound",
  grade: r.status_manual || r.status, score: r.score, tags: listed(r.labelling),
  dynamic_tags: listed(r.dynamic_labelling), started_at: iso(r.started_at), connected_at: iso(r.connected_at),
  ended_at: iso(r.disconnected_at), talk_seconds: r.talktimes, answered: r.talktimes > 0,
  hangup_by: r.endreason, task: r.project_caption, agent: r.agent_name || undefined,
  remark: r.mark || undefined, last_reply: r.last_reply,
  transcript: r.talk_info.map((turn) => turn.talk_datetime + " " +
    (turn.is_answer ? "customer: " + turn.answer : "robot: " + turn.caption)).join("\\n").slice(0, 60000),
};
const request = {
  url: "CRM/calls/" + encodeURIComponent(r.uuid), payload: fields, headers: { authorization: "Bearer t" },
};
"""
_ANSWER_FIRST = _MAP + """return [{ req: msg.req, res: msg.res, payload: "SUCCESS" }, request];"""
_ANSWER_LAST = _MAP + """return Object.assign(request, { req: msg.req, res: msg.res });"""
_ANSWER = """
const payload = msg.statusCode < 300 ? "SUCCESS" : "";
return { req: msg.req, res: msg.res, statusCode: msg.statusCode, payload };
"""


class NoNodeRedError(Exception):
    """Why Node-RED cannot be had here."""


@dataclass(frozen=True)
class NodeRed:
    """A Node-RED that runs."""

    url: str
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """What a power cut does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def install(folder: Path) -> str:
    """Install Node-RED below a folder; its version.

    Raises NoNodeRedError where npm or its registry is not there.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NoNodeRedError("npm is not installed")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "node-red"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_WITHIN, check=False, cwd=folder
        )
    except subprocess.TimeoutExpired as error:
        raise NoNodeRedError(f"npm did not install node-red within {_INSTALL_WITHIN:.0f} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise NoNodeRedError(f"npm did not install node-red: {said[0] if said else done.returncode}")
    package = folder / "node_modules" / "node-red" / "package.json"
    version: str = json.loads(package.read_text("utf-8"))["version"]
    return version


@contextmanager
def node_red(installed: Path, folder: Path, crm: str) -> Iterator[NodeRed]:
    """Run it with its own folder until the end, unless it was killed meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "settings.js").write_text(_SETTINGS.replace("PORT", str(port)), "utf-8")
    (folder / "flows.json").write_text(json.dumps(_flows(crm)), "utf-8")
    program = installed / "node_modules" / "node-red" / "red.js"
    process = subprocess.Popen(
        ["node", str(program), "--userDir", str(folder), "--settings", str(folder / "settings.js")],  # noqa: S607 -- any node
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(port)
        yield NodeRed(f"http://127.0.0.1:{port}", process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_until_ready(port: int) -> None:
    """The server answers before its flows run, so one of them says that they do."""
    deadline = time.monotonic() + _START_WITHIN
    while time.monotonic() < deadline:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ready")
            if connection.getresponse().read() == b"READY":
                return
        time.sleep(0.05)
    raise TimeoutError("Node-RED did not start")


def _flows(crm: str) -> list[dict[str, Any]]:
    """All nodes of both flows, and of one that says that they are there."""
    first, last = (text.replace("CRM", crm) for text in (_ANSWER_FIRST, _ANSWER_LAST))
    return [
        {"id": "flow", "type": "tab", "label": "calls"},
        _node("accepted", "http in", [["map-first"]], url="/accepted", method="post"),
        _function("map-first", first, [["accepted-answer"], ["send-beside"]]),
        _node("accepted-answer", "http response", [], statusCode="200"),
        _request("send-beside", [[]]),
        _node("delivered", "http in", [["map-last"]], url="/delivered", method="post"),
        _function("map-last", last, [["send"]]),
        _request("send", [["say"]]),
        _function("say", _ANSWER, [["delivered-answer"]]),
        _node("delivered-answer", "http response", []),
        _node("ready", "http in", [["is-ready"]], url="/ready", method="get"),
        _function("is-ready", 'msg.payload = "READY"; return msg;', [["ready-answer"]]),
        _node("ready-answer", "http response", []),
    ]


def _node(name: str, kind: str, wires: list[list[str]], **settings: Any) -> dict[str, Any]:
    # A node without a place in the picture would be taken for a configuration.
    return {"id": name, "type": kind, "z": "flow", "x": 1, "y": 1, "name": name, "wires": wires, **settings}


def _function(name: str, text: str, wires: list[list[str]]) -> dict[str, Any]:
    return _node(name, "function", wires, func=text, outputs=len(wires), noerr=0, libs=[])


def _request(name: str, wires: list[list[str]]) -> dict[str, Any]:
    return _node(
        name,
        "http request",
        wires,
        method="PUT",
        ret="txt",
        paytoqs="ignore",
        url="",
        persist=True,
        headers=[],
    )
