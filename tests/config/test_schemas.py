"""The JSON Schemas for editors: those that ship are those of the models, and agree with the loader."""

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator
from pydantic import BaseModel, ValidationError

from bridge.cli import cli
from bridge.config.json_schemas import FILE_KINDS, schema_of
from bridge.config.load import Config
from bridge.config.starters import write_all
from bridge.crm.connector.schema import ConnectorFile
from bridge.mapping import MappingFile, load_mapping, run_tests
from tests.fixtures.daemon_process import callbridge
from tests.fixtures.origins import MAIN

ROOT = Path(__file__).parents[2]
SHIPPED = {
    "config": ROOT / "docs/config.schema.json",
    "connector": ROOT / "bridge/crm/connectors/connector.schema.json",
    "mapping": ROOT / "mappings/mapping.schema.json",
}
MODELS: dict[str, type[BaseModel]] = {"config": Config, "connector": ConnectorFile, "mapping": MappingFile}
EXAMPLES = {
    ROOT / "config.example.toml": "config",
    **dict.fromkeys(sorted((ROOT / "bridge/crm/connectors").glob("*.toml")), "connector"),
    **dict.fromkeys(sorted((ROOT / "mappings").glob("*.toml")), "mapping"),
}
STARTERS = sorted(file.name for file in (ROOT / "mappings").glob("*.toml"))
DIRECTIVE = re.compile(r"#:schema (\./\S+)\n")


def as_json(value: Any) -> Any:
    """A file's data as an editor shows it to a schema: times are texts."""
    if isinstance(value, dict):
        return {name: as_json(inside) for name, inside in value.items()}
    if isinstance(value, list):
        return [as_json(inside) for inside in value]
    return value.isoformat() if isinstance(value, date) else value


def complaints(kind: str, text: str) -> list[str]:
    validator = Draft7Validator(schema_of(kind))
    return [error.message for error in validator.iter_errors(as_json(tomllib.loads(text)))]


def loads(kind: str, text: str) -> bool:
    """Whether the loader takes it, as far as its shape goes."""
    try:
        MODELS[kind].model_validate(tomllib.loads(text))
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_shipped_schema_equals_that_of_the_models(kind: str) -> None:
    result = CliRunner().invoke(cli, ["schema", kind])
    assert result.exit_code == 0
    where = SHIPPED[kind].relative_to(ROOT)
    assert result.output == SHIPPED[kind].read_text("utf-8"), f"run: callbridge schema {kind} > {where}"


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_schema_is_valid_draft_7(kind: str) -> None:
    schema = schema_of(kind)
    Draft7Validator.check_schema(schema)
    text = json.dumps(schema)
    references = set(re.findall(r'"\$ref": "#/definitions/(\w+)"', text))
    assert references == set(schema["definitions"]), "a table is lost, or left over"
    for newer in ("$defs", "prefixItems", '"const"', '"null"}'):
        assert newer not in text


def described(node: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """Every key in a schema, and whether it is described, by itself or by the table it holds."""
    if isinstance(node, list):
        for inside in node:
            yield from described(inside, path)
    elif isinstance(node, dict):
        for name, section in node.get("properties", {}).items():
            yield f"{path}.{name}", bool(section.get("description")) or "$ref" in section
        for key, inside in node.items():
            within = inside.values() if key in {"properties", "definitions"} else [inside]
            for each in within:
                yield from described(each, f"{path}.{key}")


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_every_key_is_described(kind: str) -> None:
    schema = schema_of(kind)
    keys = dict(described(schema))
    assert len(keys) > 20
    assert [key for key, told in keys.items() if not told] == []
    assert all("description" in section or "anyOf" in section for section in schema["definitions"].values())


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_valid_and_names_its_schema(file: Path) -> None:
    text = file.read_text("utf-8")
    assert complaints(EXAMPLES[file], text) == []
    directive = DIRECTIVE.match(text)
    assert directive, "the first line names the schema, for editors"
    assert (file.parent / directive[1]).resolve() == SHIPPED[EXAMPLES[file]]


def test_files_written_by_init_name_existing_schemas(tmp_path: Path) -> None:
    written = write_all(tmp_path)
    files = {file: DIRECTIVE.match(file.read_text("utf-8")) for file in written if file.suffix == ".toml"}
    assert {file.name for file in files} == {"config.toml", *STARTERS}
    for file, directive in files.items():
        assert directive, file
        assert json.loads((file.parent / directive[1]).read_text("utf-8"))["$schema"]
    schemas = {file.name: file for file in written if file.suffix == ".json"}
    for kind, shipped in SHIPPED.items():
        assert schemas[f"{kind}.schema.json"].read_bytes() == shipped.read_bytes()


@pytest.mark.parametrize("name", STARTERS)
def test_every_mapping_written_by_init_passes_its_own_tests(tmp_path: Path, name: str) -> None:
    write_all(tmp_path)
    mapping = load_mapping(tmp_path / "mappings" / name)
    results = run_tests(mapping, MAIN)
    assert results
    assert [str(each) for one in results for each in one.differences] == []


def test_wheel_contains_the_schemas() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    inside = wheel["force-include"]
    assert inside["docs/config.schema.json"] == "bridge/starters/docs/config.schema.json"
    assert inside["mappings"] == "bridge/starters/mappings"
    assert inside["tests/data/callback.json"] == "bridge/starters/tests/data/callback.json"
    assert wheel["packages"] == ["bridge"], "with bridge/crm/connectors"


CONNECTOR = """
name = "own"
secrets = ["token"]
[objects.x]
key = ["a"]
upsert = { path = "/x" }
"""
MAPPING = """
connector = "own"
[objects.x]
key = { a = "{{ call.key }}" }
"""
CONFIG = """
[sources.main]
callback_token = { env = "T" }
"""

# What the loader takes, in each of its forms.
TAKEN = [
    ("config", CONFIG),
    ("config", CONFIG.replace('{ env = "T" }', '"in clear"')),
    ("config", CONFIG.replace('{ env = "T" }', '[{ file = "/a" }, { credential = "b" }, "in clear"]')),
    ("config", CONFIG + "start_at = 2026-11-22\n"),
    ("config", CONFIG + "start_at = 2026-11-22T08:00:00+08:00\n"),
    ("config", CONFIG + 'start_at = "2026-11-22"\n'),
    ("config", CONFIG + '[server]\nmax_body = 2000000\nbody_timeout = 2.5\n[retention]\nduplicates = ""\n'),
    (
        "config",
        CONFIG + '[[sources.main.api]]\nbase_url = "https://a"\naccess_id = "i"\naccess_secret = "s"\n',
    ),
    ("config", CONFIG + '[sources.main.api]\nbase_url = "https://a"\naccess_id = "i"\naccess_secret = "s"\n'),
    (
        "config",
        CONFIG + '[destinations.d]\nmapping = "m"\nsecrets = { a = { env = "A" } }\nsettings = { b = "B" }\n',
    ),
    ("connector", CONNECTOR),
    ("connector", CONNECTOR.replace('{ path = "/x" }', '[{ path = "/x", name = "a" }, { path = "/y" }]')),
    ("connector", CONNECTOR + '[[outcomes]]\nstatus = 404\nthen = "gone"\n'),
    (
        "connector",
        CONNECTOR + '[[outcomes]]\nstatus = [404, "5xx"]\npath = "c"\nis = [0, "0", true]\nthen = "ok"\n',
    ),
    (
        "connector",
        CONNECTOR + '[limits.default]\nrate = "100/10s"\n[limits.search]\nrate = ["5/s", "99/d"]\n',
    ),
    ("connector", CONNECTOR + '[settings]\nzone = "UTC"\n[settings.site]\ndescription = "Which one."\n'),
    (
        "connector",
        CONNECTOR + "[objects.x.link]\ny = { inline = true }\nz = { path = '/z', form = { a = 1 } }\n",
    ),
    ("connector", CONNECTOR + '[objects.x.find]\npath = "/q"\nhits = "d"\nindex_lag = 20\n'),
    ("connector", CONNECTOR + '[[auth.token]]\nurl = "/t"\n[[auth.token]]\nurl = "/u"\nlifetime = "1h30m"\n'),
    ("connector", CONNECTOR + '[errors]\nmessage = "m"\ncode = ["c", "d.0"]\n'),
    (
        "connector",
        CONNECTOR.replace(
            '"/x" }',
            '"/x", batch = { max = 2, item = "{{ key }}", json = [1], results = ".", match = ["a", "b"] } }',
        ),
    ),
    ("mapping", MAPPING),
    (
        "mapping",
        MAPPING + '[objects.x.fields]\na = "t"\nb = 3\nc = true\nd = 2.5\ne = { value = 3, default = "" }\n',
    ),
    (
        "mapping",
        MAPPING + '[objects.x.fields]\na = { value = "v", map = { A = 1, B = "b" }, unknown = "omit" }\n',
    ),
    ("mapping", MAPPING + '[maps.m]\nA = true\n[objects.x.fields]\na = { value = "v", map = "m" }\n'),
    (
        "mapping",
        MAPPING + "[[tests]]\nfields = { a = 1 }\nexpect.x = false\n[[tests]]\nexpect.x = { a = 1 }\n",
    ),
    ("mapping", "shadow = true\n" + MAPPING + '[trial]\nphones = ["1"]\n'),
]

# What both refuse: unknown keys first, then what is no such value.
REFUSED = [
    ("config", CONFIG + "x = 1\n"),
    ("config", "x = 1\n" + CONFIG),
    ("config", CONFIG + "[sever]\n"),
    ("config", CONFIG.replace("env", "evn")),
    ("config", CONFIG.replace('{ env = "T" }', '{ env = "T", file = "t" }')),
    ("config", CONFIG.replace('{ env = "T" }', "3")),
    ("config", CONFIG + "ack = { status = 500 }\n"),
    ("config", CONFIG + '[log]\nlevel = "loud"\n'),
    ("config", CONFIG + "[delivery]\nworkers = 0\n"),
    ("config", CONFIG + '[destinations.d]\nsources = ["main"]\n'),
    ("connector", CONNECTOR + "whol = true\n"),
    ("connector", CONNECTOR.replace('"/x"', '"/x", mehtod = "GET"')),
    ("connector", CONNECTOR.replace('"/x"', '"/x", method = "FETCH"')),
    ("connector", CONNECTOR.replace('"own"', '""')),
    ("connector", CONNECTOR.replace("[objects.x]\nkey", "[objects.x]\nkeys")),
    ("connector", CONNECTOR + '[[outcomes]]\nstatus = 404\nthen = "park"\n'),
    ("connector", CONNECTOR + '[[outcomes]]\nstatus = 404\nthan = "gone"\n'),
    ("connector", CONNECTOR + "[objects.x.link]\ny = { inline = 'yes, please' }\n"),
    ("connector", CONNECTOR + '[auth.token]\nurl = "/t"\ngrant = "magic"\n'),
    ("mapping", MAPPING + "x = 1\n"),
    ("mapping", MAPPING + '[objects.x.fields]\na = { value = 1, wirte = "create" }\n'),
    ("mapping", MAPPING + '[objects.x.fields]\na = { value = 1, write = "crate" }\n'),
    ("mapping", MAPPING + "[objects.x.fields]\na = [1]\n"),
    ("mapping", MAPPING + '[objects.x.fields]\na = { map = "m" }\n'),
    ("mapping", MAPPING + '[objects.x.fields]\na = { value = "v", limit = 0 }\n'),
    ("mapping", MAPPING + "[[rules]]\nname = 'n'\n"),
    ("mapping", MAPPING + "[trial]\nphone = ['1']\n"),
    ("mapping", "connector = 'own'\n[objects]\n"),
]


@pytest.mark.parametrize(("kind", "text"), TAKEN)
def test_schema_accepts_what_the_loader_accepts(kind: str, text: str) -> None:
    assert loads(kind, text)
    assert complaints(kind, text) == []


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_loader_refuses_what_the_schema_refuses(kind: str, text: str) -> None:
    assert not loads(kind, text)
    assert complaints(kind, text)


def test_files_written_by_init_pass_check(tmp_path: Path) -> None:
    write_all(tmp_path)
    done = callbridge("check", "-c", "config.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "no problems\n"), done.stdout + done.stderr
