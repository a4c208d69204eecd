"""`map test`: runs the cases in the mappings' `[[tests]]`. Nothing is sent."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from bridge.cli.output import ExitCode, config_option, json_option, read_config, say, show
from bridge.config.load import DEFAULT_PATHS, Config
from bridge.daemon.wiring import origin_of
from bridge.lib.errors import ConfigError, Problem
from bridge.mapping import CaseResult, CompiledMapping, load_mapping, run_tests
from bridge.record.origin import Origin
from bridge.source.platforms import DEFAULT_PLATFORM, PLATFORMS

UNCONFIGURED = Origin("main", PLATFORMS[DEFAULT_PLATFORM].dialect, ZoneInfo("Asia/Shanghai"), "CN")
"""The origin of records where no configuration names their source."""


@click.command("test")
@click.argument("mapping", required=False, type=click.Path(path_type=Path))
@config_option
@json_option
def map_test(mapping: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Run the cases in a mapping's [[tests]]; without MAPPING those of all destinations."""
    origins = _all_mappings(read_config(config_path)) if mapping is None else _single(mapping, config_path)
    tested = [(mappings, run_tests(mappings, origin)) for mappings, origin in _loaded(origins)]
    results = [result for _, some in tested for result in some]
    failed = sum(not result.passed for result in results)
    document = {
        "mappings": [
            {"mapping": str(mappings.path), "cases": [_case(result) for result in some]}
            for mappings, some in tested
        ],
        "passed": len(results) - failed,
        "failed": failed,
    }
    lines = [line for mappings, some in tested for line in _lines(mappings, some)]
    show(document, as_json, [*lines, f"{len(results) - failed} passed, {failed} failed"])
    sys.exit(ExitCode.FINDINGS if failed else ExitCode.DONE)


def _single(mapping: Path, config_path: Path | None) -> dict[Path, Origin]:
    """A mapping by its path, read as the first source that uses it; without a configuration by default."""
    config = config_if_any(config_path)
    if config is None:
        return {mapping: UNCONFIGURED}
    wanted = mapping.resolve()
    used = {path.resolve(): origin for path, origin in _all_mappings(config).items()}
    return {mapping: used.get(wanted, UNCONFIGURED)}


def config_if_any(config_path: Path | None) -> Config | None:
    """The configuration that is named, else the default one if it is there and has no problem; or None."""
    if config_path is not None:
        return read_config(config_path)
    if not any(path.is_file() for path in DEFAULT_PATHS):
        return None
    try:
        return read_config(None)
    except ConfigError as error:
        # The mapping can be tested without it, so its problems are only printed.
        for problem in error.problems:
            say(f"not used: {problem}", err=True)
        return None


def _all_mappings(config: Config) -> dict[Path, Origin]:
    """The mappings of all destinations, each with the origin of its first source."""
    mappings: dict[Path, Origin] = {}
    for name, destination in config.destinations.items():
        sources = config.sources_of(name)
        origin = origin_of(config, sources[0]) if sources else UNCONFIGURED
        mappings.setdefault(config.absolute(destination.mapping), origin)
    return mappings


def _loaded(origins: dict[Path, Origin]) -> list[tuple[CompiledMapping, Origin]]:
    """Compile all mappings.

    Raises:
        ConfigError: the problems of all that are broken.
    """
    loaded, problems = [], list[Problem]()
    for path, origin in origins.items():
        try:
            loaded.append((load_mapping(path), origin))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return loaded


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "line": result.line,
        "passed": result.passed,
        "differences": [asdict(difference) for difference in result.differences],
    }


def _lines(mapping: CompiledMapping, results: Sequence[CaseResult]) -> Iterator[str]:
    if not results:
        yield f"{mapping.path}: has no [[tests]]"
    for result in results:
        yield f"{mapping.path}:{result.line}: {result.name}: {'ok' if result.passed else 'FAILED'}"
        yield from (f"    {difference}" for difference in result.differences)
