"""From a spec to the files of an attempt directory. Pure: what is written, not the writing.

The same function serves an agent's processes and a pod's containers: only the paths in `Place` and the groups' homes
differ.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.protocol.directory import PROTOCOL, AttemptDir
from runner.protocol.sharing import shared_paths
from shared.errors import Rejected
from shared.ids import Epoch, JobId, TenantId
from shared.job_spans import step_context
from shared.spec import JobSpec, Step, step_name

OUT_FILES = ("env.out", "output.out", "summary.out")


class Unrunnable(Rejected):
    """Step {step}: {why}; correct the spec and submit it again."""

    code = "unrunnable"


@dataclass(frozen=True, slots=True)
class Fence:
    """Of an attempt under `rerun-fenced`."""

    contact_file: Path
    """Where the edge notes its last contact with the hub (CLOCK_BOOTTIME, ns)."""
    since_boot_ns: int | None
    """The contact known when the attempt is laid out. None: in a pod step-ctl makes it, before the first turn."""
    seconds: float
    """Without contact for so long, nothing of the attempt is left."""

    def grace_ms(self, wanted_ms: int) -> int:
        """What a fenced attempt's steps get, whoever ends them: so much sooner the fence begins to end it."""
        return min(wanted_ms, round(self.seconds * 500))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the attempt runs, and within what bounds."""

    directory: AttemptDir
    environment: Mapping[str, str]
    """What the machine gives every step: PATH, LANG, mirrors…; the spec's own goes on top."""
    grace_ms: int = 10_000
    log_limit_bytes: int = 0
    cgroups: Mapping[int, Sequence[Path]] = field(default_factory=dict)
    fence: Fence | None = None
    users: bool = False
    """Steps and step-ctl may be different users, with the directory's group in common."""


@dataclass(frozen=True, slots=True)
class Whose:
    tenant: TenantId
    job: JobId
    epoch: Epoch
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedFile:
    path: str
    """Below the attempt directory."""
    data: bytes = b""
    mode: int = 0o644


def layout(spec: JobSpec, whose: Whose, place: Place) -> list[PlannedFile]:
    """Every file that exists before the start, but attempt.json. `go/001` is among them when there is no source to
    fetch.

    Not so in a pod with a fence, whose first contact comes first. Raises Unrunnable for what no validation could see.
    """
    files = [PlannedFile("protocol", f"{PROTOCOL}\n".encode())]
    if place.fence is not None:
        files.append(PlannedFile("fence", _fence(place.fence, place)))
    for number, step in enumerate(spec.steps, start=1):
        files += _step_files(spec, number, step, whose, place)
    if spec.source == "none" and (place.fence is None or place.fence.since_boot_ns is not None):
        files.append(PlannedFile("go/001", b"ok\n"))
    return files


def groups(spec: JobSpec) -> list[tuple[int, ...]]:
    """Which steps share an entrypoint process: all foreground ones, and each background one alone."""
    foreground = tuple(number for number, step in enumerate(spec.steps, start=1) if not step.background)
    return [foreground, *((number,) for number, step in enumerate(spec.steps, start=1) if step.background)]


def _step_files(spec: JobSpec, number: int, step: Step, whose: Whose, place: Place) -> list[PlannedFile]:
    directory = place.directory
    where = f"steps/{number:03d}"
    files = [
        PlannedFile(f"{where}/config", _config(spec, number, step, place)),
        PlannedFile(f"{where}/argv", _strings(_argv(number, step, directory.step(number, "script")))),
        PlannedFile(
            f"{where}/env", _strings([f"{k}={v}" for k, v in _environment(spec, number, step, whose, place).items()])
        ),
        *(PlannedFile(f"{where}/{name}") for name in OUT_FILES),
    ]
    if step.run is not None:
        files.append(PlannedFile(f"{where}/script", _script(step.run), 0o755))
    if step.ready is not None:
        files.append(PlannedFile(f"{where}/ready.argv", _strings(["/bin/sh", "-c", step.ready])))
    return files


def _fence(fence: Fence, place: Place) -> bytes:
    kill_ms = round(fence.seconds * 1000)
    pairs = {
        "contact": fence.contact_file,
        **({} if fence.since_boot_ns is None else {"since_boot_ns": fence.since_boot_ns}),
        "end_ms": kill_ms - _grace_ms(place),
        "kill_ms": kill_ms,
    }
    return "".join(f"{key} {value}\n" for key, value in pairs.items()).encode()


def _grace_ms(place: Place) -> int:
    return place.grace_ms if place.fence is None else place.fence.grace_ms(place.grace_ms)


def _script(text: str) -> bytes:
    return (text if text.endswith("\n") else text + "\n").encode()


def _argv(number: int, step: Step, script: Path) -> list[str]:
    if step.command is not None:
        return step.command
    try:
        shell = shlex.split(step.shell)
    except ValueError as error:
        raise Unrunnable(step=number, why=f"shell {step.shell!r} can't be split into words ({error})") from error
    if not shell:
        raise Unrunnable(step=number, why="its shell is empty")
    return [*shell, str(script)]


def _config(spec: JobSpec, number: int, step: Step, place: Place) -> bytes:
    last = number == len(spec.steps)
    if any(character in (step.working_directory or "") for character in "\n\r\0"):
        raise Unrunnable(step=number, why="its working-directory holds a line break")
    cwd = place.directory.work / (step.working_directory or "")
    pairs: list[tuple[str, object]] = [
        ("mode", "background" if step.background else "foreground"),
        ("if", step.if_.removesuffix("()")),
        ("cwd", cwd),
        ("timeout_ms", round(step.timeout * 1000) if step.timeout else 0),
        ("grace_ms", _grace_ms(place)),
        ("continue_on_error", int(step.continue_on_error)),
        ("retry", step.retry),
        ("log_limit_bytes", place.log_limit_bytes),
        ("next", "finish" if last else f"{number + 1:03d}"),
        *(("cgroup", path) for path in place.cgroups.get(number, ())),
        *(("share", path) for path in (shared_paths(spec, place.directory.work.name) if place.users else ())),
    ]
    return "".join(f"{key} {value}\n" for key, value in pairs).encode()


def _environment(spec: JobSpec, number: int, step: Step, whose: Whose, place: Place) -> dict[str, str]:
    directory = place.directory
    platform = {
        "CI": "true",
        "HOME": str(directory.home),
        "OVERSPILL": "true",
        "OVERSPILL_ATTEMPT": str(whose.epoch),
        "OVERSPILL_ENV": str(directory.step(number, "env.out")),
        "OVERSPILL_EPOCH": str(whose.epoch),
        "OVERSPILL_JOB_ID": whose.job,
        "OVERSPILL_JOB_NAME": _one_line(spec.name),
        "OVERSPILL_OUTPUT": str(directory.step(number, "output.out")),
        "OVERSPILL_STEP": str(number),
        "OVERSPILL_STEP_NAME": _one_line(step_name(step)),
        "OVERSPILL_SUMMARY": str(directory.step(number, "summary.out")),
        "OVERSPILL_TENANT": whose.tenant,
        "OVERSPILL_WORKSPACE": str(directory.work),
        "TMPDIR": str(directory.tmp),
    }
    context = step_context(whose.traceparent, whose.job, whose.epoch, number)
    if context is not None:
        platform["TRACEPARENT"] = context
    return {**place.environment, **platform, **spec.env, **step.env}


def _one_line(text: str) -> str:
    return " ".join(text.replace("\0", " ").split())


def _strings(items: Sequence[str]) -> bytes:
    return b"".join(item.encode("utf-8", "surrogateescape") + b"\0" for item in items)
