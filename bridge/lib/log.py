"""Structured logs: one event a line, on stderr, phones masked.

Every line carries a stable event name; prose is in its fields.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import structlog

from bridge.lib import escape_invisible
from bridge.lib.masking import Masking
from bridge.lib.phone import mask_phones_in

# Fields that hold names callbridge made or checked itself; masking would only blur them.
_PLAIN = frozenset({"timestamp", "level", "source", "destination", "path", "ledger", "logger"})


_Mask = Callable[[str], str]
# Only what went wrong quotes others: a line about each call would pay for it with 0.2 ms.
_QUOTING = frozenset({"warning", "warn", "error", "critical", "fatal", "exception"})
_known: list[Masking] = []
REPEATED_AFTER = 60.0


def hide(secrets: Iterable[str]) -> None:
    """Hide these secrets from now on in every line of the log, whatever text quotes them."""
    _known[:] = [Masking(secrets)]


def mask(_logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Mask secrets and phone numbers in every text of a line, also inside lists and tables."""
    shown: _Mask = _known[0].masked if _known and method in _QUOTING else mask_phones_in
    return {name: value if name in _PLAIN else _masked(value, shown) for name, value in event.items()}


def _masked(value: Any, shown: _Mask) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(one, shown) for one in value]
    if isinstance(value, dict):
        return {name: _masked(one, shown) for name, one in value.items()}
    return value


def _text(logger: Any, method: str, event: structlog.typing.EventDict) -> str:
    # journalctl shows a line that holds a control character as a blob.
    return escape_invisible.line(str(_LOGFMT(logger, method, event)))


def _json(logger: Any, method: str, event: structlog.typing.EventDict) -> str:
    return escape_invisible.in_json(str(_JSON(logger, method, event)))


_LOGFMT = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
_JSON = structlog.processors.JSONRenderer(ensure_ascii=False)


def drop_nothing(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Leave out fields without a value."""
    return {name: value for name, value in event.items() if value is not None}


class OncePerMinute:
    """Logs a busy ledger once a minute; the lines dropped meanwhile are counted in the next one's `more`.

    A full disk makes eight such lines a second, which would fill what room is made on it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._dropped: dict[str, int] = {}

    def __call__(
        self, _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        name = event["event"]
        if not name.endswith(".ledger_busy"):
            return event
        now = self._clock()
        if name in self._told and now - self._told[name] < REPEATED_AFTER:
            self._dropped[name] = self._dropped.get(name, 0) + 1
            raise structlog.DropEvent
        self._told[name] = now
        more = self._dropped.pop(name, None)
        if more is not None:
            event["more"] = more
        return event


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Set up the process's logs; libraries' warnings go the same way."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        drop_nothing,
        mask,
    ]
    renderer: structlog.typing.Processor = _json if form == "json" else _text
    structlog.configure(
        processors=[OncePerMinute(time.monotonic), *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # Below a warning the HTTP client logs whole URLs, and some CRMs want their token in the URL.
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
