"""The HubSpot connector: the conformance suite, and what is HubSpot's own."""

from typing import ClassVar

from tests.conformance import Conformance
from tests.conformance_steps import ConnectorCase
from tests.servers.base import Field, VendorServer
from tests.servers.clock import Clock
from tests.servers.hubspot import HubSpot


def hubspot(clock: Clock) -> VendorServer:
    """A portal as docs/crm/hubspot.md asks for, with an index that lags."""
    return HubSpot(
        clock=clock,
        contact_fields=[Field("callbridge_phone", unique=True)],
        call_fields=[Field("callbridge_call", unique=True), Field("ai_remark"), Field("ai_tags")],
        index_lag=20,
    )


HUBSPOT = ConnectorCase(
    connector="hubspot",
    server=hubspot,
    name="firstname",
    phone="phone",
    note="ai_remark",
    key="callbridge_call",
    contact_path=r"^/crm/v3/objects/contacts",
    forms=("+8615899770637", "15899770637", "+86 158 9977 0637", "158-9977-0637", "86-15899770637", "015899770637"),
    refreshes=False,
    upserts_calls=True,
    changes={"objects.call.fields.ai_remark": "{{ call.remark }}"},
)


class TestConformance(Conformance):
    case: ClassVar[ConnectorCase] = HUBSPOT
