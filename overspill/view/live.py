"""A followed job on a terminal: steps with marks and durations, and the tail of the running one."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from overspill.view.screen import Screen, StepLine
from overspill.view.tail import Tail
from overspill.view.words import STYLES, duration, mark

FAILED_TAIL_LINES = 30
_SHOWN_STEPS = 20
_FURNITURE_LINES = 4


def picture(screen: Screen, tail: Tail, now_seconds: float, height: int) -> RenderableType:
    """What stands on the screen now, at most `height` lines."""
    shown = _window(screen, min(_SHOWN_STEPS, max(3, height // 2)))
    parts: list[RenderableType] = [_head(screen), _steps(shown, len(screen.steps), now_seconds)]
    current = screen.current
    room = height - len(shown) - _FURNITURE_LINES
    if current is not None and screen.ending is None and room > 0:
        lines = tail.last(current.number, room)
        parts.extend(_log_line(line) for line in lines)
    return Group(*parts)


def closing(screen: Screen, tail: Tail, now_seconds: float) -> RenderableType:
    """What stays: all steps, and the end of the log of each that failed."""
    parts: list[RenderableType] = [_steps(screen.steps, len(screen.steps), now_seconds)]
    for step in screen.steps:
        if step.state == "failed":
            lines = tail.last(step.number, FAILED_TAIL_LINES)
            parts.append(Text(f"── end of the log of {step.number} {step.name}", style="red"))
            parts.extend(_log_line(line) for line in lines)
    return Group(*parts)


def _head(screen: Screen) -> Text:
    text = Text(screen.name, style="bold")
    text.append(f"  {screen.job}  ", style="dim")
    text.append(_phase_words(screen), style="yellow" if screen.cancel_requested else "cyan")
    return text


def _phase_words(screen: Screen) -> str:
    where = f" on {screen.machine}" if screen.machine else ""
    if screen.cancel_requested and screen.ending is None:
        return f"is being cancelled{where}"
    if screen.phase == "queued":
        return f"waiting: {screen.waiting_for.replace('_', ' ')}" if screen.waiting_for else "queued"
    again = f", attempt {screen.epoch}" if screen.epoch > 1 else ""
    return f"{screen.phase.replace('_', ' ')}{where}{again}"


def _window(screen: Screen, count: int) -> tuple[StepLine, ...]:
    """The steps around the one that runs."""
    current = screen.current
    at = current.number if current else 1
    begin = max(0, min(at - 1 - count // 2, len(screen.steps) - count))
    return screen.steps[begin : begin + count]


def _steps(steps: tuple[StepLine, ...], total: int, now_seconds: float) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(justify="right")
    table.add_column(overflow="ellipsis", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for step in steps:
        style = STYLES.get(step.state, "")
        name = f"{step.name} (in the background)" if step.background else step.name
        table.add_row(
            Text(mark(step.state, unicode=True), style=style),
            Text(f"{step.number}/{total}", style="dim"),
            Text(name, style="dim" if step.state in ("pending", "skipped") else ""),
            Text(_took(step, now_seconds), style="dim"),
            Text(step.detail, style=style),
        )
    return table


def _took(step: StepLine, now_seconds: float) -> str:
    if step.took_seconds is not None:
        return duration(step.took_seconds)
    if step.state in ("running", "ready") and step.started_seconds is not None:
        return duration(max(0.0, now_seconds - step.started_seconds))
    return "skipped" if step.state == "skipped" else ""


def _log_line(line: str) -> Text:
    text = Text("  │ ", style="dim", no_wrap=True, overflow="crop")
    text.append_text(Text.from_ansi(line))
    return text
