"""Which steps share a container. Pure."""

from collections.abc import Sequence

from runner.protocol.layout import Unrunnable
from shared.spec import JobSpec

STEP_CTL = 1
"""Containers of a pod that are not steps."""


def containers(spec: JobSpec, limit: int) -> list[tuple[int, ...]]:
    """Steps by container, in the order of their first steps.

    A container a step, as long as `limit` allows; else the foreground steps of one image are run in turn by one
    container, those of the image with the most steps first, and no more of them than needed. Raises Unrunnable.
    """
    alone: list[tuple[int, ...]] = [(number,) for number in range(1, len(spec.steps) + 1)]
    room = limit - STEP_CTL
    if len(alone) <= room:
        return alone
    groups = list(alone)
    for shared in sorted(_by_image(spec), key=len, reverse=True):
        excess = len(groups) - room
        if excess <= 0:
            break
        # The last steps of the image share: the first starts soonest in a container of its own.
        members = shared[-(excess + 1) :]
        groups = [group for group in groups if group[0] not in members] + [members]
    if len(groups) > room:
        why = f"the job needs {len(groups) + STEP_CTL} containers, the pool allows {limit}: use fewer images"
        raise Unrunnable(step=len(spec.steps), why=why)
    return sorted(groups)


def _by_image(spec: JobSpec) -> Sequence[tuple[int, ...]]:
    images: dict[str | None, list[int]] = {}
    for number, step in enumerate(spec.steps, start=1):
        if not step.background:
            images.setdefault(step.image, []).append(number)
    return [tuple(numbers) for numbers in images.values() if len(numbers) > 1]
