"""One round: arm, submit, kill, wait, look."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from shared.adapters.nats_bus import NatsBus
from shared.crash_points import CRASH_AT, CRASH_LEDGER
from shared.flow import DLQ, EVT
from tests.chaos.customers import Customer
from tests.chaos.plan import AGENTS, LOSES_STEPS, Kill, Plan
from tests.chaos.processes import entrypoints, kill_one, step_ctls
from tests.chaos.town import Town
from tests.chaos.truth import Ended, Truth, until_done

ROUND_SECONDS = 420.0
LINGER_SECONDS = 12.0
"""After the last job, for points that are passed by the clock: purges, pictures of machines."""
AT_WORK_SECONDS = 15.0
"""How long one is waited for that is at work and can be killed."""
SPENT = "not reached"


@dataclass
class Outcome:
    """What a round was like. `wrong` is empty when all that must hold held."""

    plan: Plan
    fired: dict[str, float] = field(default_factory=dict)
    """Unix time of each point's kill."""
    kills: list[tuple[float, str]] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    seconds: float = 0.0
    wrong: dict[str, list[str]] = field(default_factory=dict)
    stories: list[str] = field(default_factory=list)


class Round:
    """Of one seed, in a town that may have seen others."""

    def __init__(self, town: Town, bus: NatsBus, customer: Customer, plan: Plan, runs: Path, run: str) -> None:
        self._town, self._bus, self._customer, self._plan, self._run = town, bus, customer, plan, run
        self._runs = runs
        self._ledger = town.home / f"ledger-{plan.seed}"
        self._outcome = Outcome(plan)
        self._chance = random.Random(plan.seed)

    async def play(self) -> Outcome:
        began = time.monotonic()
        self._runs.mkdir(exist_ok=True)
        self._ledger.mkdir()
        dlq, evt = await self._bus.end_seq(DLQ), await self._bus.end_seq(EVT)
        ended: list[Ended] = []
        try:
            async with asyncio.timeout(ROUND_SECONDS), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._arm())
                killing = [tasks.create_task(self._kill(kill)) for kill in self._plan.kills]
                jobs = [tasks.create_task(self._job(number)) for number in range(len(self._plan.jobs))]
                ended = [await job for job in jobs]
                await asyncio.gather(*killing)
                await self._linger()
        except TimeoutError:
            self._outcome.wrong[""] = [f"jobs did not end within {ROUND_SECONDS:.0f} s"]
        self._disarm()
        if not self._outcome.wrong:
            truth = Truth(self._town, self._bus, self._customer, self._runs, self._permitted())
            self._outcome.wrong = await truth.check(ended, dlq, evt)
        self._outcome.verdicts = Counter(each.record.state.value for each in ended)
        self._outcome.lost = sum(len(each.lost) for each in ended)
        self._outcome.stories = [
            line for each in ended if each.plan.name in self._outcome.wrong or each.lost for line in each.story()
        ]
        self._outcome.seconds = time.monotonic() - began
        return self._outcome

    async def _job(self, number: int) -> Ended:
        plan = self._plan.jobs[number]
        await asyncio.sleep(self._plan.spread_seconds * number / len(self._plan.jobs))
        id_ = await self._customer.submit(plan, self._run)
        if plan.cancel != "no":
            await self._customer.cancel(plan, id_)
        return await until_done(self._bus, plan, id_)

    # Deaths

    async def _arm(self) -> None:
        """Who has points to pass is started again with them: itself a death at any time."""
        by_process: dict[str, list[str]] = {}
        for name, passage in self._plan.points:
            for process in self._who_passes(name.partition(".")[0]):
                by_process.setdefault(process, []).append(f"{name}:{passage}")
        for process, points in by_process.items():
            supervised = self._town.processes[process]
            supervised.armed = {CRASH_AT: ",".join(points), CRASH_LEDGER: str(self._ledger)}
            await supervised.kill()

    def _who_passes(self, process: str) -> list[str]:
        """A step-ctl and an entrypoint have their points from the agent that starts them."""
        if process in ("agent", "step-ctl", "entrypoint"):
            return list(AGENTS)
        return [name for name in self._town.processes if name.rstrip("-12") == process]

    def _disarm(self) -> None:
        for name, _ in self._plan.points:
            path = self._ledger / name
            if path.exists():
                self._outcome.fired[name] = path.stat().st_mtime
            else:
                path.write_text(SPENT)

    async def _kill(self, kill: Kill) -> None:
        await asyncio.sleep(kill.at_seconds)
        victim = self._town.leader() if kill.victim == "leader" else kill.victim
        if victim in self._town.processes:
            await self._town.processes[victim].kill()
            self._outcome.kills.append((time.time(), kill.victim))
            return
        find = step_ctls if victim == "step-ctl" else entrypoints
        until = time.monotonic() + AT_WORK_SECONDS
        while time.monotonic() < until:
            found = sorted(pid for attempts in self._town.attempts for pid in find(attempts))
            if found and kill_one(self._chance.choice(found)):
                self._outcome.kills.append((time.time(), victim))
                return
            await asyncio.sleep(0.05)

    async def _linger(self) -> None:
        until = time.monotonic() + LINGER_SECONDS
        while any(not (self._ledger / name).exists() for name, _ in self._plan.points):
            if time.monotonic() > until:
                return
            await asyncio.sleep(0.1)

    def _permitted(self) -> int:
        by_points = len(LOSES_STEPS & self._outcome.fired.keys())
        return by_points + sum(victim == "entrypoint" for _, victim in self._outcome.kills)
