"""The tables of keys in docs/connectors.md, made of the connector's models.

`python -m tests.docs.connector_tables` writes them where the page has a mark for them.
"""

import re
from pathlib import Path

from pydantic import BaseModel

from bridge.config.json_schemas import key_rows
from bridge.crm.connector import request_schema, schema
from bridge.crm.connector.request_schema import RequestSection

CONNECTORS = Path(__file__).parents[2] / "docs" / "connectors.md"
MARKED = re.compile(r"<!-- keys: (\w+) -->\n.*?<!-- end -->\n", re.DOTALL)


def sections() -> dict[str, type[BaseModel]]:
    """Every table of a connector file, by its model's name."""
    return {
        name: model
        for name, model in {**vars(request_schema), **vars(schema)}.items()
        if isinstance(model, type)
        and issubclass(model, request_schema.ConnectorSection)
        and model is not request_schema.ConnectorSection
    }


def filled(page: str) -> str:
    """The page with every table that it has a mark for."""
    return MARKED.sub(lambda found: _table(found[1]), page)


def _table(name: str) -> str:
    model = sections()[name]
    beside = RequestSection if issubclass(model, RequestSection) and model is not RequestSection else None
    rows = "".join(f"{row}\n" for row in key_rows(model, beside))
    return f"<!-- keys: {name} -->\n| key | default | meaning |\n| --- | --- | --- |\n{rows}<!-- end -->\n"


if __name__ == "__main__":
    CONNECTORS.write_text(filled(CONNECTORS.read_text("utf-8")), "utf-8")
