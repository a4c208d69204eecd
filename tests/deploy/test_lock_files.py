"""The lock files: every requirement is pinned with hashes, in versions that pyproject.toml allows."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "deploy/requirements.txt"
DEVELOPMENT = ROOT / "deploy/requirements-dev.txt"
# pip is told not to look for these, so the lock brings them.
BUILD = ["hatchling", "editables"]


def entries(file: Path) -> list[str]:
    """Each version of a package in a lock file, with its hashes; some have one for each Python."""
    return re.split(r"(?m)^(?=[\w.-]+==)", file.read_text("utf-8"))[1:]


def locked(file: Path) -> dict[str, str]:
    """The version of each package in a lock file."""
    found = [re.split(r"==|[\s;]", entry, maxsplit=2) for entry in entries(file)]
    return {canonicalize_name(name): version for name, version, _ in found}


def required(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize(("file", "extras"), [(RUNTIME, []), (DEVELOPMENT, ["dev"])])
def test_every_requirement_is_locked_to_an_allowed_version(file: Path, extras: list[str]) -> None:
    versions = locked(file)
    unmet = [
        f"{one} but {versions.get(canonicalize_name(one.name))} is locked"
        for one in [*required(*extras), *map(Requirement, BUILD)]
        if not one.specifier.contains(versions.get(canonicalize_name(one.name), ""), prereleases=True)
    ]
    assert unmet == [], "run `make lock`"


@pytest.mark.parametrize("file", [RUNTIME, DEVELOPMENT])
def test_every_locked_version_has_a_hash_and_names_no_host(file: Path) -> None:
    assert len(entries(file)) > 40
    assert [entry for entry in entries(file) if "--hash=sha256:" not in entry] == []
    assert "://" not in file.read_text("utf-8")


def test_tests_use_the_locked_versions_of_the_daemon() -> None:
    runtime, development = locked(RUNTIME), locked(DEVELOPMENT)
    assert {name: development.get(name) for name in runtime} == runtime


def test_bill_of_materials_lists_the_locked_packages() -> None:
    bill = json.loads((ROOT / "deploy/sbom.cdx.json").read_text("utf-8"))
    listed = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    # The lock also names what only other platforms need.
    assert {name: locked(RUNTIME)[name] for name in listed} == listed
    assert {canonicalize_name(one.name) for one in required()} <= set(listed)
