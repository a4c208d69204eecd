"""Replay: makes deliveries due again whose mapping would send something else now than was last sent."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bridge.delivery.call_comparison import (
    CallComparison,
    ComparisonSummary,
    ReplayLedger,
    ReplayTarget,
    ReplayVerdict,
    compare_calls,
)
from bridge.ledger import Window
from bridge.record.origin import Origin


def replay(
    ledger: ReplayLedger,
    target: ReplayTarget,
    origins: Mapping[str, Origin],
    window: Window,
    now: datetime,
    *,
    force: bool = False,
    dry_run: bool = False,
    go_on: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Make due again what differs from what was last sent; `due` is how many, beside the summary's counts.

    With `force` also what does not differ, sent whole, and what is parked because it is no longer in the CRM.
    """
    summary, due = ComparisonSummary(), 0
    for page in compare_calls(ledger, target, origins, window, go_on):
        summary.add(page)
        wanted = [one for one in page if one.makes_due or (force and (one.was_sent or one.stored.gone))]
        due += len(wanted) if dry_run else _make_due(ledger, target, wanted, now, force=force)
    return {"due": due, **summary.document()}


def _make_due(
    ledger: ReplayLedger,
    target: ReplayTarget,
    wanted: Sequence[CallComparison],
    now: datetime,
    *,
    force: bool,
) -> int:
    # Where a rule now leaves the call out, nothing is sent, so what was sent before is not forgotten.
    ids: dict[bool, list[int]] = {False: [], True: []}
    for one in wanted:
        if one.stored.delivery_id is not None:
            ids[force and one.verdict is not ReplayVerdict.SKIPPED].append(one.stored.delivery_id)
    return sum(
        ledger.replay(some, target.account, now, forget=forget) for forget, some in ids.items() if some
    )
