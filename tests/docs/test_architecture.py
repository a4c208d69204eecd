"""Every file and every name in docs/architecture.md exists, and the rooms are those there are."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PATH = re.compile(r"[\w./-]+(?:/|\.py|\.sql|\.md)")
NAME = re.compile(r"(?:[A-Z]\w*|[a-z_]\w*(?=\())(?:\.\w+)?(?:\(\))?")
# Told about, and no names of ours.
WORDS = {"SUCCESS"}


def spans(line: str) -> list[str]:
    return re.findall(r"`([^`]+)`", line)


def place_of(path: str) -> Path | None:
    """A path of the page: below `bridge/`, or below the repository."""
    return next((root / path for root in (ROOT / "bridge", ROOT) if (root / path).exists()), None)


@cache
def names_in(path: Path) -> frozenset[str]:
    """What a module defines: `rule`, `Door`, `Door.close`."""
    found = set[str]()
    for node in ast.parse(path.read_text("utf-8")).body:
        found |= _defined(node)
    return frozenset(found)


def _defined(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.ClassDef():
            return {node.name} | {f"{node.name}.{one}" for below in node.body for one in _defined(below)}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


LINES = [line for line in TEXT.splitlines() if spans(line)]


def section(heading: str) -> str:
    return TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_every_file_and_name_mentioned_exists(line: str) -> None:
    paths = [span for span in spans(line) if PATH.fullmatch(span)]
    assert [path for path in paths if place_of(path) is None] == []
    places = [place for path in paths if (place := place_of(path)) is not None and place.suffix == ".py"]
    there = set[str]().union(*(names_in(place) for place in places))
    named = {span.removesuffix("()") for span in spans(line) if NAME.fullmatch(span)} - WORDS
    assert named - there == set(), f"defined in none of {paths}"


def test_mentioned_names_are_found() -> None:
    named = [span for line in LINES for span in spans(line) if NAME.fullmatch(span)]
    assert len(named) > 40
    assert {"Door", "rule()", "Worker.deliver_one()"} <= set(named)


def test_every_kind_of_addition_has_its_list() -> None:
    headings = re.findall(r"^### (.+)$", section("To add something"), re.MULTILINE)
    assert headings == [
        "a write policy",
        "an auth kind",
        "a column of deliveries",
        "a command",
        "a console page",
        "a source (platform)",
        "a ledger",
        "an alert",
    ]


def test_documented_rooms_are_the_packages() -> None:
    bridge = ROOT / "bridge"
    there = {file.stem for file in bridge.glob("*.py") if not file.stem.startswith("__")}
    there |= {f"{folder.name}/" for folder in bridge.iterdir() if (folder / "__init__.py").exists()}
    assert set(re.findall(r"^\| `([a-z_]+/?)` \|", section("The rooms"), re.MULTILINE)) == there


def test_picture_of_the_rooms_equals_the_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    [contract] = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    picture = section("The rooms").split("```text\n", 1)[1].split("```", 1)[0]
    shown = [re.split(r"\s{2,}", line)[0].replace("·", "|") for line in picture.splitlines()]
    assert shown == contract["layers"]
