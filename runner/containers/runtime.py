"""The port: what the custody of an attempt needs of a container runtime."""

from typing import Protocol

from runner.containers.model import Container, Exited, Group, Running
from shared.errors import OverspillError


class ImageNotPulled(OverspillError):
    """Image {image} can't be pulled: {why}"""

    code = "image_not_pulled"


class NotStarted(OverspillError):
    """Container {name} could not be started: {why}"""

    code = "container_not_started"


class RuntimeGone(OverspillError):
    """The container runtime does not answer: {why}"""

    code = "runtime_gone"


class ContainerRuntime(Protocol):
    """Every call may be repeated, and after a repetition all is as after one: whoever called may have been killed.

    Each raises RuntimeGone.
    """

    async def pull(self, image: str) -> None:
        """Unless it is there. Raises ImageNotPulled."""
        ...

    async def make(self, group: Group) -> None:
        """Unless it is there. Raises NotStarted."""
        ...

    async def start(self, container: Container) -> Running | Exited:
        """Unless it runs or has ended well; one that failed is made anew, with nothing of what it wrote into its image.
        Its image and its group are there. Exited: it has ended, well or by now. Raises NotStarted.
        """
        ...

    async def exited(self, container: Container) -> Exited:
        """How it ended, once its process 1 is gone. Raises NotStarted when there is no such container."""
        ...

    async def groups(self, owner: str) -> dict[str, str]:
        """By name, the attempt of each group of this owner that anything is left of."""
        ...

    async def remove(self, group: str) -> None:
        """SIGKILL for all that runs in it; it and its containers are gone."""
        ...
