"""A task is cancelled once. Where an error that is handled came together with the cancellation, it must not be lost."""

import asyncio


def cancels() -> int:
    """How often the current task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def heed_cancel(already: int = 0) -> None:
    """Where a loop goes on after an error. Raises CancelledError when the task was cancelled more than `already` times.

    A TaskGroup that is cancelled while one of its tasks fails raises the failure alone: whoever handles it and goes on
    would never end.
    """
    if cancels() > already:
        raise asyncio.CancelledError
