"""A CRM account's token: got once for all workers, renewed in time, kept where a restart finds it."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from bridge.crm.connector.auth import REFRESH_TOKEN, TokenRequest
from bridge.crm.connector.compiling import Answer, Values, dig
from bridge.crm.connector.limits import parse_rate
from bridge.crm.connector.outcome import Meaning
from bridge.crm.connector.request import Rendered
from bridge.lib.errors import Permanent, Transient, Unsent
from bridge.lib.expression import as_text
from bridge.lib.masking import LONGEST_READ
from bridge.lib.stored_times import bounded

Outputs = dict[str, Any]
# More would leave the calendar.
_LONGEST_LIFE = timedelta(days=3650)


class TokenStore(Protocol):
    """Where tokens outlive the process."""

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """What was saved for an account."""

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Keep it, durably: a rotated refresh token that is lost locks us out."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a worker lends for an exchange: its connection and its way to judge answers."""

    send: Callable[[Rendered, TokenRequest], Answer]
    judge: Callable[[Answer, TokenRequest], Meaning]
    names: Callable[[Outputs], Values]


class Tokens:
    """The tokens of one account; shared by all workers, one exchange at a time."""

    def __init__(
        self,
        account: str,
        requests: tuple[TokenRequest, ...],
        secrets: Mapping[str, str],
        store: TokenStore,
        clock: Callable[[], datetime],
        *,
        borrowed: str = "",
    ) -> None:
        """With `borrowed`, which says why, a token is used while it lives and never renewed."""
        self._account = account
        self._borrowed = borrowed
        self._requests = requests
        # A token of other secrets is no longer ours.
        self._made_of = sha256(repr(sorted(secrets.items())).encode()).hexdigest()[:16]
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        longest = max((parse_rate(each.section.rate)[0] for each in requests), default=1)
        self._asked: deque[datetime] = deque(maxlen=longest)
        self._outputs: Outputs = {}
        self._renew_at: datetime | None = None
        self._ends_at: datetime | None = None
        self._loaded = False
        self.version = 0
        """Grows with each token: a worker whose token was refused says which one that was."""

    @property
    def needed(self) -> bool:
        """Whether requests need a token at all."""
        return bool(self._requests)

    def current(self, exchange: Exchange) -> tuple[Outputs, int]:
        """The token, got or renewed where that is due, and its version."""
        if not self._requests:
            return {}, 0
        with self._lock:
            self._load()
            if not self._fresh():
                try:
                    self._renew(exchange)
                except Transient:
                    # One that still lives serves as long as no new one is to be had.
                    if not self._alive():
                        raise
            return dict(self._outputs), self.version

    @property
    def outputs(self) -> Outputs:
        """All that is known now, for who must not show it."""
        return self._outputs

    def refuse(self, version: int) -> None:
        """The CRM refused this version: the next request gets a new one, unless one came meanwhile."""
        with self._lock:
            if version == self.version:
                self._renew_at = self._ends_at = self._clock()

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        saved = self._store.load_token(self._account)
        if saved is not None and saved.get("made_of") == self._made_of:
            self._outputs = dict(saved["outputs"])
            self._renew_at, self._ends_at = (
                self._believed(datetime.fromisoformat(saved[name])) if saved.get(name) else None
                for name in ("renew_at", "ends_at")
            )
            self.version = 1

    def _believed(self, at: datetime) -> datetime:
        """When a saved token ends; one that says more than a token's longest life has ended."""
        now = self._clock()
        return bounded(at, now, _LONGEST_LIFE) or now

    def _fresh(self) -> bool:
        return self.version > 0 and (self._renew_at is None or self._clock() < self._renew_at)

    def _alive(self) -> bool:
        return self.version > 0 and (self._ends_at is None or self._clock() < self._ends_at)

    def _renew(self, exchange: Exchange) -> None:
        if self._borrowed:
            raise Transient(f"no token: {self._borrowed}", cause="a token that others renew has ended")
        now = self._clock()
        self._ask_slowly(now)
        before = (self._renew_at, self._ends_at)
        lives: list[tuple[TokenRequest, timedelta]] = []
        for number, request in enumerate(self._requests):
            names = exchange.names(self._outputs)
            rendered = request.render({**names, "assertion": _assertion(request, names, now)})
            answer = exchange.send(rendered, request)
            meaning = exchange.judge(answer, request)
            _refuse(meaning, answer)
            self._outputs = {**self._outputs, **self._given(request, answer, meaning)}
            life = _life(request, answer)
            if life is not None:
                lives.append((request, life))
            if number < len(self._requests) - 1:
                # A refresh token that was rotated is lost if the next exchange fails, unless it is kept now.
                self._save(*(now, now) if self.version == 0 else before)
        self._renew_at = min(
            (now + max(life - each.refresh_before, life / 2) for each, life in lives), default=None
        )
        self._ends_at = min((now + life for _, life in lives), default=None)
        self._save(self._renew_at, self._ends_at)
        self.version += 1

    def _given(self, request: TokenRequest, answer: Answer, meaning: Meaning) -> Outputs:
        """What an answer gives; only a refresh token may be left out, which then stays as it is."""
        given: Outputs = {}
        for name, pick in request.outputs.items():
            value = pick.of_answer(answer)
            if value not in (None, ""):
                given[name] = value
            elif name != REFRESH_TOKEN:
                raise Transient(
                    f"no token: the CRM answered {_told(meaning, answer)}, and nothing at {pick.text!r}"
                    f" for {name}. {meaning.says or 'Check the secrets and the connector'}",
                    cause="no token in the token's answer",
                    blame="credentials",
                )
        return given

    def _save(self, renew_at: datetime | None, ends_at: datetime | None) -> None:
        saved = {"made_of": self._made_of, "outputs": self._outputs}
        times = {"renew_at": renew_at, "ends_at": ends_at}
        self._store.save_token(
            self._account, {**saved, **{name: at and at.isoformat() for name, at in times.items()}}
        )

    def _ask_slowly(self, now: datetime) -> None:
        for request in self._requests:
            count, seconds = parse_rate(request.section.rate)
            recent = [at for at in self._asked if 0 <= (now - at).total_seconds() < seconds]
            if len(recent) >= count:
                wait = seconds - (now - recent[0]).total_seconds()
                raise Unsent(
                    f"asked for a token {count} times in {seconds:g} s already",
                    cause="too many tokens asked for",
                    retry_after=wait,
                )
        self._asked.append(now)


def _assertion(request: TokenRequest, names: Values, now: datetime) -> str | None:
    """The signed JWT of a `jwt_bearer` grant."""
    if request.assertion is None:
        return None
    import jwt  # noqa: PLC0415 -- 8 MB that few CRMs need

    section = request.assertion.section
    times = {"iat": int(now.timestamp()), "exp": int((now + section.lifetime).timestamp())}
    try:
        return jwt.encode(
            {**times, **request.assertion.claims.fill(names)},
            names["secrets"].get(section.key, ""),
            algorithm=section.algorithm,
        )
    except (TypeError, ValueError, jwt.PyJWTError) as error:
        raise Permanent(
            f"no token: the secret {section.key} is no key for {section.algorithm}: {type(error).__name__}."
            " Give a private key in PEM",
            cause="the private key cannot sign",
        ) from error


def _life(request: TokenRequest, answer: Answer) -> timedelta | None:
    if request.expires_in is not None:
        try:
            life = timedelta(seconds=float(request.expires_in.of_answer(answer)))
        except (TypeError, ValueError, OverflowError):
            return request.section.lifetime
        if life > timedelta(0):
            return min(life, _LONGEST_LIFE)
    return request.section.lifetime


def _told(meaning: Meaning, answer: Answer) -> str:
    """What an answer says is wrong; never the whole of it, which may hold a token."""
    said = [as_text(dig(answer.body, name)) for name in ("error", "error_description")]
    own = [meaning.code, meaning.message if meaning.named else ""]
    parts = dict.fromkeys(part for part in (as_text(answer.status), *own, *said) if part)
    # What a page says is not quoted either: it may be a form with the login in it.
    return " ".join(parts)[:LONGEST_READ] + (", which is not the CRM's own answer" if meaning.foreign else "")


def _refuse(meaning: Meaning, answer: Answer) -> None:
    # An answer that no rule knows is judged by what it carries.
    if meaning.result in ("ok", "done") or (meaning.unknown and answer.body is not None):
        return
    message = f"no token: the CRM answered {_told(meaning, answer)}"
    if meaning.result in ("unprocessed", "transient", "quota", "in_doubt"):
        raise Transient(message, cause="the CRM gives no token", retry_after=meaning.wait, blame="account")
    raise Transient(
        f"{message}. {meaning.says or 'Check the secrets of the destination'}",
        cause="the CRM refuses our credentials",
        blame="credentials",
    )
