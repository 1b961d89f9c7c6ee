"""What must be true once everything has ended, job by job. Each check says in one line what is wrong."""

import asyncio
import io
import tarfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from overspill.hub_seed import TENANT
from shared.adapters.nats_bus import NatsBus
from shared.bus import Message
from shared.errors import Unavailable
from shared.facts import AttemptAccepted, AttemptEnded, JobRecord, StepEnded
from shared.flow import DLQ, DONE, EVT, JOBS, ORDERS, Done, Evt, Job, OrderTo, RecordCopy
from shared.lifecycle import JobState, Reason
from shared.wire import decode
from tests.chaos.customers import Customer
from tests.chaos.jobs import JobPlan
from tests.chaos.processes import belonging_to
from tests.chaos.town import ACTIVE_LIMIT, Town

GONE_SECONDS = 90.0


@dataclass
class Ended:
    """A job whose DONE was seen."""

    plan: JobPlan
    id: str
    record: JobRecord
    facts: list[Message] = field(default_factory=list)

    def of(self, kind: str) -> list[tuple[int, bytes]]:
        """(epoch, data) of every fact of a kind."""
        found = [(Evt.parse(m.subject).epoch, m.data) for m in self.facts if m.subject.endswith(f".{kind}")]
        return sorted(found)

    @property
    def lost(self) -> list[Reason]:
        """Why attempts were lost, the last included."""
        reasons = [past.reason for past in self.record.past_attempts]
        if self.record.state is JobState.ERROR and self.record.reason is not None:
            reasons.append(self.record.reason)
        return reasons

    def story(self) -> Iterator[str]:
        yield f"{self.plan.name} {self.id}"
        for message in self.facts:
            data = orjson.loads(message.data)
            about = {k: data[k] for k in ("state", "outcome", "reason", "step", "exit_code", "message") if data.get(k)}
            at = time.strftime("%H:%M:%S", time.gmtime(message.time_unix_ns / 1e9))
            yield f"    {at}.{message.time_unix_ns // 1_000_000 % 1000:03d} {message.subject.split('.', 3)[3]} {about}"


async def until_done(bus: NatsBus, plan: JobPlan, id_: str) -> Ended:
    """Polls, since the bus itself is killed meanwhile."""
    while True:
        try:
            if (found := await bus.last(DONE, Done(TENANT, id_))) is not None:
                return Ended(plan, id_, decode(JobRecord, found.data))
        except Unavailable:
            pass
        await asyncio.sleep(0.2)


@dataclass
class Truth:
    """Of one round. `permitted`: how many attempts its deaths may have lost."""

    town: Town
    bus: NatsBus
    customer: Customer
    runs: Path
    permitted: int

    async def check(self, ended: list[Ended], dlq_before: int, evt_before: int) -> dict[str, list[str]]:
        """What is wrong: by job's name, "" for what is no job's."""
        for each in ended:
            each.facts = [m async for m in self.bus.read(EVT, Evt.filter(tenant=TENANT, job=each.id), from_seq=1)]
            record = str(RecordCopy(TENANT, each.id))
            each.facts += [m async for m in self.bus.read(EVT, record, from_seq=1)]
            each.facts.sort(key=lambda message: message.seq)
        wrong = {each.plan.name: [complaint async for complaint in self._job(each)] for each in ended}
        wrong[""] = [complaint async for complaint in self._all(ended, dlq_before, evt_before)]
        return {name: complaints for name, complaints in wrong.items() if complaints}

    # One job

    async def _job(self, ended: Ended) -> AsyncIterator[str]:
        for complaint in (*_verdict(ended), *_attempts(ended), *_step_ends(ended), *self._starts(ended)):
            yield complaint
        async for complaint in self._one_truth(ended):
            yield complaint
        async for complaint in self._logs(ended):
            yield complaint
        async for complaint in self._artifact(ended):
            yield complaint
        async for complaint in self._remains(ended):
            yield complaint

    def _starts(self, ended: Ended) -> Iterator[str]:
        path = self.runs / ended.plan.name
        lines = path.read_text().splitlines() if path.exists() else []
        started = Counter(tuple(int(word) for word in line.split()) for line in lines)
        for (epoch, step), count in sorted(started.items()):
            if not 1 <= epoch <= ended.record.epoch:
                yield f"step {step} was started in attempt {epoch}, and there were {ended.record.epoch}"
            most = ended.plan.runs.get(step, 0)
            if count > most:
                yield f"step {step} was started {count} times in attempt {epoch}, not {most} times"
        if not ended.plan.cut_short and ended.record.state is not JobState.ERROR:
            last = ended.record.epoch
            for step, count in ended.plan.runs.items():
                if started[last, step] != count:
                    yield f"step {step} was started {started[last, step]} times in the attempt that counts, not {count}"

    async def _one_truth(self, ended: Ended) -> AsyncIterator[str]:
        """DONE, the record (unless it is purged already) and the API say the same."""
        record, id_ = ended.record, ended.id
        live = await self.bus.last(JOBS, Job(TENANT, id_))
        if live is not None and decode(JobRecord, live.data) != record:
            yield f"JOBS differs from DONE: {live.data.decode()}"
        told = await self._told(id_, record.state.value)
        shown = (told["state"], told["epoch"], told["reason"], told["exit_code"], told["failed_step"])
        reason = record.reason.value if record.reason else None
        if shown != (record.state.value, record.epoch, reason, record.exit_code, record.step):
            yield f"the API shows {shown}, DONE says {record.state.value} {reason}"

    async def _told(self, id_: str, state: str) -> dict[str, Any]:
        """The API's word, once its projection has come so far."""
        until = time.monotonic() + GONE_SECONDS
        while True:
            told: dict[str, Any] = (await self.customer.ask(lambda: self.customer.client.get(f"/v1/jobs/{id_}"))).json()
            if told["state"] == state or time.monotonic() > until:
                return told
            await asyncio.sleep(0.1)

    async def _logs(self, ended: Ended) -> AsyncIterator[str]:
        """Every byte of every finished step, of whichever attempt; of others a beginning."""
        finished = {(epoch, fact.step): fact for epoch, fact in _steps(ended)}
        for epoch in range(1, ended.record.epoch + 1):
            for step, wanted in ended.plan.logs.items():
                query = {"step": step, "epoch": epoch}
                answer = await self.customer.ask(
                    lambda query=query: self.customer.client.get(f"/v1/jobs/{ended.id}/logs", params=query)
                )
                fact, data = finished.get((epoch, step)), answer.content
                whole = fact is not None and fact.state in ("exited", "ended")
                if (whole and data != wanted) or not wanted.startswith(data):
                    yield f"log of step {step}, attempt {epoch}: {_difference(data, wanted)}"
                if fact is not None and fact.log_bytes != len(data):
                    yield f"log of step {step}, attempt {epoch} has {len(data)} bytes, {fact.log_bytes} were written"

    async def _artifact(self, ended: Ended) -> AsyncIterator[str]:
        if not ended.plan.artifact or ended.record.state is not JobState.SUCCEEDED:
            return
        accept = {"Accept": "application/json"}
        path = f"/v1/jobs/{ended.id}/artifacts/numbers"
        told = (await self.customer.ask(lambda: self.customer.client.get(path, headers=accept))).json()
        async with httpx.AsyncClient(trust_env=False) as plain:
            packed = (await self.customer.ask(lambda: plain.get(told["url"]))).content
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for name, wanted in ended.plan.artifact.items():
                member = tar.extractfile(name)
                if member is None or member.read() != wanted:
                    yield f"artifact {name} is not what the step made"

    async def _remains(self, ended: Ended) -> AsyncIterator[str]:
        """Nothing stands and nothing runs any more."""
        until = time.monotonic() + GONE_SECONDS
        while remains := [*await self._orders(ended.id), *self._here(ended.id)]:
            if time.monotonic() > until:
                for remaining in remains:
                    yield f"left: {remaining}"
                return
            await asyncio.sleep(0.2)

    async def _orders(self, id_: str) -> list[str]:
        return [m.subject for m in await self.bus.last_each(ORDERS, OrderTo.filter(tenant=TENANT, job=id_))]

    def _here(self, id_: str) -> list[str]:
        """Its directories, and what runs in them."""
        found: list[str] = []
        for attempts in self.town.attempts:
            for directory in (*attempts.glob(f"{id_}-*"), *attempts.glob(f".*{id_}-*")):
                found += [str(directory), *belonging_to(directory).values()]
        return found

    # All of them

    async def _all(self, ended: list[Ended], dlq_before: int, evt_before: int) -> AsyncIterator[str]:
        lost = [f"{each.plan.name} ({reason.value})" for each in ended for reason in each.lost]
        if len(lost) > self.permitted:
            yield f"attempts lost: {', '.join(lost)}; the deaths of this round permit {self.permitted}"
        async for message in self.bus.read(DLQ, "dlq.>", from_seq=dlq_before + 1):
            yield f"buried: {message.subject} {dict(message.headers)}"
        async for complaint in self._limits(evt_before):
            yield complaint

    async def _limits(self, evt_before: int) -> AsyncIterator[str]:
        """Record by record: never more placed than the limit allows, no epoch placed twice."""
        active: set[str] = set()
        placed: dict[tuple[str, int], str] = {}
        async for message in self.bus.read(EVT, RecordCopy.filter(tenant=TENANT), from_seq=evt_before + 1):
            record = decode(JobRecord, message.data)
            (active.add if record.state is JobState.PLACED else active.discard)(record.job)
            if len(active) > ACTIVE_LIMIT:
                yield f"{len(active)} jobs are placed at seq {message.seq}, the limit is {ACTIVE_LIMIT}"
            if record.state is JobState.PLACED and record.placement is not None:
                at = placed.setdefault((record.job, record.epoch), record.placement.target)
                if at != record.placement.target:
                    yield f"attempt {record.epoch} of {record.job} was placed on {at} and {record.placement.target}"


def _verdict(ended: Ended) -> Iterator[str]:
    plan, record = ended.plan, ended.record
    strange = [reason.value for reason in ended.lost if reason is not Reason.RUNNER_LOST]
    if strange:
        yield f"attempts were lost for {', '.join(strange)}"
    if record.state is JobState.ERROR and plan.on_lost == "fail" and record.reason is Reason.RUNNER_LOST:
        return
    if record.state.value != plan.state:
        yield f"ended as {record.state.value} ({record.reason}, {record.message!r}), not {plan.state}"
    elif plan.exit_code is not None and (record.exit_code, record.step) != (plan.exit_code, plan.step):
        yield f"ended with {record.exit_code} at step {record.step}, not {plan.exit_code} at {plan.step}"


def _attempts(ended: Ended) -> Iterator[str]:
    """Each attempt was accepted once and ended once, and the newest is the one that counts."""
    accepted = Counter(epoch for epoch, _ in ended.of(AttemptAccepted.token()))
    over = Counter(epoch for epoch, _ in ended.of(AttemptEnded.token()))
    for epoch, count in (accepted | over).items():
        if count > 1 or epoch > ended.record.epoch:
            yield f"attempt {epoch} was accepted {accepted[epoch]} times and ended {over[epoch]} times"
    if ended.record.epoch and over[ended.record.epoch] != 1:
        yield f"attempt {ended.record.epoch} counts and ended {over[ended.record.epoch]} times"
    finals = [m for m in ended.facts if m.subject.endswith(".record") and decode(JobRecord, m.data).ended]
    if len(finals) != 1:
        yield f"the record became final {len(finals)} times"


def _step_ends(ended: Ended) -> Iterator[str]:
    """Each told once, with its true exit code; of the attempt that counts, all of them."""
    for epoch, fact in _steps(ended):
        if fact.state == "exited" and fact.exit_code != ended.plan.codes.get(fact.step, 0):
            yield f"step {fact.step}, attempt {epoch} is said to have exited with {fact.exit_code}"
    told = Counter((epoch, fact.step) for epoch, fact in _steps(ended))
    for (epoch, step), count in told.items():
        if count > 1:
            yield f"the end of step {step}, attempt {epoch} was told {count} times"
    if not ended.plan.cut_short and ended.record.state is not JobState.ERROR:
        for step in ended.plan.logs:
            if not told[ended.record.epoch, step]:
                yield f"the end of step {step} was never told, of the attempt that counts"


def _steps(ended: Ended) -> list[tuple[int, StepEnded]]:
    return [(epoch, decode(StepEnded, data)) for epoch, data in ended.of(StepEnded.token())]


def _difference(data: bytes, wanted: bytes) -> str:
    at = next((n for n, (one, other) in enumerate(zip(data, wanted, strict=False)) if one != other), None)
    where = f"they differ at {at}" if at is not None else "one is the beginning of the other"
    return f"{len(data)} bytes instead of {len(wanted)}; {where}"
