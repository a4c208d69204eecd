"""The sections of the configuration, one for each part of the program.

No message here repeats the value it complains about: it may be a secret in the wrong place.
"""

import os.path
import re
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from bridge.lib.crontab import parse as parse_crontab
from bridge.lib.values import (
    Address,
    BaseUrl,
    Count,
    CrontabValue,
    Duration,
    Listen,
    Moment,
    Network,
    SecretKey,
    SettingError,
    Size,
    Span,
    Zone,
    host_name,
    known_country,
    ledger_url,
    link_prefix,
    listed,
    media_type,
    not_below,
    some,
    with_a_day,
    with_body,
)
from bridge.source.platforms import DEFAULT_PLATFORM, PLATFORMS


class ConfigSection(BaseModel):
    """A table of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServerSettings(ConfigSection):
    """The public listener, which takes callbacks and nothing else."""

    listen: Listen = Field(default=Address("127.0.0.1", 8480), description="Where callbacks arrive.")
    max_body: Size = Field(
        default=2 * 2**20, description="The largest callback that is read, also after gunzip."
    )
    body_timeout: Span = Field(
        default=timedelta(seconds=10), description="How long a callback's body may take."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(), description="Proxies whose word on the caller's address is believed."
    )


class AdminSettings(ConfigSection):
    """The operators' listener: console, metrics and health."""

    listen: Listen = Field(default=Address("127.0.0.1", 8481), description="Where operators look.")
    hosts: tuple[Annotated[str, AfterValidator(host_name)], ...] = Field(
        default=(), description="The names it is reached by, beside localhost and IP addresses."
    )
    token: SecretKey | None = Field(
        default=None, description="What operators log in with; required off loopback."
    )
    metrics_token: SecretKey | None = Field(
        default=None, description="Opens /metrics to other machines, and through a proxy."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(), description="Proxies in front of this listener: what comes from them is not local."
    )


class LedgerSettings(ConfigSection):
    """The database of everything that happened."""

    url: Annotated[str, AfterValidator(ledger_url)] = Field(
        default="sqlite:////var/lib/callbridge/ledger.db",
        description="Where the ledger is; three slashes and a path are relative to the configuration file.",
    )

    min_free: Size = Field(
        default=256 * 2**20,
        description="With less free on its disk (or a twentieth of a small one) callbacks are refused.",
    )

    def file(self, base_dir: Path) -> Path:
        """The SQLite file with all links resolved: its lock and log stand beside the real file."""
        return Path(os.path.realpath(base_dir / self.url.removeprefix("sqlite:///")))


class AckSettings(ConfigSection):
    """What the platform takes for a yes."""

    status: Annotated[int, AfterValidator(with_body)] = Field(
        default=200, ge=200, le=299, description="The HTTP status of an accepted callback."
    )
    body: str = Field(default="SUCCESS", description="The exact body of an accepted callback.")
    content_type: Annotated[str, AfterValidator(media_type)] = Field(
        default="text/plain", description="The content type of that body, like application/json."
    )


class ApiNames(ConfigSection):
    """How this deployment spells what its list is asked, and what it answers."""

    page_index: str = Field(default="pageIndex", min_length=1, description="Which page is asked for.")
    page_size: str = Field(default="pageSize", min_length=1, description="How many rows a page has.")
    start: str = Field(default="start_create_at", min_length=1, description="Rows created from then.")
    end: str = Field(default="end_create_at", min_length=1, description="Rows created before then.")
    user_sn: str = Field(default="user_sn", min_length=1, description="The user, in login and list.")
    api_key: str = Field(default="api_key", min_length=1, description="The session, in login and list.")
    api_key_expire: str = Field(
        default="api_key_expire", min_length=1, description="When the session ends, in the login's answer."
    )
    code: str = Field(
        default="code", min_length=1, description="What is 0 or 200 in a good answer, or a word of success."
    )
    message: str = Field(default="msg", min_length=1, description="The reason in a bad answer.")
    data: str = Field(default="data", min_length=1, description="What a good answer holds.")
    list: str = Field(default="list", min_length=1, description="The rows of a page, inside the data.")
    total: str = Field(default="total", min_length=1, description="How many rows there are in all pages.")


class ApiSettings(ConfigSection):
    """One login to the platform's list API."""

    base_url: BaseUrl = Field(min_length=1, description="The platform's address.")
    access_id: str = Field(min_length=1, description="The account's access id.")
    access_secret: SecretKey = Field(description="The account's access secret.")
    page_size: Count = Field(default=1000, description="How many calls to ask for at once.")
    login: Literal["signed", "password"] = Field(
        default="signed", description="How it logs in: with a signature, or the older way."
    )
    login_path: str = Field(default="/api/login", pattern="^/", description="Where it logs in.")
    list_path: str = Field(default="/api/crmList", pattern="^/", description="Where the list is.")
    first_page: int = Field(default=0, ge=0, description="The number of the first page.")
    time_format: Annotated[str, AfterValidator(with_a_day)] = Field(
        default="%Y-%m-%d %H:%M:%S", description="How it is told times, as in strftime(3)."
    )
    filters: dict[str, str | int] = Field(
        default={}, description="What else the list is asked for, by the platform's names."
    )
    timeout: Span = Field(
        default=timedelta(seconds=60), description="How long one answer of the platform may take."
    )
    requests_per_second: float = Field(
        default=20.0, gt=0, description="The most requests a second to the platform."
    )
    names: ApiNames = Field(default=ApiNames(), description="How this deployment spells its list.")


class ReconcileSettings(ConfigSection):
    """When the platform's list is compared with the ledger, and how far back."""

    settle: Duration = Field(
        default=timedelta(minutes=10), description="Younger calls may still be on their way."
    )
    schedule: CrontabValue = Field(
        default=parse_crontab("*/15 * * * *"), description="When to look for missed calls."
    )
    lookback: Span = Field(
        default=timedelta(hours=3), validate_default=True, description="How far back each such look goes."
    )
    deep_schedule: CrontabValue = Field(
        default=parse_crontab("30 3 * * *"), description="When to look for later edits."
    )
    deep_lookback: Span = Field(default=timedelta(hours=72), description="How far back each deep look goes.")
    weekly_schedule: CrontabValue = Field(
        default=parse_crontab("30 4 * * 0"), description="When to look for very late edits."
    )
    weekly_lookback: Span = Field(
        default=timedelta(days=35), description="How far back one look a week goes."
    )

    @field_validator("lookback")
    @classmethod
    def _reach_settled_calls(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        return not_below(value, info, "settle")


class SourceSettings(ConfigSection):
    """One account on a call platform."""

    platform: str = Field(
        default=DEFAULT_PLATFORM,
        description="Which platform it is: how its records and its list read.",
        json_schema_extra={"enum": [*PLATFORMS]},
    )
    callback_token: Annotated[tuple[SecretKey, ...], BeforeValidator(listed), AfterValidator(some)] = Field(
        description="The last part of the callback URL; of a list, each is valid, for rotation.",
    )
    allow: tuple[Network, ...] = Field(
        default=(), description="Networks callbacks may come from; empty: any."
    )
    ack: AckSettings = Field(default=AckSettings(), description="What the platform takes for a yes.")
    timezone: Zone = Field(default=ZoneInfo("Asia/Shanghai"), description="The zone of the platform's times.")
    country: Annotated[str, AfterValidator(known_country)] = Field(
        default="CN", description="The country of phone numbers without a prefix."
    )
    start_at: Moment = Field(
        default=None, description="Calls before it are kept, not delivered; unset: every call."
    )
    recording_url: Annotated[str, AfterValidator(link_prefix)] = Field(
        default="", description="The prefix that turns recordfile into a link."
    )
    api: Annotated[tuple[ApiSettings, ...], BeforeValidator(listed)] = Field(
        default=(),
        description="The list API: one login, or several for sub-accounts.",
    )
    reconcile: ReconcileSettings = Field(
        default=ReconcileSettings(), description="Comparing list and ledger."
    )

    @property
    def start(self) -> datetime | None:
        """`start_at` in UTC; the source's zone holds where it names none."""
        if self.start_at is None:
            return None
        moment = self.start_at
        if not isinstance(moment, datetime):
            moment = datetime.combine(moment, time())
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.timezone)).astimezone(UTC)


class DestinationSettings(ConfigSection):
    """One CRM account, and what goes there."""

    mapping: Path = Field(description="The mapping file: what goes where.")
    connector: Path | None = Field(
        default=None, description="A connector file in place of the mapping's own."
    )
    base_url: BaseUrl = Field(default="", description="The CRM's address; empty: the connector's own.")
    sources: tuple[str, ...] | None = Field(
        default=None, description="Whose calls to deliver; unset: all sources'."
    )
    account: str = Field(default="", description="The CRM account; empty: connector and address name it.")
    secrets: dict[str, SecretKey] = Field(
        default={}, description="The secrets the connector asks for, by its names."
    )
    settings: dict[str, str] = Field(
        default={}, description="What else the connector wants to know, by its names."
    )
    timeout: Span = Field(
        default=timedelta(seconds=30), description="How long one request to this CRM may take."
    )


LONGEST_RETRY = timedelta(days=1)
"""Below `LONGEST_STORED_WAIT`: what would wait for longer than that was stored by a wrong clock."""


class DeliverySettings(ConfigSection):
    """How calls are delivered, whatever the CRM."""

    workers: Literal["auto"] | Count = Field(
        default="auto",
        description='How many deliveries run at once at each CRM account; "auto": as many as it can use.',
    )
    retry_for: Span = Field(
        default=timedelta(days=5), description="How long a delivery is tried before it is parked."
    )
    first_retry: Span = Field(default=timedelta(seconds=10), description="The wait before the first retry.")
    longest_retry: Span = Field(
        default=timedelta(hours=1), validate_default=True, description="The wait that growing waits stop at."
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _auto_or_number(cls, value: Any) -> Any:
        if value == "auto" or (isinstance(value, int | str) and re.fullmatch(r"[1-9]\d{0,3}", str(value))):
            return value
        raise SettingError('should be "auto" or a whole number of 1 or more')

    @field_validator("longest_retry")
    @classmethod
    def _grow(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value > LONGEST_RETRY:
            raise SettingError("must not be longer than a day")
        return not_below(value, info, "first_retry")


class RetentionSettings(ConfigSection):
    """How long each class of data is kept; calls, their keys and known states always are."""

    duplicates: Span | None = Field(
        default=timedelta(days=30), description="Receipts that changed nothing; empty keeps them."
    )
    history: Span | None = Field(default=None, description="Records that later ones replaced.")
    attempts: Span | None = Field(default=timedelta(days=90), description="Attempts at deliveries.")
    quarantine: Span | None = Field(
        default=timedelta(days=90), description="Released and dropped records, and bodies that were none."
    )
    runs: Span | None = Field(default=timedelta(days=90), description="What operators asked for.")

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_for_ever(cls, value: object) -> object:
        return None if value == "" else value


class LogSettings(ConfigSection):
    """What the program says on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is told."
    )
    format: Literal["text", "json"] = Field(default="text", description="For people, or for machines.")
