"""An attempt directory that is a pod's volume: empty at first, filled by the containers, each with what is its own."""

import os
from contextlib import suppress
from pathlib import Path

from runner.protocol.attempt import Assignment, Attempt, NoAttempt
from runner.protocol.boot import boot_id
from runner.protocol.directory import AttemptDir, read_fields, read_whole, read_word, write_once
from runner.step_ctl.guardians import NS, boot_ns
from shared.wire import decode

UMASK = 0o002
"""Containers may run as different users; the group of the volume is theirs in common."""
_OPEN_TO_ALL = 0o777


def begin(directory: AttemptDir, secret: Path) -> Attempt:
    """The attempt that `secret` names, begun on this node now, or, when its directory says so, before. Raises
    NoAttempt, Poison.
    """
    data = read_whole(secret)
    if data is None:
        raise NoAttempt(path=secret.parent)
    assignment = decode(Assignment, data)
    _make_places(directory, len(assignment.grant.spec.steps))
    write_once(directory.boot, f"{boot_id()}\n".encode())
    _sync(directory.boot)
    deadline = boot_ns() + round(assignment.timeout_seconds * NS)
    begun = directory.step(0, "begun")
    write_once(begun, f"deadline_boot_ns {deadline}\n".encode())
    noted = (read_fields(begun) or {}).get("deadline_boot_ns", "")
    known = {name: getattr(assignment, name) for name in Assignment.model_fields}
    return Attempt(
        **known,
        boot_id=read_word(directory.boot),
        deadline_boot_ns=int(noted) if noted.isdecimal() else deadline,
    )


def _make_places(directory: AttemptDir, steps: int) -> None:
    """Before the containers need them: what is watched has to be there."""
    shared = [directory.go(0).parent, directory.lost(0).parent, directory.work, directory.home, directory.tmp]
    shared += [directory.step(1).parent, *(directory.step(number) for number in range(1, steps + 1))]
    for path in shared:
        _make_open(path)
    directory.step(0).mkdir(exist_ok=True)
    if not directory.teller_lock.exists():
        directory.reserve()


def _make_open(path: Path) -> None:
    path.mkdir(exist_ok=True, parents=True)
    with suppress(PermissionError):  # an entrypoint of another user made it, and so
        path.chmod(path.stat().st_mode | _OPEN_TO_ALL)


def _sync(path: Path) -> None:
    """What says that a directory is of this boot has to outlive the loss of power that it tells of."""
    for each in (path, path.parent):
        fd = os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
