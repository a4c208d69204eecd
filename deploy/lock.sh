#!/usr/bin/env bash
# Writes the lock files and the software bill of materials anew from pyproject.toml: `make lock`.
#
# requirements.txt      what the daemon runs on, each version with the hashes of all its wheels
# requirements-dev.txt  the same and what the tests and linters need
# sbom.cdx.json         requirements.txt as CycloneDX, with licences, for those who must keep one
#
# The locks are universal: they hold for every Python from 3.11 on and every platform with wheels.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet uv cyclonedx-bom

# pip builds the package itself with these, so that nothing unlocked is fetched for it either.
printf 'hatchling>=1.27\neditables>=0.5\n' >"$work/build.in"

compile() {
    "$work/tools/bin/uv" pip compile --quiet --no-config --universal --python-version 3.11 \
        --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
        --upgrade "$@" pyproject.toml "$work/build.in"
}
compile --output-file "$work/requirements.txt"
compile --extra dev --constraint "$work/requirements.txt" --output-file "$work/requirements-dev.txt"

"${PYTHON:-python3}" -m venv "$work/runtime"
# Python 3.11 puts setuptools into every environment; the daemon does not use it.
"$work/runtime/bin/python" -m pip uninstall --quiet --yes setuptools
"$work/runtime/bin/python" -m pip install --quiet --only-binary :all: --require-hashes \
    --requirement "$work/requirements.txt"
"$work/tools/bin/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible \
    --output-file "$work/sbom.json" "$work/runtime/bin/python"
"$work/tools/bin/python" - "$work/sbom.json" >"$work/sbom.cdx.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    bill = json.load(file)
bill["metadata"].pop("tools", None)
for component in [bill["metadata"]["component"], *bill["components"]]:
    # Where else to read about a package is no part of what runs.
    component.pop("externalReferences", None)
json.dump(bill, sys.stdout, indent=1, sort_keys=True)
print()
PYTHON

mv "$work"/requirements.txt "$work"/requirements-dev.txt "$work"/sbom.cdx.json deploy/
