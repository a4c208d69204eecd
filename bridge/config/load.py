"""Loads the configuration: the TOML file, then the environment's overrides; all problems come at once.

Begin at `load_config()`.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge.config.overrides import lay_overrides
from bridge.config.schema import (
    AdminSettings,
    DeliverySettings,
    DestinationSettings,
    LedgerSettings,
    LogSettings,
    RetentionSettings,
    ServerSettings,
    SourceSettings,
)
from bridge.lib.errors import ConfigError, Problem, did_you_mean
from bridge.lib.toml_file import ENVIRONMENT, KeyPath, Written, load_toml
from bridge.lib.validation import told
from bridge.lib.values import Address, SettingError
from bridge.source import Platform
from bridge.source.platforms import PLATFORMS

DEFAULT_PATHS = (Path("config.toml"), Path("/etc/callbridge/config.toml"))

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise SettingError("is no good name", "use a-z, 0-9, - and _, starting with a letter or digit")
    return value


Name = Annotated[str, AfterValidator(_name)]


class Config(BaseSettings):
    """Everything the operator decides."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: ServerSettings = Field(default=ServerSettings(), description="The public listener.")
    admin: AdminSettings = Field(default=AdminSettings(), description="The operators' listener.")
    ledger: LedgerSettings = Field(default=LedgerSettings(), description="The database.")
    sources: dict[Name, SourceSettings] = Field(default={}, description="Accounts on the call platform.")
    destinations: dict[Name, DestinationSettings] = Field(default={}, description="CRM accounts.")
    delivery: DeliverySettings = Field(default=DeliverySettings(), description="How calls are delivered.")
    retention: RetentionSettings = Field(default=RetentionSettings(), description="How long data is kept.")
    log: LogSettings = Field(default=LogSettings(), description="What is told on stderr.")

    _written: Written = PrivateAttr()
    _platforms: Mapping[str, Platform] = PrivateAttr()

    def __repr_name__(self) -> str:
        return "Config"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values only from `load_config`, which hands over file and environment."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self._written.file.path

    @property
    def draft(self) -> Written:
        """What the operator wrote, with the place of each value."""
        return self._written

    @property
    def base_dir(self) -> Path:
        """The folder that relative paths start at."""
        return self._written.base_dir

    def absolute(self, path: Path) -> Path:
        """A path of the configuration, taken from the configuration file's folder."""
        return self.base_dir / path

    def sources_of(self, destination: str) -> tuple[str, ...]:
        """The sources whose calls a destination takes."""
        chosen = self.destinations[destination].sources
        return tuple(self.sources) if chosen is None else chosen

    def platform_of(self, source: str) -> Platform:
        """The platform that a source is an account of."""
        return self._platforms[self.sources[source].platform]

    def written(self, path: KeyPath, message: str, remedy: str = "") -> Problem:
        """A problem with a value, at the line or variable where the operator wrote it."""
        return self._written.problem(path, message, remedy)


class _Layers(PydanticBaseSettingsSource):
    """File under environment, laid over each other already.

    pydantic-settings merges tables key by key, which would leave a secret's `file` beside the `env` that
    overrides it, and its own environment source stops at the first mistake.
    """

    def __init__(self, settings_cls: type[BaseSettings], data: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._data = data

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See `PydanticBaseSettingsSource`."""
        del field
        return self._data.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._data


def _laid_over(written: Written, platforms: Mapping[str, Platform]) -> type[Config]:
    """A `Config` that takes its values from what the operator wrote."""

    class Loaded(Config):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_others: PydanticBaseSettingsSource, **_more: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (_Layers(settings_cls, written.data),)

        def model_post_init(self, context: Any, /) -> None:
            super().model_post_init(context)
            self._written, self._platforms = written, platforms

    return Loaded


def load_config(
    path: Path | None, environ: Mapping[str, str], platforms: Mapping[str, Platform] = PLATFORMS
) -> Config:
    """Read the configuration, or raise one ConfigError with all its problems; secrets are not read."""
    written, problems = read_draft(path, environ)
    try:
        config = _laid_over(written, platforms)()
    except ValidationError as error:
        problems += [
            told(written, one, Config) for one in error.errors(include_url=False, include_input=False)
        ]
    problems += _crosschecks(written, platforms)
    if problems:
        raise ConfigError(in_line_order(problems))
    return config


def read_draft(path: Path | None, environ: Mapping[str, str]) -> tuple[Written, list[Problem]]:
    """What the operator wrote, in file and environment, and what is wrong with the environment."""
    file = load_toml(path or _search())
    problems: list[Problem] = []
    data = copy.deepcopy(file.data)
    return Written(file, data, lay_overrides(data, environ, Config, problems)), problems


def _search() -> Path:
    for path in DEFAULT_PATHS:
        try:
            found = path.exists()
        except OSError:
            # The file is there, but this user may not see it: reading it will say so.
            found = True
        if found:
            return path
    where = " nor ".join(map(str, DEFAULT_PATHS))
    remedy = "run `callbridge init`, or name a file with --config"
    raise ConfigError([Problem(str(DEFAULT_PATHS[0]), "", f"there is neither {where}", remedy)])


def in_line_order(problems: list[Problem]) -> list[Problem]:
    """Each problem once, in the order of the file's lines; those of the environment come last."""
    return sorted(dict.fromkeys(problems), key=lambda one: (one.file == ENVIRONMENT, one.line or 0))


def _crosschecks(written: Written, platforms: Mapping[str, Platform]) -> Iterator[Problem]:
    """The mistakes between sections; checked on the raw data, so that other mistakes do not hide them."""
    sources = written.data.get("sources", {})
    if sources == {}:
        yield written.problem(("sources",), "at least one source is needed", "add a table [sources.NAME]")
    for name, source in _table(written.data, "sources").items():
        platform = source.get("platform") if isinstance(source, dict) else None
        if isinstance(platform, str) and platform not in platforms:
            remedy = did_you_mean(platform, platforms)
            yield written.problem(
                ("sources", name, "platform"), "is no platform that callbridge knows", remedy
            )
    destinations = _table(written.data, "destinations")
    for name in destinations:
        yield from _check_destination(written, name, _table(destinations, name), sources)
    server, admin = _listener(written.data, "server"), _listener(written.data, "admin")
    if admin and not admin.loopback and "token" not in _table(written.data, "admin"):
        remedy = "set admin.token, or listen on 127.0.0.1"
        yield written.problem(("admin", "listen"), "is open to other machines without admin.token", remedy)
    if admin and server and admin.port == server.port != 0:
        listen = "admin" if "listen" in _table(written.data, "admin") else "server"
        remedy = "give each listener its own port"
        yield written.problem((listen, "listen"), "server and admin listen on the same port", remedy)


def _check_destination(
    written: Written, name: str, destination: dict[str, Any], sources: Any
) -> Iterator[Problem]:
    for key in ("mapping", "connector"):
        value = destination.get(key)
        if isinstance(value, str) and (wrong := _no_file(written.base_dir / value)):
            yield written.problem(("destinations", name, key), *wrong)
    chosen = destination.get("sources")
    for index, source in enumerate(chosen if isinstance(chosen, list) else []):
        if isinstance(source, str) and isinstance(sources, dict) and source not in sources:
            path_of_source = ("destinations", name, "sources", index)
            yield written.problem(
                path_of_source, f'there is no source "{source}"', did_you_mean(source, sources)
            )


def _table(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _no_file(path: Path) -> tuple[str, str] | None:
    """What is wrong where a file should be, and the remedy; None: there is one."""
    try:
        if path.is_file():
            return None
    except PermissionError:
        return f"{path} may not be read", "let the user this program runs as read it"
    except OSError:
        pass
    return f"there is no file {path}", "relative paths start at the configuration file's folder"


def is_file(path: Path) -> bool:
    """Whether a file is there and may be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False


def _listener(data: Mapping[str, Any], section: str) -> Address | None:
    default: Address = (ServerSettings() if section == "server" else AdminSettings()).listen
    try:
        return Address.parse(_table(data, section).get("listen", default))
    except SettingError:
        return None
