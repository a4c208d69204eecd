"""The kinds of value that a configuration holds: durations, sizes, addresses, zones, secrets.

No message here repeats the value it complains about: it may be a secret in the wrong place.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from phonenumbers import SUPPORTED_REGIONS
from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from bridge.lib.crontab import Crontab
from bridge.lib.crontab import parse as parse_crontab
from bridge.lib.errors import ConfigError, Problem, did_you_mean, suggest_nearest


class SettingError(ValueError):
    """A value of the configuration is wrong; `remedy` says how to write it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile(r"(?:\d+(?:ms|[dhms]))+")
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"(\d+) ?([a-z]*)", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_DURATION_PART = re.compile(r"(?<!\d)(\d+)(ms|[dhms])")
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_DOTTED = re.compile(r"[\d.]+")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_BLANK_OR_CONTROL = re.compile(r"[\s\x00-\x1f]")


def parse_duration(value: object) -> timedelta:
    """`"1h30m"`, or a number of seconds."""
    refusal = SettingError("is no duration", 'write it like "500ms", "10s", "3h", "35d" or "1h30m"')
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return timedelta(seconds=value)
        if isinstance(value, str) and _DURATION.fullmatch(value):
            parts = _DURATION_PART.findall(value)
            return timedelta(milliseconds=sum(int(count) * _UNITS[unit] for count, unit in parts))
    except (OverflowError, ValueError):
        raise refusal from None
    raise refusal


def show_duration(value: timedelta) -> str:
    """The duration as the operator would write it."""
    rest = round(value / timedelta(milliseconds=1))
    shown = ""
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        shown += f"{count}{unit}" if count else ""
    return shown or "0s"


def _above_zero(value: timedelta) -> timedelta:
    if not value:
        raise SettingError("must be longer than zero")
    return value


def parse_size(value: object) -> int:
    """`"2MiB"`, or a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = _SIZE.fullmatch(value.lower()) if isinstance(value, str) and len(value) < 20 else None
    if not found or found[2] not in _BYTES or not int(found[1]):
        raise SettingError("is no size", 'write it like "2MiB", "512KiB" or "1GB"')
    return int(found[1]) * _BYTES[found[2]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @classmethod
    def parse(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        text = value if isinstance(value, str) else ""
        refusal = SettingError("is no address to listen on", 'write it as "127.0.0.1:8480" or "[::1]:8480"')
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not _PORT.fullmatch(port) or int(port) > 65535 or bracketed != (":" in host):
            raise refusal
        if bracketed or _DOTTED.fullmatch(host):
            try:
                ipaddress.ip_address(host)
            except ValueError:
                raise refusal from None
        elif not _HOST.fullmatch(host):
            raise refusal
        return cls(host, int(port))


def _network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    refusal = SettingError("is no network", 'write it like "10.0.0.0/8", "203.0.113.7" or "2001:db8::/32"')
    if not isinstance(value, str):
        raise refusal
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise refusal from None
    if "/" in value and ipaddress.ip_address(value.split("/")[0]) != network.network_address:
        raise SettingError("is an address inside a network", f'did you mean "{network}"?')
    return network


def known_zone(value: object) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    name = value if isinstance(value, str) else ""
    try:
        return ZoneInfo(name)
    # A zone that is missing is a KeyError; a folder of zones or a path upwards are the others.
    except (KeyError, OSError, ValueError):
        remedy = suggest_nearest(name, available_timezones()) or 'write it like "Asia/Shanghai"'
        raise SettingError("is no known time zone", remedy) from None


def known_country(value: str) -> str:
    if value not in SUPPORTED_REGIONS:
        guess = value.upper()
        remedy = f'did you mean "{guess}"?' if guess in SUPPORTED_REGIONS else 'write two letters, like "CN"'
        raise SettingError("is no known country", remedy)
    return value


def _schedule(value: object) -> Crontab:
    if isinstance(value, Crontab):
        return value
    remedy = 'write it as in crontab(5), like "*/15 * * * *"'
    if not isinstance(value, str):
        raise SettingError("is no schedule", remedy)
    try:
        return parse_crontab(value)
    except ValueError as error:
        raise SettingError(str(error), remedy) from None


def _moment(value: object) -> date | datetime | None:
    if value is None or isinstance(value, date):
        return value
    text = value if isinstance(value, str) else ""
    try:
        return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        raise SettingError("is no date or time", "write it like 2026-11-22 or 2026-11-22T08:00:00") from None


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or _BLANK_OR_CONTROL.search(value):
        raise SettingError("is no web address", 'write it like "https://crm.example.com"')
    if parts.username is not None or parts.password is not None:
        raise SettingError("holds a user or password", "give secrets as secrets, not in the address")
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError as error:
        raise SettingError(f"has no host's name: {error}", "correct it") from error
    return value


def _base_url(value: str) -> str:
    if value and ("?" in _web_address(value) or "#" in value):
        raise SettingError("holds more than a base address", "leave out what follows ? or #")
    return value.rstrip("/")


def link_prefix(value: str) -> str:
    return _web_address(value) if value else value


def ledger_url(value: str) -> str:
    if value.startswith(("postgresql:", "postgres:", "postgresql+")):
        raise SettingError("names a PostgreSQL ledger, which is not supported yet", "use sqlite:///")
    path = value.removeprefix("sqlite:///")
    if path == value or path in {"", ":memory:"} or path.endswith("/"):
        raise SettingError(
            "is no SQLite ledger", 'write it as "sqlite:////absolute/path.db" or "sqlite:///relative.db"'
        )
    return value


_SECRET_WORDS = {"env": "environment variable", "file": "file", "credential": "systemd credential"}
_SECRET_KINDS = {
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "file": re.compile(r"[^\0]+"),
    "credential": re.compile(r"[^/\0]+"),
}


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Where a secret is kept: a variable, a file or a credential. Only `resolve` reads its value."""

    kind: Literal["env", "file", "credential", "plain"]
    name: str

    def __repr__(self) -> str:
        return "Secret(***)" if self.kind == "plain" else f"Secret({self.kind}={self.name!r})"

    def resolve(self, environ: Mapping[str, str], base_dir: Path, *, key: str = "", file: str = "") -> str:
        """The secret's value, or a ConfigError that says how to provide it."""
        try:
            value = self._read(environ, base_dir).rstrip("\r\n")
        except SettingError as error:
            raise ConfigError([Problem(file, key, str(error), error.remedy)]) from None
        if not value.strip():
            message = f"the {_SECRET_WORDS[self.kind]} {self.name} is empty"
            raise ConfigError([Problem(file, key, message, "put the secret there")])
        return value

    def _read(self, environ: Mapping[str, str], base_dir: Path) -> str:
        if self.kind == "plain":
            return self.name
        if self.kind == "env":
            if self.name not in environ:
                remedy = f"set the environment variable {self.name}"
                raise SettingError(f"the environment variable {self.name} is not set", remedy)
            return environ[self.name]
        folder = base_dir
        if self.kind == "credential":
            if not environ.get("CREDENTIALS_DIRECTORY"):
                remedy = f"add LoadCredential={self.name}:/path to the systemd unit"
                raise SettingError("CREDENTIALS_DIRECTORY is not set: systemd gave no credentials", remedy)
            folder = Path(environ["CREDENTIALS_DIRECTORY"])
        path = folder / self.name
        try:
            return path.read_text("utf-8")
        except OSError as error:
            remedy = "put the secret there, readable by the user this program runs as"
            raise SettingError(f"{path} cannot be read: {error.strerror}", remedy) from None
        except UnicodeDecodeError:
            raise SettingError(f"{path} is not UTF-8", "put the secret there as text") from None

    @classmethod
    def parse(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str) and value.strip():
            return cls("plain", value)
        remedy = 'write { env = "NAME" }, { file = "/path" } or { credential = "name" }'
        if not isinstance(value, dict) or len(value) != 1:
            raise SettingError("is no secret", remedy)
        [(kind, name)] = value.items()
        if kind not in _SECRET_KINDS:
            raise SettingError(f'is no secret: unknown key "{kind}"', did_you_mean(kind, _SECRET_KINDS))
        if not isinstance(name, str) or not _SECRET_KINDS[kind].fullmatch(name):
            raise SettingError(f"is no secret: {kind} does not name a {_SECRET_WORDS[kind]}", remedy)
        return cls(kind, name)


def kind(parse: Callable[[Any], object], show: Callable[[Any], Any], *types: str) -> tuple[Any, ...]:
    """How a kind of value is read, how it is shown again, and its type for editors."""
    schema = WithJsonSchema({"type": list(types) if len(types) > 1 else types[0]})
    return PlainValidator(parse), PlainSerializer(show), schema


Duration = Annotated[timedelta, *kind(parse_duration, show_duration, "string", "number")]
Span = Annotated[Duration, AfterValidator(_above_zero)]
Size = Annotated[int, *kind(parse_size, int, "string", "integer")]
Listen = Annotated[Address, *kind(Address.parse, str, "string")]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, *kind(_network, str, "string")]
Zone = Annotated[ZoneInfo, *kind(known_zone, str, "string")]
CrontabValue = Annotated[Crontab, *kind(_schedule, str, "string")]
Moment = Annotated[date | datetime | None, *kind(_moment, str, "string")]
SecretKey = Annotated[
    Secret,
    PlainValidator(Secret.parse),
    PlainSerializer(repr),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "properties": {
                        "env": {"type": "string", "description": "The environment variable that holds it."},
                        "file": {"type": "string", "description": "The file that holds it."},
                        "credential": {"type": "string", "description": "Its name in LoadCredential=."},
                    },
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ]
        }
    ),
]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Count = Annotated[int, Field(ge=1)]


def listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def some(value: tuple[Secret, ...]) -> tuple[Secret, ...]:
    # A minimal length would count the good elements only, and complain a second time about a bad one.
    if not value:
        raise SettingError("must not be empty")
    return value


def with_a_day(time_format: str) -> str:
    """Accept a time format that tells one day from another."""
    days = {
        date(year, month, day).strftime(time_format)
        for year in (2025, 2026)
        for month in (1, 2)
        for day in (1, 2)
    }
    if len(days) < 8:
        raise SettingError(
            "does not tell one day from another", 'write it like "%Y-%m-%d %H:%M:%S" or "%Y-%m-%d"'
        )
    return time_format


def with_body(status: int) -> int:
    if status in {204, 205}:
        raise SettingError("is the status of an answer without a body", "use 200, 201 or 202")
    return status


def not_below(value: timedelta, info: ValidationInfo, other: str) -> timedelta:
    if value < info.data.get(other, value):
        raise SettingError(f"must not be shorter than {other}")
    return value


_MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:; ?[\w.-]{1,40}=[\w.-]{1,40}){0,3}", re.ASCII
)
_HOST_LABELS = re.compile(r"(?!-)[\w-]{1,63}(?<!-)(?:\.(?!-)[\w-]{1,63}(?<!-)){0,20}", re.ASCII)


def media_type(value: str) -> str:
    if not _MEDIA_TYPE.fullmatch(value):
        raise SettingError("is no content type", 'write it like "application/json"')
    return value


def host_name(value: str) -> str:
    name = value.strip().lower().removesuffix(".")
    if not _HOST_LABELS.fullmatch(name):
        raise SettingError("is no host's name", 'write it alone, like "calls.example.com", without a port')
    return name
