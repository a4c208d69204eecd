"""A job of a CRM: what answered "accepted, not done yet", and is asked until it has ended."""

from collections.abc import Callable
from datetime import datetime

from bridge.asking import Ask, Asking, Reply
from bridge.connector.compiling import Condition, Values
from bridge.connector.steps import Poll
from bridge.errors import Gone, InDoubt, Pending, Permanent
from bridge.expression import ExpressionError, as_text
from bridge.masking import LONGEST_READ
from bridge.phone import mask_phones_in
from bridge.values import parse_duration

# A connector's mistake must not ask without a pause, or come back after a month.
SHORTEST_WAIT = 1.0
LONGEST_WAIT = 3600.0
# A reason is shown with this much of its text.
_EXCERPT = 300


class JobFailed(Permanent):
    """The job has ended without an effect."""


class JobUnknown(InDoubt):
    """The CRM no longer knows the job, and so does nobody what became of it."""


def ask_job(
    poll: Poll, names: Values, what: str, began_at: datetime, clock: Callable[[], datetime]
) -> Asking[Reply]:
    """Ask a job once; the answer with which it ended well.

    Raises:
        Pending: it still runs; due again after the connector's `wait`.
        JobFailed: it failed, with the CRM's reason.
        JobUnknown: the CRM no longer knows it.
        InDoubt: it runs for longer than `longest`.
    """
    try:
        reply = yield Ask(poll, names, f"{what}, poll")
    except Gone as error:
        raise JobUnknown(
            f"{what}: the CRM no longer knows the job that it took: {error}",
            cause=f"{what}: the CRM no longer knows the job",
        ) from error
    answer = reply.answer.names
    if _decides(poll.failed, answer, what, "failed"):
        told = "" if poll.reason is None else as_text(poll.reason.of_answer(reply.answer) or "")
        reason = mask_phones_in(" ".join(told[:LONGEST_READ].split()))[:_EXCERPT] or "it gives no reason"
        raise JobFailed(f"{what}: the job failed: {reason}", cause=f"{what}: the job failed: {reason}")
    if _decides(poll.until, answer, what, "until"):
        return reply
    if (clock() - began_at) > poll.longest:
        raise InDoubt(
            f"{what}: the job runs since {began_at:%Y-%m-%d %H:%M:%S} UTC, which is longer than any should",
            cause=f"{what}: the job runs for too long",
        )
    raise Pending(
        f"{what}: the job still runs", cause=f"{what}: the job still runs", retry_after=_wait(poll, reply)
    )


def _decides(condition: Condition | None, names: Values, what: str, key: str) -> bool:
    if condition is None:
        return False
    try:
        return condition.decides(names)
    except ExpressionError as error:
        raise Permanent(f"{what}, poll: {key} cannot be decided: {error}. Correct the connector") from error


def _wait(poll: Poll, reply: Reply) -> float:
    try:
        if "{{" not in poll.wait.text:
            seconds = parse_duration(poll.wait.text).total_seconds()
        else:
            seconds = float(poll.wait.of_answer(reply.answer))
    except (TypeError, ValueError, ExpressionError):
        seconds = SHORTEST_WAIT
    return min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT)
