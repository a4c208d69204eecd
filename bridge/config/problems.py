"""Finds everything that is wrong with a configuration and with the files that it names.

The checks read what the operator wrote, so that a mistake in one file does not hide those in another. Begin
at `find_problems()`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.config.destination_files import account_name, load_pair, table_at, unmet
from bridge.config.exposure import IN_CLEAR, exposures, in_clear
from bridge.config.load import Config, is_file, load_config, read_draft
from bridge.config.secrets import resolve_secrets, secrets_in_clear, unreadable_secrets
from bridge.crm.connector import Connector, shipped_connectors
from bridge.lib.errors import ConfigError, Problem
from bridge.lib.toml_file import Written
from bridge.lib.validation import in_order


@dataclass(frozen=True, slots=True)
class Findings:
    """Problems, and warnings of what works but should be changed."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    short_tokens: tuple[Problem, ...] = ()
    """Callback tokens that are too short: `check` refuses them, but a daemon still starts with them."""


def find_problems(path: Path | None, environ: Mapping[str, str]) -> Findings:
    """All mistakes of a configuration and of every file that it names, secrets included."""
    search = _Search()
    written, config = search.read_configuration(path, environ)
    if written is None:
        return Findings(tuple(search.problems))
    connectors = search.read_destinations(written)
    if config is not None:
        search.warnings += _accounts_of_several(config, connectors)
    return search.findings(written)


@dataclass(slots=True)
class _Search:
    """Collects the problems of all files."""

    problems: list[Problem] = field(default_factory=list)
    """Of the configuration and its secrets."""
    elsewhere: list[Problem] = field(default_factory=list)
    """Of mappings and connectors."""
    warnings: list[Problem] = field(default_factory=list)
    short_tokens: tuple[Problem, ...] = ()

    def read_configuration(
        self, path: Path | None, environ: Mapping[str, str]
    ) -> tuple[Written | None, Config | None]:
        """The configuration as it is written (None: no TOML), and as it is used (None: it has mistakes)."""
        try:
            config = load_config(path, environ)
        except ConfigError as error:
            self.problems += error.problems
            try:
                written, _ = read_draft(path, environ)
            except ConfigError:
                # The file is no TOML: nothing more can be checked.
                return None, None
            self.problems += unreadable_secrets(written, environ)
            return written, None
        self.warnings += [*secrets_in_clear(config), *exposures(config)]
        try:
            secrets = resolve_secrets(config, environ)
        except ConfigError as error:
            self.problems += error.problems
        else:
            self.warnings += secrets.warnings
            self.short_tokens = secrets.short_tokens
        return config.draft, config

    def read_destinations(self, written: Written) -> dict[str, Connector]:
        """Look at the files of every destination; the connectors that can be used, by destination."""
        connectors: dict[str, Connector] = {}
        for name, settings in table_at(written.data, "destinations").items():
            files = _files(written, settings)
            if files is None:
                continue
            pair = load_pair(*files)
            self.elsewhere += pair.problems
            if pair.connector is None:
                continue
            connectors[name] = pair.connector
            self.problems += unmet(written, name, pair.connector)
            self.warnings += _other_hosts(written, name, pair.connector)
            if not table_at(settings).get("base_url") and in_clear(pair.connector.file.base_url):
                self.warnings.append(written.problem(("destinations", name, "base_url"), *IN_CLEAR))
        return connectors

    def findings(self, written: Written) -> Findings:
        """All problems; those of the configuration file come first, in the order of its lines."""
        own = [problem for problem in self.problems if problem.file == str(written.file.path)]
        others = [problem for problem in self.problems if problem.file != str(written.file.path)]
        # The problems of a file that two destinations name are listed once.
        problems = (*in_order(own), *dict.fromkeys([*others, *self.elsewhere]))
        return Findings(problems, tuple(self.warnings), self.short_tokens)


def _other_hosts(written: Written, name: str, connector: Connector) -> Iterator[Problem]:
    """Where a connector that does not come with callbridge sends to beside base_url's host."""
    if connector.file.origins and connector.path not in shipped_connectors().values():
        hosts = ", ".join(connector.file.origins)
        yield written.problem(
            ("destinations", name, "connector"),
            f"{connector.path.name} also sends to {hosts}, and may send the secrets there",
            "see that these are the CRM's own; docs/connectors.md, Where requests go",
        )


def _accounts_of_several(config: Config, connectors: Mapping[str, Connector]) -> Iterator[Problem]:
    """CRM accounts that take the calls of several sources, which may send one key for two calls."""
    accounts: dict[str, list[str]] = {}
    for name, connector in connectors.items():
        accounts.setdefault(account_name(config.destinations[name], connector), []).append(name)
    for account, names in accounts.items():
        sources = list(dict.fromkeys(source for name in names for source in config.sources_of(name)))
        if len(sources) > 1:
            yield config.written(
                ("destinations", names[-1]),
                f'the CRM account "{account}" takes the calls of several sources: {", ".join(sources)}',
                "a call that two of them send is delivered for the first alone, and parked where the two are"
                " different calls under one key; see docs/operations.md, Several sources",
            )


def _files(written: Written, settings: Any) -> tuple[Path, Path | None] | None:
    """A destination's mapping and its own connector; None where the configuration cannot tell."""
    mapping, connector = table_at(settings).get("mapping"), table_at(settings).get("connector")
    if not isinstance(mapping, str) or not is_file(written.base_dir / mapping):
        return None
    if connector is None:
        return written.base_dir / mapping, None
    if not isinstance(connector, str) or not is_file(written.base_dir / connector):
        return None
    return written.base_dir / mapping, written.base_dir / connector
