"""The outbound-call platform's list: a login with a signature, and pages of customer records."""

import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import md5
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event

from bridge.lib.errors import SourceRefused, SourceUnreachable
from bridge.lib.http.client import LIST_LIMITS, HttpClient, Received, UnacceptableAnswer
from bridge.lib.http.connection_errors import connection_remedy
from bridge.lib.masking import LONGEST_MESSAGE, Masking
from bridge.lib.timestamps import parse_time
from bridge.lib.whole_numbers import parse_int
from bridge.record.json_body import declared_charset
from bridge.source import Page, PageTooLarge
from bridge.source.list_api import ListApi
from bridge.source.outcall.answers import SUCCESS_CODES, AnswerReader, ListAnswer, UnreadableAnswer
from bridge.source.outcall.rate import RequestRate
from bridge.source.outcall.windows import window_texts

# Retries here take seconds; longer outages are left to the next scheduled run.
REQUEST_TRIES = 16
"""Of one page. A try may take four requests: even if 30 % of them fail, a long walk still ends."""
TRIES_WHILE_REFUSED = 5
FIRST_RETRY_WAIT, LONGEST_RETRY_WAIT = 0.1, 1.0
# A session is renewed this long before it ends.
RENEWED_BEFORE = timedelta(minutes=1)

TRIES_WHILE_SLOW = 3
"""Of one page whose answer does not come within the timeout, by default a minute each time."""
TRIES_WHILE_BROKEN = 4
"""Of one page whose answer is broken in the same way each time."""

_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NOT_SENT = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)

_HEADERS = {"Accept": "application/json", "Content-Type": "application/json;charset=utf-8"}

UNUSED_LIST_FILTERS = (
    *("dial_task_main_sn", "ids_json", "project_sn", "namephone", "status", "status_search"),
    *("talktimes_min", "talktimes_max", "turn_count_min", "turn_count_max", "score_min", "score_max"),
    *("asks_count_min", "asks_count_max", "hangup_serial_number", "qc_status", "return_visit", "area_code"),
    *("fs_intervention_time_min", "fs_intervention_time_max", "seating_assistance", "warning_times_min"),
    *("warning_times_max", "warning_results", "dynamic_labelling", "mark"),
)
"""The list's filters; all are sent, empty, as the platform's own clients do."""


class _Retriable(SourceUnreachable):
    """A fault that may pass within seconds; not before `retry_after` seconds where the platform said so."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Refused(_Retriable):
    """The platform answers and refuses, which some deployments also do when they are busy."""


class _TimedOut(_Retriable):
    """The answer did not come within the timeout."""


class _BrokenAnswer(_Retriable):
    """The answer cannot be read, or not to its end; `answer` is what could be read."""

    def __init__(self, message: str, answer: ListAnswer | None = None) -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(slots=True)
class _RetryLimit:
    """Ends the retries of one page; each kind of fault is counted apart, and has its own limit."""

    stop: threading.Event
    refusals: int = 0
    slow: int = 0
    broken: Counter[str] = field(default_factory=Counter)

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        self.refusals += isinstance(error, _Refused)
        self.slow += isinstance(error, _TimedOut)
        self.broken[str(error)] += isinstance(error, _BrokenAnswer)
        return (
            self.stop.is_set()
            or self.refusals >= TRIES_WHILE_REFUSED
            or self.slow >= TRIES_WHILE_SLOW
            or self.broken[str(error)] >= TRIES_WHILE_BROKEN
            or state.attempt_number >= REQUEST_TRIES
        )


@dataclass(frozen=True, slots=True)
class _Session:
    user: str
    key: str
    ends_at: datetime | None


class OutcallList:
    """See `bridge.source.Source`."""

    def __init__(
        self,
        api: ListApi,
        *,
        clock: Callable[[], datetime],
        rng: random.Random,
        stop: threading.Event,
        sleep: Callable[[float], None] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._api = api
        self._clock = clock
        self._rng = rng
        self._sleep = sleep or sleep_using_event(stop)
        self._stop = stop
        self._reader = AnswerReader(api.names)
        self._rate = RequestRate(api.requests_per_second, time.monotonic, self._sleep)
        self._session: _Session | None = None
        self._hidden: deque[str] = deque(maxlen=8)
        """Signatures and session keys, also expired ones: like the secret, they are masked in messages."""
        self._http = HttpClient(api.timeout, transport, LIST_LIMITS)

    @property
    def name(self) -> str:
        return self._api.access_id

    @property
    def user(self) -> str | None:
        return None if self._session is None else self._session.user

    def close(self) -> None:
        self._http.close()

    def page(self, since: datetime, until: datetime, index: int, size: int) -> Page:
        names = self._api.names
        start, end = window_texts(since, until, self._api.zone, self._api.time_format)
        asked = {
            **dict.fromkeys(UNUSED_LIST_FILTERS, ""),
            **self._api.filters,
            names.page_index: index + self._api.first_page,
            names.page_size: size,
            names.start: start,
            names.end: end,
        }
        retrying = Retrying(
            # Only these: any other exception is a bug and must be seen.
            retry=retry_if_exception_type(_Retriable),
            wait=self._wait,
            stop=_RetryLimit(self._stop),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            answer: ListAnswer = retrying(self._listed, asked)
        except _Refused as error:
            raise SourceRefused(str(error)) from error
        except _BrokenAnswer as error:
            if error.answer is None or self._stop.is_set():
                raise
            return Page(error.answer.rows or (), None, broken=str(error))
        return Page(answer.rows or (), answer.total)

    # -- trying again ---------------------------------------------------------------
    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        told = error.retry_after if isinstance(error, _Retriable) else 0.0
        growing: float = min(LONGEST_RETRY_WAIT, FIRST_RETRY_WAIT * 2.0 ** (state.attempt_number - 1))
        return max(min(told, 10.0), growing * self._rng.uniform(0.5, 1.0))

    # -- sessions -------------------------------------------------------------------
    def _listed(self, asked: Mapping[str, Any]) -> ListAnswer:
        """One page. An answer without data means that the session has ended: it is renewed once."""
        answer = self._list_once(asked)
        if answer.rows is None:
            self._session = None
            answer = self._list_once(asked)
        if answer.vacant and not answer.refused:
            # The new session sees no data either, so there are no rows.
            return replace(answer, rows=())
        if answer.rows is None:
            self._session = None
            raise self._refusal(answer, f"its list {self._lack(answer)}")
        return answer

    def _list_once(self, asked: Mapping[str, Any]) -> ListAnswer:
        session = self._current()
        names = self._api.names
        body = {names.user_sn: session.user, names.api_key: session.key, **asked}
        answer = self._ask(self._api.list_path, body)
        if answer.refused and answer.rows is not None:
            raise self._refusal(answer, "its list says no")
        if answer.broken:
            raise _BrokenAnswer(self._told(f"a page of its list is broken: {answer.broken}"), answer)
        return answer

    def _refusal(self, answer: ListAnswer, what: str) -> _Retriable:
        if not answer.refused:
            # Each try logs in again, so the same answer each time must end the retries early.
            return _BrokenAnswer(self._told(f"{what}: {answer.message}" if answer.message else what))
        return _Refused(self._told(f"{what}: code {answer.code} {answer.message}".rstrip()))

    def _lack(self, answer: ListAnswer) -> str:
        if not answer.refused and not answer.data and self._api.names.data not in answer.members:
            members = ", ".join(sorted(answer.members))[:200] or "nothing"
            return (
                f"answers without data, also to a new session: its answer holds {members},"
                f" and names.data of this login is {self._api.names.data!r}"
            )
        if answer.refused or not answer.data or self._api.names.api_key in answer.data:
            return "answers without data, also to a new session"
        named = ", ".join(sorted(answer.data))[:200]
        return (
            f"has no {self._api.names.list!r} in its data, which holds {named}:"
            " set names.list of this login to what holds the rows"
        )

    def _current(self) -> _Session:
        session = self._session
        if session is None or (session.ends_at and self._clock() >= session.ends_at - RENEWED_BEFORE):
            session = self._session = self._log_in()
        return session

    def _log_in(self) -> _Session:
        answer = self._ask(self._api.login_path, self._credentials())
        names, data = self._api.names, answer.data
        key, user = data.get(names.api_key), data.get(names.user_sn)
        if (isinstance(answer.code, int) and answer.code not in SUCCESS_CODES) or not key or user is None:
            said = f": code {answer.code} {answer.message}".rstrip() if answer.code is not None else ""
            raise SourceRefused(
                self._told(
                    f"the login is refused{said}. Check access_id, access_secret, login,"
                    " timezone and this machine's clock"
                )
            )
        ends_at = parse_time(parse_int(data.get(names.api_key_expire)), self._api.zone)
        if ends_at is not None and ends_at - RENEWED_BEFORE <= self._clock():
            # The two clocks differ: the session is used until the platform refuses it.
            ends_at = None
        self._hide(str(key))
        return _Session(str(user), str(key), ends_at)

    def _credentials(self) -> dict[str, Any]:
        api = self._api
        if api.login == "password":
            # Seen in one deployment, with eight hexadecimal digits whose meaning is not known.
            url = f"{self._rng.getrandbits(32):08x}"
            return {"username": api.access_id, "password": api.access_secret, "from": "2", "url": url}
        stamp = _shown(self._clock().astimezone(api.zone).replace(tzinfo=None))
        signed = f"{api.access_id}{api.access_secret}{stamp}".encode()
        sign = md5(signed).hexdigest()  # noqa: S324 -- the platform's own
        self._hide(sign)
        return {"api_access_id": api.access_id, "from": 1, "sign": sign, "timestamp": stamp}

    # -- the wire -------------------------------------------------------------------
    def _ask(self, path: str, body: Mapping[str, Any]) -> ListAnswer:
        self._rate.wait()
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            url = httpx.URL(f"{self._api.base_url}{path}")
            received = self._http.send("POST", url, _HEADERS, content)
        except _NO_CONNECTION as error:
            kind = _TimedOut if isinstance(error, httpx.TimeoutException) else _Retriable
            why = connection_remedy(error, "platform")
            raise kind(self._told(f"it cannot be reached: {error}{'. ' if why else ''}{why}")) from error
        except _NOT_SENT as error:
            raise SourceRefused(self._told(f"{path} cannot be asked: {error}. Check base_url")) from error
        except UnacceptableAnswer as error:
            if error.too_large:
                raise PageTooLarge(self._told(f"{path}: {error}. Ask for a smaller page_size")) from error
            raise _BrokenAnswer(self._told(f"{path}: {error}")) from error
        except httpx.HTTPError as error:
            kind = _TimedOut if isinstance(error, httpx.TimeoutException) else _Retriable
            raise kind(self._told(f"no answer from {path}: {type(error).__name__} {error}")) from error
        self._check(received, path)
        try:
            declared = declared_charset(received.headers.get("content-type", "").encode("ascii", "replace"))
            return self._reader.read(received.body, declared)
        except UnreadableAnswer as error:
            raise _BrokenAnswer(self._told(f"{path} answers what is no JSON object: {error}")) from error

    def _check(self, received: Received, path: str) -> None:
        status = received.status
        if status in (408, 425, 429) or status >= 500:
            told = received.headers.get("retry-after", "")
            raise _Retriable(self._told(f"{path} answers {status}"), _seconds(told))
        if status in (401, 403):
            self._session = None
            raise _Refused(self._told(f"{path} answers {status}"))
        if not 200 <= status < 300:
            raise SourceRefused(
                self._told(f"{path} answers {status}. Check base_url, login_path and list_path")
            )

    def _hide(self, secret: str) -> None:
        if secret not in self._hidden:
            self._hidden.append(secret)

    def _told(self, what: str) -> str:
        told = Masking((self._api.access_secret, *self._hidden)).masked(what, 2 * LONGEST_MESSAGE)
        return f"the platform at {self._api.base_url} (login {self._api.access_id}): {told}"


def _shown(local: datetime) -> str:
    return f"{local:%Y-%m-%d %H:%M:%S}"


def _seconds(told: str) -> float:
    """A `Retry-After` in seconds, 0 if it is none; the caller bounds it."""
    return float(told) if told.isascii() and told.isdecimal() and len(told) < 10 else 0.0
