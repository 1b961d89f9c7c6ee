"""An attempt's containers. Pure: what the controller's manifest says of a pod, said to a runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.agent.model import Key
from runner.containers.model import Container, Group, Limits, Mount
from runner.controller.grouping import containers
from runner.controller.manifest import ATTEMPT, ATTEMPT_KEY, BIN, OWN, PLAN, STEP_CTL_GROUP, container_name
from runner.controller.model import EPOCH, JOB, STEP_CTL, TENANT
from shared.needs import Needs
from shared.pods import PodTemplate
from shared.spec import JobSpec

JOB_FOLDER, PLAN_FOLDER, OWN_FOLDER = "job", "plan", "own"
"""Below the attempt's directory on the machine: what steps and step-ctl share, what steps are told, what step-ctl alone
is."""


@dataclass(frozen=True, slots=True)
class Images:
    step_ctl: str
    default: str
    """Of steps that name none."""


@dataclass(frozen=True, slots=True)
class Walls:
    network: str
    pids: int
    containers: int
    """A job has no more of them, step-ctl included: foreground steps of one image share."""


@dataclass(frozen=True, slots=True)
class Shape:
    group: Group
    step_ctl: Container
    steps: Mapping[tuple[int, ...], Container]


def shape(
    key: Key, needs: Needs, spec: JobSpec, home: Path, owner: str, entrypoint: Path, images: Images, walls: Walls
) -> Shape:
    """`home`: the attempt's directory on the machine. Raises Unrunnable when the job needs too many containers."""
    group = Group(
        name=f"overspill-{owner}-{key.name}",
        owner=owner,
        attempt=key.name,
        network=walls.network,
        limits=Limits(needs.cpu_millis, needs.memory_bytes, walls.pids),
        labels={TENANT: key.tenant, JOB: key.job, EPOCH: str(key.epoch)},
    )
    shared = Mount(home / JOB_FOLDER, ATTEMPT, read_only=False)
    binary = Mount(entrypoint, f"{BIN}/entrypoint")

    def container(name: str, image: str, command: tuple[str, ...], own: Mount, *, step_ctl: bool) -> Container:
        return Container(
            name=f"{group.name}-{name}",
            group=group,
            image=image,
            command=command,
            mounts=(shared, binary, own),
            errors=home / f"{name}.err",
            directory=ATTEMPT,
            extra_group=STEP_CTL_GROUP,
            own_command=not step_ctl,
            apart=step_ctl,
        )

    steps = {}
    for numbers in containers(spec, PodTemplate(container_limit=walls.containers), images.default):
        words = (f"{BIN}/entrypoint", "run", "--plan", PLAN, ATTEMPT, *(f"{number:03d}" for number in numbers))
        image = spec.steps[numbers[0] - 1].image or images.default
        plan = Mount(home / PLAN_FOLDER, PLAN)
        steps[numbers] = container(container_name(numbers), image, words, plan, step_ctl=False)
    words = ("--pod", ATTEMPT, "--attempt", f"{OWN}/{ATTEMPT_KEY}")
    secret = Mount(home / OWN_FOLDER, OWN)
    return Shape(group, container(STEP_CTL, images.step_ctl, words, secret, step_ctl=True), steps)
