"""Where the server is and what to show it: environment, then the configuration file, then a running `overspill up`."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import OverspillError


class BadConfiguration(OverspillError):
    """{why}"""

    code = "bad_configuration"
    status = 400


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""A process number says nothing after a restart of the machine."""


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    token: str = field(repr=False)
    said_by: str
    """Where the address comes from, for error messages."""


def configuration_file(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "overspill" / "config.toml"


def default_data(environ: Mapping[str, str]) -> Path:
    """Where `overspill up` keeps its data when it is not told."""
    if given := environ.get("OVERSPILL_DATA"):
        return Path(given)
    home = Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return home / "overspill"


def find_server(environ: Mapping[str, str]) -> Server | None:
    """None when no server is configured and none runs. Raises BadConfiguration."""
    return _from_environment(environ) or _from_file(configuration_file(environ), environ) or _from_up(environ)


def _from_environment(environ: Mapping[str, str]) -> Server | None:
    url = environ.get("OVERSPILL_URL")
    if not url:
        return None
    token = environ.get("OVERSPILL_TOKEN")
    if not token:
        file = environ.get("OVERSPILL_TOKEN_FILE")
        if not file:
            raise BadConfiguration(why="OVERSPILL_URL is set, but neither OVERSPILL_TOKEN nor OVERSPILL_TOKEN_FILE is")
        token = _read_token(Path(file), "OVERSPILL_TOKEN_FILE")
    return _server(url, token, "OVERSPILL_URL")


def _from_file(path: Path, environ: Mapping[str, str]) -> Server | None:
    try:
        told = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadConfiguration(why=f"{path} can't be read: {error}") from error
    unknown = set(told) - {"url", "token", "token_file"}
    if unknown:
        raise BadConfiguration(why=f"{path}: unknown key {min(unknown)}; known are url, token, token_file")
    if "url" not in told:
        return None
    token = environ.get("OVERSPILL_TOKEN") or told.get("token")
    if token is None:
        if "token_file" not in told:
            raise BadConfiguration(why=f"{path}: `url` needs `token_file` (or `token`) beside it")
        token = _read_token(path.parent / Path(str(told["token_file"])).expanduser(), str(path))
    return _server(str(told["url"]), str(token), str(path))


def _from_up(environ: Mapping[str, str]) -> Server | None:
    path = default_data(environ) / "server.json"
    try:
        told = json.loads(path.read_text())
        if told["boot_id"] != BOOT_ID.read_text().strip():
            return None
        os.kill(int(told["pid"]), 0)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfiguration(
            why=f"{path} is damaged; stop `overspill up`, delete the file, start it again"
        ) from error
    return _server(str(told["url"]), _read_token(path.parent / str(told["token_file"]), str(path)), str(path))


def _server(url: str, token: str, said_by: str) -> Server:
    if (why := _why_no_address(url)) is not None:
        raise BadConfiguration(why=f"{said_by}: {url!r} is no address ({why}); give http://host:port or https://host")
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise BadConfiguration(why=f"{said_by}: the token beside it has characters that no token has; copy it again")
    return Server(url.rstrip("/"), token, said_by)


def _why_no_address(url: str) -> str | None:
    """As the client would find out later, in its own words."""
    import httpx

    if not url.startswith(("http://", "https://")):
        return "it begins with neither http:// nor https://"
    if any(character.isspace() or not character.isprintable() for character in url):
        return "it has a blank or a control character"
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            return "it names no host"
        if parts.port == 0:
            return "nobody listens on port 0"
        parts.hostname.encode("idna")
        httpx.URL(url).host.encode()
    except (ValueError, httpx.InvalidURL) as error:  # what IDNA refuses is a ValueError
        return str(error)
    return "it has more than scheme, host, port and path" if parts.query or parts.fragment else None


def _read_token(path: Path, said_by: str) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise BadConfiguration(why=f"{said_by}: the token file {path} can't be read: {error.strerror}") from error
