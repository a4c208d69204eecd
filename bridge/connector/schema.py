"""A connector file as it is written: how one CRM's API works, apart from what anyone maps to it."""

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bridge import patterns
from bridge.connector.limits import parse_rate
from bridge.lengths import LengthUnit
from bridge.values import BaseUrl, Count, Duration, SettingError, Span, listed, parse_duration

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
Speaks = Literal["json", "text"]
Several = Literal["first", "oldest", "newest", "park"]
Grant = Literal["client_credentials", "refresh_token", "password", "jwt_bearer"]

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
        patterns.check(value)
    except patterns.PatternError as error:
        raise SettingError(str(error), error.remedy) from None
    return value


def _reset(value: str) -> str:
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
    return value if "{{" in value else _reset(value)


def _wait(value: str) -> str:
    if "{{" not in value:
        parse_duration(value)
    return value


Status = Annotated[str, BeforeValidator(_status, json_schema_input_type=str | int)]
Rate = Annotated[str, BeforeValidator(_rate)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Scalar = str | int | float | bool


class Section(BaseModel):
    """A table of a connector."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class OutcomeSection(Section):
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


class BatchSection(Section):
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


class RequestSection(Section):
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


class ObjectSection(Section):
    """`[objects.X]`: what the CRM can do with one type of object."""

    key: tuple[str, ...] = Field(min_length=1, description="The names of the parts of its key.")
    upsert: Steps = Field(
        default=(), description="Creates it, or updates the one with this key: the CRM's own upsert."
    )
    find: Annotated[tuple[FindSection, ...], BeforeValidator(listed)] = Field(
        default=(), description="Looks it up by its key."
    )
    create: Steps = Field(default=(), description="Makes a new one; its answer carries the id.")
    update: Steps = Field(
        default=(), description="Changes the one with `id`; beside an upsert: what was made before."
    )
    read: ReadSection | None = Field(default=None, description="Its present fields.")
    link: dict[str, LinkSection] = Field(default={}, description="Link it to another object.")
    describe: DescribeSection | None = Field(default=None, description="Which fields the CRM has for it.")
    read_as: dict[str, str] = Field(
        default={},
        description="Field → expression on `value` (and `name`) that makes of what the CRM shows what the"
        " mapping would send; `*`: all other fields.",
    )
    whole: bool = Field(
        default=False, description="An update replaces all fields, so all of them are sent each time."
    )


class JwtSection(Section):
    """`jwt` of a token with `grant = "jwt_bearer"`: the signed assertion."""

    key: str = Field(default="private_key", description="The secret that holds the private key, in PEM.")
    algorithm: Literal["RS256", "ES256", "HS256"] = Field(default="RS256", description="How it is signed.")
    claims: dict[str, str] = Field(description="Its claims, such as `iss`, `sub` and `aud`.")
    lifetime: Span = Field(default="3m", validate_default=True, description="How long it is valid.")


class TokenSection(Section):
    """`[auth.token]`: how a token is got. Of several, later ones may use what earlier ones gave."""

    grant: Grant | None = Field(
        default=None, description="One of OAuth 2's grants, with its standard fields; unset: as written here."
    )
    client_auth: Literal["body", "basic"] = Field(
        default="body", description="Where a grant sends client_id and client_secret."
    )
    jwt: JwtSection | None = Field(default=None, description="The assertion of `jwt_bearer`.")
    method: Method = Field(default="POST", description="The HTTP method.")
    url: str = Field(description="A whole address, or a path behind the destination's base_url.")
    query: dict[str, Any] = Field(default={}, description="The query.")
    headers: dict[str, str] = Field(default={}, description="Headers.")
    json_: Any = Field(default=None, alias="json", description="A JSON body.")
    form: dict[str, Any] | str | None = Field(
        default=None,
        description="A form body, a table or one expression; of a grant, the table beside its fields.",
    )
    text: str | None = Field(
        default=None, description="A body that is text; give its content type as a header."
    )
    outputs: dict[str, str] = Field(
        default={"access_token": "access_token"},
        description="Name → where the answer carries it; then `token.NAME`.",
    )
    expires_in: str | None = Field(
        default="expires_in", description="Where the answer carries its life in seconds."
    )
    lifetime: Span | None = Field(
        default=None, description="How long it lives, where the answer does not tell."
    )
    refresh_before: Duration = Field(
        default="1m", validate_default=True, description="How long before its end a new one is got."
    )
    rate: Rate = Field(default="60/m", description="How often it may be asked for.")
    limit: str | None = Field(
        default=None, description="Which of `[limits]` it counts against; unset: none of them."
    )
    outcomes: tuple[OutcomeSection, ...] = Field(
        default=(), description="What an answer means, as for other requests."
    )


class AuthSection(Section):
    """`[auth]`: what every request carries; knows `secrets`, `settings`, `token`, `request`."""

    headers: dict[str, str] = Field(default={}, description="Headers.")
    query: dict[str, str] = Field(default={}, description="Parameters of the query.")
    body: dict[str, Any] = Field(default={}, description="Keys that are added to a JSON or form body.")
    token: Annotated[tuple[TokenSection, ...], BeforeValidator(listed)] = Field(
        default=(), description="A token to get first; or several."
    )


class LimitSection(Section):
    """`[limits.NAME]`: what the CRM allows for a class of requests; `default` is for the rest."""

    rate: Annotated[tuple[Rate, ...], BeforeValidator(listed)] = Field(
        default=(), description='Requests in a time: `"100/10s"`, or several.'
    )
    concurrency: Count | None = Field(default=None, description="Requests at once.")
    daily: Count | None = Field(default=None, description="Requests a day.")
    reset: Annotated[str, AfterValidator(_reset)] = Field(
        default="00:00 UTC", description="When a day begins, and where."
    )
    remaining: str | None = Field(
        default=None, description="The header that tells how many requests are left."
    )
    reset_after: str | None = Field(
        default=None, description="The header that tells the seconds until there are more."
    )


class InnerSection(Section):
    """`[errors.inner]`: errors inside an error; each is named with its field. All are paths."""

    list: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        description="Where the list of them stands; of several the first that holds something."
    )
    code: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(), description="Where each carries its code."
    )
    message: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(), description="Where each carries its sentence."
    )
    field: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(), description="Where each carries its field."
    )


class ErrorsSection(Section):
    """`[errors]`: where an answer carries what went wrong; the first path that holds something counts."""

    message: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(), description="Where the sentence stands."
    )
    code: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(), description="Where the code stands."
    )
    field: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(),
        description="Where the field stands that it is about; an expression finds it inside a sentence.",
    )
    inner: InnerSection | None = Field(
        default=None, description="Where errors stand inside an error, each with its own code and field."
    )


class SettingSection(Section):
    """`[settings.NAME]`: a text that differs from company to company, and is no secret."""

    default: str | None = Field(
        default=None, description="Its value where the destination gives none; unset: required."
    )
    description: str = Field(default="", description="What it is.")


class ProbeSection(RequestSection):
    """`[[probe]]`: a request of `check --online`."""

    name: str = Field(description="What it shows.")
    method: Method = Field(default="GET", description="The HTTP method.")
    expect: str | None = Field(default=None, description="A condition on `status`, `headers`, `body`.")
    object: str | None = Field(
        default=None, description="Asked only where the mapping has an object of this type."
    )
    writes: str | None = Field(
        default=None,
        description="Of an `object`: a condition on the answer and on `field`, the name of each field that"
        " the mapping writes; where it does not hold, the destination's user may not write it.",
    )
    after: str | None = Field(
        default=None, description="The name of a probe before it; where that failed, this one tells nothing."
    )
    remedy: str = Field(default="", description="What to do where it fails.")


def _setting(value: object) -> object:
    return {"default": value} if isinstance(value, str) else value


Setting = Annotated[SettingSection, BeforeValidator(_setting, json_schema_input_type=str | SettingSection)]


class ConnectorFile(Section):
    """A connector."""

    name: str = Field(min_length=1, description="Its name, as mappings use it.")
    description: str = Field(default="", description="Which CRM it is, in a sentence.")
    base_url: BaseUrl = Field(default="", description="The CRM's address where the destination gives none.")
    root: str = Field(
        default="{{ base_url }}",
        description="What paths stand behind; knows `base_url`, `settings`, `token`, `secrets`.",
    )
    origins: tuple[str, ...] = Field(
        default=(),
        description="Other hosts that requests may go to, such as `https://login.example.com`; may use"
        " `settings`.",
    )
    secrets: tuple[str, ...] = Field(default=(), description="The secrets a destination must give.")
    settings: dict[str, Setting] = Field(
        default={}, description="What else a destination may give: a default, or a table."
    )
    auth: AuthSection = Field(default=AuthSection(), description="Authentication.")
    limits: dict[str, LimitSection] = Field(default={}, description="What the CRM allows.")
    length_unit: LengthUnit = Field(
        default="characters",
        description="What the CRM's lengths count: `characters` (code points), `utf16` (an emoji is two) or"
        " `bytes` (UTF-8).",
    )
    speaks: Speaks | None = Field(
        default=None,
        description="`json`: every answer with a body is JSON, `text`: it need not be; unset: `json` where"
        " any answer is read by a path or by `body`.",
    )
    errors: ErrorsSection = Field(default=ErrorsSection(), description="Where answers carry what went wrong.")
    outcomes: tuple[OutcomeSection, ...] = Field(default=(), description="What answers mean.")
    objects: dict[str, ObjectSection] = Field(min_length=1, description="The types of object.")
    probe: tuple[ProbeSection, ...] = Field(default=(), description="What `check --online` asks.")
