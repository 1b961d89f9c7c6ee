"""Instants between two effects at which a process can be made to die, so that chaos tests reach them on purpose.

Nothing is armed unless the environment says so when the process starts:

- `OVERSPILL_CRASH_AT="scheduler.after-move-before-order:2,agent.before-delete:1"`: SIGKILL at the second passage of the
  one, the first of the other, as this process counts them;
- `OVERSPILL_CRASH_LEDGER=DIR`: each point fires once over all processes; who fires makes a file of the point's name.

The entrypoint has its points only when it is compiled for them (`runner.entrypoint.build.chaos_binary`); it reads the
same two variables.
"""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import OverspillError

CRASH_AT, CRASH_LEDGER = "OVERSPILL_CRASH_AT", "OVERSPILL_CRASH_LEDGER"


class NoSuchCrashPoint(OverspillError):
    """There is no crash point {name}: shared/crash_points.py declares them, and one is armed as name:N, N from 1."""

    code = "no_such_crash_point"


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """`name` begins with the process'. `done` has happened when it dies there, `not_yet` has not."""

    name: str
    done: str
    not_yet: str

    @property
    def process(self) -> str:
        return self.name.partition(".")[0]


POINTS = (
    CrashPoint("gateway.after-spec-before-record", "the spec is stored", "the job exists"),
    CrashPoint("gateway.after-record-before-answer", "the job exists", "its submitter knows"),
    CrashPoint("gateway.after-submission-before-ack", "an event of the bus door is handled", "it is acknowledged"),
    CrashPoint("gateway.after-cancel-before-answer", "the wish to cancel is stored", "who wished it knows"),
    CrashPoint("gateway.before-grant-answer", "a grant is made up", "the agent has it"),
    CrashPoint("gateway.after-projection-before-followers", "events are in the projection", "followers are told"),
    CrashPoint("scheduler.after-lease-before-takeover", "the lease is ours", "orders and facts were looked at"),
    CrashPoint("scheduler.after-takeover-before-deciding", "the state is the streams'", "anything was decided"),
    CrashPoint("scheduler.after-move-before-order", "the record says placed", "the machine has an order"),
    CrashPoint("scheduler.after-order-before-landed", "the order stands", "the leader knows that it does"),
    CrashPoint("scheduler.after-end-before-move", "an attempt's end is known", "the record says what it means"),
    CrashPoint("scheduler.after-final-move-before-done", "the record is final", "DONE has it"),
    CrashPoint("scheduler.after-done-before-purge", "DONE has the record", "the order is gone"),
    CrashPoint("scheduler.after-purge-before-landed", "the order is gone", "the leader knows that it is"),
    CrashPoint("scheduler.after-spec-before-record-purge", "an old job's spec is gone", "its record is"),
    CrashPoint("log-collector.after-part-before-durable", "a part is stored", "anybody is told that it is"),
    CrashPoint("log-collector.after-replacement-before-delete", "a longer part is stored", "the shorter is deleted"),
    CrashPoint("log-collector.after-part-before-checkpoint", "parts are stored", "the checkpoint covers them"),
    CrashPoint("log-collector.after-checkpoint-before-delete", "the checkpoint is told", "replaced parts are deleted"),
    CrashPoint("cache.after-marker-before-address", "an artifact's expiry is marked", "its address is given"),
    CrashPoint("cache.after-marker-before-source-address", "a tree's expiry is marked", "its address is given"),
    CrashPoint("cluster-metrics.after-publish", "a machine's picture is told", "its sequence is noted"),
    CrashPoint("cluster-metrics.after-restore-before-beats", "the pictures were read", "a beat was heard"),
    CrashPoint("agent.after-intent-before-claim", "the intent is on disk", "the claim is on the bus"),
    CrashPoint("agent.after-claim-before-layout", "the attempt is claimed and granted", "its directory is laid out"),
    CrashPoint("agent.after-layout-before-start", "the directory is an attempt", "an entrypoint runs"),
    CrashPoint("agent.after-start-before-step-ctl", "the entrypoints run", "a step-ctl does"),
    CrashPoint("agent.after-step-ctl", "a step-ctl is at work", "anybody watches it"),
    CrashPoint("agent.after-loss-before-killing", "a step is known to be lost", "what it left running is killed"),
    CrashPoint("agent.before-delete", "all of the attempt is told", "its directory is gone"),
    CrashPoint("agent.after-rename-before-delete", "the directory is out of sight", "it is deleted"),
    CrashPoint(
        "controller.after-claim-before-pod", "the attempt is claimed and granted", "anything of its pod is made"
    ),
    CrashPoint("controller.after-secret-before-pod", "a pod's secret is made", "the pod is"),
    CrashPoint("controller.after-secret-before-finalizer", "a pod's secret is gone", "its last word may go"),
    CrashPoint("step-ctl.after-lock-before-bus", "it holds the attempt's lock", "it is on the bus"),
    CrashPoint("step-ctl.after-source-before-go", "the workspace is there", "the first step may go"),
    CrashPoint("step-ctl.after-exit-before-telling", "a step's exit is read", "it is told"),
    CrashPoint("step-ctl.mid-log", "a chunk is in the stream", "the next one is"),
    CrashPoint("step-ctl.after-upload-before-telling", "an artifact is uploaded", "anything says so"),
    CrashPoint("step-ctl.after-logs-before-end", "every chunk is in the stream", "the verdict is told"),
    CrashPoint("step-ctl.after-end-before-durable", "the verdict is told", "the logs are known to be durable"),
    CrashPoint("step-ctl.after-durable-before-told", "all is durable", "`told` says so"),
    CrashPoint("entrypoint.after-turn-before-start", "a step's turn has come", "`started` is written"),
    CrashPoint("entrypoint.after-started-before-exec", "`started` is written", "the command runs"),
    CrashPoint("entrypoint.after-exec", "the command runs", "a byte of it was read"),
    CrashPoint("entrypoint.after-command-before-exit", "the command has ended", "`exit` says how"),
    CrashPoint("entrypoint.after-exit-before-go", "`exit` is written", "the next step may go"),
    CrashPoint("entrypoint.after-last-exit-before-finish", "the last `exit` is written", "`finish` is"),
)

NAMES = frozenset(point.name for point in POINTS)


@dataclass(slots=True)
class Armed:
    """`at`: how many passages each point has still to go."""

    at: dict[str, int]
    ledger: Path | None

    def passes(self, name: str) -> None:
        """Doesn't return when the point is due."""
        if name not in NAMES:
            raise NoSuchCrashPoint(name=name)
        if name in self.at:
            self.at[name] -= 1
            if self.at[name] == 0 and self._is_first(name):
                os.kill(os.getpid(), signal.SIGKILL)

    def _is_first(self, name: str) -> bool:
        if self.ledger is None:
            return True
        try:
            os.close(os.open(self.ledger / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        return True


def armed_by(environ: Mapping[str, str]) -> Armed | None:
    """None when nothing is. Raises NoSuchCrashPoint."""
    told = environ.get(CRASH_AT)
    if not told:
        return None
    at = {}
    for each in told.split(","):
        name, _, count = each.partition(":")
        if name not in NAMES or not count.isdecimal() or int(count) < 1:
            raise NoSuchCrashPoint(name=each)
        at[name] = int(count)
    ledger = environ.get(CRASH_LEDGER)
    return Armed(at, Path(ledger) if ledger else None)


_ARMED = armed_by(os.environ)


def crash_point(name: str) -> None:
    """Passed by whoever stands between the two effects that `POINTS` names. Costs a call when nothing is armed."""
    if _ARMED is not None:
        _ARMED.passes(name)
