"""The job as a follower sees it: facts in, the same picture whichever way they came."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NANO = 1e-9


@dataclass(frozen=True, slots=True)
class StepLine:
    number: int
    name: str
    background: bool = False
    state: str = "pending"
    """pending, running, ready, ok, failed, skipped, cancelled"""
    started_seconds: float | None = None
    """Unix time."""
    took_seconds: float | None = None
    detail: str = ""
    """Why it is not ok."""


@dataclass(frozen=True, slots=True)
class Ending:
    state: str
    reason: str | None = None
    message: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Screen:
    job: str
    name: str
    steps: tuple[StepLine, ...]
    phase: str = "queued"
    waiting_for: str | None = None
    epoch: int = 0
    machine: str | None = None
    cancel_requested: bool = False
    ending: Ending | None = None
    artifacts: tuple[tuple[str, int], ...] = field(default=())
    """(name, bytes)"""

    def step(self, number: int) -> StepLine | None:
        return self.steps[number - 1] if 0 < number <= len(self.steps) else None

    @property
    def current(self) -> StepLine | None:
        """The running foreground step, else the newest running one."""
        running = [step for step in self.steps if step.state == "running"]
        return next((step for step in running if not step.background), running[-1] if running else None)


def opening(job: Mapping[str, Any], background: frozenset[int] = frozenset()) -> Screen:
    """From the API's view of a job. `background`: numbers of background steps, where the spec is known."""
    steps = tuple(
        StepLine(number=step["step"], name=step["name"], background=step["step"] in background) for step in job["steps"]
    )
    return Screen(job=job["id"], name=job["name"], steps=steps)


def fold(screen: Screen, kind: str, epoch: int, data: Mapping[str, Any]) -> Screen:
    """`kind` is the fact's, such as `step.ended`. An older attempt's facts change nothing; a newer one's begin anew."""
    if kind == "job.recorded":
        return _recorded(screen, data)
    if epoch < screen.epoch or epoch == 0:
        return replace(screen, cancel_requested=True) if kind == "job.cancel-requested" else screen
    if epoch > screen.epoch:
        screen = _anew(screen, epoch)
    match kind:
        case "attempt.accepted" | "attempt.started":
            phase = "starting" if kind == "attempt.started" else "accepted"
            later = screen.phase in ("running", "ending")
            return replace(screen, phase=screen.phase if later else phase, machine=data.get("machine", screen.machine))
        case "attempt.ended":
            return replace(screen, phase="ending")
        case "artifact.stored":
            kept = tuple(entry for entry in screen.artifacts if entry[0] != data["name"])
            return replace(screen, artifacts=(*kept, (data["name"], data["size_bytes"])))
    return _step(screen, kind, data)


def _recorded(screen: Screen, data: Mapping[str, Any]) -> Screen:
    epoch, state = data.get("epoch", 0), data["state"]
    if epoch < screen.epoch or screen.ending is not None:
        return screen
    if epoch > screen.epoch:
        screen = _anew(screen, epoch)
    screen = replace(screen, waiting_for=data.get("waiting_for"))
    if data.get("cancel_requested"):
        screen = replace(screen, cancel_requested=True)
    if state in ("queued", "placed"):
        # The record's copy may come after facts of the attempt it speaks of.
        at = state if screen.phase in ("queued", "placed") else screen.phase
        place = data.get("placement") or {}
        return replace(screen, phase=at, machine=screen.machine or place.get("target"))
    ending = Ending(state, data.get("reason"), data.get("message", ""), data.get("exit_code"))
    return replace(screen, phase=state, ending=ending)


def _anew(screen: Screen, epoch: int) -> Screen:
    steps = tuple(StepLine(step.number, step.name, step.background) for step in screen.steps)
    return replace(screen, epoch=epoch, steps=steps, phase="placed", machine=None, artifacts=())


def _step(screen: Screen, kind: str, data: Mapping[str, Any]) -> Screen:
    known = screen.step(data.get("step", 0))
    if known is None:
        return screen
    match kind:
        case "step.started" if known.state == "pending":
            changed = replace(known, state="running", started_seconds=data["at_unix_ns"] * NANO)
        case "step.ready" if known.state in ("pending", "running"):
            changed = replace(known, state="ready", background=True)
        case "step.ended":
            started = (data.get("started_unix_ns") or 0) * NANO or known.started_seconds
            took = data.get("duration_seconds", 0.0) if data["state"] != "skipped" else None
            changed = replace(
                known, state=_mark(data), started_seconds=started, took_seconds=took, detail=_detail(data)
            )
        case _:
            return screen
    steps = (*screen.steps[: known.number - 1], changed, *screen.steps[known.number :])
    phase = "running" if screen.ending is None else screen.phase
    return replace(screen, steps=steps, phase=phase)


def _mark(data: Mapping[str, Any]) -> str:
    if data["state"] in ("skipped", "cancelled"):
        return str(data["state"])
    return "ok" if data["verdict"] == "ok" else "failed"


def _detail(data: Mapping[str, Any]) -> str:
    """Empty for what went well."""
    killed, code = data.get("killed_for", "none"), data.get("exit_code")
    if killed == "memory" or data.get("oom_kills"):
        return "out of memory"
    match data["state"]:
        case "timed_out":
            return "timed out"
        case "signaled":
            return f"killed by signal {data.get('signal')}"
        case "not_started":
            return str(data.get("message") or "could not be started")
        case "exited" if code:
            tolerated = ", which does not count" if data["verdict"] == "ok" else ""
            return f"exit code {code}{tolerated}"
    return str(data.get("message", "")) if data["verdict"] != "ok" else ""
