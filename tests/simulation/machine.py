"""A machine: its disk, and the processes on it."""

from collections.abc import Callable
from typing import Any

from runner.agent.model import Key, Local
from shared.facts import MachineBeat, Order
from shared.needs import Capacity
from tests.simulation.agent import Agent
from tests.simulation.attempt import Directory, Entrypoint, StepCtl
from tests.simulation.checks import Checks
from tests.simulation.cores import Cores
from tests.simulation.kernel import Kernel, Link
from tests.simulation.plan import JobPlan
from tests.simulation.streams import Net


class Machine:
    """Disk and processes; `standing_orders` and `send_beat` are set by the world."""

    def __init__(
        self, kernel: Kernel, name: str, capacity: Capacity, net: Net, cores: Cores, checks: Checks,
        jobs: dict[tuple[str, str], JobPlan],
    ) -> None:  # fmt: skip
        self.kernel, self.name, self.capacity = kernel, name, capacity
        self.link = Link()
        self.disk: dict[Key, Directory] = {}
        self.contact = kernel.now
        self.gone = False
        self.boot = 0
        self.beats_lost_until = 0.0
        self._net, self._cores, self._checks, self._jobs = net, cores, checks, jobs
        self.agent = Agent(self, net, cores)
        self.standing_orders: Callable[[], list[Order]]
        self.send_beat: Callable[[MachineBeat], None]

    def steps_of(self, order: Order) -> Any:
        return self._jobs[order.tenant, order.job].steps

    def start_entrypoint(self, directory: Directory) -> None:
        Entrypoint(self.kernel, directory, self.name, self._checks).start()

    def start_step_ctl(self, directory: Directory) -> None:
        StepCtl(self.kernel, directory, self.name, self.link, self._net, self._cores).start()

    def check_room(self, locals_: tuple[Local, ...]) -> None:
        self._checks.machine_has_room(self.name, self.capacity, locals_)

    def power_off(self) -> None:
        self.boot += 1
        self.agent.kill()
        for directory in self.disk.values():
            directory.gone = None
            for process in (directory.entrypoint, directory.step_ctl):
                if process is not None and process.alive:
                    process.kill()

    def wipe(self) -> None:
        self.power_off()
        self.disk.clear()

    @property
    def running(self) -> list[str]:
        return [
            f"{key.job}-{key.epoch}"
            for key, directory in self.disk.items()
            if directory.entrypoint is not None and directory.entrypoint.alive
        ]
