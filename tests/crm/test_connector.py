"""Connector files: what is sent, how mistakes are named, what is never shown."""

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from bridge.crm.connector import Connector, load_connector, shipped_connectors
from bridge.crm.connector.request import Request
from bridge.crm.rendering import common_names
from bridge.lib.errors import ConfigError, Problem
from bridge.lib.toml_file import load_toml
from bridge.mapping import load_mapping
from tests.fixtures.connector_files import connector_of
from tests.fixtures.small_crm import NOW, crm_of

SECRET = "canary-5a81c0de"
FIELDS = {"grade": "A", "tags": ["有需求"], "score": 80, "none": None}


def test_every_shipped_connector_loads_under_its_file_name() -> None:
    names = shipped_connectors()
    assert "sandbox" in names
    assert [Connector(load_toml(path)).name for path in names.values()] == list(names)


def test_idempotent_requests_are_known() -> None:
    call = connector_of().objects["call"]
    assert [step.request.idempotent for step in (*call.create, *call.update)] == [False, False, True]
    assert call.find[0].request.idempotent


def test_unknown_connector_is_reported_at_its_line_of_the_mapping(tmp_path: Path) -> None:
    path = tmp_path / "crm.toml"
    text = '# mine\nconnector = "sandbx"\n[objects.call]\nkey = { call_key = "{{ call.key }}" }\n'
    path.write_text(text, "utf-8")
    mapping = load_mapping(path)

    def problem_at(message: str, remedy: str) -> Problem:
        return mapping.problem(("connector",), message, remedy)

    with pytest.raises(ConfigError) as caught:
        load_connector(mapping.file.connector, problem_at)
    expected = Problem(
        str(path), "connector", 'there is no connector "sandbx"', 'did you mean "sandbox"?', line=2
    )
    assert caught.value.problems == (expected,)
    assert load_connector("sandbox", problem_at).name == "sandbox"


# What is sent


def rendered(request: Request, **names: Any) -> Any:
    account = crm_of(connector_of(), "http://127.0.0.1:9", {"token": SECRET}).account
    common = common_names(account, {}, NOW, uuid.uuid4)
    return request.render({**common, **names})


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("+8615899770637", "%2B8615899770637"),
        ("a/b?c#d&e=f", "a%2Fb%3Fc%23d%26e%3Df"),
        ("100%", "100%25"),
        ("客户 1", "%E5%AE%A2%E6%88%B7%201"),
        ("sn@2025-04-14 10:19:13", "sn%402025-04-14%2010%3A19%3A13"),
        ("a\r\nX: y", "a%0D%0AX%3A%20y"),
        ("{{ 7*7 }}", "%7B%7B%207%2A7%20%7D%7D"),
        (2**63, str(2**63)),
    ],
)
def test_key_cannot_change_the_shape_of_a_path(key: object, path: str) -> None:
    create = connector_of().objects["call"].create[0].request
    found = rendered(create, key={"call_key": key, "part": "x"}, fields={})
    assert found.path == f"/calls/{path}/x"
    assert unquote(found.path) == f"/calls/{key}/x"


def test_body_keeps_types_constants_and_cleared_fields() -> None:
    create = connector_of().objects["call"].create[0].request
    found = rendered(create, key={"call_key": "k/1", "part": None}, fields=FIELDS)
    assert found.body == {
        "properties": FIELDS,
        "from": "callbridge",
        "list": [1, True, "k/1", {"deep": "<>"}],
    }


def test_json_key_with_a_null_expression_is_left_out() -> None:
    change = ('from = "callbridge"', 'from = "{{ key.part }}"\nfull = { a = "{{ key.part }}", b = 1 }')
    create = connector_of(change).objects["call"].create[0].request
    found = rendered(create, key={"call_key": "k", "part": None}, fields={})
    assert "from" not in found.body
    assert found.body["full"] == {"b": 1}


# What is never shown


def test_no_text_of_a_connector_shows_a_secret() -> None:
    connector = connector_of()
    crm = crm_of(connector, "http://127.0.0.1:9", {"token": SECRET})
    crm.close()
    for shown in (connector, crm, crm.account):
        assert SECRET not in f"{shown!r} {shown}"
