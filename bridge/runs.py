"""Work that an operator asks for: a command adds one row, the daemon carries it out."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import structlog

from bridge.errors import CallbridgeError, LedgerError
from bridge.ledger import Ledger

log = structlog.get_logger("bridge.runs")

Result = Mapping[str, Any]


def retry(ledger: Ledger, args: Mapping[str, Any], now: datetime) -> Result:
    """`deliveries retry`: parked deliveries become due."""
    return {"retried": ledger.retry(args["ids"], now)}


KINDS: dict[str, Callable[[Ledger, Mapping[str, Any], datetime], Result]] = {"retry": retry}


def carry_out(ledger: Ledger, now: datetime) -> bool:
    """One step: take the oldest requested run to its end; whether there was one."""
    run = ledger.take_run(now)
    if run is None:
        return False
    try:
        result, state = KINDS[run["kind"]](ledger, run["args"], now), "done"
    except CallbridgeError as error:
        result, state = {"error": str(error)}, "failed"
    ledger.end_run(run["id"], state, result, now)
    log.info("run.ended", state=state, kind=run["kind"], id=run["id"])
    return True


def work(
    ledger: Ledger,
    done: Callable[[], None],
    stop: threading.Event,
    clock: Callable[[], datetime],
    *,
    every: float,
) -> None:
    """Look for requested runs until told to stop."""
    while not stop.wait(every):
        try:
            while carry_out(ledger, clock()):
                done()
        except LedgerError as error:
            log.warning("runs.ledger_busy", error=str(error))
