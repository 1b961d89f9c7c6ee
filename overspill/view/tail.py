"""The last lines of every running step's log, for the live view."""

from collections import deque

from overspill.view.words import harmless, last_of_line

KEPT_LINES = 60
KEPT_CHARACTERS = 2000
"""Of an unfinished line: a step may never end one."""


class Tail:
    def __init__(self) -> None:
        self._lines: dict[int, deque[str]] = {}
        self._open: dict[int, str] = {}

    def add(self, step: int, data: bytes) -> None:
        text = self._open.get(step, "") + data.decode(errors="replace")
        *whole, rest = text.split("\n")
        self._lines.setdefault(step, deque(maxlen=KEPT_LINES)).extend(whole)
        self._open[step] = rest[-KEPT_CHARACTERS:]

    def last(self, step: int, count: int) -> list[str]:
        """Newest last, without what would steer the terminal."""
        lines = list(self._lines.get(step, ()))
        if rest := self._open.get(step):
            lines.append(rest)
        return [harmless(last_of_line(line)).expandtabs() for line in lines[-count:]] if count > 0 else []

    def forget(self) -> None:
        """A new attempt begins."""
        self._lines.clear()
        self._open.clear()
