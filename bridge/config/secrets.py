"""Reads the secrets that a configuration names, and warns of weak ones. Begin at `resolve_secrets()`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.config.load import Config, in_line_order
from bridge.lib.errors import ConfigError, Problem
from bridge.lib.toml_file import ENVIRONMENT, KeyPath, Written
from bridge.lib.validation import kind_at, one_of
from bridge.lib.values import Secret, SettingError

SHORTEST_TOKEN = 22
"""Characters: 22 of base64 hold 128 bits, which nobody can guess."""
_PATH_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")


@dataclass(frozen=True)
class Secrets:
    """The values of all secrets, and warnings about them."""

    admin_token: str | None = field(repr=False)
    metrics_token: str | None = field(repr=False)
    callback_tokens: Mapping[str, tuple[str, ...]] = field(repr=False)
    api: Mapping[str, tuple[str, ...]] = field(repr=False)
    destinations: Mapping[str, Mapping[str, str]] = field(repr=False)
    warnings: tuple[Problem, ...] = ()
    short_tokens: tuple[Problem, ...] = ()
    """Callback tokens that could be guessed: `check` refuses them, a daemon in service goes on with them."""

    def values(self) -> Iterator[str]:
        """Every secret, for masking."""
        yield from filter(None, (self.admin_token, self.metrics_token))
        for group in (*self.callback_tokens.values(), *self.api.values()):
            yield from group
        for secrets in self.destinations.values():
            yield from secrets.values()


def unreadable_secrets(written: Written, environ: Mapping[str, str]) -> Iterator[Problem]:
    """The secrets of a draft that cannot be read, whatever else is wrong with it."""
    for path, value in _values(written.data):
        try:
            Secret.parse(value).resolve(environ, written.base_dir)
        except SettingError:
            # No secret at all: told with the other mistakes of shape.
            continue
        except ConfigError as error:
            for problem in error.problems:
                yield written.problem(path, problem.message, problem.remedy)


def _values(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """The values that stand where the models expect a secret."""
    if isinstance(value, list):
        for index, inside in enumerate(value):
            yield from _values(inside, (*path, index))
    elif path and one_of(kind_at(Config, path)) is Secret:
        yield path, value
    elif isinstance(value, dict):
        for name, inside in value.items():
            yield from _values(inside, (*path, name))


def resolve_secrets(config: Config, environ: Mapping[str, str]) -> Secrets:
    """Read all secrets.

    Raises:
        ConfigError: all that are missing or cannot be used.
    """
    problems: list[Problem] = []
    values: dict[KeyPath, str] = {}
    for path, secret in secrets_of(config):
        try:
            values[path] = secret.resolve(environ, config.base_dir)
        except ConfigError as error:
            problems += [config.written(path, problem.message, problem.remedy) for problem in error.problems]
    for path, value in values.items():
        if _is_callback_token(path) and not _PATH_SEGMENT.fullmatch(value):
            remedy = "use letters, digits, - and _"
            problems.append(config.written(path, "holds what cannot stand in a URL's path", remedy))
    if problems:
        raise ConfigError(in_line_order(problems))

    def of(*path: str) -> dict[KeyPath, str]:
        return {key[len(path) :]: value for key, value in values.items() if key[: len(path)] == path}

    return Secrets(
        admin_token=values.get(("admin", "token")),
        metrics_token=values.get(("admin", "metrics_token")),
        callback_tokens={
            name: tuple(of("sources", name, "callback_token").values()) for name in config.sources
        },
        api={name: tuple(of("sources", name, "api").values()) for name in config.sources},
        destinations={
            name: {str(key[0]): value for key, value in of("destinations", name, "secrets").items()}
            for name in config.destinations
        },
        warnings=tuple(_weak_tokens(config, values)),
        short_tokens=tuple(
            config.written(path, *_TOO_SHORT)
            for path, value in values.items()
            if _is_callback_token(path) and len(value) < SHORTEST_TOKEN
        ),
    )


def secrets_in_clear(config: Config) -> tuple[Problem, ...]:
    """Warnings of the secrets that stand in the configuration file itself."""
    remedy = 'move it out: { env = "NAME" }, { file = "/path" } or { credential = "name" }'
    plain = [path for path, secret in secrets_of(config) if secret.kind == "plain"]
    problems_in_clear = [config.written(path, "is a secret in clear", remedy) for path in plain]
    return tuple(problem for problem in problems_in_clear if problem.file != ENVIRONMENT)


def secrets_of(config: Config) -> Iterator[tuple[KeyPath, Secret]]:
    """Every secret that a configuration names, with its place."""
    if config.admin.token:
        yield ("admin", "token"), config.admin.token
    if config.admin.metrics_token:
        yield ("admin", "metrics_token"), config.admin.metrics_token
    for name, source in config.sources.items():
        for index, token in enumerate(source.callback_token):
            yield ("sources", name, "callback_token", index), token
        for index, login in enumerate(source.api):
            yield ("sources", name, "api", index, "access_secret"), login.access_secret
    for name, destination in config.destinations.items():
        for key, secret in destination.secrets.items():
            yield ("destinations", name, "secrets", key), secret


_MAKE_ONE = "make one with: openssl rand -hex 24"
_TOO_SHORT = (f"is shorter than {SHORTEST_TOKEN} characters", _MAKE_ONE)


def _is_callback_token(path: KeyPath) -> bool:
    return path[2:3] == ("callback_token",)


def _weak_tokens(config: Config, values: Mapping[KeyPath, str]) -> Iterator[Problem]:
    first: dict[str, KeyPath] = {}
    for path, value in values.items():
        if path[0] != "admin" and not _is_callback_token(path):
            continue
        if path[0] == "admin" and len(value) < SHORTEST_TOKEN:
            yield config.written(path, *_TOO_SHORT)
        if value in first:
            yield config.written(
                path, f"is the same secret as {config.written(first[value], '').key}", _MAKE_ONE
            )
        first.setdefault(value, path)
