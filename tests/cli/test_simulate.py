"""`--token-file`: a sandbox gets its token without the list of processes showing it."""

import json
import queue
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import cli
from tests.fixtures.daemon_process import TOKEN, environment
from tests.fixtures.json_documents import DOCUMENTS
from tests.fixtures.json_shapes import differences


@pytest.mark.long
def test_sandbox_platform_reads_its_token_from_a_file(tmp_path: Path) -> None:
    paths: queue.Queue[str] = queue.Queue()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            paths.put(self.path)
            self.send_response(200)
            self.send_header("content-length", "7")
            self.end_headers()
            self.wfile.write(b"SUCCESS")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", "utf-8")
    with HTTPServer(("127.0.0.1", 0), Door) as door:
        serving = threading.Thread(target=door.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{door.server_port}/callback/main"
        command = [
            sys.executable,
            "-m",
            "bridge",
            "simulate",
            "platform",
            "--port",
            "0",
            "--rate",
            "50",
            "--json",
        ]
        platform = subprocess.Popen(
            [*command, "--url", url, "--token-file", str(file)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert platform.stdout is not None
        try:
            assert differences(DOCUMENTS["simulate platform"], json.loads(platform.stdout.readline())) == []
            assert paths.get(timeout=30) == f"/callback/main/{TOKEN}"
        finally:
            platform.terminate()
            platform.wait(30)
            platform.stdout.close()
            door.shutdown()
            serving.join()


def test_missing_token_file_is_a_usage_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["simulate", "crm", "--token-file", str(tmp_path / "nowhere")])
    assert done.exit_code == 2
    assert "nowhere" in done.output
