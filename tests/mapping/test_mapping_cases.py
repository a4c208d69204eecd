"""A mapping's own cases, and the command that runs them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.cli import cli
from bridge.mapping import CaseResult, load_mapping, run_tests
from tests.fixtures.daemon_process import callbridge
from tests.fixtures.origins import MAIN

TOP = Path(__file__).parents[2]
MAPPING = """\
connector = "sandbox"
[[rules]]
name = "no voice tests"
when = "{{ not call.is_voice_test }}"
[objects.contact]
key = { phone = "{{ call.phone | e164 }}" }
[objects.contact.fields]
grade = { value = "{{ call.grade }}", map = { A = "hot", B = "warm" } }
name = "{{ call.name }}"
seen = { value = "{{ call.remark }}", missing = "null" }
[objects.call]
key = { call_key = "{{ call.key }}" }
link = { contact = "contact" }
[objects.call.fields]
seconds = "{{ call.talk_seconds }}"
answered = "{{ call.answered }}"
at = "{{ call.started_at | iso8601 }}"
[[tests]]
record = "callback.json"
"""


def write(folder: Path, case: str, name: str = "crm.toml") -> Path:
    shutil.copy(TOP / "tests/data/callback.json", folder / "callback.json")
    path = folder / name
    path.write_text(MAPPING + case, "utf-8")
    return path


def results(folder: Path, case: str) -> list[CaseResult]:
    return run_tests(load_mapping(write(folder, case)), MAIN)


PASSES = [
    'expect.contact.phone = "+8615899770637"\nexpect.contact.grade = "warm"\nexpect.call.seconds = 88',
    "expect.call.answered = true",
    "expect.call.seconds = 88.0",
    "expect.contact.name = { absent = true }",
    "expect.contact.seen = { null = true }",
    "expect.call.at = 2025-04-14T02:19:13Z",
    'expect.call.call_key = "db57f262-18d6-11f0-88c8-2f2b0aba51d7"',
    'fields = { phone = "158****0637" }\nexpect.contact = false',
    'fields = { call_from_type = 3 }\nexpect_skip = "no voice tests"',
    'fields = { status = "Z" }\nexpect_error = "\'Z\' is not in its map"',
]


@pytest.mark.parametrize("case", PASSES)
def test_case_passes(tmp_path: Path, case: str) -> None:
    [result] = results(tmp_path, case)
    assert result.passed, result.differences


FAILS = [
    ('expect.contact.grade = "hot"', 'contact.grade: expected "hot", found "warm"'),
    ('expect.call.seconds = "88"', 'call.seconds: expected "88", found 88'),
    ("expect.call.answered = 1", "call.answered: expected 1, found true"),
    ('expect.contact.name = "x"', 'contact.name: expected "x", found no value: empty'),
    ("expect.call.seconds = { absent = true }", "call.seconds: expected no value, found 88"),
    ("expect.contact = false", "contact: expected no such object, found one with the key +8615899770637"),
    (
        'fields = { phone = "" }\nexpect.contact.grade = "warm"',
        "contact: expected an object, found none: phone, which is its key, is empty",
    ),
    ('expect_skip = "no voice tests"', 'expected "no voice tests", found a plan with contact, call'),
    ('fields = { status = "Z" }\nexpect.contact.grade = "x"', "expect: expected a plan, found parked: obj"),
    ('fields = { call_from_type = 3 }\nexpect_error = "x"', "found skipped: no voice tests"),
    ('fields = { status = "Z" }\nexpect_error = "other words"', "found parked: objects.contact.fields.grade"),
    ('fields = { uuid = "00000000-0000-4000-8000-000000000001" }\nexpect.call = false', "quarantine"),
]


@pytest.mark.parametrize(("case", "told"), FAILS)
def test_failing_case_says_where(tmp_path: Path, case: str, told: str) -> None:
    [result] = results(tmp_path, case)
    assert told in "\n".join(map(str, result.differences))
    assert (result.passed, result.name, result.line) == (False, "case 1", 18)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such file"), (b"[1]", "not a JSON object"), (b"{", "JSON")]
)
def test_unreadable_record_fails_its_case(tmp_path: Path, content: bytes | None, words: str) -> None:
    mapping = load_mapping(write(tmp_path, "expect.call = false"))
    (tmp_path / "callback.json").unlink()
    if content is not None:
        (tmp_path / "callback.json").write_bytes(content)
    [result] = run_tests(mapping, MAIN)
    assert words in str(result.differences[0])


def test_bare_fields_are_a_record(tmp_path: Path) -> None:
    case = 'expect.call.seconds = 88\n[[tests]]\nname = "of its own"\n'
    case += 'fields = { sn = "s", created_at = "2025-04-14 10:00:00", talktimes = 7 }\n'
    case += 'expect.call = { seconds = 7, call_key = "s@2025-04-14 10:00:00" }'
    assert [(one.name, one.passed) for one in results(tmp_path, case)] == [
        ("case 1", True),
        ("of its own", True),
    ]


def test_the_shipped_mappings_pass_their_own_cases() -> None:
    for path in sorted((TOP / "mappings").glob("*.toml")):
        for result in run_tests(load_mapping(path), MAIN):
            assert result.passed, (path.name, result)


# The command


def invoke(folder: Path, *args: str) -> Result:
    """Run the command as from a folder, where no configuration is unless one was written."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(cli, ["map", "test", *args])
    finally:
        os.chdir(before)


def configuration(folder: Path, mapping: str, zone: str = "UTC") -> Path:
    path = folder / "config.toml"
    path.write_text(
        f"""
[sources.abroad]
callback_token = {{ env = "TOKEN" }}
timezone = "{zone}"
country = "US"
[destinations.crm]
mapping = "{mapping}"
base_url = "http://127.0.0.1:1"
""",
        "utf-8",
    )
    return path


def test_mapping_without_a_configuration_uses_china_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "expect.call.at = 2025-04-14T02:19:13Z")
    ended = invoke(tmp_path, str(path))
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.splitlines() == [f"{path}:18: case 1: ok", "1 passed, 0 failed"]


def test_mapping_with_a_configuration_uses_its_sources_settings(tmp_path: Path) -> None:
    write(tmp_path, "expect.call.at = 2025-04-14T10:19:13Z")
    configuration(tmp_path, "crm.toml")
    for args in (["crm.toml"], [], ["crm.toml", "-c", "config.toml"]):
        ended = invoke(tmp_path, *args)
        assert ended.exit_code == 0, (args, ended.output)


def test_failing_case_exits_1_and_json_has_the_difference(tmp_path: Path) -> None:
    write(tmp_path, "expect.call.seconds = 7")
    ended = invoke(tmp_path, "crm.toml", "--json")
    assert ended.exit_code == 1
    document: dict[str, Any] = json.loads(ended.stdout)
    assert document == {
        "mappings": [
            {
                "mapping": "crm.toml",
                "cases": [
                    {
                        "name": "case 1",
                        "line": 18,
                        "passed": False,
                        "differences": [{"place": "call.seconds", "expected": "7", "found": "88"}],
                    }
                ],
            }
        ],
        "passed": 0,
        "failed": 1,
    }
    assert "    call.seconds: expected 7, found 88" in invoke(tmp_path, "crm.toml").stdout.splitlines()


def test_broken_configuration_hides_no_result(tmp_path: Path) -> None:
    write(tmp_path, "expect.call.seconds = 88")
    configuration(tmp_path, "crm.toml", zone="Europe/Nowhere")
    ended = invoke(tmp_path, "crm.toml")
    assert ended.exit_code == 0
    assert "not used: config.toml:4: sources.abroad.timezone" in ended.stderr


def test_broken_mapping_exits_2_with_all_its_problems(tmp_path: Path) -> None:
    path = write(tmp_path, "expect.call.seconds = 88")
    path.write_text(
        path.read_text("utf-8").replace("call.name", "call.nme").replace("| e164", "| e165"), "utf-8"
    )
    ended = callbridge("map", "test", "crm.toml", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert [line.split(" ")[0] for line in ended.stderr.splitlines()] == ["crm.toml:6:", "crm.toml:9:"]
