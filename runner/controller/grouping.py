"""Which steps share a container. Pure."""

from collections.abc import Sequence

from runner.protocol.layout import Unrunnable
from shared.pods import PodTemplate
from shared.spec import JobSpec

STEP_CTL = 1
"""Containers of a pod that are not steps."""


def containers(spec: JobSpec, template: PodTemplate, default_image: str = "") -> list[tuple[int, ...]]:
    """Steps by container, in the order of their first steps. `default_image`: of steps that name none.

    The foreground steps of one image are run in turn by one container: a kubelet starts containers one after the other.
    Where the pool wants a container a step, those of the image with the most steps share first, and no more of them
    than its limit needs. A background step is alone. Raises Unrunnable.
    """
    room = template.container_limit - STEP_CTL
    groups: list[tuple[int, ...]] = [(number,) for number in range(1, len(spec.steps) + 1)]
    sharing = template.share_containers == "auto"
    for shared in sorted(_by_image(spec, default_image), key=len, reverse=True):
        excess = len(shared) if sharing else len(groups) - room
        if excess <= 0:
            break
        # The last steps of the image share: the first starts soonest in a container of its own.
        members = shared[-(excess + 1) :]
        groups = [group for group in groups if group[0] not in members] + [members]
    if len(groups) > room:
        needed, limit = len(groups) + STEP_CTL, template.container_limit
        why = f"the job needs {needed} containers, the pool allows {limit}: use fewer images"
        raise Unrunnable(step=len(spec.steps), why=why)
    return sorted(groups)


def _by_image(spec: JobSpec, default_image: str) -> Sequence[tuple[int, ...]]:
    images: dict[str, list[int]] = {}
    for number, step in enumerate(spec.steps, start=1):
        if not step.background:
            images.setdefault(step.image or default_image, []).append(number)
    return [tuple(numbers) for numbers in images.values() if len(numbers) > 1]
