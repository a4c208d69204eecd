"""The token of a CRM account: got once for all workers, renewed before it ends, kept for the next start.

Begin at `Tokens.current()`.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from bridge.crm.connection import Connection, LatestToken
from bridge.crm.connector.auth import TokenRequest
from bridge.crm.connector.rates import parse_rate
from bridge.crm.rendering import Outputs
from bridge.crm.token_exchange import LONGEST_LIFE, exchange
from bridge.lib.errors import Transient, Unsent
from bridge.lib.stored_times import bounded


class TokenStore(Protocol):
    """Keeps tokens longer than the process lives."""

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """The token that was saved for an account; None: there is none."""

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Save a token durably: when a rotated refresh token is lost, only a person can log in again."""


class Tokens:
    """The tokens of one account, shared by all workers; one of them renews while the others wait."""

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
        """Tokens of one account, got by `requests`.

        A `borrowed` token is used while it is valid and never renewed here; the text says why.
        """
        self._account = account
        self._borrowed = borrowed
        self._requests = requests
        # After the secrets have changed, the saved token is not used: it may belong to another user.
        self._made_of = sha256(repr(sorted(secrets.items())).encode()).hexdigest()[:16]
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        longest = max((parse_rate(request.section.rate)[0] for request in requests), default=1)
        self._asked: deque[datetime] = deque(maxlen=longest)
        self.latest = LatestToken()
        """The newest outputs, for everybody who masks them in messages."""
        self._renew_at: datetime | None = None
        self._ends_at: datetime | None = None
        self._loaded = False
        self.version = 0
        """Grows with each token, so that a worker can say which one was refused."""

    @property
    def needed(self) -> bool:
        """Whether requests need a token at all."""
        return bool(self._requests)

    def current(self, connection: Connection) -> tuple[Outputs, int]:
        """The token and its version; it is got or renewed first where that is due.

        Raises:
            DeliveryError: no token can be got, and the present one has ended.
        """
        if not self._requests:
            return {}, 0
        with self._lock:
            self._load()
            if not self._fresh():
                try:
                    self._renew(connection)
                except Transient:
                    # The present token is used until it ends.
                    if not self._alive():
                        raise
            return dict(self.latest.outputs), self.version

    def refuse(self, version: int) -> None:
        """Note that the CRM refused this version, so that the next request gets a new token."""
        with self._lock:
            if version == self.version:
                self._renew_at = self._ends_at = self._clock()

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        saved = self._store.load_token(self._account)
        if saved is not None and saved.get("made_of") == self._made_of:
            self.latest.outputs = dict(saved["outputs"])
            self._renew_at, self._ends_at = (
                self._plausible_end(datetime.fromisoformat(saved[name])) if saved.get(name) else None
                for name in ("renew_at", "ends_at")
            )
            self.version = 1

    def _plausible_end(self, at: datetime) -> datetime:
        """The end of a saved token; one more than 10 years away is not believed, and the token has ended."""
        now = self._clock()
        return bounded(at, now, LONGEST_LIFE) or now

    def _fresh(self) -> bool:
        return self.version > 0 and (self._renew_at is None or self._clock() < self._renew_at)

    def _alive(self) -> bool:
        return self.version > 0 and (self._ends_at is None or self._clock() < self._ends_at)

    def _renew(self, connection: Connection) -> None:
        if self._borrowed:
            raise Transient(f"no token: {self._borrowed}", cause="a token that others renew has ended")
        now = self._clock()
        self._respect_rate(now)
        before = (self._renew_at, self._ends_at)
        lives: list[tuple[TokenRequest, timedelta]] = []
        for number, request in enumerate(self._requests):
            grant = exchange(connection, request, self.latest.outputs, now)
            self.latest.outputs = {**self.latest.outputs, **grant.outputs}
            if grant.life is not None:
                lives.append((request, grant.life))
            if number < len(self._requests) - 1:
                # If the next request fails, a refresh token that was just rotated would be lost: it is
                # saved now.
                self._save(*(now, now) if self.version == 0 else before)
        self._renew_at = min(
            (now + max(life - request.refresh_before, life / 2) for request, life in lives), default=None
        )
        self._ends_at = min((now + life for _, life in lives), default=None)
        self._save(self._renew_at, self._ends_at)
        self.version += 1

    def _save(self, renew_at: datetime | None, ends_at: datetime | None) -> None:
        saved = {"made_of": self._made_of, "outputs": self.latest.outputs}
        times = {"renew_at": renew_at, "ends_at": ends_at}
        self._store.save_token(
            self._account, {**saved, **{name: at and at.isoformat() for name, at in times.items()}}
        )

    def _respect_rate(self, now: datetime) -> None:
        """Count one more token request.

        Raises:
            Unsent: the connector's `rate` for tokens is used up.
        """
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
