"""Every shipped connector has its page, and the page tells what a destination must give."""

from pathlib import Path

import pytest

from bridge.crm.connector import Connector, shipped_connectors
from bridge.lib.toml_file import load_toml

ROOT = Path(__file__).parents[2]
OF_VENDORS = sorted(set(shipped_connectors()) - {"sandbox"})


@pytest.mark.parametrize("name", OF_VENDORS)
def test_page_of_a_crm_names_every_secret_and_setting(name: str) -> None:
    text = (ROOT / f"docs/crm/{name}.md").read_text("utf-8")
    section = Connector(load_toml(shipped_connectors()[name])).file
    assert [one for one in (*section.secrets, *section.settings) if one not in text] == []
    assert f"bridge/crm/connectors/{name}.toml" in text
    assert f"mappings/{name}.toml" in text


@pytest.mark.parametrize("name", OF_VENDORS)
def test_starter_mapping_skips_records_that_are_no_call(name: str) -> None:
    text = (ROOT / f"mappings/{name}.toml").read_text("utf-8")
    assert text.startswith("#:schema ./mapping.schema.json\n")
    for condition in ("not call.is_voice_test", "not call.is_deleted", "[[tests]]", "data/callback.json"):
        assert condition in text
