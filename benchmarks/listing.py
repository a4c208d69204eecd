"""A platform's list of any length, made of a few thousand records: every copy has its own uuid and time.

python -m benchmarks.listing --records 1000000        # serves it on a free port, which it prints
"""

import argparse
import json
import re
from bisect import bisect_left
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from zoneinfo import ZoneInfo

from benchmarks.texts import compact, varied_records

ZONE = ZoneInfo("Asia/Shanghai")
BASE = 2000
SPAN = timedelta(seconds=BASE * 2)
"""A call every two seconds."""
_SECOND = timedelta(seconds=1)


class Catalogue:
    """The rows of the list, which are made when they are asked for."""

    def __init__(self, records: int, end: datetime, base: int = BASE) -> None:
        self.count = records
        self.base = base
        self.began = end - 2 * records * _SECOND
        self.templates = [_template(compact(record)) for record in varied_records(base)]

    def created(self, number: int) -> datetime:
        return self.began + 2 * number * _SECOND

    def uuid(self, number: int) -> str:
        return f"{number:08x}-18d6-11f0-88c8-2f2b0aba51d7"

    def row(self, number: int) -> bytes:
        created = f"{self.created(number).astimezone(ZONE):%Y-%m-%d %H:%M:%S}".encode()
        before, between, after = self.templates[number % self.base]
        return b"".join((b'{"uuid":"', self.uuid(number).encode(), before, created, between, created, after))

    def between(self, since: datetime, until: datetime) -> range:
        """The rows created from `since` until before `until`."""
        numbers = range(self.count)
        return range(*(bisect_left(numbers, at, key=self.created) for at in (since, until)))

    def content(self, since: datetime, until: datetime, index: int, size: int) -> bytes:
        """A page as the platform answers it."""
        found = self.between(since, until)
        rows = b",".join(map(self.row, found[index * size : (index + 1) * size]))
        return b'{"code":0,"msg":"success","data":{"list":[%s],"total":%d}}' % (rows, len(found))


def _template(row: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands around a row's uuid (which goes first), `created_at` and `updated_at`."""
    row = re.sub(rb'"(?:uuid|base_info|started_at|connected_at|disconnected_at)":"[^"]*",', b"", row)
    row = re.sub(rb'"sn":"[^"]*",', b"", row)
    found = re.search(rb'"created_at":"([^"]*)"', row)
    edited = re.search(rb'"updated_at":"([^"]*)"', row)
    assert found
    assert edited
    assert found.start() < edited.start()
    return (
        b'",' + row[1 : found.start(1)],
        row[found.end(1) : edited.start(1)],
        row[edited.end(1) :],
    )


class Server(ThreadingHTTPServer):
    """Answers every login, and asks for nothing."""

    daemon_threads = True

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.catalogue = catalogue


class Handler(BaseHTTPRequestHandler):
    """The two paths of the platform."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/api/login":
            data = {"user_sn": "u", "api_key": "k", "api_key_expire": 4102444800}
            content = json.dumps({"code": 0, "msg": "login success", "data": data}).encode()
        else:
            since, until = (_moment(asked[name]) for name in ("start_create_at", "end_create_at"))
            content = self.server.catalogue.content(since, until, asked["pageIndex"], asked["pageSize"])
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Say nothing."""


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


def main() -> None:
    """Serve until the end of stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--end", type=datetime.fromisoformat, required=True)
    asked = parser.parse_args()
    server = Server(Catalogue(asked.records, asked.end))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
