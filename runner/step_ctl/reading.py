"""What an attempt directory says at one instant, as frozen values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runner.protocol.directory import AttemptDir, read_fields, read_word


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """An entrypoint's `exit` file."""

    state: str
    verdict: str
    code: int | None
    signal: int | None
    killed_for: str
    tries: int
    started_unix_ns: int
    ended_unix_ns: int
    duration_ns: int
    cpu_us: int
    peak_memory_bytes: int
    oom_kills: int
    usage_from: str
    log_bytes: int
    log_dropped_bytes: int
    message: str

    @property
    def failed_by_itself(self) -> bool:
        """It counts against the job, and not because somebody ended the attempt."""
        return self.verdict != "ok" and self.state not in ("cancelled", "skipped")

    @property
    def ran(self) -> bool:
        return self.state not in ("skipped", "not_started") and self.code is not None


@dataclass(frozen=True, slots=True)
class StepSeen:
    """`*_unix_ns` are None until the file is there."""

    number: int
    background: bool = False
    started_unix_ns: int | None = None
    tries: int = 1
    ready_unix_ns: int | None = None
    exit: ExitRecord | None = None
    lost: str | None = None
    """Why the edge gave it up."""

    @property
    def over(self) -> bool:
        return self.exit is not None or self.lost is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """The whole attempt."""

    steps: tuple[StepSeen, ...] = ()
    finish: str | None = None
    cancel: str | None = None
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Nothing runs and nothing will."""
        return all(step.over for step in self.steps) and (
            self.finish is not None or any(step.lost is not None for step in self.steps)
        )


def parse_exit(fields: Mapping[str, str]) -> ExitRecord:
    """Absent numbers are 0; an unknown verdict is a failure."""

    def number(key: str) -> int:
        text = fields.get(key, "")
        return int(text) if text.isdecimal() else 0

    def optional(key: str) -> int | None:
        return number(key) if fields.get(key, "").isdecimal() else None

    return ExitRecord(
        state=fields.get("state", "not_started"),
        verdict=fields.get("verdict", "failed"),
        code=optional("code"),
        signal=optional("signal"),
        killed_for=fields.get("killed_for", "none"),
        tries=number("tries"),
        started_unix_ns=number("started_unix_ns"),
        ended_unix_ns=number("ended_unix_ns"),
        duration_ns=number("duration_ns"),
        cpu_us=number("cpu_user_us") + number("cpu_system_us"),
        peak_memory_bytes=number("peak_memory_bytes"),
        oom_kills=number("oom_kills"),
        usage_from=fields.get("usage_from", "none"),
        log_bytes=number("log_bytes"),
        log_dropped_bytes=number("log_dropped_bytes"),
        message=fields.get("message", ""),
    )


def read_step(directory: AttemptDir, number: int, *, background: bool) -> StepSeen:
    at = directory.step(number, "started")
    started = read_fields(at) or ({} if at.exists() else None)  # its name alone says that the command was started
    ready = directory.step(number, "ready")
    ended = read_fields(directory.step(number, "exit"))
    ready_ns = ready.stat().st_mtime_ns if background and read_word(ready) else None
    tries = (started or {}).get("try", "1")
    return StepSeen(
        number=number,
        background=background,
        started_unix_ns=int(started.get("unix_ns", "0")) if started is not None else None,
        tries=int(tries) if tries.isdecimal() else 1,
        ready_unix_ns=ready_ns,
        exit=parse_exit(ended) if ended else None,
        lost=read_word(directory.lost(number)) if ended is None else None,
    )


def read(directory: AttemptDir, background: tuple[bool, ...], before: Seen | None = None) -> Seen:
    """`background[n - 1]` says of step n whether it is one. What was over `before` is over and is not read again."""
    known = {step.number: step for step in before.steps if step.exit is not None} if before else {}
    # Before the steps: who posts `finish` has written every foreground exit by then.
    finish, cancel = read_word(directory.finish), read_word(directory.cancel)
    return Seen(
        steps=tuple(
            known.get(number) or read_step(directory, number, background=is_background)
            for number, is_background in enumerate(background, start=1)
        ),
        finish=finish,
        cancel=cancel,
        source=read_fields(directory.source) or {},
    )


def cut_logs(directory: AttemptDir, seen: Seen) -> Iterator[tuple[int, int]]:
    """(step, bytes) of logs that have less than their exit record says: a loss of power spares what was synced."""
    for step in seen.steps:
        log = directory.step(step.number, "log")
        missing = (step.exit.log_bytes if step.exit is not None else 0) - (log.stat().st_size if log.exists() else 0)
        if missing > 0:
            yield step.number, missing
