"""An attempt's directory on a machine's disk, and the two processes beside it.

The entrypoint mirrors what docs/runner-protocol.md says of `entrypoint run` for foreground steps; step-ctl mirrors
runner/step_ctl/{teller,courier,guardians}.py around the real `policy`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runner.step_ctl import policy
from runner.step_ctl.policy import Outputs
from runner.step_ctl.reading import ExitRecord, Seen, StepSeen
from shared.errors import Unavailable, WrongSequence
from shared.facts import AttemptEnded, AttemptStarted, Order
from tests.simulation.checks import Checks
from tests.simulation.cores import TIMES, Cores
from tests.simulation.kernel import START, Kernel, Link, Party, Resume, Work, sleep
from tests.simulation.plan import Step
from tests.simulation.streams import Net

NS = 1_000_000_000


@dataclass(slots=True)
class Directory:
    """What survives every process, and goes with the disk. Step-ctl's policy takes it for its `Attempt` and `Grant`."""

    order: Order
    steps: tuple[Step, ...]
    claim: str | None = None
    laid_out: bool = False
    started: dict[int, float] = field(default_factory=dict)
    exits: dict[int, ExitRecord] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    finish: str | None = None
    cancel: str | None = None
    told: bool = False
    begun_at: float = 0.0
    entrypoint: "Entrypoint | None" = None
    step_ctl: "StepCtl | None" = None
    boot: int = 0
    """Which start of the machine laid it out."""
    contact: Callable[[], float] = float
    """When the agent last noted that it acts on what the hub told."""
    gone: Callable[[], None] | None = None
    """The agent's, if it watches: a process of this attempt has ended."""

    @property
    def tenant(self) -> str:
        return self.order.tenant

    @property
    def job(self) -> str:
        return self.order.job

    @property
    def epoch(self) -> int:
        return self.order.epoch

    @property
    def timeout_seconds(self) -> float:
        return self.order.timeout_seconds

    @property
    def fenced(self) -> bool:
        return self.order.on_lost == "rerun-fenced"

    @property
    def grace_seconds(self) -> float:
        return min(TIMES.kill_grace, self.order.fence_seconds / 2) if self.fenced else TIMES.kill_grace

    @property
    def fence_seconds(self) -> float:
        return self.order.fence_seconds

    @property
    def key(self) -> tuple[str, str]:
        return self.order.tenant, self.order.job

    @property
    def all_ended(self) -> bool:
        return len(self.exits) == len(self.steps)

    @property
    def unknown(self) -> bool:
        """A step was begun and nobody can say how it ended."""
        return any(number not in self.exits for number in self.started)

    def end(self, word: str) -> None:
        """Write `cancel`, unless there is one."""
        if self.cancel is None:
            self.cancel = word
            if self.entrypoint is not None and self.entrypoint.alive:
                self.entrypoint.after(0.002, self.entrypoint.terminate, word)
            self.changed()

    def changed(self) -> None:
        if self.step_ctl is not None and self.step_ctl.alive:
            self.step_ctl.after(0.001, self.step_ctl.look)

    def seen(self) -> Seen:
        return Seen(
            tuple(
                StepSeen(
                    number,
                    started_unix_ns=int((self.started[number] - START) * NS) if number in self.started else None,
                    exit=self.exits.get(number),
                    lost=None if number in self.exits else self.lost.get(number),
                )
                for number in range(1, len(self.steps) + 1)
            ),
            self.finish,
            self.cancel,
        )


class Entrypoint(Party):
    """Runs the steps in turn. Killed, it takes the running step with it and writes nothing."""

    def __init__(self, kernel: Kernel, directory: Directory, machine: str, checks: Checks) -> None:
        super().__init__(kernel, f"entrypoint {directory.job}-{directory.epoch} on {machine}")
        self._directory, self._machine, self._checks = directory, machine, checks
        self._running: int | None = None
        self._word: str | None = None

    def start(self) -> None:
        super().start()
        self._directory.entrypoint = self
        self._word = self._directory.cancel
        if self._directory.fenced:
            self._keep_fence()
        if self.alive:
            self._next()

    def kill(self) -> None:
        super().kill()
        if self._running is not None:
            self._checks.step_stops(self._directory.order, self._running, None)
            self._running = None
        self._tell_agent()

    def _keep_fence(self) -> None:
        """As the `fence` file says: end the steps so that nothing is left `fence_seconds` after the last contact."""
        directory = self._directory
        contact = max(directory.contact(), directory.begun_at)
        left = contact + directory.fence_seconds - directory.grace_seconds - self.kernel.now
        if left > 0:
            self.after(left, self._keep_fence)
        elif self._word is None and directory.cancel is None:
            self.note(directory.key, "fences the attempt")
            directory.end("fenced")

    def terminate(self, word: str) -> None:
        """A cancel word, or its own SIGTERM, which counts as `cancel`."""
        if self._word is not None:
            return
        self._word = word
        if self._running is None:
            self._next()
        else:
            stubborn = self._directory.steps[self._running - 1].stubborn
            self.after(
                self._directory.grace_seconds if stubborn else 0.02, self._ended, self._running, "cancelled", 143
            )

    def _next(self) -> None:
        directory = self._directory
        failed = False
        for number in range(1, len(directory.steps) + 1):
            record = directory.exits.get(number)
            if record is not None:
                failed = failed or record.verdict == "failed"
            elif number in directory.started:
                self._leave()  # exit code 70: unknown is never run again
                return
            elif failed or self._word is not None:
                word = self._word
                self._write(number, "skipped", "failed" if word else "ok", None, word or "none")
            else:
                self._begin(number)
                return
        # Between the last exit record and `finish` there is an fsync.
        self.after(0.003, self._finish, "cancelled" if self._word is not None else "failed" if failed else "ok")

    def _begin(self, number: int) -> None:
        step = self._directory.steps[number - 1]
        self._directory.started[number] = self.kernel.now
        self._running = number
        self.note(self._directory.key, "begins step %s", number)
        self._checks.step_begins(self._directory.order, number, self._machine)
        self._directory.changed()
        self.after(step.seconds, self._ended, number, "exited", step.code)

    def _ended(self, number: int, state: str, code: int) -> None:
        if self._running != number:
            return
        self._running = None
        self.note(self._directory.key, "step %s is %s, code %s", number, state, code)
        self._checks.step_stops(self._directory.order, number, code if state == "exited" else None)
        verdict = "ok" if code == 0 else "failed"
        self._write(number, state, verdict, code, (self._word or "cancel") if state == "cancelled" else "none")
        self.after(0.0005, self._next)

    def _write(self, number: int, state: str, verdict: str, code: int | None, killed_for: str) -> None:
        at = int((self.kernel.now - START) * NS)
        self._directory.exits[number] = ExitRecord(
            state, verdict, code, None, killed_for, 1, at, at, 0, 0, 0, 0, "none", 0, 0, ""
        )
        self._directory.changed()

    def _finish(self, word: str) -> None:
        if self._directory.finish is None:
            self._directory.finish = word
        self._directory.changed()
        self._leave()

    def _leave(self) -> None:
        super().kill()
        self._tell_agent()

    def _tell_agent(self) -> None:
        if self._directory.gone is not None:
            self.kernel.after(0.001, self._directory.gone)


class StepCtl(Party):
    """Tells one attempt from its directory, and keeps its deadline and its fence."""

    def __init__(
        self, kernel: Kernel, directory: Directory, machine: str, link: Link, net: Net, cores: Cores,
    ) -> None:  # fmt: skip
        super().__init__(kernel, f"step-ctl {directory.job}-{directory.epoch} on {machine}", link)
        self._directory, self._machine, self._net, self._cores = directory, machine, net, cores
        self._waiting: Resume | None = None
        self._looked = True

    def start(self) -> None:
        super().start()
        self._directory.step_ctl = self
        self._waiting = None
        self.spawn(self._run())
        self.after(
            max(0.0, self._directory.begun_at + self._directory.order.timeout_seconds - self.kernel.now),
            self._directory.end,
            "timeout",
        )

    def kill(self) -> None:
        super().kill()
        if self._directory.gone is not None:
            self.kernel.after(0.001, self._directory.gone)

    def look(self) -> None:
        self._looked = True
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting(None, None)

    def _until_changed(self, _: Party, resume: Resume) -> None:
        if self._looked:
            self.after(0.0, resume, None, None)
        else:
            self._waiting = resume

    def _run(self) -> Work:
        directory = self._directory
        names = [f"step {number}" for number in range(1, len(directory.steps) + 1)]
        yield from self._tell(AttemptStarted(**self._whose(), machine=self._machine), "")
        told: set[str] = set()
        while True:
            self._looked = False
            seen = directory.seen()
            for step in seen.steps:
                for fact in policy.step_facts(directory, names, step):
                    if f"{fact.token()}-{step.number}" not in told:
                        yield from self._tell(fact, str(step.number))
                        told.add(f"{fact.token()}-{step.number}")
                if step.exit is not None and f"ended-{step.number}" not in told:
                    yield from self._tell(policy.step_ended(directory, names, step, Outputs({})), str(step.number))
                    told.add(f"ended-{step.number}")
            verdict = self._cores.verdict(seen, directory)
            if verdict is not None:
                break
            yield (self._until_changed,)
        yield from self._tell_end(verdict)
        yield sleep(0.05 + self._net.delay())  # until the log is durable
        directory.told = True
        self.kill()

    def _whose(self) -> dict[str, Any]:
        order = self._directory.order
        at = int((self.kernel.now - START) * NS)
        return {"tenant": order.tenant, "job": order.job, "epoch": order.epoch, "at_unix_ns": at}

    def _tell(self, fact: Any, about: str) -> Work:
        order = self._directory.order
        subject = (order.tenant, order.job, order.epoch, fact.token())
        message_id = f"{order.job}-{order.epoch}-{self._machine}-{fact.token()}-{about}"
        while True:
            try:
                yield self._net.publish(self._net.evt, subject, fact, message_id=message_id)
            except Unavailable:
                yield sleep(1.0)
            else:
                return

    def _tell_end(self, verdict: policy.Verdict) -> Work:
        ended = AttemptEnded(
            **self._whose(),
            outcome=verdict.outcome,
            reason=verdict.reason,
            message=verdict.message,
            step=verdict.step,
            exit_code=verdict.exit_code,
        )
        self.note(self._directory.key, "tells the end: %s, %s, exit code %s",
                  verdict.outcome, verdict.reason.value, verdict.exit_code)  # fmt: skip
        order = self._directory.order
        while True:
            try:
                yield self._net.publish(self._net.evt, (order.tenant, order.job, order.epoch, ended.token()), ended, 0)
            except WrongSequence:
                return
            except Unavailable:
                yield sleep(1.0)
            else:
                return
