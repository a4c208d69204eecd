"""More than a hundred odd answers that a CRM, or what stands before it, may give.

None of them is a lie: where one says yes, it was done. Each says whether the request takes effect, so that a
test knows what the CRM holds whatever was answered.
"""

import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass

import httpx

Make = Callable[[httpx.Request, random.Random], httpx.Response]
JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html; charset=utf-8"}
PLAIN = {"content-type": "text/plain"}
PAGES = (
    "<!DOCTYPE html><html><head><title>Attention Required!</title></head><body>blocked</body></html>",
    "<html>\r\n<head><title>404 Not Found</title></head><body><center>nginx/1.24.0</center></body></html>",
    "<?xml version='1.0'?><fault>sorry</fault>",
    "<br />\n<b>Fatal error</b>: Allowed memory size exhausted in <b>/var/www/index.php</b>",
    "<!-- captive portal --><form action='/login'><input name=password></form>",
)
PAGE_STATUSES = (
    200,
    201,
    301,
    400,
    401,
    403,
    404,
    405,
    409,
    410,
    413,
    422,
    429,
    451,
    500,
    502,
    503,
    504,
    520,
    999,
)
TEXTS = (
    "404 page not found",
    "Bad Gateway",
    "upstream connect error",
    "OK",
    "null",
    "0",
    '"',
    "[" * 5000,
    "{",
)
REFUSALS = (400, 402, 403, 405, 406, 409, 412, 415, 417, 418, 422, 424, 428, 451)


@dataclass(frozen=True)
class Odd:
    """One odd answer: `reads` and `writes` tell for which requests, `takes` whether they are done."""

    name: str
    make: Make
    takes: bool = False
    reads: bool = True
    writes: bool = True
    creates: bool = True
    """Whether it may be given to what makes an object; else only to changes."""


def _raising(error: type[httpx.TransportError]) -> Make:
    def make(request: httpx.Request, _chance: random.Random) -> httpx.Response:
        raise error("cut", request=request)

    return make


def _answer(status: int, content: str | bytes = "", headers: dict[str, str] | None = None) -> Make:
    raw = content.encode() if isinstance(content, str) else content
    return lambda _request, _chance: httpx.Response(status, content=raw, headers=headers or {})


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> Make:
    return lambda _request, _chance: httpx.Response(status, json=body, headers=headers or {})


def _foreign_id(_request: httpx.Request, chance: random.Random) -> httpx.Response:
    return httpx.Response(409, json={"id": f"c_{chance.randrange(1, 400)}"})


def _foreign_call_id(_request: httpx.Request, chance: random.Random) -> httpx.Response:
    return httpx.Response(409, json={"id": f"k_{chance.randrange(1, 400)}", "message": "there is one"})


def _pages() -> list[Odd]:
    return [
        Odd(f"page {status} {number}", _answer(status, page, HTML))
        for status in PAGE_STATUSES
        for number, page in enumerate(PAGES)
        if number == status % len(PAGES) or status in (200, 403, 404)
    ]


def _texts() -> list[Odd]:
    pairs = [(status, text) for status in (404, 502) for text in TEXTS]
    found = [Odd(f"text {status} {text[:9]}", _answer(status, text, PLAIN)) for status, text in pairs]
    # A plain 200 to a change may be the CRM's own yes: then it was done.
    yes = ("OK", "{")
    found += [Odd(f"text 200 {text}", _answer(200, text, PLAIN), reads=False, takes=True) for text in yes]
    return [
        *found,
        Odd("cut json", _answer(200, '{"items": [', JSON)),
        Odd("empty", _answer(200), writes=False),
    ]


def _refusals() -> list[Odd]:
    error = {"error": {"code": "refused", "message": "this is not to be", "field": "remark"}}
    found = [Odd(f"refused {status}", _json(status, error)) for status in REFUSALS]
    found += [Odd("gone", _json(404, error), reads=False), Odd("gone 410", _json(410, error), reads=False)]
    found += [Odd("empty 404", _answer(404), reads=False), Odd("empty 403", _answer(403))]
    return [
        *found,
        Odd("200 that is none", _json(200, error)),
        Odd("nulls", _json(400, {"error": None, "id": None})),
    ]


def _duplicates() -> list[Odd]:
    more = {"reads": False}
    odd: list[object] = [None, "", [], {}, True, 0.5, "x" * 3000, {"id": 1}, "王 芳", -1, 10**30]
    found = [Odd(f"duplicate {number}", _json(409, {"id": each}), **more) for number, each in enumerate(odd)]
    return [
        *found,
        Odd("duplicate of another", _foreign_id, **more),
        Odd("of a call", _foreign_call_id, **more),
    ]


def _yes() -> list[Odd]:
    """It was done, and the answer says so in a way that tells nothing, or nothing at all."""
    bodies: list[object] = [
        {},
        [],
        None,
        {"id": None},
        {"id": ""},
        {"id": {"x": 1}},
        {"id": [1]},
        {"id": True},
        [[[[1]]]],
    ]
    found = [
        Odd(f"yes {number}", _json(201, each), takes=True, reads=False) for number, each in enumerate(bodies)
    ]
    found += [
        Odd(f"yes empty {status}", _answer(status), takes=True, reads=False)
        for status in (200, 202, 204, 205)
    ]
    for error in (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError):
        found.append(Odd(f"lost {error.__name__}", _raising(error), takes=True))
    found += [Odd(f"done and {status}", _answer(status), takes=True) for status in (500, 502, 504)]
    return [*found, Odd("done and a page", _answer(403, PAGES[0], HTML), takes=True)]


def _no() -> list[Odd]:
    """It was not done, and the answer does not say so."""
    found = [Odd(f"cut {each.__name__}", _raising(each)) for each in (httpx.ReadError, httpx.ConnectError)]
    found += [Odd("202", _json(202, {"job": 7}), reads=False), Odd("202 empty", _answer(202))]
    # Of a change these would be a lie.
    lies = {"202", "202 empty"}
    found = [
        Odd(each.name, each.make, reads=each.reads, creates=True, writes=each.name not in lies)
        for each in found
    ]
    found += [Odd("202 to a create", _json(202, {"job": 7}), reads=False, writes=False)]
    bomb = gzip.compress(b"0" * 3_000_000)
    found += [Odd("bomb", _answer(500, bomb, {"content-encoding": "gzip", **JSON}))]
    found += [Odd("bad gzip", _answer(500, b"abc", {"content-encoding": "gzip"}))]
    found += [
        Odd(f"redirect {status}", _answer(status, "", {"location": "/x"})) for status in (302, 303, 307, 308)
    ]
    found += [Odd("many answers", _json(300, [{"id": 1}, {"id": 2}])), Odd("not modified", _answer(304))]
    waits = ("1", "0", "-5", "1e9", "soon", "Sun, 22 Nov 2026 08:00:07 GMT", "")
    found += [Odd(f"busy {wait}", _answer(429, "", {"retry-after": wait})) for wait in waits]
    found += [
        Odd(f"down {wait}", _answer(503, "", {"retry-after": wait} if wait else {})) for wait in ("2", "")
    ]
    found += [
        Odd(f"status {status}", _json(status, {})) for status in (401, 407, 408, 425, 500, 507, 511, 599)
    ]
    return found


ODD: tuple[Odd, ...] = (*_pages(), *_texts(), *_refusals(), *_duplicates(), *_yes(), *_no())
