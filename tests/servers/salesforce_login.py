"""Salesforce's token endpoint: client credentials, or a signed assertion."""

from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.servers.wire import Answer

AUDIENCE = "https://login.salesforce.com"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LONGEST = timedelta(minutes=3)


class Login:
    """Who may come in: one client, and one key when assertions are wanted."""

    def __init__(self, *, assertions: bool) -> None:
        self._key = rsa.generate_private_key(65537, 2048) if assertions else None
        self.client_id = "3MVG9.client-of-the-tests"
        self.client_secret = "client-secret-of-the-tests"
        self.username = "integration@example.com"

    def secrets(self) -> dict[str, str]:
        """What the client keeps to itself."""
        if self._key is None:
            return {"client_id": self.client_id, "client_secret": self.client_secret}
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {"client_id": self.client_id, "private_key": pem.decode()}

    def settings(self) -> dict[str, str]:
        """What else an assertion needs."""
        return {} if self._key is None else {"username": self.username, "audience": AUDIENCE}

    def refused(self, form: dict[str, str], now: datetime) -> Answer | None:
        """Why there is no token for this form, or None."""
        grant = form.get("grant_type")
        if grant == "client_credentials" and self._key is None:
            if form.get("client_id") != self.client_id:
                return _error("invalid_client_id", "client identifier invalid")
            if form.get("client_secret") != self.client_secret:
                return _error("invalid_client", "invalid client credentials")
            return None
        if grant == JWT_GRANT and self._key is not None:
            return self._assertion_refused(form.get("assertion", ""), now)
        return _error("unsupported_grant_type", "grant type not supported")

    def _assertion_refused(self, assertion: str, now: datetime) -> Answer | None:
        key = self._key.public_key() if self._key else ""
        options: Any = {"verify_exp": False, "verify_iat": False, "require": ["iss", "sub", "aud", "exp"]}
        try:
            claims = jwt.decode(assertion, key, algorithms=["RS256"], audience=AUDIENCE, options=options)
        except jwt.InvalidTokenError as error:
            return _error("invalid_grant", f"invalid assertion: {error}")
        if claims["iss"] != self.client_id:
            return _error("invalid_client_id", "client identifier invalid")
        if claims["sub"] != self.username:
            return _error("invalid_grant", "user hasn't approved this consumer")
        until = float(claims["exp"]) - now.timestamp()
        if not 0 < until <= _LONGEST.total_seconds() + 5:
            return _error("invalid_grant", "assertion has expired, or lives longer than 3 minutes")
        return None


def _error(code: str, sentence: str) -> Answer:
    return Answer(400, {"error": code, "error_description": sentence})
