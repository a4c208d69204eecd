"""`map plan`: applies a mapping to the ledger's calls and compares. Nothing is sent or written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bridge.cli.output import config_option, json_option, open_to_look, read_config, show
from bridge.cli.replay import compared_lines, window_args
from bridge.cli.times import When
from bridge.config.destination_files import load_pair
from bridge.config.load import Config
from bridge.daemon.wiring import account_of, origins_of, target_of
from bridge.delivery.call_comparison import ComparisonSummary, ReplayLedger, ReplayTarget, compare_calls
from bridge.ledger import StoredCall, Window
from bridge.lib.errors import ConfigError
from bridge.lib.iso_times import moment
from bridge.mapping import Survey
from bridge.model.plan import Plan, Skip
from bridge.record.call import Call


@click.command("plan")
@click.argument("mapping", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--destination", default="", help="Compare with what was sent there.")
@click.option("--since", type=When(), help="Calls created from then on (default: all).")
@click.option("--until", type=When(), help="Calls created before then.")
@config_option
@json_option
def map_plan(
    mapping: Path | None, destination: str, since: Any, until: Any, config_path: Path | None, as_json: bool
) -> None:
    """What a mapping would change, over the calls of the ledger: nothing is sent.

    MAPPING is a file that may not be in use yet; without it each destination's own, as it stands now.
    """
    config = read_config(config_path)
    chosen = _destinations(config, mapping, destination)
    ends = window_args(config, "", since, until)
    window = Window(*(moment(ends[end]) if end in ends else None for end in ("since", "until")))
    ledger = open_to_look(config)
    try:
        results = {
            name: _planned(config, ledger, _target(config, name, path), window)
            for name, path in chosen.items()
        }
    finally:
        ledger.close()
    show({"destinations": results}, as_json, _lines(results))


def _destinations(config: Config, mapping: Path | None, destination: str) -> dict[str, Path]:
    """Destination → the mapping to try for it."""
    own = {name: config.absolute(settings.mapping) for name, settings in config.destinations.items()}
    if destination and destination not in own:
        raise click.UsageError(f'there is no destination "{destination}"')
    if mapping is None:
        return {name: path for name, path in own.items() if destination in ("", name)}
    if destination:
        return {destination: mapping}
    using = [name for name, path in own.items() if path.resolve() == mapping.resolve()]
    chosen = using or (list(own) if len(own) == 1 else [])
    if not chosen:
        raise click.UsageError(f"say with which to compare: --destination {' or '.join(own) or '…'}")
    return dict.fromkeys(chosen, mapping)


def _target(config: Config, name: str, path: Path) -> ReplayTarget:
    settings = config.destinations[name]
    pair = load_pair(path, None if settings.connector is None else config.absolute(settings.connector))
    if pair.problems or pair.mapping is None or pair.connector is None:
        raise ConfigError(pair.problems)
    account = account_of(config, name, pair.connector, {})
    return target_of(config, name, pair.mapping, pair.connector, account)


def _planned(config: Config, ledger: ReplayLedger, target: ReplayTarget, window: Window) -> dict[str, Any]:
    summary, survey, origins = ComparisonSummary(), Survey(target.mapping), origins_of(config)

    def look(stored: StoredCall, plan: Plan | Skip | None) -> None:
        if stored.values is not None and not isinstance(plan, Skip):
            survey.take(Call.of(stored.values, stored.key, origins[stored.source]), plan)

    for page in compare_calls(ledger, target, origins, window, look=look):
        summary.add(page)
    return {"mapping": str(target.mapping.path), **summary.document(), **survey.document()}


def _lines(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, result in results.items():
        yield f"destination {name} with {result['mapping']}: {result['calls']} calls"
        yield from compared_lines(result)
        for field in result["never_filled"]:
            yield f"    no call fills {field}"
        for field, codes in result["unknown_codes"].items():
            counts = ", ".join(f"{code!r} ({count})" for code, count in codes.items())
            yield f"    not in the map of {field}: {counts}"
    yield "nothing was sent"
