"""The command line: the only place that prints and that knows exit codes.

Owns every command with its options, its `--json` document and its lines for people; the work is done below.
May import every other room: `check`, `sandbox`, `daemon`, `config`, `reconcile`, `delivery`, `admin`,
`ledger`, `mapping`, `source`, `crm`, `record`, `model` and `lib`. Begin at `cli` below, which names all
commands; each has a module of its name. `output.py` holds what they share.
"""

import sys
from typing import Any

import click

from bridge import __version__
from bridge.cli.audit import audit
from bridge.cli.backup import backup
from bridge.cli.calls import calls_list, calls_show
from bridge.cli.check import check
from bridge.cli.deliveries import deliveries_list, deliveries_park, deliveries_retry, deliveries_skip
from bridge.cli.demo import demo
from bridge.cli.init import init
from bridge.cli.map_plan import map_plan
from bridge.cli.map_preview import map_preview
from bridge.cli.map_test import map_test
from bridge.cli.output import ExitCode, say
from bridge.cli.prune import prune
from bridge.cli.quarantine import quarantine_drop, quarantine_list, quarantine_retry, quarantine_show
from bridge.cli.reconcile import reconcile
from bridge.cli.replay import replay
from bridge.cli.run import run
from bridge.cli.schema import schema
from bridge.cli.simulate import simulate_crm, simulate_platform
from bridge.cli.status import status
from bridge.lib import escape_invisible
from bridge.lib.errors import CallbridgeError, ConfigError
from bridge.lib.log import configure


class _Cli(click.Group):
    """Click prints faults of usage itself, with what was asked for in them."""

    def invoke(self, ctx: click.Context) -> Any:
        """See `click.Group`."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            # For type checkers a click error's message never changes.
            vars(error)["message"] = escape_invisible.line(error.message)
            raise


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="callbridge")
def cli() -> None:
    """Carries every call of the call platform into your CRM, once, and proves it."""


@cli.group()
def calls() -> None:
    """Look up calls and their history."""


@cli.group()
def deliveries() -> None:
    """Look at deliveries, and act on them."""


@cli.group("map")
def map_group() -> None:
    """Try a mapping out on records; nothing is sent."""


@cli.group()
def quarantine() -> None:
    """What could not be identified or parsed, and its way out."""


@cli.group()
def simulate() -> None:
    """A call platform or a CRM to try things on, on loopback, without any configuration."""


for command in (run, init, demo, check, schema, status, reconcile, replay, audit, prune, backup):
    cli.add_command(command)
for command in (map_test, map_preview, map_plan):
    map_group.add_command(command)
for command in (calls_list, calls_show):
    calls.add_command(command)
for command in (deliveries_list, deliveries_retry, deliveries_park, deliveries_skip):
    deliveries.add_command(command)
for command in (quarantine_list, quarantine_show, quarantine_retry, quarantine_drop):
    quarantine.add_command(command)
simulate.add_command(simulate_platform)
simulate.add_command(simulate_crm)


def main() -> None:
    """Run a command; every expected fault is a sentence on stderr and an exit code."""
    configure("warning", "text")
    try:
        cli(standalone_mode=True)
    except ConfigError as error:
        for problem in error.problems:
            say(str(problem), err=True)
        sys.exit(ExitCode.USAGE)
    except CallbridgeError as error:
        say(f"callbridge: {error}", err=True)
        sys.exit(ExitCode.COULD_NOT)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            say(f"callbridge: {error}", err=True)
            sys.exit(ExitCode.COULD_NOT)
        # The reader (head, less) has seen enough; closing quietly is what it expects.
        sys.stderr.close()
        sys.exit(ExitCode.DONE)
