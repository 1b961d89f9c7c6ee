"""An attempt's files on the machine: plans that steps unpack, the assignment that only step-ctl sees, an empty
directory that they share.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.agent.claiming import Began, boot_ns
from runner.agent.model import Key
from runner.containers.shape import JOB_FOLDER, OWN_FOLDER, PLAN_FOLDER
from runner.controller.making import SHARED_WORKSPACE
from runner.controller.manifest import ATTEMPT, ATTEMPT_KEY, BIN, STEP_CTL_GROUP
from runner.protocol.attempt import Assignment, Attempt, write_attempt
from runner.protocol.boot import boot_id
from runner.protocol.directory import AttemptDir
from runner.protocol.layout import Fence, Place, Whose, layout
from runner.protocol.plan import plans
from shared.facts.order import Order
from shared.ids import random_id
from shared.requests import Grant
from shared.wire import encode

_OF_THE_GROUP = 0o2777
"""Whoever makes something in it, the group is theirs in common."""


@dataclass(frozen=True, slots=True)
class Laying:
    cluster: str
    machine: str
    attempts: Path
    environment: Mapping[str, str]
    """What every step gets on top of what its image sets."""
    grace_seconds: float
    log_limit_bytes: int

    def lay_out(self, order: Order, grant: Grant, began: Began) -> AttemptDir:
        """attempt.json comes last and makes it an attempt. Blocking. Raises Unrunnable."""
        key = Key.of(order)
        home = self.attempts / key.name
        home.chmod(0o700)  # plans hold secrets, and nobody of this machine but root has to read them
        files = layout(
            grant.spec,
            Whose(key.tenant, key.job, key.epoch, grant.traceparent or order.traceparent),
            self._place(order),
        )
        for name in (JOB_FOLDER, PLAN_FOLDER, OWN_FOLDER):
            (home / name).mkdir(exist_ok=True)
        for name, data in plans(files).items():
            _write(home / PLAN_FOLDER / name, data, 0o444)
        assignment = self._assignment(order, grant, began)
        _write(home / OWN_FOLDER / ATTEMPT_KEY, encode(assignment), 0o440)
        os.chown(home / OWN_FOLDER / ATTEMPT_KEY, 0, STEP_CTL_GROUP)
        os.chown(home / JOB_FOLDER, 0, STEP_CTL_GROUP)
        (home / JOB_FOLDER).chmod(_OF_THE_GROUP)
        known = {name: getattr(assignment, name) for name in Assignment.model_fields}
        deadline = boot_ns() + round(order.timeout_seconds * 1_000_000_000)
        directory = AttemptDir(home)
        write_attempt(directory, Attempt(**known, boot_id=boot_id(), deadline_boot_ns=deadline))
        return directory

    def _place(self, order: Order) -> Place:
        directory = AttemptDir(Path(ATTEMPT))
        return Place(
            directory,
            {**SHARED_WORKSPACE, **self.environment},
            grace_ms=round(self.grace_seconds * 1000),
            log_limit_bytes=self.log_limit_bytes,
            # Since when, nobody knows yet: step-ctl makes the first contact.
            fence=Fence(directory.contact, None, order.fence_seconds) if order.on_lost == "rerun-fenced" else None,
            users=True,
        )

    def _assignment(self, order: Order, grant: Grant, began: Began) -> Assignment:
        return Assignment(
            grant=grant,
            cluster=self.cluster,
            machine=self.machine,
            nonce=random_id(),
            on_lost=order.on_lost,
            fence_seconds=order.fence_seconds,
            timeout_seconds=order.timeout_seconds,
            accepted_unix_ns=began.unix_ns,
            entrypoint=Path(BIN) / "entrypoint",
            helper_env=dict(self.environment),
        )


def _write(path: Path, data: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)  # of a claim that was not finished
    path.write_bytes(data)
    path.chmod(mode)
