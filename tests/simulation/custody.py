"""What an agent keeps of one attempt. Mirrors runner/agent/custody.py, for one group of foreground steps."""

from typing import TYPE_CHECKING

from runner.agent.agent import Ending
from runner.agent.custody import MAX_STARTS, RETRY_SECONDS, SHORT_LIFE_SECONDS
from runner.agent.model import Key, Local
from shared.lifecycle import Reason
from tests.simulation.attempt import Directory
from tests.simulation.kernel import Party, Resume, Work, sleep

if TYPE_CHECKING:
    from tests.simulation.agent import Agent


class Custody:
    def __init__(self, agent: "Agent", directory: Directory) -> None:
        self.agent, self.directory = agent, directory
        self.key = Key.of(directory.order)
        self._over = False
        self._entrypoint_gone: Resume | None = None
        self._step_ctl_gone: Resume | None = None

    @property
    def local(self) -> Local:
        phase = "finishing" if self._over else "running"
        return Local(self.key, self.directory.order.needs, phase, ending=self.directory.cancel is not None)

    def run(self) -> None:
        self.directory.gone = self.agent.watcher(self._look)
        self.agent.spawn(self._keep_entrypoint())
        self.agent.spawn(self._keep_step_ctl())

    def _look(self) -> None:
        entrypoint, step_ctl = self.directory.entrypoint, self.directory.step_ctl
        if self._entrypoint_gone is not None and not (entrypoint and entrypoint.alive):
            gone, self._entrypoint_gone = self._entrypoint_gone, None
            gone(None, None)
        if self._step_ctl_gone is not None and not (step_ctl and step_ctl.alive):
            gone, self._step_ctl_gone = self._step_ctl_gone, None
            gone(None, None)

    def end(self, word: str) -> None:
        self.agent.note(self.directory.key, "ends attempt %s: %s", self.key.epoch, word)
        self.directory.end(word)

    def stop(self) -> None:
        entrypoint = self.directory.entrypoint
        if entrypoint is not None and entrypoint.alive:
            entrypoint.terminate("cancel")

    def _until_entrypoint_gone(self, _: Party, resume: Resume) -> None:
        self._entrypoint_gone = resume
        self._look()

    def _until_step_ctl_gone(self, _: Party, resume: Resume) -> None:
        self._step_ctl_gone = resume
        self._look()

    def _keep_entrypoint(self) -> Work:
        directory = self.directory
        for _ in range(MAX_STARTS):
            if directory.all_ended and directory.finish is not None:
                break
            if directory.entrypoint is None or not directory.entrypoint.alive:
                if directory.unknown:
                    break
                self.agent.machine.start_entrypoint(directory)
            yield (self._until_entrypoint_gone,)
            if (directory.all_ended and directory.finish is not None) or directory.unknown:
                break
        if not directory.all_ended:
            for number in range(1, len(directory.steps) + 1):
                if number not in directory.exits:
                    directory.lost[number] = f"the process meant to run step {number} is gone"
            self.agent.note(directory.key, "gives up the steps of attempt %s", self.key.epoch)
            directory.changed()
        self._over = True
        self.agent.changed()
        self._leave()

    def _keep_step_ctl(self) -> Work:
        failures = 0
        while not self.directory.told:
            if self.directory.step_ctl is None or not self.directory.step_ctl.alive:
                self.agent.machine.start_step_ctl(self.directory)
            began = self.agent.kernel.now
            yield (self._until_step_ctl_gone,)
            if self.directory.told:
                break
            failures = failures + 1 if self.agent.kernel.now - began < SHORT_LIFE_SECONDS else 1
            if failures == MAX_STARTS:
                ending: Ending = ("error", Reason.SETUP_FAILED, f"step-ctl ended {failures} times in a row")
                self.end("stale")
                while not self._over:
                    yield sleep(0.2)
                yield from self.agent.tell_ended(self.key, *ending)
            yield sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])
        self._leave()

    def _leave(self) -> None:
        if self._over and self.directory.told:
            self.agent.kept(self)
