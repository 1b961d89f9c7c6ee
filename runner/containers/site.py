"""The agent's site whose attempts run in containers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from runner.agent.claiming import Began
from runner.agent.model import Key
from runner.agent.site import Keeping
from runner.containers.custody import GONE_SECONDS, ContainerCustody, Means
from runner.containers.laying import Laying
from runner.containers.runtime import RuntimeGone
from runner.containers.shape import Images, Shape, Walls, shape
from runner.protocol.directory import AttemptDir
from shared.facts.order import Order
from shared.needs import Needs
from shared.requests import Grant
from shared.spec import JobSpec

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Containers:
    """A container a step, made by `means.runtime`."""

    owner: str
    """Unlike any other agent's on this machine."""
    entrypoint: Path
    laying: Laying
    images: Images
    walls: Walls
    means: Means

    def check(self, grant: Grant) -> None:
        """Every image may be here. Whether it is to be had is known when it is pulled."""

    def lay_out(self, order: Order, grant: Grant, began: Began) -> AttemptDir:
        self._shape(Key.of(order), order.needs, grant.spec)  # Unrunnable before anything is written
        return self.laying.lay_out(order, grant, began)

    def keep(self, key: Key, needs: Needs, directory: AttemptDir, spec: JobSpec) -> Keeping:
        return ContainerCustody(key, needs, directory, self._shape(key, needs, spec), self.means)

    def _shape(self, key: Key, needs: Needs, spec: JobSpec) -> Shape:
        home = self.laying.attempts / key.name
        return shape(key, needs, spec, home, self.owner, self.entrypoint, self.images, self.walls)

    async def sweep(self, is_here: Callable[[str], bool]) -> None:
        while True:
            try:
                for group, attempt in (await self.means.runtime.groups(self.owner)).items():
                    if not is_here(attempt):
                        log.warning("orphan_removed", group=group)
                        await self.means.runtime.remove(group)
            except RuntimeGone as error:
                log.warning("orphans_unknown", why=str(error))
                await asyncio.sleep(GONE_SECONDS)  # nothing tells when it answers again
            else:
                return

    def forget(self, name: str) -> None:
        """Its custody ends with its containers."""

    def close(self) -> None:
        """Containers outlive the agent; the next one finds them."""
