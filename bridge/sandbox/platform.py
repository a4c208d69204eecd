"""The sandbox platform: makes up calls, pushes each with up to three tries like the real one, and lists them.

Begin at `SandboxPlatform.push_batch()`.
"""

import asyncio
import json
import random
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.lib.clocks import now_utc
from bridge.lib.errors import CallbridgeError
from bridge.sandbox.platform_faults import Disturbances
from bridge.sandbox.platform_list import ListAccess, ListLogin, PlatformList
from bridge.sandbox.push_plan import PlannedPush, endless, paced, plan_batch
from bridge.sandbox.records import Record, generate, later_edit, stream

PUSH_TRIES = 3
ACCESS_ID, ACCESS_SECRET = "sandbox", "sandbox-secret"
"""The login of a sandbox platform by default."""


@dataclass(frozen=True, slots=True)
class Push:
    """The result of one push: the answer to each try, and whether one of them was `SUCCESS`."""

    uuid: str
    reason: str
    updated_at: str
    answers: tuple[str, ...]
    acknowledged: bool


@dataclass(slots=True)
class SandboxCall:
    """One call as the platform knows it."""

    record: Record
    pushes: int = 0
    tries: int = 0
    acknowledged: bool = False


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    seed: int | None = None
    wait: bool = True
    lost: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0


class _Edit(msgspec.Struct, forbid_unknown_fields=True):
    share: Annotated[float, msgspec.Meta(gt=0, le=1)]
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Pushing:
    """How calls are pushed: at most `workers` at once; `retry_delay` and `timeout` in seconds."""

    workers: int = 4
    retry_delay: float = 1.0
    timeout: float = 10.0


class SandboxPlatform:
    """Pushes made-up calls to one callback URL, which may be set later than at construction, and lists them.

    What its list does wrong is told by `disturbances`, or later by `POST /_faults`.
    """

    def __init__(
        self,
        callback_url: str = "",
        *,
        seed: int = 1,
        user: str = "demo",
        pushing: Pushing | None = None,
        clock: Callable[[], datetime] = now_utc,
        access: ListAccess | None = None,
        disturbances: Disturbances | None = None,
    ) -> None:
        """Make a platform without calls; the same `seed` makes the same calls."""
        self.callback_url = callback_url
        self._seeds = random.Random(seed)  # noqa: S311  # sample data, not secrets
        self._user = user
        self._pushing = pushing or Pushing()
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: dict[str, SandboxCall] = {}
        self._pushes: list[Push] = []
        self._running: list[threading.Event] = []
        self.list = PlatformList(
            clock,
            access or ListAccess({ACCESS_ID: ListLogin(ACCESS_SECRET, (user,))}),
            disturbances=disturbances,
            seed=seed,
        )
        self.app = Starlette(
            routes=[
                Route("/_records", self._show_records),
                Route("/_push", self._start_batch, methods=["POST"]),
                Route("/_edit", self._start_edit, methods=["POST"]),
                Route("/_stop", self._stop_all, methods=["POST"]),
                *self.list.routes,
            ],
            lifespan=self._lifespan,
        )

    def push_batch(self, count: int, seed: int | None = None, lost: float = 0.0) -> list[Push]:
        """Push `count` new calls, then duplicates, later edits and older states of some of them.

        A share of the calls, `lost`, is never pushed and only listed. Returns when every push has its
        outcome, or after `stop()`.
        """
        seed = self._seeds.getrandbits(32) if seed is None else seed
        rng = random.Random(seed)  # noqa: S311  # sample data, not secrets
        records = generate(count, seed, self._clock(), self._user)
        unpushed = set(rng.sample(range(count), round(count * lost))) if lost else set[int]()
        self.add(records[index] for index in unpushed)
        pushed = [record for index, record in enumerate(records) if index not in unpushed]
        first, then = plan_batch(pushed, rng, self._clock()) if pushed else ([], [])
        stop = threading.Event()
        with self._registered(stop):
            return self._drive(iter(first), stop) + self._drive(iter(then), stop)

    def add(self, records: Iterable[Record]) -> None:
        """Add or change calls without a push."""
        with self._lock:
            for record in records:
                self._know(record)

    def edit(self, share: float, seed: int = 1) -> list[str]:
        """Edit a share of the calls as a person does, without a push; return their uuids."""
        rng = random.Random(seed)  # noqa: S311  # sample data, not secrets
        known = self.list.records()
        chosen = rng.sample(sorted(known), max(1, round(len(known) * share))) if known else []
        self.add(later_edit(known[uuid], rng, self._clock()) for uuid in chosen)
        return chosen

    def _know(self, record: Record) -> SandboxCall:
        call = self._calls.setdefault(record["uuid"], SandboxCall(record))
        if record["updated_at"] >= call.record["updated_at"]:
            call.record = record
            self.list.put(record)
        return call

    def run(self, stop: threading.Event, *, rate: float = 1.0) -> None:
        """Push `rate` new calls a second, and what follows some of them, until `stop` is set."""
        if rate <= 0:
            raise CallbridgeError(f"the rate is calls a second and above 0, not {rate}")
        rng = random.Random(self._seeds.getrandbits(32))  # noqa: S311  # sample data, not secrets
        records = stream(rng, self._clock, self._user)
        with self._registered(stop):
            self._drive(endless(paced(records, rate, stop), rng, self._clock), stop)

    def stop(self) -> None:
        """End what runs now after the pushes on the wire; tries not yet made are not made."""
        with self._lock:
            for event in self._running:
                event.set()

    def pushes(self) -> list[Push]:
        """All finished pushes."""
        with self._lock:
            return list(self._pushes)

    def records(self) -> dict[str, Any]:
        """All calls, each with its newest record and whether a push of it was acknowledged."""
        with self._lock:
            entries = [
                {
                    "uuid": uuid,
                    "base_info": call.record["base_info"],
                    "sn": call.record["sn"],
                    "record": call.record,
                    "pushes": call.pushes,
                    "acknowledged": call.acknowledged,
                    "tries": call.tries,
                }
                for uuid, call in self._calls.items()
            ]
        acknowledged = sum(entry["acknowledged"] for entry in entries)
        return {"records": entries, "calls": len(entries), "acknowledged": acknowledged}

    @contextmanager
    def _registered(self, stop: threading.Event) -> Iterator[None]:
        with self._lock:
            self._running.append(stop)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(stop)

    def _drive(self, jobs: Iterator[PlannedPush], stop: threading.Event) -> list[Push]:
        """Push everything that the iterator gives, on a few threads; the iterator sets the pace."""
        _refuse_url(self.callback_url)
        done: list[Push] = []
        taking = threading.Lock()

        def work() -> None:
            # `trust_env=False`: a proxy of the environment cannot reach loopback.
            with httpx.Client(timeout=self._pushing.timeout, trust_env=False, verify=_tls()) as client:
                while not stop.is_set():
                    with taking:
                        job = next(jobs, None)
                    if job is None:
                        return
                    done.append(self._push(client, job, stop))

        threads = [
            threading.Thread(target=work, name="sandbox-push", daemon=True)
            for _ in range(self._pushing.workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return done

    def _push(self, client: httpx.Client, job: PlannedPush, stop: threading.Event) -> Push:
        record = job.record
        with self._lock:
            call = self._know(record)
        answers: list[str] = []
        acknowledged = False
        body = json.dumps(record, ensure_ascii=False).encode()
        while len(answers) < PUSH_TRIES and not acknowledged:
            if answers and stop.wait(self._pushing.retry_delay):
                break
            answer, acknowledged = _try(client, self.callback_url, body)
            answers.append(answer)
        push = Push(record["uuid"], job.reason, record["updated_at"], tuple(answers), acknowledged)
        with self._lock:
            call.pushes += 1
            call.tries += len(answers)
            call.acknowledged = call.acknowledged or acknowledged
            self._pushes.append(push)
        return push

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        self.stop()

    async def _show_records(self, _request: Request) -> Response:
        return JSONResponse(self.records())

    async def _start_edit(self, request: Request) -> Response:
        """Edit a share of the calls, without a push."""
        try:
            asked = msgspec.json.decode(await request.body(), type=_Edit)
        except msgspec.DecodeError as error:
            return JSONResponse(
                {"error": {"code": "invalid_request", "message": str(error)}}, status_code=422
            )
        return JSONResponse({"edited": self.edit(asked.share, asked.seed)})

    async def _stop_all(self, _request: Request) -> Response:
        self.stop()
        return Response(status_code=204)

    async def _start_batch(self, request: Request) -> Response:
        """Push a batch and answer with its counts; with `"wait": false` answer at once."""
        try:
            asked = msgspec.json.decode(await request.body(), type=_Asked)
            _refuse_url(self.callback_url)
        except (msgspec.DecodeError, CallbridgeError) as error:
            return JSONResponse(
                {"error": {"code": "invalid_request", "message": str(error)}}, status_code=422
            )
        outcome: Future[list[Push]] = Future()

        def work() -> None:
            try:
                outcome.set_result(self.push_batch(asked.count, asked.seed, asked.lost))
            except Exception as error:  # noqa: BLE001  # handed to the request that waits for it
                outcome.set_exception(error)

        threading.Thread(target=work, name="sandbox-batch", daemon=True).start()
        if not asked.wait:
            return JSONResponse({"calls": asked.count}, status_code=202)
        # Shielded: the batch goes on when the client closes its connection.
        pushes = await asyncio.shield(asyncio.wrap_future(outcome))
        acknowledged = sum(push.acknowledged for push in pushes)
        return JSONResponse({"calls": asked.count, "pushes": len(pushes), "acknowledged": acknowledged})


@cache
def _tls() -> ssl.SSLContext:
    """One TLS context for all clients: reading the certificates takes longer than a small batch."""
    return httpx.create_ssl_context(trust_env=False)


def _refuse_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise CallbridgeError(f"the callback URL is not a URL: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise CallbridgeError("the callback URL must start with http:// or https:// and a host")


def _try(client: httpx.Client, url: str, body: bytes) -> tuple[str, bool]:
    try:
        response = client.post(url, content=body, headers={"content-type": "application/json"})
    except httpx.HTTPError as error:
        return type(error).__name__, False
    acknowledged = response.is_success and response.content == b"SUCCESS"
    return f"{response.status_code} {response.text[:40]}".rstrip(), acknowledged
