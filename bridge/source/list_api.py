"""One login to a platform's list, as the configuration tells it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class ListNames:
    """How a deployment spells what is asked and answered."""

    page_index: str
    page_size: str
    start: str
    end: str
    user_sn: str
    api_key: str
    api_key_expire: str
    code: str
    message: str
    data: str
    list: str
    total: str


@dataclass(frozen=True, slots=True)
class ListApi:
    """One login to the list API, and how this deployment of the platform spells things."""

    base_url: str
    access_id: str
    access_secret: str = field(repr=False)
    zone: ZoneInfo
    names: ListNames
    login: Literal["signed", "password"] = "signed"
    login_path: str = "/api/login"
    list_path: str = "/api/crmList"
    first_page: int = 0
    time_format: str = "%Y-%m-%d %H:%M:%S"
    filters: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 60.0
    requests_per_second: float = 20.0
