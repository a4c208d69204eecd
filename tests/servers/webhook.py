"""A receiver of signed events, as Standard Webhooks describes one.

    POST <any path>, with a body of JSON and the headers
    webhook-id: <the event's, the same when it is sent again>
    webhook-timestamp: <seconds since 1970, of this attempt>
    webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">   (several, with blanks between)

A secret that begins with `whsec_` is base64 after it; any other is the key as it stands. A timestamp more
than five minutes off, or no good signature, is a 401. An event is kept once: the same id again is a 200 too,
and changes nothing. No token is asked for; `expire_token` rotates the secret instead.
"""

import base64
import binascii
import hashlib
import hmac
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from tests.servers.base import CALL, CONTACT, VendorServer
from tests.servers.wire import Answer, Asked

_TOLERANCE = timedelta(minutes=5)
_SECRET = "whsec_" + base64.b64encode(b"signing-key-of-the-tests").decode()


class WebhookReceiver(VendorServer):
    """Keeps what it got under `calls()`, one flat record an event: `id`, and the body's top level.

    A body that `is_contact` admits is kept under `contacts()` instead.
    """

    name: ClassVar[str] = "webhook"

    def __init__(
        self,
        *,
        secret: str = _SECRET,
        is_contact: Callable[[dict[str, Any]], bool] = lambda _body: False,
        **common: Any,
    ) -> None:
        super().__init__(static_token=secret, **common)
        self.secrets = {"signing_key": secret}
        self.deliveries: list[str] = []
        """The ids of good deliveries as they came, repeated ones too."""
        self._is_contact = is_contact
        self._secret = secret
        self._arriving = ""

    def linked_contacts(self, call: dict[str, Any]) -> list[str]:
        """An event is linked to nothing."""
        del call
        return []

    def kind_of(self, asked: Asked) -> str:
        """Everything is a write."""
        del asked
        return "write"

    def unauthorized(self, asked: Asked) -> Answer | None:
        """The signature stands for a token."""
        if not self.is_valid(self._secret):
            return _refused(401, "no matching signature")
        headers = asked.headers
        identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not identity or not (stamp.isascii() and stamp.isdecimal()):
            return _refused(400, "webhook-id and webhook-timestamp are needed")
        if abs(self.clock() - datetime.fromtimestamp(int(stamp), UTC)) > _TOLERANCE:
            return _refused(401, "the timestamp is too far off")
        signed = sign(self._secret, identity, stamp, asked.body)
        given = headers.get("webhook-signature", "").split(" ")
        if not any(hmac.compare_digest(one.encode(), signed.encode()) for one in given):
            return _refused(401, "no matching signature")
        return None

    def limit_answer(self, wait: float) -> Answer:
        """A 429 that says for how long."""
        return Answer(429, {"error": "slow down"}, {"retry-after": str(math.ceil(wait))})

    def error_answer(self, status: int) -> Answer:
        """A page of whatever stands in front."""
        return Answer(status, f"<html>{status}</html>", {"content-type": "text/html"})

    def carry_out(self, asked: Asked) -> Answer:
        """Keep an event, once."""
        body = asked.json()
        if asked.method != "POST" or not isinstance(body, dict):
            return _refused(400, "POST a JSON object")
        identity = asked.headers["webhook-id"]
        self.deliveries.append(identity)
        kind = CONTACT if self._is_contact(body) else CALL
        if identity in self.objects[kind] or identity in self.deleted[kind]:
            return Answer(200, {"duplicate": True})
        refused = self.refused_field(body)
        if refused is not None:
            return _refused(422, f"{refused} is not acceptable")
        self._arriving = identity
        self.create(kind, body)
        return Answer(202, {"accepted": identity})

    def new_id(self, kind: str) -> str:
        """The sender chose it."""
        return self._arriving or super().new_id(kind)


def sign(secret: str, identity: str, stamp: str, body: bytes) -> str:
    """One signature as it stands in the header."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error as error:
            raise ValueError("after whsec_ a secret is base64") from error
    digest = hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _refused(status: int, message: str) -> Answer:
    return Answer(status, {"error": message})
