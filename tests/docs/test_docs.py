"""The documentation tells everything that there is: keys, commands, metrics, events, filters, fields."""

import ast
import re
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from pydantic import BaseModel
from starlette.routing import Route

from bridge.admin.app import admin_app
from bridge.admin.metrics import LedgerMetrics
from bridge.cli import cli
from bridge.cli.output import ExitCode
from bridge.config.load import Config
from bridge.config.problems import Findings, find_problems
from bridge.config.schema import RetentionSettings
from bridge.crm.connector import Connector
from bridge.crm.connector.answer import Answer
from bridge.crm.connector.error_details import Errors
from bridge.crm.connector.filters import CONNECTOR_FILTERS
from bridge.crm.connector.outcome import Classifier
from bridge.crm.connector.request_schema import Result
from bridge.crm.connector.schema import Grant
from bridge.ledger import open_ledger
from bridge.ledger.sqlite.retention import DATA_CLASSES
from bridge.lib.errors import ConfigError
from bridge.lib.expression import Language
from bridge.lib.toml_file import TomlFile
from bridge.mapping import LANGUAGE, MappingFile, load_mapping, run_tests
from bridge.mapping.filters import MAPPING_FILTERS, filter_rows
from bridge.model.calls import Quarantined, Verdict
from bridge.model.write_policy import WritePolicy
from bridge.record.call import CALL_FIELDS
from bridge.source.outcall.fields import BOOKKEEPING
from tests.docs import command_tables
from tests.docs.command_tables import commands
from tests.docs.connector_tables import MARKED, filled, sections
from tests.fixtures.json_documents import DOCUMENTS
from tests.fixtures.json_shapes import keys_of
from tests.fixtures.origins import MAIN

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = (ROOT / "docs/commands.md").read_text("utf-8")
DEPENDENCIES = (ROOT / "docs/dependencies.md").read_text("utf-8")
CONFIGURATION = (ROOT / "docs/configuration.md").read_text("utf-8")
MAPPING = (ROOT / "docs/mapping.md").read_text("utf-8")
CONNECTORS = (ROOT / "docs/connectors.md").read_text("utf-8")
METRICS_AND_LOGS = (ROOT / "docs/metrics-and-logs.md").read_text("utf-8")
HTTP = (ROOT / "docs/http.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
IDENTITY = (ROOT / "docs/identity.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

EVENT = re.compile(r"(?!bridge\.)[a-z]+\.[a-z_]+")
LOUD = {"warning", "error", "exception"}
LEVELS = {"debug", "info"} | LOUD


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables by the code in their first cell, each with its other cells."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            first, *others = re.split(r"(?<!\\)\|", line.strip("| "))
            for name in re.findall(r"`([^`]+)`", first):
                found[name] = [cell.strip() for cell in others]
    return found


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation such as `dict[Name, SourceSettings]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def config_keys(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every key as it is documented, `sources.NAME.ack.status`; tables themselves are headings."""
    for name, field in model.model_fields.items():
        inside = models_in(field.annotation)
        named = ".NAME" if getattr(field.annotation, "__origin__", None) is dict and inside else ""
        key = f"{path}{name}{named}"
        if not inside:
            yield key
        for below in inside:
            yield from config_keys(below, f"{key}.")


def names_in(tree: ast.AST) -> set[str]:
    """All texts in a piece of source that look like an event's name."""
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str) and EVENT.fullmatch(text)}


def log_events(levels: set[str] | None = None) -> set[str]:
    """The names of all events that the program logs, at these levels.

    Where the name is held in a variable, every text of its function that looks like a name counts.
    """
    found: set[str] = set()
    for file in (ROOT / "bridge").rglob("*.py"):
        functions = [
            node
            for node in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for function in functions:
            for name, level in logged_in(function):
                if levels is None or level in levels:
                    found.add(name)
    return found


def logged_in(function: ast.AST) -> Iterator[tuple[str, str]]:
    """Events of one function, each with its level."""
    found = [
        (names_in(call.args[0]), call.func.attr, call)
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
        and call.func.attr in LEVELS
    ]
    spelt = set[str]().union(*(names for names, _, _ in found))
    for names, level, call in found:
        held = names or names_in(function) - spelt
        assert held, f"what does {ast.unparse(call)} log?"
        yield from ((name, level) for name in held)


def section(text: str, heading: str) -> str:
    """What stands under a heading of the second rank."""
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def anchors(text: str) -> set[str]:
    """What a link may lead to inside a page, by the rules of the usual renderers."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown_commands(text: str) -> Iterator[list[str]]:
    """The command lines of callbridge in a page's shell blocks and texts, word by word."""
    for span in re.findall(r"`callbridge ([a-z][^`…]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        yield span.split()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            found = re.search(r"(?:^\s*|bin/)callbridge (?!-s|/)([^|>#]+)", line)
            if found:
                yield found[1].split()


def metric_names(folder: Path) -> set[str]:
    """The names of all metrics, as a scrape shows them."""
    ledger = open_ledger(folder / "ledger.db", create=True)
    try:
        metrics = list(LedgerMetrics(ledger, lambda: {("main", 200): 1}).collect())
    finally:
        ledger.close()
    return {metric.name + ("_total" if metric.type == "counter" else "") for metric in metrics}


def test_every_path_for_operators_is_documented_and_no_other(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path / "ledger.db", create=True)) as ledger:
        app = admin_app(ledger, accepting=lambda: True, answers=dict)
    there = {route.path for route in app.app.routes if isinstance(route, Route)}
    assert set(rows(section(HTTP, "For operators"))) == there


def test_every_configuration_key_is_documented_and_no_other() -> None:
    sections = tuple(Config.model_fields)
    documented = {
        name for name in rows(CONFIGURATION) if name.startswith(tuple(f"{one}." for one in sections))
    }
    assert documented == set(config_keys(Config))


def test_every_command_is_documented_and_no_other() -> None:
    there = {words for words, _ in commands()}
    listed = re.findall(r"^\| \[`([a-z ]+)`\]", section(COMMANDS, "All commands"), re.MULTILINE)
    assert set(listed) == there
    assert set(command_tables.MARKED.findall(COMMANDS)) == there
    assert set(re.findall(r"^### (.*)$", COMMANDS, re.MULTILINE)) == there


def test_documented_options_and_documents_are_the_existing_ones() -> None:
    assert command_tables.filled(COMMANDS) == COMMANDS, "run: python -m tests.docs.command_tables"


def test_every_key_of_a_document_is_documented() -> None:
    for words, shape in DOCUMENTS.items():
        block = COMMANDS.split(f"<!-- command: {words.split(' --')[0]} -->", 1)[1].split("<!-- end -->", 1)[0]
        assert {key for key in keys_of(shape) if not re.search(rf"\b{key}\b", block)} == set(), words


def test_every_exit_code_is_documented() -> None:
    documented = set(re.findall(r"^\| (\d) \|", section(COMMANDS, "Exit codes"), re.MULTILINE))
    assert documented == {str(code.value) for code in ExitCode}


def test_every_metric_is_documented_and_no_other(tmp_path: Path) -> None:
    names = metric_names(tmp_path)
    assert {name for name in rows(METRICS_AND_LOGS) if name.startswith("callbridge_")} == names


def test_every_log_event_is_documented_and_no_other() -> None:
    events = log_events()
    assert {"daemon.ready", "ledger.disk_low"} <= events, "events are no longer found"
    table = METRICS_AND_LOGS.split("\n## Log events\n", 1)[1]
    assert set(rows(table)) == events


def test_every_level_and_field_of_an_event_is_documented() -> None:
    documented = rows(METRICS_AND_LOGS)
    logged = [
        (call.args[0].value, call.func.attr, call.keywords)
        for file in (ROOT / "bridge").rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args
        if isinstance(call.args[0], ast.Constant) and call.args[0].value in documented
    ]
    assert len(logged) > 30
    for event, method, keywords in logged:
        level, fields, _ = documented[event]
        assert {"exception": "error"}.get(method, method) in level, event
        names = {"exception" if one.arg == "exc_info" else one.arg for one in keywords} - {None}
        assert names <= set(re.findall(r"`(\w+)`", fields)), event


def test_every_filter_is_documented_and_no_other() -> None:
    table = MAPPING.split("\n## Filters\n", 1)[1].split("\n## ", 1)[0]
    listed = [line for line in table.splitlines() if line.startswith("| `")]
    assert listed == list(filter_rows()), "print bridge.mapping.filters.filter_rows() into it"
    assert len(listed) == len(MAPPING_FILTERS)


def test_every_call_field_is_documented_and_no_other() -> None:
    documented = {name: cells[0] for name, cells in rows(MAPPING).items() if name.startswith("call.")}
    assert documented == {f"call.{name}": meaning for name, meaning in CALL_FIELDS.items()}


def test_every_mapping_key_is_documented() -> None:
    def keys(model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield name
            for below in models_in(field.annotation):
                yield from keys(below)

    documented = {re.sub(r"\[\]", "", name).rpartition(".")[2] for name in rows(MAPPING)}
    # Tables whose names are the operator's stand as `objects.X`; lists as `rules[].name`.
    tables = {"rules", "trial", "maps", "objects", "tests"}
    assert set(keys(MappingFile)) - tables <= documented
    assert all(f"`{table}" in MAPPING for table in tables)


def test_every_write_policy_is_documented_and_no_other() -> None:
    table = MAPPING.split("| `write` | the field is written |", 1)[1].split("\n\n", 1)[0]
    assert set(rows(table)) == {policy.value for policy in WritePolicy}


@pytest.mark.parametrize("text", [README, MAPPING], ids=["README", "mapping.md"])
def test_shown_mapping_compiles(text: str, tmp_path: Path) -> None:
    [shown] = [block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "connector =" in block]
    (tmp_path / "shown.toml").write_text(shown, "utf-8")
    assert list(load_mapping(tmp_path / "shown.toml").file.objects) == ["contact", "call"]


def test_shown_pieces_of_a_mapping_fit_together() -> None:
    def laid_over(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        tables = base.keys() & more & {"objects", "contact", "fields"}
        return {**base, **more, **{name: laid_over(base[name], more[name]) for name in tables}}

    whole, *pieces = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", MAPPING, re.DOTALL))
    assert pieces
    for piece in pieces:
        MappingFile.model_validate(laid_over(whole, piece))


def test_shown_expressions_compile() -> None:
    table = MAPPING.split("| to have | write |", 1)[1].split("\n\n", 1)[0]
    expressions = re.findall(r"`(\{\{.*?\}\})`", table)
    assert expressions
    for expression in expressions:
        assert not LANGUAGE.parse(expression.replace("\\|", "|")).constant


def test_readme_is_short_and_links_to_every_page() -> None:
    assert len(README.splitlines()) <= 130
    linked = set(re.findall(r"\]\((docs/[^)#]+)", README))
    assert linked == {str(page.relative_to(ROOT)) for page in PAGES if page.parent != ROOT}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0] for line in required}
    documented = set(re.findall(r"^\| ([a-z][a-z0-9-]*) \| \S", DEPENDENCIES, re.MULTILINE)) - {"package"}
    assert documented == names


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_have_targets(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text("utf-8")), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_shown_commands_exist(page: Path) -> None:
    for words in shown_commands(page.read_text("utf-8")):
        command: click.Command = cli
        while isinstance(command, click.Group):
            assert words, command.name
            word = words.pop(0)
            assert word in command.commands, word
            command = command.commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_every_quarantine_reason_has_its_remedy() -> None:
    assert set(rows(section(OPERATIONS, "Quarantine"))) == set(Quarantined)
    [reasons] = [cells for name, cells in rows(METRICS_AND_LOGS).items() if name == "callbridge_quarantined"]
    assert set(re.findall(r"`([a-z_]+)`", reasons[-1])) == set(Quarantined)


def test_every_class_of_data_is_documented_and_no_other() -> None:
    documented = set(rows(section(OPERATIONS, "Retention and prune")))
    assert documented == set(DATA_CLASSES) == set(RetentionSettings.model_fields)


def test_every_warning_has_instructions() -> None:
    assert set(rows(section(OPERATIONS, "Reading logs at night"))) - {"503"} == log_events(LOUD)


def test_bookkeeping_is_documented_with_its_reasons() -> None:
    documented = {name: cells[0] for name, cells in rows(section(IDENTITY, "What is bookkeeping")).items()}
    assert documented == dict(BOOKKEEPING)


def test_every_verdict_and_reason_is_explained() -> None:
    for word in (*Verdict, *(Quarantined.IDENTITY_CONFLICT, Quarantined.AMBIGUOUS, Quarantined.UNIDENTIFIED)):
        assert f"`{word}`" in IDENTITY


# Connectors


def blocks(page: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", page, re.DOTALL)


def files(page: str) -> dict[str, str]:
    """The whole files of a page, by the schema that their first line names; the last of each kind."""
    return {
        block.split(".schema.json")[0].removeprefix("#:schema ./"): block
        for block in blocks(page)
        if WHOLE in block
    }


WHOLE = "#:schema "
PIECES = [block for block in blocks(CONNECTORS) if WHOLE not in block]
# What a piece stands beside.
AROUND = """
name = "own"
[objects.contact]
key = ["phone"]
[objects.contact.find]
path = "/c"
hits = "."
[objects.contact.create]
path = "/c"
id = "id"
[objects.contact.update]
path = "/c/{{ id }}"
[objects.call]
key = ["call_key"]
[objects.call.create]
path = "/calls"
id = "id"
"""


def beside(whole: Any, piece: Any) -> Any:
    """The tables of a piece beside those there are; an object with a key of its own is a new one."""
    if isinstance(whole, list) and isinstance(piece, list):
        return [*whole, *piece]
    if not isinstance(whole, dict) or not isinstance(piece, dict) or "key" in piece:
        return piece
    return {
        **whole,
        **{name: beside(whole[name], one) if name in whole else one for name, one in piece.items()},
    }


def test_tables_of_keys_agree_with_the_models() -> None:
    assert set(MARKED.findall(CONNECTORS)) == set(sections()), "a table is missing, or of nothing"
    assert filled(CONNECTORS) == CONNECTORS, "run: python -m tests.docs.connector_tables"


def test_tutorial_is_a_valid_configuration(tmp_path: Path) -> None:
    shown = files(CONNECTORS)
    assert set(shown) == {"config", "connector", "mapping"}
    for kind, name in (
        ("config", "config"),
        ("connector", "connectors/ostwind"),
        ("mapping", "mappings/ostwind"),
    ):
        path = tmp_path / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown[kind], "utf-8")
    (tmp_path / "secrets").mkdir()
    for name, secret in (("callback-token", "0123456789abcdef-0123456789"), ("ostwind-app-secret", "s")):
        (tmp_path / "secrets" / name).touch(mode=0o600)
        (tmp_path / "secrets" / name).write_text(secret, "utf-8")
    environ = {"OSTWIND_APP_ID": "id", "CALLBRIDGE_LEDGER__URL": f"sqlite:///{tmp_path}/ledger.db"}
    assert find_problems(tmp_path / "config.toml", environ) == Findings((), ())
    results = run_tests(load_mapping(tmp_path / "mappings/ostwind.toml"), MAIN)
    assert [str(one) for result in results for one in result.differences] == []


def test_steps_of_the_tutorial_make_its_whole_file() -> None:
    steps = CONNECTORS.split("\n### 1. ", 1)[1].split("\n### 7. ", 1)[0]
    whole: Any = {}
    for block in blocks(steps):
        if WHOLE not in block:
            piece = tomllib.loads(block)
            if "secrets" in whole:
                piece.pop("secrets", None)
            whole = beside(whole, piece)
    assert whole == tomllib.loads(files(CONNECTORS)["connector"])


@pytest.mark.parametrize("piece", PIECES, ids=[block.splitlines()[0] for block in PIECES])
def test_every_piece_of_a_connector_compiles(piece: str) -> None:
    file = TomlFile(Path("piece.toml"), piece)
    file.data = beside(tomllib.loads(AROUND), file.data)
    Connector(file)


def test_every_grant_is_documented_and_no_other() -> None:
    table = CONNECTORS.split("| `grant` | secrets it reads |", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(get_args(Grant))


def test_every_connector_filter_is_documented_and_does_what_it_says() -> None:
    documented = {
        name: cells
        for name, cells in rows(section(CONNECTORS, "Reference").split("\n### Filters\n")[1]).items()
        if len(cells) == 3
    }
    assert set(documented) == set(CONNECTOR_FILTERS)
    language = Language({}, CONNECTOR_FILTERS)
    for name, (_, example, gives) in documented.items():
        expression = example.strip("`").replace("\\|", "|")
        assert f"| {name}" in expression
        [value] = language.compile([language.parse(expression)])({})
        assert value == gives.strip("`"), name


# A name that is nowhere, in every place that knows others.
NOWHERE = """
name = "own"
root = "{{ zzzz }}"
[auth]
headers = { X = "{{ zzzz }}" }
[auth.token]
url = "{{ zzzz }}"
[[outcomes]]
when = "{{ zzzz }}"
then = "ok"
[objects.x]
key = ["a"]
[objects.x.find]
path = "{{ zzzz }}"
hits = "{{ zzzz }}"
id = "{{ zzzz }}"
where = "{{ zzzz }}"
[objects.x.find.batch]
max = 2
item = "{{ zzzz }}"
json = "{{ zzzz }}"
results = "."
match = ["{{ zzzz }}", "a"]
id = "{{ zzzz }}"
[[objects.x.create]]
path = "{{ zzzz }}"
capture = { c = "{{ zzzz }}" }
[[objects.x.create]]
path = "{{ zzzz }}"
when = "{{ zzzz }}"
[objects.x.update]
path = "{{ zzzz }}"
[objects.x.read]
path = "{{ zzzz }}"
[objects.x.read_as]
f = "{{ zzzz }}"
[objects.x.link.y]
path = "{{ zzzz }}"
[objects.x.describe]
path = "{{ zzzz }}"
fields = "."
read_only = "{{ zzzz }}"
[[probe]]
name = "p"
path = "{{ zzzz }}"
expect = "{{ zzzz }}"
"""


def known_names() -> dict[str, set[str]]:
    """The names that each place of a connector says it knows."""
    with pytest.raises(ConfigError) as caught:
        Connector(TomlFile(Path("own.toml"), NOWHERE))
    told = {one.key: re.search(r"known: ([a-z0-9_, ]+)", str(one)) for one in caught.value.problems}
    return {place: set(found[1].split(", ")) for place, found in told.items() if found}


def test_every_connector_name_is_documented_and_no_other() -> None:
    table = section(CONNECTORS, "Reference").split("\n### Names\n")[1]
    documented = {name for line in table.splitlines() for name in re.findall(r"^\| `(\w+)` \|", line)}
    places = known_names()
    assert len(places) == NOWHERE.count("zzzz")
    assert documented == set().union(*places.values())


def test_every_outcome_and_every_default_is_explained() -> None:
    table = CONNECTORS.split("\n### What answers mean\n")[1].split("\n### ")[0]
    assert set(get_args(Result)) <= set(rows(table))
    without = dict(re.findall(r"^\| ([\dx, a-z]+) \| `(\w+)`", table, re.MULTILINE))
    meaning_of = Classifier((), Errors()).meaning_of
    for told, result in without.items():
        given = [int(status) for status in re.findall(r"\d{3}", told)] or {
            "2xx": [204],
            "other 5xx": [500, 504],
        }.get(told, [403])
        for status in given:
            assert meaning_of(Answer(status, {}, "", None), (), datetime.now(UTC)).result == result, told
