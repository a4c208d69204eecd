"""A connector file: how one CRM's API works, apart from what any company maps to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from bridge.errors import ConfigError, Permanent, Problem, did_you_mean
from bridge.expression import ExpressionError, Fields, Language, Template
from bridge.tomlfile import KeyPath, TomlFile, load_toml
from bridge.validation import validate

FILTERS = {"path": lambda value: quote(str(value), safe="")}

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RequestSection(_Section):
    """One request; `json` may be an expression or a table of them."""

    method: Method = Field(description="The HTTP method.")
    path: str = Field(description="Behind the destination's base_url.")
    json_: Any = Field(None, alias="json", description="The body.")
    id: str | None = Field(None, description="Where the answer carries the object's id: a dotted path.")
    idempotent: bool = Field(
        default=False, description="Whether sending it again has no further effect: a native upsert."
    )


class ObjectSection(_Section):
    """`[objects.X]`: what the CRM can do with one type of object."""

    key: list[str] = Field(min_length=1, description="The names of the parts of its key.")
    upsert: RequestSection = Field(description="Create it, or update the one with this key.")
    link: dict[str, RequestSection] = Field(default_factory=dict, description="Link it to another object.")


class AuthSection(_Section):
    """`[auth]`: what every request carries."""

    headers: dict[str, str] = Field(default_factory=dict, description="Header → text with secrets.")


class ConnectorFile(_Section):
    """A connector as it is written."""

    name: str = Field(description="Its name, as mappings use it.")
    auth: AuthSection = Field(default_factory=AuthSection, description="Authentication.")
    secrets: list[str] = Field(default_factory=list, description="The secrets a destination must give.")
    objects: dict[str, ObjectSection] = Field(min_length=1, description="The types of object.")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be rendered: `render(names)` gives path and body."""

    section: RequestSection
    _evaluate: Callable[[Mapping[str, Any]], list[Any]]

    def render(self, names: Mapping[str, Any]) -> tuple[str, Any]:
        """The path and the JSON body (None: no body)."""
        path, *values = self._evaluate(names)
        return str(path), _fill(self.section.json_, iter(values))


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One type of object with its compiled requests."""

    key: tuple[str, ...]
    upsert: Request
    link: Mapping[str, Request]


class Connector:
    """A compiled connector."""

    def __init__(self, file: TomlFile) -> None:
        """Compile a connector.

        Raises:
            ConfigError: all its problems, each with its line and remedy.
        """
        self._file = file
        self._problems: list[Problem] = []
        section = validate(ConnectorFile, file)
        self.name = section.name
        self.secrets = tuple(section.secrets)
        self._language = Language({"secrets": frozenset(self.secrets)}, FILTERS)
        self._headers = {
            name: self._template(self._language, ("auth", "headers", name), text)
            for name, text in section.auth.headers.items()
        }
        self.objects = {
            name: ObjectType(
                key=tuple(written.key),
                upsert=self._request(
                    Language({"key": frozenset(written.key), "fields": frozenset()}, FILTERS),
                    ("objects", name, "upsert"),
                    written.upsert,
                ),
                link={
                    link: self._request(
                        Language({"key": frozenset(written.key), "to": frozenset({"id", "key"})}, FILTERS),
                        ("objects", name, "link", link),
                        request,
                    )
                    for link, request in written.link.items()
                },
            )
            for name, written in section.objects.items()
        }
        if self._problems:
            raise ConfigError(self._problems)

    def headers(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """The headers that authenticate a request."""
        values = self._language.compile(list(self._headers.values()))({"secrets": Fields(secrets)})
        headers = {name: str(value) for name, value in zip(self._headers, values, strict=True)}
        for name, value in headers.items():
            # The client's own complaint would quote the secret.
            if not (value.isascii() and value.isprintable()):
                raise Permanent(
                    f"the header {name} cannot be sent: a secret in it has a line break or a character"
                    " that is not ASCII. Check the destination's secrets"
                )
        return headers

    def _template(self, language: Language, path: KeyPath, text: str) -> Template:
        try:
            return language.parse(text)
        except ExpressionError as error:
            place = ".".join(str(part) for part in path)
            line = self._file.line(path)
            self._problems.append(Problem(str(self._file.path), place, str(error), line=line))
            return Template("none", constant=True)

    def _request(self, language: Language, path: KeyPath, section: RequestSection) -> Request:
        texts = [((*path, "path"), section.path), *_texts((*path, "json"), section.json_)]
        templates = [self._template(language, place, text) for place, text in texts]
        return Request(section, language.compile(templates))


def _texts(path: KeyPath, body: Any) -> list[tuple[KeyPath, str]]:
    """The texts of a body, depth first, in the order in which `_fill` puts them back."""
    if isinstance(body, str):
        return [(path, body)]
    if isinstance(body, dict):
        return [text for name, value in body.items() for text in _texts((*path, name), value)]
    if isinstance(body, list):
        return [text for place, value in enumerate(body) for text in _texts((*path, place), value)]
    return []


def _fill(body: Any, values: Any) -> Any:
    if isinstance(body, str):
        return next(values)
    if isinstance(body, dict):
        return {name: _fill(value, values) for name, value in body.items()}
    if isinstance(body, list):
        return [_fill(value, values) for value in body]
    return body


def shipped_connectors() -> dict[str, Path]:
    """The connectors of the package, by name."""
    folder = Path(str(resources.files("bridge"))) / "connectors"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_connector(name: str, problem_at: Callable[[str, str], Problem]) -> Connector:
    """A connector by the name that a mapping gives.

    Raises:
        ConfigError: there is none of that name (said where the mapping names it), or it is broken.
    """
    shipped = shipped_connectors()
    if name not in shipped:
        raise ConfigError([problem_at(f'there is no connector "{name}"', did_you_mean(name, shipped))])
    return Connector(load_toml(shipped[name]))
