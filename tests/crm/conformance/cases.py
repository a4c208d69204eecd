"""The CRMs that the conformance suite is run for: each with its server, and with what is its own."""

from tests.crm.conformance.bench import ConnectorCase
from tests.servers.base import Field, VendorServer
from tests.servers.clock import Clock
from tests.servers.espocrm import EspoCrm
from tests.servers.fxiaoke import Fxiaoke
from tests.servers.hubspot import HubSpot
from tests.servers.salesforce import Salesforce
from tests.servers.zoho import Zoho


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
    forms=("+8615899770637", "15899770637", "+86 158 9977 0637", "158-9977-0637", "86-15899770637"),
    contact_key="callbridge_phone",
    refreshes=False,
    changes={"objects.call.fields.ai_remark": "{{ call.remark }}"},
)


def salesforce(clock: Clock) -> VendorServer:
    """An organisation as docs/crm/salesforce.md asks for, with an index that lags."""
    return Salesforce(
        clock=clock,
        contact_fields=[Field("Callbridge_Phone__c", unique=True)],
        call_fields=[Field("Callbridge_Call__c", unique=True), Field("AI_Remark__c")],
        index_lag=50,
    )


SALESFORCE = ConnectorCase(
    connector="salesforce",
    server=salesforce,
    name="LastName",
    phone="Phone",
    note="AI_Remark__c",
    key="Callbridge_Call__c",
    contact_path=r"sobjects/Contact|FROM Contact|RETURNING Contact",
    forms=("+8615899770637", "15899770637", "+86 158 9977 0637", "(158) 9977-0637", "008615899770637"),
    required={"LastName": "王"},
    contact_key="Callbridge_Phone__c",
    limit_wait=30,
    changes={"objects.call.fields.AI_Remark__c": "{{ call.remark }}"},
)


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
    contact_key="Callbridge_Phone",
    changes={"objects.call.fields.AI_Remark": "{{ call.remark }}"},
)


REMARK = Field("remark__c", type="long_text", length=2000)

ESPOCRM = ConnectorCase(
    connector="espocrm",
    server=lambda clock: EspoCrm(clock=clock),
    name="lastName",
    phone="phoneNumber",
    note="description",
    key="cCallUuid",
    contact_path=r"^/api/v1/Contact",
    forms=("+8615899770637", "+86 158 9977 0637", "158-9977-0637", "015899770637", "0086 15899770637"),
    required={"lastName": "王"},
    refreshes=False,
    unique=False,
    changes={"objects.call.fields.description": "{{ call.remark }}"},
)

FXIAOKE = ConnectorCase(
    connector="fxiaoke",
    server=lambda clock: Fxiaoke(clock=clock, token_latency=0, call_fields=[REMARK]),
    name="name",
    phone="mobile",
    note="remark__c",
    key="call_uuid__c",
    contact_path="LeadsObj",
    forms=("15899770637", "+8615899770637", "8615899770637", "008615899770637"),
    required={"name": "王"},
    limit_wait=20,
    unique=False,
    checks_links=False,
    changes={"objects.call.fields.remark__c": "{{ call.remark }}", "objects.contact.fields.remark": None},
)
