"""Deleting attempts for good: out of sight in one rename, then for real, whatever modes builds left behind."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from shared.crash_points import crash_point
from shared.ids import random_id

log = structlog.get_logger()

TRASH = ".trash-"


def discard(directory: Path) -> None:
    """Blocking. What can't be deleted now is tried again at the next start."""
    trash = directory.with_name(f"{TRASH}{directory.name}-{random_id()[:8]}")
    try:
        directory.rename(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        # A full disk takes no new name, but gives back room.
        log.info("attempt_deleted_in_place", directory=str(directory), why=str(error))
        trash = directory
    crash_point("agent.after-rename-before-delete")
    empty(trash)


def empty(trash: Path) -> None:
    shutil.rmtree(trash, onerror=_make_writable)
    if trash.exists():
        log.warning("attempt_not_deleted", directory=str(trash))


def clear(directory: Path) -> None:
    """Delete all that is in a directory. Blocking."""
    shutil.rmtree(directory, onerror=_make_writable)
    directory.mkdir(exist_ok=True)


def empty_all(attempts: Path) -> None:
    """What a former agent could not finish."""
    for path in attempts.glob(f"{TRASH}*"):
        empty(path)


def _make_writable(call: Callable[..., Any], path: str, _: Any) -> None:
    """Go's module cache and others make directories read-only."""
    try:
        parent = Path(path).parent
        parent.chmod(parent.stat().st_mode | stat.S_IRWXU)
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 - as rmtree names it
            Path(path).chmod(stat.S_IRWXU)
            if call is not os.rmdir:
                shutil.rmtree(path, onerror=_leave)
                return
        call(path)
    except OSError as error:
        log.info("not_deleted", path=path, why=str(error))


def _leave(call: Callable[..., Any], path: str, error: Any) -> None:
    del call
    log.info("not_deleted", path=path, why=str(error[1]))
