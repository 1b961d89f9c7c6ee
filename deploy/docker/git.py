"""git of the machine that runs this, as Debian lays it out, with what fetching a commit needs and nothing else."""

import shutil
import subprocess
from pathlib import Path

from deploy.docker import python
from deploy.docker.failing import BuildFailed

_FETCHES = ("git-remote-http", "git-submodule", "git-sh-setup", "git-sh-i18n", "git-sh-i18n--envsubst")
"""Beside git itself: HTTP, and submodules, which are a script."""
_TEMPLATES = "usr/share/git-core/templates"


def version() -> str:
    return _told("version")


def lay(root: Path, base: Path) -> None:
    """`base`: the layer below, whose libraries are there already."""
    programs = Path(_told("--exec-path"))
    into = root / str(programs)[1:]
    into.mkdir(parents=True)
    (root / "usr/bin").mkdir()
    shutil.copy(_git(), root / "usr/bin/git")
    (into / "git").symlink_to("/usr/bin/git")
    for name in _FETCHES:
        shutil.copy(programs / name, into / name)
    (into / "git-remote-https").symlink_to("git-remote-http")
    (root / _TEMPLATES).mkdir(parents=True)
    python.add_libraries(root, [root / "usr/bin/git", into / "git-remote-http"], base)


def _git() -> str:
    found = shutil.which("git")
    if found is None:
        raise BuildFailed("an image that fetches sources needs git: apt-get install git")
    return found


def _told(word: str) -> str:
    return subprocess.run([_git(), word], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - found on PATH
