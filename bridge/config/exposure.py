"""What a configuration exposes to other users or machines: warnings of `check`, each with its remedy."""

import ipaddress
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bridge.config.load import Config
from bridge.config.secrets import secrets_of
from bridge.lib.errors import Problem
from bridge.lib.system_users import user_name
from bridge.lib.toml_file import KeyPath
from bridge.lib.values import Network

# No public server has such a name; a name without a dot belongs to the local network too.
_LOCAL_SUFFIXES = (".local", ".internal", ".lan", ".home.arpa", ".localhost", ".test")
# IP version → prefix length: a trusted network wider than /8 or /16 cannot be one company's proxies.
_WIDEST = {4: 8, 6: 16}
# The unit runs what is configured there, as a user of its own.
_SYSTEM_WIDE = Path("/etc")
_UNDER_SYSTEMD = 'url = "sqlite:////var/lib/callbridge/ledger.db"'
IN_CLEAR = ("is http://: secrets and phone numbers cross the network in clear", "write https://")


def exposures(config: Config) -> Iterator[Problem]:
    """Warnings of everything that other machines or other users could read or forge."""
    yield from _in_clear(config)
    yield from _readable_secrets(config)
    yield from _wide_proxies(config, ("server", "trusted_proxies"), config.server.trusted_proxies)
    yield from _wide_proxies(config, ("admin", "trusted_proxies"), config.admin.trusted_proxies)
    yield from _ledger(config)


def _in_clear(config: Config) -> Iterator[Problem]:
    """Addresses across the public network without TLS: secrets and phone numbers can be read on the way."""
    addresses: list[tuple[KeyPath, str]] = [
        (("sources", name, "api", index, "base_url"), login.base_url)
        for name, source in config.sources.items()
        for index, login in enumerate(source.api)
    ]
    addresses += [
        (("destinations", name, "base_url"), destination.base_url)
        for name, destination in config.destinations.items()
    ]
    for path, address in addresses:
        if in_clear(address):
            yield config.written(path, *IN_CLEAR)


def in_clear(address: str) -> bool:
    """Whether an address is `http://` to a host outside the local network."""
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "http" or not host:
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(_LOCAL_SUFFIXES)


def _readable_secrets(config: Config) -> Iterator[Problem]:
    for path, secret in secrets_of(config):
        if secret.kind != "file":
            continue
        file = config.base_dir / secret.name
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
        except OSError:
            # Reading the secret says what is wrong with it.
            continue
        if mode & stat.S_IRWXO:
            message = f"every user of this machine can read {file} (mode {mode:04o})"
            yield config.written(path, message, f"chmod o-rwx {file}")


def _wide_proxies(config: Config, key: KeyPath, proxies: Sequence[Network]) -> Iterator[Problem]:
    for index, network in enumerate(proxies):
        if network.prefixlen < _WIDEST[network.version]:
            message = f"{network} lets nearly anybody say which address a request comes from"
            yield config.written((*key, index), message, "name your proxies' own addresses")


def _ledger(config: Config) -> Iterator[Problem]:
    """Whether the user who runs `check` could be the daemon that keeps this ledger."""
    file = config.ledger.file(config.base_dir)
    key = ("ledger", "url")
    try:
        there = file if file.exists() else file.parent
        owner = there.stat().st_uid
    except PermissionError:
        message = f"user {user_name(os.geteuid())} may not look into {file.parent}"
        yield config.written(
            key, message, "check as the user whose folder it is: put `sudo -u USER` before the command"
        )
        return
    except OSError:
        message = f"there is no folder {file.parent}"
        yield config.written(key, message, f"make it: {_install(file.parent)}")
        return
    name, me = user_name(owner), user_name(os.geteuid())
    if owner != os.geteuid():
        if there == file.parent and not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            message = f"{there} belongs to user {name}, and {me} may not make the ledger there"
            yield config.written(key, message, f"name a file in a folder of {me}: {_UNDER_SYSTEMD}")
            return
        message = f"{there} belongs to user {name}: what this user may read says nothing of that one"
        yield config.written(key, message, f"check as that user: put `sudo -u {name}` before the command")
    elif owner == 0 and _SYSTEM_WIDE in config.path.resolve().parents:
        message = f"{there} belongs to root, so only a daemon that runs as root could use it"
        remedy = f"name a file in the folder of the service's user, and check as that user: {_UNDER_SYSTEMD}"
        yield config.written(key, message, remedy)
    elif not os.access(file.parent, os.W_OK | os.X_OK):
        message = f"this user may not write into {file.parent}"
        yield config.written(key, message, f"chmod u+wx {file.parent}")
    elif there.stat().st_mode & stat.S_IWOTH:
        message = f"every user of this machine can replace {there}"
        yield config.written(key, message, f"chmod o-rwx {there}")


def _install(folder: Path) -> str:
    return f"install -d -o callbridge -g callbridge -m 0700 {folder}"
