"""The platforms that callbridge knows, by the word that the configuration has for each."""

from collections.abc import Mapping
from types import MappingProxyType

from bridge.source import Platform
from bridge.source.outcall.client import OutcallList
from bridge.source.outcall.dialect import OUTCALL_DIALECT

DEFAULT_PLATFORM = "outcall"
PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {DEFAULT_PLATFORM: Platform(OUTCALL_DIALECT, OutcallList)}
)
