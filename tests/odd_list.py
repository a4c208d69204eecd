"""A platform whose list answers oddly, without a socket: what it answers is HTTP all the same."""

import gzip
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bridge.sandbox.platform import ACCESS_ID, ACCESS_SECRET
from bridge.sandbox.platform_list import ListLogin, PlatformList
from bridge.sandbox.records import PLATFORM_ZONE, Record
from bridge.source import Source
from bridge.source.outcall.client import ListApi, OutcallList
from tests.odd_wire import gzip_bomb
from tests.reconcile_steps import World, new_world
from tests.source_steps import CHANCE, NAMES

Odd = Callable[[bytes, random.Random], httpx.Response]
"""What is answered in place of a good page."""


def json_answer(body: bytes, status: int = 200, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers={"content-type": "application/json"} | named, content=body)


def _says(body: bytes, status: int = 200, **headers: str) -> Odd:
    return lambda _page, _chance: json_answer(body, status, **headers)


def _raises(error: type[httpx.TransportError]) -> Odd:
    def answer(_page: bytes, _chance: random.Random) -> httpx.Response:
        raise error("as it is")

    return answer


def _changed(change: Callable[[Any], Any]) -> Odd:
    """A good page, read, changed and written again."""

    def answer(page: bytes, _chance: random.Random) -> httpx.Response:
        read = json.loads(page)
        changed = change(read["data"])
        read["data"] = read["data"] if changed is None else changed
        return json_answer(json.dumps(read, ensure_ascii=False).encode())

    return answer


def _written(write: Callable[[bytes], bytes], **headers: str) -> Odd:
    return lambda page, _chance: json_answer(write(page), 200, **headers)


def _row_spoilt(row: bytes) -> Odd:
    """A row of nobody's before the others."""
    return _written(lambda page: page.replace(b'"list":[', b'"list":[' + row + b",", 1))


def _cut(page: bytes, chance: random.Random) -> httpx.Response:
    return json_answer(page[: chance.randrange(len(page))])


def _set(name: str, value: Any) -> Odd:
    return _changed(lambda data: data.update({name: value}))


HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
STATUSES = (
    *(201, 203, 204, 206, 300, 301, 302, 304, 307, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411),
    *(413, 414, 415, 417, 418, 421, 422, 423, 425, 426, 429, 431, 444, 451, 499, 500, 501, 502, 503, 504),
    *(505, 507, 508, 511, 520, 521, 522, 524, 525, 530, 599, 999),
)
LOST: dict[str, Odd] = {
    **{f"status {status}": _says(HTML, status, location="/") for status in STATUSES},
    **{
        f"429, {wait!r}": _says(b"", 429, retry_after=wait)
        for wait in ("0", "1", "9" * 40, "-1", "soon", "Wed, 21 Oct 2099 07:28:00 GMT", "1e9", "")
    },
    **{
        error.__name__: _raises(error)
        for error in (
            *(httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.ReadTimeout),
            *(httpx.WriteError, httpx.RemoteProtocolError, httpx.CloseError, httpx.PoolTimeout),
        )
    },
    "HTML": _says(HTML, content_type="text/html"),
    "nothing": _says(b""),
    "spaces": _says(b" \r\n"),
    "null": _says(b"null"),
    "a number": _says(b"1"),
    "a text": _says(b'"busy"'),
    "an empty list": _says(b"[]"),
    "an empty object": _says(b"{}"),
    "zeros": _says(bytes(1000)),
    "PHP's warning": _says(b"<br />\n<b>Warning</b>: Out of memory"),
    "brackets": _says(b"[" * 100_000),
    "deep": _says(b'{"data":' * 5000 + b"1" + b"}" * 5000),
    "gzip that is none": _written(bytes, content_encoding="gzip"),
    "gzip twice": _written(lambda page: gzip.compress(gzip.compress(page)), content_encoding="gzip, gzip"),
    "br": _written(bytes, content_encoding="br"),
    "a bomb": lambda _page, _chance: json_answer(gzip_bomb(40 * 2**20), content_encoding="gzip"),
    "values and nothing else": _says(b'{"data":{"list":[' + b"1," * 2_000_001 + b"1]}}"),
    "busy": _says(b'{"code":1,"msg":"the system is busy"}'),
    "busy with a list": _says(b'{"code":500,"msg":"busy","data":{"list":[],"total":0}}'),
    "the session is over": _says(b'{"code":20006,"msg":"api_key expired"}'),
    "no right": _says(b'{"code":"20007","msg":"no right"}'),
    "no data": _says(b'{"code":0,"data":null}'),
    "data that is false": _says(b'{"code":0,"data":false}'),
    "data that is empty": _says(b'{"code":0,"data":""}'),
    "another object": _says(b'{"code":0,"data":{"count":1}}'),
    "cut": _cut,
}
"""Answers that hold no page."""
TAKEN: dict[str, Odd] = {
    "gzip": _written(gzip.compress, content_encoding="gzip"),
    "GB18030": _written(lambda page: page.decode().encode("gb18030", "replace")),
    "GBK, declared": _written(
        lambda page: page.decode().encode("gb18030", "replace"), content_type="application/json;charset=GBK"
    ),
    "UTF-16": _written(lambda page: page.decode().encode("utf-16")),
    "a BOM": _written(lambda page: b"\xef\xbb\xbf" + page),
    "a text type": _written(bytes, content_type="text/plain"),
    "an unknown charset": _written(bytes, content_type="application/json; charset=x-none"),
    "in a string": _written(lambda page: json.dumps(page.decode()).encode()),
    "a script behind it": _written(lambda page: page + b"<script></script>"),
    "the list as an object": _changed(
        lambda data: data.update(list={str(2 * n): row for n, row in enumerate(data["list"])})
    ),
    "rows as texts": _changed(lambda data: data.update(list=[json.dumps(row) for row in data["list"]])),
    "rows in arrays": _changed(lambda data: data.update(list=[[row] for row in data["list"]])),
    "every row twice": _changed(lambda data: data.update(list=data["list"] * 2)),
    "the other way round": _changed(lambda data: data["list"].reverse()),
    "data that is the list": _changed(lambda data: data["list"] or None),
    "total as text": _changed(lambda data: data.update(total=str(data["total"]))),
    "total null": _set("total", None),
    "total negative": _set("total", -1),
    "total of letters": _set("total", "many"),
    "total huge": _set("total", 10**40),
    "total NaN": _set("total", float("nan")),
    "total a list": _set("total", [1]),
    "total too low": _set("total", 0),
    "total far too high": _set("total", 10**7),
    "keys twice": _written(lambda page: page.replace(b'{"code"', b'{"data":{"list":[]},"code"', 1)),
    "code as text": _written(lambda page: page.replace(b'"code":0', b'"code":"0"', 1)),
    "NaN in a row": _row_spoilt(b'{"sn":"s-nan","score":NaN}'),
    "a bad escape in a row": _row_spoilt(b'{"sn":"s-escape","path":"D:\\x"}'),
    "a broken character": _row_spoilt(b'{"sn":"s-cut","name":"\xe5\xbc"}'),
    "a null row": _row_spoilt(b"null"),
    "a number for a row": _row_spoilt(b"5"),
    "an empty row": _row_spoilt(b"{}"),
    "a large row": _row_spoilt(b'{"sn":"s-large","name":"' + b"x" * 300_000 + b'"}'),
    "a deep row": _row_spoilt(b'{"a":' * 500 + b"1" + b"}" * 500),
    "half a pair": _row_spoilt(b'{"sn":"s-half","name":"\\ud83d"}'),
}
"""Answers from which every row of the page is had."""


@dataclass
class OddList(httpx.BaseTransport):
    """The platform's end of the wire."""

    platform: PlatformList
    spoil: Callable[[bytes], bytes] = lambda row: row
    """What becomes of each row as it is written."""
    odd: dict[str, Odd] = field(default_factory=dict)
    often: float = 0.0
    """How often an answer is one of `odd`."""
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 -- picks answers
    asked: list[str] = field(default_factory=list)
    """What each request was answered with: the path where it was good."""
    happened: Counter[str] = field(default_factory=Counter)
    shown: set[str] = field(default_factory=set)
    """The calls on all pages that came as they should, or could be read all the same."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        path = request.url.path
        asked = json.loads(request.read())
        uuids: list[str] = []
        if path == "/api/login":
            data: dict[str, Any] = {"user_sn": "SYSUSER|demo", "api_key": "k", "api_key_expire": "never"}
            good = json.dumps({"code": 0, "data": data}).encode()
        else:
            good, uuids = self._page(asked)
        name = ""
        if self.odd and path != "/api/login" and self.chance.random() < self.often:
            name = self.chance.choice(list(self.odd))
        self.asked.append(name or path)
        self.happened[name] += 1
        answer = self.odd[name](good, self.chance) if name else json_answer(good)
        if not name or name in TAKEN:
            self.shown.update(uuids)
        return answer

    def _page(self, asked: dict[str, Any]) -> tuple[bytes, list[str]]:
        session: Any = type("Session", (), {"login": ListLogin("", ("demo",))})()
        start, end = asked[NAMES.start], asked[NAMES.end]
        index, size = asked[NAMES.page_index], asked[NAMES.page_size]
        data = self.platform._page(session, (start, end), index, size, {})
        rows = [self.spoil(msgspec.json.encode(row)) for row in data["list"]]
        total = msgspec.json.encode(data.get("total"))
        page = b'{"code":0,"msg":"","data":{"list":[' + b",".join(rows) + b'],"total":' + total + b"}}"
        since, until = (datetime.fromisoformat(each) for each in (start, end))
        # The edges of a window are asked for twice: what lies on them counts for the window beside it.
        inside = [row["uuid"] for row in data["list"] if since < _created(row) < until]
        return page, inside


def _created(row: Record) -> datetime:
    return datetime.fromisoformat(row["created_at"])


@dataclass
class OddWorld(World):
    """A world whose list is asked through the product's own client."""

    listed: OddList | None = None

    def log_in(self) -> Sequence[Source]:
        api = ListApi(
            "http://platform.example", ACCESS_ID, ACCESS_SECRET, PLATFORM_ZONE, NAMES, requests_per_second=1e9
        )
        assert self.listed is not None
        return [
            OutcallList(
                api,
                clock=self.clock,
                chance=CHANCE,
                stop=threading.Event(),
                sleep=lambda _seconds: None,
                transport=self.listed,
            )
        ]


@contextmanager
def odd_world(path: Path, records: Sequence[Record] = ()) -> Iterator[tuple[OddWorld, OddList]]:
    """A ledger beside such a list."""
    with new_world(path, records) as plain:
        listed = OddList(plain.platform)
        yield OddWorld(plain.ledger, plain.platform, plain.clock, listed=listed), listed
