"""What `check` warns of: what other machines and other users of this one could read or pretend."""

import os
import tempfile
from pathlib import Path

import pytest

from bridge.config.exposure import exposures, in_clear
from bridge.config.load import load_config
from bridge.config.problems import find_problems
from bridge.lib.system_users import user_name
from tests.fixtures.daemon_process import TOKEN, callbridge, write_config

CLEAR = "is http://: secrets and phone numbers cross the network in clear"


def warned(config: Path) -> list[tuple[str, str]]:
    return [(one.key, one.message) for one in exposures(load_config(config, {}))]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path, "https://crm.example.com")


def change(config: Path, old: str, new: str) -> Path:
    text = config.read_text("utf-8")
    assert old in text
    config.write_text(text.replace(old, new), "utf-8")
    return config


def test_sound_configuration_gives_no_warning(config: Path) -> None:
    assert warned(config) == []


@pytest.mark.parametrize(
    ("address", "clear"),
    [
        ("http://crm.example.com", True),
        ("http://CRM.example.com:8080/api", True),
        ("http://crm.example.com.", True),
        ("http://8.8.8.8", True),
        ("http://[2606:4700::1111]/", True),
        ("https://crm.example.com", False),
        ("http://127.0.0.1:8490", False),
        ("http://localhost:8490", False),
        ("http://[::1]:8490", False),
        ("http://10.1.2.3", False),
        ("http://192.168.1.7", False),
        ("http://espocrm", False),
        ("http://crm.office.lan", False),
        ("", False),
    ],
)
def test_plain_http_beyond_the_local_network_is_warned_about(address: str, clear: bool) -> None:
    assert in_clear(address) is clear


def test_public_crm_and_platform_without_tls_are_warned_about(config: Path) -> None:
    change(config, "https://crm.example.com", "http://crm.example.com")
    with config.open("a", encoding="utf-8") as file:
        file.write(
            '[sources.main.api]\nbase_url = "http://ai000.example.com"\naccess_id = "x"\n'
            'access_secret = { env = "TOKEN" }\n'
        )
    assert warned(config) == [("sources.main.api.base_url", CLEAR), ("destinations.crm.base_url", CLEAR)]


@pytest.mark.parametrize(("mode", "told"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_secret_readable_by_every_user_is_warned_about(config: Path, mode: int, told: bool) -> None:
    secret = config.parent / "crm-token"
    secret.write_text("crm-token-of-the-tests", "utf-8")
    secret.chmod(mode)
    change(config, '{ env = "CRM_TOKEN" }', '{ file = "crm-token" }')
    message = f"every user of this machine can read {secret} (mode {mode:04o})"
    assert warned(config) == ([("destinations.crm.secrets.token", message)] if told else [])


@pytest.mark.parametrize(
    ("network", "told"),
    [("0.0.0.0/0", True), ("::/0", True), ("128.0.0.0/1", True), ("10.0.0.0/8", False), ("fd00::/16", False)],
)
def test_too_wide_trusted_proxies_are_warned_about(config: Path, network: str, told: bool) -> None:
    change(config, "[server]\n", f'[server]\ntrusted_proxies = ["10.0.0.1", "{network}"]\n')
    message = f"{network} lets nearly anybody say which address a request comes from"
    assert warned(config) == ([("server.trusted_proxies.1", message)] if told else [])


def test_missing_ledger_folder_is_warned_about(config: Path) -> None:
    change(config, "sqlite:///ledger.db", "sqlite:///nowhere/ledger.db")
    assert warned(config) == [("ledger.url", f"there is no folder {config.parent / 'nowhere'}")]


def test_replaceable_ledger_is_warned_about(config: Path) -> None:
    config.parent.chmod(0o777)
    assert warned(config) == [("ledger.url", f"every user of this machine can replace {config.parent}")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_check_as_another_user_than_the_ledgers_is_warned_about(config: Path) -> None:
    ledger = config.parent / "ledger.db"
    ledger.touch()
    os.chown(ledger, 4321, 4321)
    message = f"{ledger} belongs to user #4321: what this user may read says nothing of that one"
    assert warned(config) == [("ledger.url", message)]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        # As `init` leaves it: root's, and readable.
        (0o755, "{folder} belongs to user root, and {me} may not make the ledger there"),
        (0o700, "user {me} may not look into {folder}"),
    ],
)
def test_folder_where_the_ledger_cannot_be_created_is_warned_about(mode: int, message: str) -> None:
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="cb-") as name:
        folder = Path(name)
        loaded = load_config(write_config(folder, "https://crm.example.com"), {})
        folder.chmod(mode)
        os.seteuid(65534)
        try:
            me, found = user_name(65534), list(exposures(loaded))
        finally:
            os.seteuid(0)
    told = message.format(folder=folder, me=me)
    assert [one.message for one in found if one.key == "ledger.url"] == [told]


def test_connector_url_without_tls_is_warned_about_at_its_line(config: Path) -> None:
    connector = (Path(__file__).parents[2] / "bridge/crm/connectors/sandbox.toml").read_text("utf-8")
    (config.parent / "own.toml").write_text(
        'base_url = "http://crm.example.com"\n' + connector.replace("base_url =", "# base_url ="), "utf-8"
    )
    change(config, 'base_url = "https://crm.example.com"', 'connector = "own.toml"')
    findings = find_problems(config, {"TOKEN": TOKEN, "CRM_TOKEN": "crm-token-of-the-tests"})
    assert findings.problems == ()
    assert [(one.key, one.message) for one in findings.warnings] == [("destinations.crm.base_url", CLEAR)]


def test_other_hosts_of_a_custom_connector_are_warned_about(config: Path) -> None:
    connector = (Path(__file__).parents[2] / "bridge/crm/connectors/sandbox.toml").read_text("utf-8")
    own = config.parent / "own.toml"
    own.write_text('origins = ["https://login.example.com"]\n' + connector, "utf-8")
    change(config, 'mapping = "', 'connector = "own.toml"\nmapping = "')
    findings = find_problems(config, {"TOKEN": TOKEN, "CRM_TOKEN": "crm-token-of-the-tests"})
    assert findings.problems == ()
    message = "own.toml also sends to https://login.example.com, and may send the secrets there"
    assert [(one.key, one.message) for one in findings.warnings] == [("destinations.crm.connector", message)]


@pytest.mark.parametrize(("token", "code"), [("x" * 21, 2), ("x" * 22, 0)])
def test_check_refuses_a_guessable_callback_token(config: Path, token: str, code: int) -> None:
    environ = {**os.environ, "TOKEN": token, "CRM_TOKEN": "crm-token-of-the-tests"}
    done = callbridge("check", "-c", str(config), cwd=config.parent, env=environ)
    assert done.returncode == code
    assert ("is shorter than 22 characters" in done.stdout + done.stderr) is (code == 2)
    assert token not in done.stdout + done.stderr
