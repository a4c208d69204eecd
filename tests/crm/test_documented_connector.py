"""What a reader of the docs alone wrote for a CRM of his own: it goes on loading and fitting together."""

from pathlib import Path

from bridge.crm.connector import Connector
from bridge.lib.toml_file import load_toml
from bridge.mapping import load_mapping

FOLDER = Path(__file__).parents[1] / "data" / "reader"


def test_connector_written_from_the_docs_still_loads() -> None:
    connector = Connector(load_toml(FOLDER / "connector.toml"))
    mapping = load_mapping(FOLDER / "mapping.toml")
    for name, section in mapping.file.objects.items():
        kind = connector.objects[section.type or name]
        assert set(section.key) == set(kind.key)
        assert set(section.link) <= set(kind.link)
