"""`replay`: delivers again what differs from what was last sent; and how a comparison of calls is printed."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from bridge.cli.deliveries import refuse_unknown
from bridge.cli.follow_job import follow
from bridge.cli.output import ExitCode, config_option, json_option, read_config, show
from bridge.cli.times import When, refuse_reversed
from bridge.config.load import Config
from bridge.delivery.call_comparison import ReplayVerdict
from bridge.lib.clocks import now_utc
from bridge.lib.iso_times import stamp


@click.command()
@click.option("--since", type=When(), required=True, help="Calls created from then on.")
@click.option("--until", type=When(), help="Calls created before then (default: all since).")
@click.option("--source", default="", help="Only this source.")
@click.option("--destination", default="", help="Only this destination.")
@click.option(
    "--force",
    is_flag=True,
    help="Also what does not differ, whole, and what the CRM has lost: for one restored from a backup.",
)
@click.option("--dry-run", is_flag=True, help="Tell what would change, and do nothing.")
@config_option
@json_option
def replay(
    since: Any,
    until: Any,
    source: str,
    destination: str,
    force: bool,
    dry_run: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Deliver again, under the present mapping, what differs from what was last sent.

    Calls skipped as "before this destination", "before start_at" or by a rule that no longer holds are
    let in. What is parked waits for `deliveries retry`; what a person skipped stays skipped.
    """
    config = read_config(config_path)
    refuse_unknown(config, destination, source)
    args: dict[str, Any] = window_args(config, source, since, until)
    args |= {name: value for name, value in (("source", source), ("destination", destination)) if value}
    result = follow(config, "replay", args | {"force": force, "dry_run": dry_run})
    show(result, as_json, replay_lines(result, dry_run=dry_run))
    sys.exit(ExitCode.DONE)


def window_args(config: Config, source: str, since: Any, until: Any) -> dict[str, str]:
    """The ends of a window as UTC texts; a time without an offset is in the source's zone."""
    now = now_utc()
    zone = (config.sources[source] if source else next(iter(config.sources.values()))).timezone
    ends = {name: end.at(now, zone) for name, end in (("since", since), ("until", until)) if end is not None}
    refuse_reversed(ends.get("since"), ends.get("until"))
    return {name: stamp(end) for name, end in ends.items()}


def replay_lines(result: Mapping[str, Any], *, dry_run: bool) -> Iterator[str]:
    """The result of a replay as lines for people."""
    for name, counts in result["destinations"].items():
        yield f"destination {name}: {counts['calls']} calls"
        yield from compared_lines(counts)
        yield f"    {counts['due']} {'would be' if dry_run else 'are'} delivered again"


def compared_lines(counts: Mapping[str, Any]) -> Iterator[str]:
    """The result of comparing calls as lines for people."""
    yield "    " + (", ".join(f"{counts[name]} {name}" for name in ReplayVerdict if counts[name]) or "none")
    for title, groups in (
        ("let in, skipped so far", counts["released_from"]),
        ("left out by rule", counts["rules"]),
        ("cannot be mapped", counts["faults"]),
        ("object", counts["objects"]),
    ):
        yield from (f"    {title} {name}: {count}" for name, count in groups.items())
    for example in counts["examples"]:
        yield f"    such as {example['verdict']} call {example['call']}"
        yield from example_lines(example["changes"])


def example_lines(changes: Mapping[str, Any]) -> Iterable[str]:
    """The changes of one call's objects as lines for people."""
    for name, change in changes.items():
        yield f"        object {name}: {change['why']}"
        for field, planned in change["fields"].items():
            yield f"            {field} = {_short(planned['value'])}"


def _short(value: Any) -> str:
    text = str(value).replace("\n", " ⏎ ")
    return text if len(text) <= 60 else f"{text[:59]}…"
