"""An event loop whose time passes only when nothing is left to do: hours of waiting take no time."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _Idle(selectors.DefaultSelector):
    """Never waits: the time it was to wait for has passed."""

    def __init__(self, pass_time: Callable[[float], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nothing will ever happen here any more")
        if timeout > 0:
            self._pass_time(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """What goes to a thread elsewhere is done at once here."""

    def __init__(self) -> None:
        self._seconds = 0.0
        super().__init__(_Idle(self._pass))

    def _pass(self, seconds: float) -> None:
        self._seconds += seconds

    def time(self) -> float:
        return self._seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the waiter's
            done.set_exception(error)
        return done

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""
