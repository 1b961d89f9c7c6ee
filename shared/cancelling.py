"""A task is cancelled once. Where an error that is handled came together with the cancellation, it must not be lost."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` as a task of its own, which ends with ours: for what holds a TaskGroup, in a loop that goes on.

    Before Python 3.13 a TaskGroup whose task fails while it is being waited for leaves the task around it marked as
    cancelled (seen on 3.11.7). Here that is a task that is over, and ours is marked by nobody but who wants it to end.
    """
    return await asyncio.create_task(work)


def cancels() -> int:
    """How often the current task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def heed_cancel(already: int = 0) -> None:
    """Where a loop goes on after an error. Raises CancelledError when the task was cancelled more than `already` times.

    A TaskGroup that is cancelled while one of its tasks fails raises the failure alone: whoever handles it and goes on
    would never end. The group must have been awaited `apart`.
    """
    if cancels() > already:
        raise asyncio.CancelledError
