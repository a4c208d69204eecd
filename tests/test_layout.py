"""Tests lie as the code does, and share what they share by modules of their own."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
ROOMS = {folder.name for folder in (TESTS.parent / "bridge").iterdir() if (folder / "__init__.py").exists()}
BESIDE_THE_ROOMS = {"benchmarks", "deploy", "docs", "system", "fixtures", "servers", "data"}
_IMPORT = re.compile(r"^\s*from (tests[.\w]*) import", re.MULTILINE)


def test_every_folder_of_tests_is_a_room_or_is_known() -> None:
    folders = {folder.name for folder in TESTS.iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    assert folders - ROOMS <= BESIDE_THE_ROOMS


def test_no_test_imports_a_test() -> None:
    imports = {
        (str(file.relative_to(TESTS)), module)
        for file in TESTS.rglob("*.py")
        for module in _IMPORT.findall(file.read_text("utf-8"))
    }
    assert imports
    assert {pair for pair in imports if pair[1].rpartition(".")[2].startswith("test_")} == set()
