"""A job shown while it runs; Ctrl-C asks for its end, a second one leaves."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from overspill.client import Client
from overspill.complaint import BY_STATE, Complaint, Exit
from overspill.following import Happening, Told, happenings
from overspill.view.plain import Plain, verdict
from overspill.view.screen import Screen, fold
from overspill.view.tail import Tail

FRAMES_A_SECOND = 8


class Viewer(Protocol):
    """Shows what happens. `over` is the last call."""

    screen: Screen

    def take(self, happening: Happening) -> None: ...
    def note(self, text: str) -> None: ...
    def over(self) -> None: ...


class Lines:
    """For pipes, files and logs of other systems."""

    def __init__(self, screen: Screen, *, unicode: bool) -> None:
        self._plain = Plain(screen, unicode=unicode)

    @property
    def screen(self) -> Screen:
        return self._plain.screen

    @screen.setter
    def screen(self, screen: Screen) -> None:
        self._plain.screen = screen

    def take(self, happening: Happening) -> None:
        if isinstance(happening, Told):
            _write(self._plain.told(happening.kind, happening.epoch, happening.data))
        else:
            if happening.notice:
                self.note(happening.notice)
            _write(self._plain.wrote(happening.epoch, happening.step, happening.data, happening.missing_bytes))

    def note(self, text: str) -> None:
        _write([f"{text}\n".encode()])

    def over(self) -> None:
        _write(self._plain.over())


class Terminal:
    """A picture that is drawn anew as things happen."""

    def __init__(self, screen: Screen) -> None:
        from rich.console import Console
        from rich.live import Live

        self.screen = screen
        self._tail = Tail()
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._live.start()
        self._ticking = asyncio.create_task(self._tick())

    def take(self, happening: Happening) -> None:
        if isinstance(happening, Told):
            before = self.screen.epoch
            self.screen = fold(self.screen, happening.kind, happening.epoch, happening.data)
            if self.screen.epoch != before:
                self._tail.forget()
        elif happening.epoch == self.screen.epoch:
            if happening.notice:
                self.note(happening.notice)
            self._tail.add(happening.step, happening.data)

    def note(self, text: str) -> None:
        self._live.console.print(text, style="yellow")

    def over(self) -> None:
        from rich.text import Text

        from overspill.view.live import closing
        from overspill.view.words import STYLES

        self.stop()
        self._console.print(closing(self.screen, self._tail, time.time()))
        style = STYLES.get(self.screen.ending.state, "") if self.screen.ending else "magenta"
        self._console.print(Text(verdict(self.screen, unicode=True), style=style))

    def stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            self._live.stop()
            self._ticking = None

    async def _tick(self) -> None:
        from overspill.view.live import picture

        while True:
            shown = picture(self.screen, self._tail, time.time(), self._console.height - 1)
            self._live.update(shown, refresh=True)
            await asyncio.sleep(1 / FRAMES_A_SECOND)


class JsonLines:
    """For programs: every fact as the API shows it; log bytes stay with `overspill logs`."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def take(self, happening: Happening) -> None:
        from overspill.cli.output import show_json_line

        if isinstance(happening, Told):
            self.screen = fold(self.screen, happening.kind, happening.epoch, happening.data)
            show_json_line(happening.view)

    def note(self, text: str) -> None:
        """Programs are told by the facts."""

    def over(self) -> None:
        """The last fact is the verdict."""


def _write(pieces: Iterable[bytes]) -> None:
    out = sys.stdout.buffer
    for piece in pieces:
        out.write(piece)
    out.flush()


class Left(Exception):
    """The person went away before the verdict."""


async def watch(client: Client, job: str, viewer: Viewer) -> Exit:
    """Until the verdict; the exit code that stands for it. Raises Complaint when the server stays away."""
    async with _interruptible(client, job, viewer) as left:
        try:
            await _show(client, job, viewer, left)
        except Left:
            viewer.note(f"left; see `overspill show {job[:8]}`")
            return Exit.CANCELLED
        finally:
            if isinstance(viewer, Terminal) and viewer.screen.ending is None:
                viewer.stop()
    if viewer.screen.ending is None:
        raise Complaint(f"the verdict of {job} did not come; ask again with `overspill show {job[:8]}`")
    viewer.over()
    return BY_STATE[viewer.screen.ending.state]


async def _show(client: Client, job: str, viewer: Viewer, left: asyncio.Event) -> None:
    async def take_all() -> None:
        async with contextlib.aclosing(happenings(client, job)) as coming:
            async for happening in coming:
                viewer.take(happening)

    taking, leaving = asyncio.create_task(take_all()), asyncio.create_task(left.wait())
    try:
        await asyncio.wait({taking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            raise Left
        taking.result()
    finally:
        leaving.cancel()
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError, Complaint):
            await taking


@asynccontextmanager
async def _interruptible(client: Client, job: str, viewer: Viewer) -> AsyncIterator[asyncio.Event]:
    """The event is set when the person wants to leave at once."""
    left = asyncio.Event()
    asked: list[asyncio.Task[Any]] = []
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if asked:
            left.set()
            return
        viewer.note("cancelling; Ctrl-C again leaves at once")
        asked.append(asyncio.create_task(_cancel(client, job, viewer)))

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, interrupted)
    try:
        yield left
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        for task in asked:
            task.cancel()


async def _cancel(client: Client, job: str, viewer: Viewer) -> None:
    try:
        await client.cancel(job)
    except Complaint as error:
        viewer.note(f"could not ask for the cancel: {error}")
