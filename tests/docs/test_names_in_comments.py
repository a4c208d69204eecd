"""Modules and files that comments and pages name are there: a name that has moved leads a reader nowhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("bridge", "tests", "benchmarks", "docs", "mappings", "deploy")
DOTTED = re.compile(r"`(bridge(?:\.\w+)+)(?:\(\))?`")
FILES = re.compile(
    r"(?<![\w/.-])((?:bridge|tests|benchmarks|docs|deploy)/[\w/-]+\.(?:py|toml|md|sql|json))\b"
)
# What a wheel has and a clone has not: see [tool.hatch.build] in pyproject.toml.
IN_A_WHEEL = "bridge/starters/"


def texts(suffixes: set[str]) -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return [path for path in (*found, *ROOT.glob("*.md"), ROOT / "Makefile") if path != Path(__file__)]


def is_there(dotted: str) -> bool:
    """Whether the longest part of it that is a module defines, or at least names, the rest."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module.exists():
            text = module.read_text("utf-8")
            return all(re.search(rf"\b{name}\b", text) for name in parts[length:])
    return False


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_named_in_a_comment_exists(folder: str) -> None:
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in texts({".py", ".md"})
        if path.is_relative_to(ROOT / folder)
        for name in DOTTED.findall(path.read_text("utf-8"))
    }
    assert {(path, name) for path, name in named if not is_there(name)} == set()


def test_every_file_named_in_a_comment_exists() -> None:
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in texts({".py", ".md", ".toml", ".sh"})
        for name in FILES.findall(path.read_text("utf-8"))
        if not name.startswith(IN_A_WHEEL) and not (path.parent / name).exists()
    }
    assert {(path, name) for path, name in named if not (ROOT / name).exists()} == set()
