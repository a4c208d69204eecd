"""The Zoho connector: the conformance suite, and what is Zoho's own."""

from typing import ClassVar

from tests.conformance import Conformance
from tests.conformance_steps import ConnectorCase
from tests.servers.base import Field, VendorServer
from tests.servers.clock import Clock
from tests.servers.zoho import Zoho


def zoho(clock: Clock) -> VendorServer:
    """An organisation as docs/crm/zoho.md asks for, with an index that lags."""
    return Zoho(
        clock=clock,
        contact_fields=[Field("Callbridge_Phone", unique=True)],
        call_fields=[Field("Callbridge_Call", unique=True), Field("AI_Remark"), Field("AI_Tags")],
        index_lag=100,
    )


ZOHO = ConnectorCase(
    connector="zoho",
    server=zoho,
    name="Last_Name",
    phone="Phone",
    note="AI_Remark",
    key="Callbridge_Call",
    contact_path=r"^/crm/v8/Contacts|from Contacts",
    forms=("+8615899770637", "15899770637", "+86 158 9977 0637", "158-9977-0637", "008615899770637"),
    required={"Last_Name": "王"},
    upserts_calls=True,
    changes={"objects.call.fields.AI_Remark": "{{ call.remark }}"},
)


class TestConformance(Conformance):
    case: ClassVar[ConnectorCase] = ZOHO
