"""Every package says what it owns, what it may import and where to begin; what it says is held here."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BRIDGE = ROOT / "bridge"
PACKAGES = sorted(file.parent for file in BRIDGE.glob("*/**/__init__.py"))
NAMES = [str(package.relative_to(BRIDGE)) for package in PACKAGES]


def layers() -> list[set[str]]:
    """The rooms of each floor, from the top down, as the import contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    return [set(floor.split(" | ")) for floor in contracts[0]["layers"]]


ROOMS = set().union(*layers())


def told(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""


def may_import(package: Path) -> set[str]:
    """The rooms named where a package says what it may import."""
    part = re.search(r"May import:?(.*?)(?:\n\n|\nBegin|\Z)", told(package), re.DOTALL)
    return set(re.findall(r"`(\w+)`", part.group(1))) & ROOMS if part else set()


def imported(package: Path) -> set[str]:
    """The other rooms that the modules of a package import."""
    room = package.relative_to(BRIDGE).parts[0]
    found = set()
    for file in package.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bridge."):
                found.add((node.module or "").split(".")[1])
    return (found - {room}) & ROOMS


@pytest.mark.parametrize("package", PACKAGES, ids=NAMES)
def test_package_docstring_says_owner_imports_and_entry_point(package: Path) -> None:
    text = told(package)
    for part in ("Owns", "May import", "Begin at"):
        assert part in text, part


@pytest.mark.parametrize("package", PACKAGES, ids=NAMES)
def test_package_imports_only_what_it_declares(package: Path) -> None:
    assert imported(package) <= may_import(package)


@pytest.mark.parametrize("package", PACKAGES, ids=NAMES)
def test_package_declares_only_allowed_imports(package: Path) -> None:
    room = package.relative_to(BRIDGE).parts[0]
    floors = layers()
    [floor] = [place for place, rooms in enumerate(floors) if room in rooms]
    below = set().union(*floors[floor + 1 :])
    assert may_import(package) - {room} <= below


@pytest.mark.parametrize("package", PACKAGES, ids=NAMES)
def test_declared_entry_point_exists(package: Path) -> None:
    text = told(package)
    for module, name in re.findall(r"`(\w+\.py)`(?:: `(\w+(?:\.\w+)?))?", text):
        source = (package / module).read_text("utf-8")
        for part in name.split("."):
            assert not part or re.search(rf"\b(?:class|def) {part}\b", source), f"{module}: {name}"
