"""Requests in a connector file, as they are written: how each is sent, and what its answers mean."""

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bridge.crm.connector.rates import parse_rate
from bridge.lib import patterns
from bridge.lib.values import Count, Duration, SettingError, Span, listed, parse_duration

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Result = Literal[
    "ok",
    "done",
    "duplicate",
    "gone",
    "unprocessed",
    "transient",
    "quota",
    "refresh",
    "permanent",
    "in_doubt",
]
Several = Literal["first", "oldest", "newest", "park"]

_STATUS = re.compile(r"[1-5](?:\d\d|xx)")
_RESET = re.compile(r"([01]\d|2[0-3]):[0-5]\d(?: \S+)?")


def _status(value: object) -> str:
    text = str(value)
    if isinstance(value, bool) or not _STATUS.fullmatch(text):
        raise SettingError("is no HTTP status", 'write it like 404 or "5xx"')
    return text


def _is_rate(text: str) -> bool:
    try:
        parse_rate(text)
    except ValueError:
        return False
    return True


def _rate(value: object) -> str:
    if not isinstance(value, str) or not _is_rate(value):
        raise SettingError("is no rate", 'write it like "100/10s" or "5/s"')
    return value


def _pattern(value: str) -> str:
    try:
        patterns.refuse_unsafe(value)
    except patterns.PatternError as error:
        raise SettingError(str(error), error.remedy) from None
    return value


def reset_time(value: str) -> str:
    """The time of day at which a quota begins anew, as it is written."""
    remedy = 'write it like "00:00 Asia/Shanghai"'
    if not _RESET.fullmatch(value):
        raise SettingError("is no time of day", remedy)
    try:
        ZoneInfo(value.partition(" ")[2] or "UTC")
    # A zone that is missing is a KeyError; a folder of zones or a path upwards are the others.
    except (KeyError, OSError, ValueError):
        raise SettingError("names no known time zone", remedy) from None
    return value


def _until(value: str) -> str:
    return value if "{{" in value else reset_time(value)


def _wait(value: str) -> str:
    if "{{" not in value:
        parse_duration(value)
    return value


Status = Annotated[str, BeforeValidator(_status, json_schema_input_type=str | int)]
Rate = Annotated[str, BeforeValidator(_rate)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Scalar = str | int | float | bool


class ConnectorSection(BaseModel):
    """A table of a connector."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class OutcomeSection(ConnectorSection):
    """`[[outcomes]]`: what an answer means. A rule fits where all its conditions hold; the first counts."""

    status: Annotated[tuple[Status, ...], BeforeValidator(listed)] = Field(
        default=(), description='HTTP statuses: `404`, `"5xx"`, or a list of them.'
    )
    path: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(),
        description="A value in the body, of several paths the first that holds one;"
        " without `is` or `matches` it must be there.",
    )
    header: str | None = Field(default=None, description="The same, of a header.")
    is_: Annotated[tuple[Scalar, ...], BeforeValidator(listed)] = Field(
        default=(), alias="is", description="What the value may be, compared as text."
    )
    matches: Pattern | None = Field(
        default=None,
        description="A regular expression in the value; without `path` and `header`, in the whole body.",
    )
    when: str | None = Field(
        default=None, description="A condition on `status`, `headers`, `body` and `text`."
    )
    then: Result = Field(description="What the answer means.")
    wait: Annotated[str, AfterValidator(_wait)] | None = Field(
        default=None, description='How long to wait: `"20s"`, or an expression giving seconds.'
    )
    until: Annotated[str, AfterValidator(_until)] | None = Field(
        default=None,
        description='Until when a quota lasts: `"00:00 Asia/Shanghai"`, or an expression giving a time.',
    )
    id: str | None = Field(
        default=None, description="Of a `duplicate`: where the id of the existing object stands."
    )
    foreign: bool = Field(
        default=False,
        description="It also judges, by its status, answers that are not the API's own:"
        " pages, what is no JSON.",
    )
    says: str = Field(default="", description="What the operator should do about it.")


class BatchSection(ConnectorSection):
    """`batch` of a request: many objects in one request, judged item by item."""

    max: Count = Field(description="The most items of one request.")
    method: Method | None = Field(default=None, description="Unset: the single request's.")
    path: str | None = Field(default=None, description="Unset: the single request's.")
    query: dict[str, Any] = Field(default={}, description="The query; knows `items`.")
    headers: dict[str, str] = Field(default={}, description="Headers.")
    item: Any = Field(description="One item of `items`, made of the names of the single request and `index`.")
    json_: Any = Field(default=None, alias="json", description="The body; knows `items`.")
    results: str = Field(description="Where the list of results stands in the answer; `.`: it is the answer.")
    match: tuple[str, str] | None = Field(
        None,
        description="Two expressions, on `item` and on `result`, that are equal for a pair, or lists that"
        " share something; unset: same order.",
    )
    complete: str | None = Field(
        default=None,
        description="A condition on the answer: where it does not hold, not all is told; fewer are asked.",
    )
    outcomes: tuple[OutcomeSection, ...] = Field(
        default=(),
        description="Rules on the whole answer, before the single request's; items have only those.",
    )
    errors: str | None = Field(
        default=None, description="Where a list of failed items stands, where it is another than `results`."
    )
    error_match: str | None = Field(
        default=None, description="Of such a failure, what `match` compares with the item."
    )
    id: str | None = Field(default=None, description="Where a result carries the id.")
    atomic: bool = Field(default=False, description="One bad item refuses all of them.")


class RequestSection(ConnectorSection):
    """One request. Its texts may be constants or expressions."""

    method: Method = Field(default="POST", description="The HTTP method.")
    path: str = Field(
        description="Behind `base_url`; or a whole address within `origins`. Values are escaped."
    )
    query: dict[str, Any] = Field(
        default={}, description="The query; null leaves a parameter out, a list repeats it."
    )
    headers: dict[str, str] = Field(default={}, description="Headers of this request.")
    json_: Any = Field(
        default=None, alias="json", description="A JSON body; a key whose value is null is left out."
    )
    form: dict[str, Any] | str | None = Field(
        default=None, description="A form body: a table, or one expression that gives one."
    )
    text: str | None = Field(
        default=None, description="A body that is text; give its content type as a header."
    )
    idempotent: bool | None = Field(
        default=None,
        description="Whether sending it again has no further effect; unset: of a GET and of an `update`.",
    )
    limit: str = Field(default="default", description="Which of `[limits]` it counts against.")
    outcomes: tuple[OutcomeSection, ...] = Field(
        default=(), description="Rules that go before the connector's."
    )


class PollSection(RequestSection):
    """`poll` of a step: its answer is only a job, which is asked for until it has ended."""

    method: Method = Field(default="GET", description="The HTTP method.")
    until: str = Field(description="A condition on the answer: the job has ended well.")
    failed: str | None = Field(
        default=None, description="A condition on the answer: it has ended without an effect."
    )
    reason: str | None = Field(default=None, description="Where the answer says why it failed.")
    wait: Annotated[str, AfterValidator(_wait)] = Field(
        default="5s",
        description='How long until it is asked again: `"5s"`, or an expression giving seconds; at least 1.',
    )
    longest: Span = Field(
        default="15m",
        validate_default=True,
        description="How long a job may run: until then nothing is sent again, whatever was lost.",
    )
    capture: dict[str, str] = Field(
        default={}, description="Name → where the last answer carries it; later `captured.NAME`."
    )
    id: str | None = Field(default=None, description="Where the last answer carries the object's id.")
    limit: str = Field(
        default="poll",
        description="Which of `[limits]` it counts against; a class of its own, unless it is declared.",
    )


class StepSection(RequestSection):
    """One request of a `create`, `update` or `upsert`; several of them are steps, in order."""

    name: str | None = Field(default=None, description="The step's name in messages; unset: its number.")
    when: str | None = Field(default=None, description="The step is left out where this is not true.")
    capture: dict[str, str] = Field(
        default={}, description="Name → where the answer carries it; later `captured.NAME`."
    )
    id: str | None = Field(default=None, description="Where the answer carries the object's id.")
    fields: str | None = Field(
        default=None,
        description="Where the answer carries the object's fields as the CRM holds them after it.",
    )
    reread: bool = Field(default=False, description="The answer carries no id: `find` is asked for it.")
    poll: PollSection | None = Field(
        default=None, description="The answer is a job: how it is asked whether that has ended."
    )
    batch: BatchSection | None = Field(default=None, description="The same for many objects at once.")


class FindSection(RequestSection):
    """`find`: looks an object up by its `key`; of several, each is tried until one finds something.

    `fields` are the names of the fields that the mapping writes, for CRMs that must be told which to show.
    """

    method: Method = Field(default="GET", description="The HTTP method.")
    hits: str = Field(description="Where the list of hits stands in the answer; `.`: it is the answer.")
    id: str = Field(default="id", description="Where a hit carries its id.")
    fields: str = Field(default=".", description="Where a hit carries its fields; `.`: it is them.")
    where: str | None = Field(
        default=None, description="A condition on `hit` and `key`; other hits do not count."
    )
    several: Several = Field(
        default="park", description="Which of several hits it is; `park`: a person decides."
    )
    by: str | None = Field(default=None, description="What `oldest` and `newest` go by, in a hit.")
    index_lag: Duration = Field(
        default="0s", validate_default=True, description="How long a new object may stay unseen by it."
    )
    batch: BatchSection | None = Field(default=None, description="The same for many keys at once.")


class ReadSection(RequestSection):
    """`read`: an object's present fields, by `id` (or by `key`, where the object has no `find`).

    `fields` are the names of the fields that the mapping writes.
    """

    method: Method = Field(default="GET", description="The HTTP method.")
    id: str | None = Field(default=None, description="Where the answer carries the id; for a read by key.")
    fields: str = Field(default=".", description="Where the answer carries the fields.")
    batch: BatchSection | None = Field(default=None, description="The same for many objects at once.")


class LinkSection(RequestSection):
    """`link.NAME`: links the object (`id`, `key`) to another (`to.id`, `to.key`)."""

    path: str = Field(default="", description="Behind `base_url`; needed, unless the link is `inline`.")
    inline: bool = Field(
        default=False,
        description="It travels in the object's own requests, as `links.NAME`, and has none of its own.",
    )
    batch: BatchSection | None = Field(default=None, description="The same for many links at once.")


class DescribeSection(RequestSection):
    """`describe`: the CRM's own list of an object's fields, for `check --online`."""

    method: Method = Field(default="GET", description="The HTTP method.")
    fields: str = Field(description="Where the list (or table by name) of fields stands.")
    name: str = Field(default="name", description="Where a field carries its name.")
    type: str | None = Field(default=None, description="Where a field carries its type.")
    options: str | None = Field(default=None, description="Where a field carries its options' list.")
    option: str = Field(default="value", description="Where an option carries its value.")
    read_only: str | None = Field(default=None, description="A condition on `field`: it cannot be written.")
    forms: dict[str, str] = Field(
        default={},
        description="Type → how a time of that type is written, as in strftime(3): `%Y-%m-%d`."
        " Values in another form are refused or lost there.",
    )
    length: str | None = Field(default=None, description="Where a field carries its greatest length.")
    others: bool = Field(default=False, description="The CRM takes fields that its list lacks.")


Steps = Annotated[tuple[StepSection, ...], BeforeValidator(listed)]
