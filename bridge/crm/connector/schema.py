"""A connector file as it is written: how one CRM's API works, apart from what anyone maps to it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from bridge.crm.connector.request_schema import (
    ConnectorSection,
    DescribeSection,
    FindSection,
    LinkSection,
    Method,
    OutcomeSection,
    Rate,
    ReadSection,
    RequestSection,
    Steps,
    reset_time,
)
from bridge.lib.lengths import LengthUnit
from bridge.lib.values import BaseUrl, Count, Duration, Span, listed

Speaks = Literal["json", "text"]
Grant = Literal["client_credentials", "refresh_token", "password", "jwt_bearer"]


class ObjectTypeSection(ConnectorSection):
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


class JwtSection(ConnectorSection):
    """`jwt` of a token with `grant = "jwt_bearer"`: the signed assertion."""

    key: str = Field(default="private_key", description="The secret that holds the private key, in PEM.")
    algorithm: Literal["RS256", "ES256", "HS256"] = Field(default="RS256", description="How it is signed.")
    claims: dict[str, str] = Field(description="Its claims, such as `iss`, `sub` and `aud`.")
    lifetime: Span = Field(default="3m", validate_default=True, description="How long it is valid.")


class TokenSection(ConnectorSection):
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


class AuthSection(ConnectorSection):
    """`[auth]`: what every request carries; knows `secrets`, `settings`, `token`, `request`."""

    headers: dict[str, str] = Field(default={}, description="Headers.")
    query: dict[str, str] = Field(default={}, description="Parameters of the query.")
    body: dict[str, Any] = Field(default={}, description="Keys that are added to a JSON or form body.")
    token: Annotated[tuple[TokenSection, ...], BeforeValidator(listed)] = Field(
        default=(), description="A token to get first; or several."
    )


class LimitSection(ConnectorSection):
    """`[limits.NAME]`: what the CRM allows for a class of requests; `default` is for the rest."""

    rate: Annotated[tuple[Rate, ...], BeforeValidator(listed)] = Field(
        default=(), description='Requests in a time: `"100/10s"`, or several.'
    )
    concurrency: Count | None = Field(default=None, description="Requests at once.")
    daily: Count | None = Field(default=None, description="Requests a day.")
    reset: Annotated[str, AfterValidator(reset_time)] = Field(
        default="00:00 UTC", description="When a day begins, and where."
    )
    remaining: str | None = Field(
        default=None, description="The header that tells how many requests are left."
    )
    reset_after: str | None = Field(
        default=None, description="The header that tells the seconds until there are more."
    )


class InnerSection(ConnectorSection):
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


class ErrorsSection(ConnectorSection):
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


class SettingSection(ConnectorSection):
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


class ConnectorFile(ConnectorSection):
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
    objects: dict[str, ObjectTypeSection] = Field(min_length=1, description="The types of object.")
    probe: tuple[ProbeSection, ...] = Field(default=(), description="What `check --online` asks.")
