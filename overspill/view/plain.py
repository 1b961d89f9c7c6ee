"""A followed job as lines: each step's header, its log as it comes, its end; at last the verdict.

Lines of the log are passed on byte for byte. A foreground step's lines stand between its header and its end, in
whatever order facts and log arrive; a background step's lines carry its name.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from overspill.view.screen import Screen, StepLine, fold
from overspill.view.words import duration, mark

_TOO_LONG_BYTES = 65_536
"""An unfinished line is passed on in pieces of this size."""
PLATFORM = 0


class Plain:
    """Feed it what comes, write what it gives. Keeps no more than unfinished lines and the steps to come."""

    def __init__(self, screen: Screen, *, unicode: bool) -> None:
        self.screen = screen
        self._unicode = unicode
        self._open_step: int | None = None
        self._shown: set[int] = set()
        """Steps whose header was written."""
        self._ends: dict[int, tuple[StepLine, int]] = {}
        """Ended steps whose end was not written yet: the line, and the bytes its log has."""
        self._later: dict[int, list[bytes]] = {}
        """Log of steps whose turn to be shown has not come."""
        self._seen_bytes: dict[int, int] = {}
        self._rest: dict[int, bytes] = {}
        self._phase = ""

    def told(self, kind: str, epoch: int, data: Mapping[str, Any]) -> Iterator[bytes]:
        before = self.screen
        self.screen = fold(before, kind, epoch, data)
        if self.screen.epoch > before.epoch > 0:
            yield from self._begin_again(before)
        yield from self._news()
        if kind == "step.started" and (step := self._step_of(epoch, data)) is not None:
            yield from self._advance(step.number)
        if kind == "step.ended" and (step := self._step_of(epoch, data)) is not None:
            self._ends[step.number] = (step, data.get("log_bytes", 0))
            yield from self._advance(step.number)

    def wrote(self, epoch: int, step: int, data: bytes, missing_bytes: int = 0) -> Iterator[bytes]:
        """`missing_bytes`: lost just before `data`."""
        if epoch != self.screen.epoch:
            return
        line = self.screen.step(step)
        self._seen_bytes[step] = self._seen_bytes.get(step, 0) + missing_bytes + len(data)
        if step == PLATFORM:
            yield from self._lines(step, data, b"[overspill] ")
        elif line is not None and line.background:
            yield from self._lines(step, data, f"[{line.name}] ".encode())
        elif line is not None:
            yield from self._advance(step, data)

    def over(self) -> Iterator[bytes]:
        """Nothing more comes: whatever was held back is written, then the verdict."""
        for number in sorted({*self._later, *self._ends}):
            yield from self._close_open()
            yield from self._show(number)
        yield from self._close_open()
        for step in sorted(self._rest):
            yield from self._finish_line(step)
        yield self._say(verdict(self.screen, unicode=self._unicode))

    def _step_of(self, epoch: int, data: Mapping[str, Any]) -> StepLine | None:
        return self.screen.step(data.get("step", 0)) if epoch == self.screen.epoch else None

    def _advance(self, number: int, data: bytes | None = None) -> Iterator[bytes]:
        """Something of this step came: show it if it is its turn, else keep it."""
        line = self.screen.step(number)
        if line is None:
            return
        if line.background:
            yield from self._background(line)
            return
        if data is not None:
            # Logs of two steps may overtake each other: a step is over when its last byte came, or when all is.
            self._later.setdefault(number, []).append(data)
        while True:
            if self._open_step is not None:
                yield from self._flush(self._open_step)
                if not self._is_whole(self._open_step):
                    return
                yield from self._close_open()
            waiting = sorted(n for n in {*self._later, *self._ends, *self._running()} if n not in self._shown)
            if not waiting:
                return
            yield from self._show(waiting[0])

    def _running(self) -> set[int]:
        return {step.number for step in self.screen.steps if step.state == "running" and not step.background}

    def _is_whole(self, number: int) -> bool:
        end = self._ends.get(number)
        return end is not None and self._seen_bytes.get(number, 0) >= end[1]

    def _show(self, number: int) -> Iterator[bytes]:
        if number in self._shown:
            return
        self._shown.add(number)
        line = self.screen.step(number)
        if line is None:
            return
        if not (number in self._ends and self._ends[number][0].state == "skipped"):
            yield self._say(f"{mark('running', unicode=self._unicode)} {self._title(line)}")
        self._open_step = number
        yield from self._flush(number)

    def _flush(self, number: int) -> Iterator[bytes]:
        for data in self._later.pop(number, []):
            yield from self._lines(number, data, b"")

    def _close_open(self) -> Iterator[bytes]:
        number, self._open_step = self._open_step, None
        if number is None:
            return
        yield from self._flush(number)
        yield from self._finish_line(number)
        if number in self._ends:
            yield self._end_of(self._ends.pop(number)[0])

    def _background(self, line: StepLine) -> Iterator[bytes]:
        if line.number not in self._shown:
            self._shown.add(line.number)
            yield self._say(f"{mark('running', unicode=self._unicode)} {self._title(line)} in the background")
        if line.number in self._ends:
            yield from self._finish_line(line.number)
            yield self._end_of(self._ends.pop(line.number)[0])

    def _end_of(self, line: StepLine) -> bytes:
        took = f" in {duration(line.took_seconds)}" if line.took_seconds is not None else ""
        detail = f": {line.detail}" if line.detail else ""
        word = " skipped" if line.state == "skipped" else ""
        return self._say(f"{mark(line.state, unicode=self._unicode)} {self._title(line)}{word}{took}{detail}")

    def _title(self, line: StepLine) -> str:
        return f"{line.name} ({line.number}/{len(self.screen.steps)})"

    def _lines(self, step: int, data: bytes, prefix: bytes) -> Iterator[bytes]:
        rest = self._rest.pop(step, b"") + data
        whole, newline, rest = rest.rpartition(b"\n")
        if newline:
            if prefix:
                yield b"".join(prefix + line + b"\n" for line in whole.split(b"\n"))
            else:
                yield whole + newline
        if len(rest) >= _TOO_LONG_BYTES:
            yield prefix + rest + b"\n" if prefix else rest
        elif rest:
            self._rest[step] = rest

    def _finish_line(self, step: int) -> Iterator[bytes]:
        if rest := self._rest.pop(step, b""):
            line = self.screen.step(step)
            prefix = f"[{line.name}] ".encode() if line is not None and line.background else b""
            yield prefix + rest + b"\n"

    def _news(self) -> Iterator[bytes]:
        """Where the job is, when that is worth a line."""
        screen = self.screen
        if screen.phase == "queued" and screen.waiting_for:
            phase = f"waiting: {screen.waiting_for.replace('_', ' ')}"
        elif screen.phase in ("accepted", "starting") and screen.machine:
            phase = f"on {screen.machine}"
        else:
            return
        if phase != self._phase:
            self._phase = phase
            yield self._say(f"{mark('pending', unicode=self._unicode)} {phase}")

    def _begin_again(self, before: Screen) -> Iterator[bytes]:
        for step in sorted(self._rest):
            yield from self._finish_line(step)
        self._open_step = None
        for memory in (self._shown, self._ends, self._later, self._seen_bytes):
            memory.clear()
        where = f" on {before.machine}" if before.machine else ""
        yield self._say(f"! attempt {before.epoch}{where} was lost; attempt {self.screen.epoch} begins")

    def _say(self, text: str) -> bytes:
        return f"{text}\n".encode()


def verdict(screen: Screen, *, unicode: bool) -> str:
    """One line: what came out, and why."""
    ending = screen.ending
    if ending is None:
        return f"{mark('error', unicode=unicode)} the verdict of {screen.name} is not known"
    word = ending.state.replace("_", " ")
    why = f": {ending.message}" if ending.message and ending.state != "succeeded" else ""
    return f"{mark(ending.state, unicode=unicode)} {screen.name} {word}{why}"
