"""`attempt.json`: what step-ctl needs to know of its attempt. Mode 0600; holds the credential."""

from pathlib import Path

from pydantic import Field

from runner.protocol.directory import AttemptDir, read_whole, write_whole
from shared.errors import OverspillError
from shared.ids import ClusterId, MachineId
from shared.requests import Grant
from shared.spec_words import OnLost
from shared.wire import Model, decode, encode

NODE_VARIABLE = "OVERSPILL_NODE"
"""Of step-ctl in a pod: the name of the node, which nobody knows before."""


class NoAttempt(OverspillError):
    """{path} is no attempt directory: its attempt.json is missing."""

    code = "no_attempt"


class Assignment(Model):
    """What the edge knows of an attempt wherever it comes to run; all that a pod's secret says of it."""

    grant: Grant
    cluster: ClusterId
    machine: MachineId
    nonce: str = Field(min_length=16)
    """Unguessable; every message id of this attempt begins with it, so that a fact told twice is stored once."""
    on_lost: OnLost = "rerun"
    fence_seconds: float = Field(gt=0)
    timeout_seconds: float = Field(gt=0)
    accepted_unix_ns: int
    ready_unix_ns: int | None = None
    """When the workspace was ready, if the edge made it so itself: there is no source to fetch."""
    entrypoint: Path
    """The binary; its `guard` is what helper commands of step-ctl run under."""
    helper_env: dict[str, str] = Field(default_factory=dict)
    """Environment of step-ctl's own helper commands (git): the step environment without the job's part."""


class Attempt(Assignment):
    """An assignment that has its machine. An agent writes it once, before anything runs; in a pod step-ctl completes it
    when it begins.
    """

    boot_id: str | None = None
    """Of the machine when the attempt was laid out: after a restart of the machine nothing of it is begun or gone on
    with, since what its steps left may be incomplete."""
    deadline_boot_ns: int
    """The job's timeout on this machine's CLOCK_BOOTTIME."""


def read_attempt(directory: AttemptDir) -> Attempt:
    """Raises NoAttempt, Poison."""
    data = read_whole(directory.attempt_file)
    if data is None:
        raise NoAttempt(path=directory.root)
    return decode(Attempt, data)


def write_attempt(directory: AttemptDir, attempt: Attempt) -> None:
    write_whole(directory.attempt_file, encode(attempt), 0o600)
