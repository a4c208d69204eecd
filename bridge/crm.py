"""One CRM account over HTTP, as a connector describes it; a worker has its own.

A pool that many workers share is ten times slower and leaks its slots on cancellation,
so nothing is shared and nothing is cancelled.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from math import isfinite
from typing import Any
from urllib.parse import unquote

import httpx

from bridge.connector import Connector, Request
from bridge.errors import InDoubt, Permanent, Transient
from bridge.mapping import PlannedObject
from bridge.phone import mask_phones_in

# A refusal is shown with this much of its body: enough to name the field, not a page of HTML.
_EXCERPT = 300
# More is a mistake of the CRM, and would leave the calendar.
_LONGEST_RETRY_AFTER = 86400.0


class Crm:
    """Sends what a connector can say; every fault is a `DeliveryError`."""

    def __init__(
        self, connector: Connector, base_url: str, secrets: Mapping[str, str], timeout: float
    ) -> None:
        self._connector = connector
        self._secrets = tuple(value for value in secrets.values() if value)
        self._client = httpx.Client(
            base_url=base_url,
            headers=connector.headers(secrets),
            timeout=timeout,
            # A proxy of the environment is for the world outside, not for this machine.
            trust_env=not is_loopback(base_url),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def upsert(self, planned: PlannedObject) -> str:
        """Create or update an object by its key; the CRM's id for it."""
        request = self._connector.objects[planned.type].upsert
        names = {"key": dict(planned.key), "fields": dict(planned.fields)}
        answer = self._send(request, names, f"object {planned.name}")
        found: Any = answer
        for part in (request.section.id or "id").split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found in (None, ""):
            raise InDoubt(f"object {planned.name}: the answer carries no id at {request.section.id!r}")
        return str(found)

    def link(self, planned: PlannedObject, link: str, to: PlannedObject, to_id: str) -> None:
        """Link an object that exists to another."""
        request = self._connector.objects[planned.type].link[link]
        names = {"key": dict(planned.key), "to": {"id": to_id, "key": dict(to.key)}}
        self._send(request, names, f"object {planned.name}, link {link}")

    def _send(self, request: Request, names: Mapping[str, Any], what: str) -> Any:
        path, body = request.render(names)
        shown = f"{what}: {request.section.method} {mask_phones_in(unquote(path))}"
        try:
            response = self._client.request(request.section.method, path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Transient(
                f"{shown}: cannot reach the CRM: {error}", cause="the CRM cannot be reached"
            ) from error
        except httpx.HTTPError as error:
            message = f"{shown}: no answer: {type(error).__name__} {error}".rstrip()
            if request.section.idempotent:
                raise Transient(message, cause="the CRM did not answer") from error
            raise InDoubt(message, cause="the CRM did not answer") from error
        judge_answer(response, shown, self._secrets, idempotent=request.section.idempotent)
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise InDoubt(f"{shown}: answered {response.status_code} with a body that is no JSON") from error


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = httpx.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def judge_answer(response: httpx.Response, shown: str, secrets: Iterable[str], *, idempotent: bool) -> None:
    """Sort an answer: fine, worth another try, or a refusal that a person must look at."""
    status = response.status_code
    if response.is_success:
        return
    text = response.text
    for secret in secrets:
        text = text.replace(secret, "***")
    excerpt = mask_phones_in(" ".join(text[:_EXCERPT].split()))
    message = f"{shown} answered {status}: {excerpt}".rstrip(": ")
    cause = f"{shown.split(':', 1)[0]}: answered {status}"
    if status in (429, 503):
        raise Transient(message, cause=cause, retry_after=retry_after(response, datetime.now(UTC)))
    if status in (408, 425) or status >= 500:
        if idempotent:
            raise Transient(message, cause=cause, retry_after=retry_after(response, datetime.now(UTC)))
        raise InDoubt(message, cause=cause)
    if status in (401, 403):
        message += ". Check the destination's secrets and the rights of its user"
    raise Permanent(message, cause=cause)


def retry_after(response: httpx.Response, now: datetime) -> float | None:
    """The seconds that a `Retry-After` asks for, given as seconds or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
        return min(max(0.0, seconds), _LONGEST_RETRY_AFTER) if isfinite(seconds) else None
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)
