"""Tells one attempt from its directory: the steps' facts, their logs, the end. The order of the end is the promise:
verdict when every chunk is on the bus (or the bus has no room for logs); `told` when every byte is durable.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from runner.protocol.attempt import Attempt
from runner.protocol.directory import AttemptDir, read_whole, write_once, write_whole
from runner.step_ctl import outputs, policy, reading
from runner.step_ctl.courier import Courier
from runner.step_ctl.inotify import Watcher
from runner.step_ctl.log_pump import LogPump
from runner.step_ctl.masking import Mask
from runner.step_ctl.platform_log import PlatformLog
from runner.step_ctl.policy import Outputs, Verdict
from runner.step_ctl.reading import Seen, StepSeen
from shared.crash_points import crash_point
from shared.errors import OverspillError
from shared.facts.attempt import AttemptEnded, AttemptStarted
from shared.facts.step import StepFact, StepSummarised
from shared.job_spans import step_span
from shared.lifecycle import Reason
from shared.requests import DurableAsked
from shared.telemetry import exporting, span, tell

log = structlog.get_logger()

SUMMARY_LIMIT_BYTES = 262_144
SUMMARY_MESSAGE_BYTES = 900_000
FULL_SECONDS = 10.0
"""The verdict waits no longer than this for a stream of logs that is full."""
STALLED_ASKS = 8
"""Asked so often with no byte more durable, the rest of a log is sent again; after twice as many the next time, for
a store that takes nothing is helped by no repetition."""
PLATFORM = 0


OTHERS_KNOW_BETTER = (Reason.RUNNER_LOST, Reason.MACHINE_LOST, Reason.EVICTED)
"""Ends that are seen from here and explained elsewhere."""


async def _at_once() -> None:
    return


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the attempt where it runs."""

    saw: Callable[[Seen], None] = lambda _: None
    """Called with each new sight of the directory."""
    ready: Callable[[], Awaitable[None]] = _at_once
    """Returns when steps may begin."""
    node: str | None = None
    courtesy_seconds: float = 0.0
    """So long the verdict waits that something was lost: who knows why may say it first."""


class Teller:
    """Of one attempt. `run` returns when all is told and durable."""

    def __init__(
        self, directory: AttemptDir, attempt: Attempt, courier: Courier, mask: Mask, beside: Beside | None = None
    ) -> None:
        self._directory = directory
        self._attempt = attempt
        self._grant = attempt.grant
        self._courier = courier
        self._mask = mask
        self._beside = beside or Beside()
        self._names = self._grant.spec.step_names()
        self._background = tuple(step.background for step in self._grant.spec.steps)
        self._watcher = Watcher()
        self._changed = asyncio.Event()
        self._pumps: dict[int, LogPump] = {}
        self._pumping: dict[int, asyncio.Task[int]] = {}
        self._lengths: dict[int, int] = {}
        self._begin: dict[int, int] = {}
        self._told: set[str] = set()

    async def run(self) -> None:
        again = self._directory.step(PLATFORM, "log").exists()
        platform = PlatformLog(self._directory.step(PLATFORM))
        try:
            with self._watcher.open():
                self._watch()
                if again:
                    self._begin = await self._durable_so_far()
                async with asyncio.TaskGroup() as tasks:
                    self._start_pump(tasks, PLATFORM)
                    await self._run(tasks, platform)
        finally:
            platform.close()
        crash_point("step-ctl.after-end-before-durable")
        await self._until_durable()
        crash_point("step-ctl.after-durable-before-told")
        write_whole(self._directory.told, b"ok\n")

    async def _run(self, tasks: asyncio.TaskGroup, platform: PlatformLog) -> None:
        fetching = tasks.create_task(self._provide_source(platform))
        await self._courier.tell(AttemptStarted(**self._whose(), machine=self._attempt.machine, node=self._beside.node))
        verdict, seen = await self._follow(tasks)
        fetching.cancel()
        with suppress(asyncio.CancelledError):
            await fetching
        with span("keep artifacts"):
            verdict = await self._keep(verdict, seen, platform)
        for number, missing in reading.cut_logs(self._directory, seen):
            platform.line(f"Step {number}: the last {missing} bytes of its log were lost with the machine")
        if verdict.message:
            platform.line(verdict.message)
        self._pumps[PLATFORM].end()
        await self._until_sent()
        if verdict.reason in OTHERS_KNOW_BETTER:
            await asyncio.sleep(self._beside.courtesy_seconds)  # nothing tells that somebody else told the end
        crash_point("step-ctl.after-logs-before-end")
        await self._tell_end(verdict, seen)
        for step, task in self._pumping.items():
            self._lengths[step] = await task

    async def _provide_source(self, platform: PlatformLog) -> None:
        await self._beside.ready()
        # Who packs and transfers is imported by who needs it: for all others it would only delay the start.
        if self._grant.spec.source != "none":
            from runner.step_ctl import source

            await source.provide(self._directory, self._attempt, self._courier, platform)
        else:
            write_once(self._directory.go(1), b"ok\n")  # unless it came with the plan

    async def _until_sent(self) -> None:
        """Every chunk is on the bus, or the bus has no room for logs, and whoever waits for the verdict need not wait
        until it has: the files are kept until every byte is durable.
        """
        clock = asyncio.get_running_loop().time
        sending = set(self._pumping.values())
        while sending:
            _, sending = await asyncio.wait(sending, timeout=FULL_SECONDS / 4)
            full = [step for step, pump in self._pumps.items() if pump.refused_for(clock()) >= FULL_SECONDS]
            if full:
                log.warning("verdict_before_logs", job=self._grant.job, steps=full)
                return

    async def _keep(self, verdict: Verdict, seen: Seen, platform: PlatformLog) -> Verdict:
        """Store what artifacts the verdict calls for. Who ends the attempt meanwhile does not wait for the rest."""
        if not self._grant.spec.artifacts:
            return verdict
        from runner.step_ctl.keeping import Keeper

        keeper = Keeper(self._directory, self._attempt, self._courier, platform)
        if seen.cancel is not None:
            return await keeper.keep(verdict)
        keeping = asyncio.create_task(keeper.keep(verdict))
        ending = asyncio.create_task(self._until_cancelled(seen))
        try:
            await asyncio.wait((keeping, ending), return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                return keeping.result()
            return policy.ended_while_keeping(ending.result(), self._attempt, verdict)
        finally:
            keeping.cancel()
            ending.cancel()
            await asyncio.gather(keeping, ending, return_exceptions=True)

    async def _until_cancelled(self, seen: Seen) -> Seen:
        while seen.cancel is None:
            self._changed.clear()
            seen = reading.read(self._directory, self._background, seen)
            if seen.cancel is None:
                await self._changed.wait()
        return seen

    async def _tell_end(self, verdict: Verdict, seen: Seen) -> None:
        first = await self._courier.tell_end(
            AttemptEnded(
                **self._whose(),
                outcome=verdict.outcome,
                reason=verdict.reason,
                message=self._mask.cover_text(verdict.message),
                step=verdict.step,
                exit_code=verdict.exit_code,
                spans=policy.spans(seen, self._attempt, time.time_ns()),
            )
        )
        log.info("attempt_told", job=self._grant.job, outcome=verdict.outcome, reason=verdict.reason.value, first=first)

    async def _follow(self, tasks: asyncio.TaskGroup) -> tuple[Verdict, Seen]:
        """Tell what happens until nothing does any more."""
        seen = None
        while True:
            self._changed.clear()
            seen = reading.read(self._directory, self._background, seen)
            self._beside.saw(seen)
            for step in seen.steps:
                self._follow_log(tasks, step)
            for step in seen.steps:
                await self._tell_step(step)
            verdict = policy.verdict(seen, self._attempt)
            if verdict is not None:
                return verdict, seen
            await self._changed.wait()

    def _follow_log(self, tasks: asyncio.TaskGroup, step: StepSeen) -> None:
        if step.number not in self._pumps:
            if step.started_unix_ns is None and not (step.exit is not None and step.exit.state != "skipped"):
                return
            self._start_pump(tasks, step.number)
        if step.over:
            self._pumps[step.number].end()

    def _start_pump(self, tasks: asyncio.TaskGroup, step: int) -> None:
        pump = LogPump(step, self._directory.step(step), self._courier, self._mask, self._begin.get(step, 0))
        self._pumps[step] = pump
        self._pumping[step] = tasks.create_task(pump.run())

    async def _tell_step(self, step: StepSeen) -> None:
        about = str(step.number)
        for fact in policy.step_facts(self._grant, self._names, step):
            await self._tell_once(fact, about)
        if step.exit is None or f"step-ended-{about}" in self._told:
            return
        crash_point("step-ctl.after-exit-before-telling")
        left = self._outputs(step)
        ended = policy.step_ended(self._grant, self._names, step, left)
        if ended is not None:
            await self._tell_once(ended, about)
            if exporting():
                tell(step_span(self._grant.traceparent, ended))
        if summary := self._summary(step):
            await self._tell_once(summary, about)

    async def _tell_once(self, fact: StepFact, about: str) -> None:
        identity = f"{fact.token()}-{about}"
        if identity not in self._told:
            await self._courier.tell(fact, about)
            self._told.add(identity)

    def _outputs(self, step: StepSeen) -> Outputs:
        data = read_whole(self._directory.step(step.number, "output.out")) or b""
        return outputs.parse(self._mask.cover(data))

    def _summary(self, step: StepSeen) -> StepSummarised | None:
        try:
            with self._directory.step(step.number, "summary.out").open("rb") as file:
                data = file.read(SUMMARY_LIMIT_BYTES)
        except FileNotFoundError:
            return None
        text = self._mask.cover(data).decode(errors="replace")
        if not text.strip():
            return None
        # JSON may need six bytes for one; the bus takes a megabyte.
        while len(text.encode("unicode_escape")) * 2 > SUMMARY_MESSAGE_BYTES:
            text = text[: len(text) // 2]
        return StepSummarised(**self._whose(), step=step.number, name=self._names[step.number - 1][:200], markdown=text)

    def _whose(self) -> dict[str, object]:
        return {
            "tenant": self._grant.tenant,
            "job": self._grant.job,
            "epoch": self._grant.epoch,
            "at_unix_ns": time.time_ns(),
        }

    def _watch(self) -> None:
        for name in ("", "lost"):
            (self._directory.root / name).mkdir(exist_ok=True)
            self._watcher.watch(self._directory.root / name, self._on_change)
        for number in range(len(self._background) + 1):
            self._watcher.watch(self._directory.step(number), self._changes_of(number))

    def _on_change(self, appeared: bool) -> None:  # noqa: FBT001 - the watcher's signature
        if appeared:
            self._changed.set()

    def _changes_of(self, number: int) -> Callable[[bool], None]:
        def call(appeared: bool) -> None:  # noqa: FBT001 - the watcher's signature
            self._on_change(appeared)
            if number in self._pumps:
                self._pumps[number].grown.set()

        return call

    async def _durable_so_far(self) -> dict[int, int]:
        """Where logs go on after a step-ctl before this one. When nobody can say: from the beginning, duplicates are
        dropped.
        """
        try:
            told = await self._courier.ask_durable(DurableAsked(steps=list(range(len(self._background) + 1))))
        except OverspillError as error:
            log.info("durable_unknown", job=self._grant.job, why=str(error))
            return {}
        return dict(told.durable_bytes)

    async def _until_durable(self) -> None:
        patience = self._courier.patience()
        waiting = dict.fromkeys(self._lengths, 0)
        stalled, enough = 0, STALLED_ASKS
        while waiting:
            try:
                told = await self._courier.ask_durable(DurableAsked(steps=list(waiting), flush=True))
            except OverspillError as error:
                log.info("durable_waits", job=self._grant.job, why=str(error))
                await patience.pause()
                continue
            before = sum(waiting.values())
            waiting = {step: told.durable_bytes.get(step, 0) for step in waiting if step not in told.complete}
            stalled = stalled + 1 if waiting and sum(waiting.values()) <= before else 0
            if stalled >= enough:
                stalled, enough = 0, 2 * enough
                await self._send_again(waiting)
            if waiting:
                await patience.pause()

    async def _send_again(self, waiting: dict[int, int]) -> None:
        for step, durable in waiting.items():
            log.warning("log_sent_again", job=self._grant.job, step=step, offset=durable)
            self._pumps[step].send_again(durable)
            await self._pumps[step].run()
