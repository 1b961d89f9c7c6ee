"""The one interpreter of effects: each is performed, or found to be done already, and comes back as facts."""

from typing import TypeVar

import structlog

from services.scheduler.evidence import end_of_lost, finished, kept_of
from services.scheduler.measuring import measure
from services.scheduler.model import (
    DoneStands,
    Effect,
    EndAttempt,
    GiveOrder,
    JobGone,
    Key,
    Move,
    OrderGone,
    OrdersRead,
    OrderStands,
    Over,
    PurgeJob,
    PurgeOrder,
    ReadBack,
    RecordSeen,
    Weigh,
    Weighed,
    WriteDone,
)
from services.scheduler.state import Fact
from shared.bus import CE_TYPE, Bus, Headers
from shared.crash_points import crash_point
from shared.errors import OutcomeUnknown, Unavailable, WrongSequence
from shared.facts import ArtifactStored, AttemptAccepted, AttemptEnded, JobRecord, Order, StepEnded
from shared.facts.core import Fact as BusFact
from shared.flow import DONE, EVT, JOBS, ORDERS, Done, Evt, Job, Kept, OrderTo, RecordCopy, Spec
from shared.ids import random_id
from shared.job_spans import attempt_span, run_context, run_span
from shared.lifecycle import JobState
from shared.placement import Target
from shared.telemetry import continue_trace, exporting, measuring, tell
from shared.wire import decode, encode

log = structlog.get_logger()

F = TypeVar("F", AttemptAccepted, AttemptEnded)
SOURCE = "/overspill/scheduler"


class Performer:
    """Performs effects as the leader of `term`."""

    def __init__(self, bus: Bus, term: int) -> None:
        self._bus, self._term = bus, term

    async def perform(self, effect: Effect) -> list[Fact]:  # noqa: PLR0911 - one for each effect
        """What is known of the effect's subject afterwards. Raises Unavailable: nothing is known, try again."""
        match effect:
            case Move():
                with continue_trace(run_context(effect.record.traceparent, effect.record.job)):
                    return await self._move(effect)
            case ReadBack(key, seq):
                return [*await self._read_back(key, seq), await self._read_orders(key)]
            case Weigh(ended, record):
                steps = await self._steps(ended)
                return [Weighed(end_of_lost(ended, record, steps), finished(ended, record, steps))]
            case GiveOrder(order, expect_seq):
                with continue_trace(order.traceparent):
                    return await self._order(order, expect_seq)
            case EndAttempt():
                with continue_trace(run_context(effect.record.traceparent, effect.record.job)):
                    return await self._end(effect)
            case WriteDone(record):
                with continue_trace(run_context(record.traceparent, record.job)):
                    return await self._done(record)
            case PurgeOrder(key, target):
                return await self._purge_order(key, target)
            case PurgeJob(key, seq, though_untold):
                if not though_untold:
                    await self._must_be_in_history(key)
                return await self._purge_job(key, seq)

    async def _move(self, effect: Move) -> list[Fact]:
        record = effect.record.model_copy(update={"write_id": random_id(), "term": self._term})
        subject = Job(record.tenant, record.job)
        if record.ended:
            crash_point("scheduler.after-end-before-move")
        try:
            stored = await self._bus.publish(
                subject, encode(record), headers=headers(record, record.write_id), expect_seq=effect.expect_seq
            )
        except WrongSequence:
            return await self._read_back_move(effect, record)
        except OutcomeUnknown:
            found = await self._read_back_move(effect, record)
            if any(isinstance(fact, RecordSeen) and fact.seq == effect.expect_seq for fact in found):
                raise  # it may still come: its place is kept until a later write tells that it lost
            return found
        if record.ended:
            crash_point("scheduler.after-final-move-before-done")
        elif record.state is JobState.PLACED:
            crash_point("scheduler.after-move-before-order")
        _moved(record, effect.over)
        return [RecordSeen(record, stored.seq)]

    async def _read_back_move(self, effect: Move, record: JobRecord) -> list[Fact]:
        found = await self._read_back(effect.key, effect.expect_seq)
        if any(isinstance(fact, RecordSeen) and fact.record.write_id == record.write_id for fact in found):
            _moved(record, effect.over)
        return found

    async def _read_back(self, key: Key, seq: int) -> list[Fact]:
        found = await self._bus.last(JOBS, Job(*key))
        return [JobGone(key, seq)] if found is None else [RecordSeen(decode(JobRecord, found.data), found.seq)]

    async def _read_orders(self, key: Key) -> OrdersRead:
        found = await self._bus.last_each(ORDERS, OrderTo.filter(tenant=key[0], job=key[1]))
        return OrdersRead(key, tuple((decode(Order, message.data), message.seq) for message in found))

    async def _order(self, order: Order, expect_seq: int) -> list[Fact]:
        order = order.model_copy(update={"term": self._term})
        subject = OrderTo(order.cluster, order.target, order.tenant, order.job)
        id_ = f"{order.job}-{order.epoch}-{order.desired.value}-{self._term}"
        try:
            stored = await self._bus.publish(subject, encode(order), headers=headers(order, id_), expect_seq=expect_seq)
        except (WrongSequence, OutcomeUnknown):
            found = await self._bus.last(ORDERS, subject)
            if found is None:
                return [OrderGone((order.tenant, order.job), Target(order.cluster, order.target))]
            return [OrderStands(decode(Order, found.data), found.seq)]
        crash_point("scheduler.after-order-before-landed")
        return [OrderStands(order, stored.seq)]

    async def _end(self, effect: EndAttempt) -> list[Fact]:
        ended = effect.ended
        if effect.unless == "accepted":
            accepted = await self._told(ended, AttemptAccepted)
            if accepted is not None and _by_the_placed(accepted, effect.record):
                return [accepted]
        elif ended.outcome == "error":
            ended = end_of_lost(ended, effect.record, await self._steps(ended))
        subject = Evt(ended.tenant, ended.job, ended.epoch, ended.token())
        try:
            await self._bus.publish(
                subject, encode(ended), headers=headers(ended, f"{ended.job}-{ended.epoch}-ended"), expect_seq=0
            )
        except (WrongSequence, OutcomeUnknown):
            found = await self._told(ended, AttemptEnded)
            if found is None:
                raise Unavailable(what=str(subject), why="it was not stored") from None
            return [found]
        log.info(
            "attempt_given_up",
            tenant=ended.tenant,
            job=ended.job,
            epoch=ended.epoch,
            reason=ended.reason.value,
            why=ended.message,
        )
        return [ended]

    async def _told(self, about: AttemptEnded, kind: type[F]) -> F | None:
        found = await self._bus.last(EVT, Evt(about.tenant, about.job, about.epoch, kind.token()))
        return None if found is None else decode(kind, found.data)

    async def _steps(self, about: AttemptEnded) -> list[StepEnded]:
        subject = str(Evt(about.tenant, about.job, about.epoch, StepEnded.token()))
        return [decode(StepEnded, message.data) async for message in self._bus.read(EVT, subject, from_seq=1)]

    async def _done(self, record: JobRecord) -> list[Fact]:
        subject, key = Done(record.tenant, record.job), (record.tenant, record.job)
        await self._keep_artifacts(record)
        expect_seq = 0
        while True:
            try:
                await self._bus.publish(
                    subject, encode(record), headers=headers(record, record.write_id), expect_seq=expect_seq
                )
            except (WrongSequence, OutcomeUnknown):
                found = await self._bus.last(DONE, subject)
                if found is None:
                    raise Unavailable(what=str(subject), why="it was not stored") from None
                if decode(JobRecord, found.data).write_id == record.write_id:
                    break
                # An older job of the same id, whose record was purged long ago: the newest is the history.
                expect_seq = found.seq
            else:
                crash_point("scheduler.after-done-before-purge")
                break
        # Told by whoever wrote it, perhaps twice after a takeover: under the same id.
        if exporting(record.traceparent):
            tell(run_span(record))
        return [DoneStands(key)]

    async def _keep_artifacts(self, record: JobRecord) -> None:
        """Before DONE, so that whoever finds DONE finds them."""
        if not record.artifact_count or not record.epoch:
            return
        told = str(Evt(record.tenant, record.job, record.epoch, ArtifactStored.token()))
        kept = kept_of(record, [message async for message in self._bus.read(EVT, told, from_seq=1)])
        try:
            await self._bus.publish(
                Kept(record.tenant, record.job), encode(kept), headers=headers(kept, record.write_id), expect_seq=0
            )
        except WrongSequence:
            log.debug("artifacts_were_kept_before", tenant=record.tenant, job=record.job)

    async def _purge_order(self, key: Key, target: Target) -> list[Fact]:
        await self._bus.purge(ORDERS, str(OrderTo(target.cluster, target.machine, *key)))
        crash_point("scheduler.after-purge-before-landed")
        return [OrderGone(key, target)]

    async def _must_be_in_history(self, key: Key) -> None:
        """EVT draws its copies from JOBS, after a violent end of the server seconds later: what is purged by then would
        stay `placed` for whoever reads it. Raises Unavailable.
        """
        record, copy = await self._bus.last(JOBS, Job(*key)), await self._bus.last(EVT, RecordCopy(*key))
        if record is not None and (copy is None or copy.data != record.data):
            raise Unavailable(what=f"the history of job {key[1]}", why="its last record is not there yet")

    async def _purge_job(self, key: Key, seq: int) -> list[Fact]:
        # The record goes last: as long as it is there, nobody creates the job anew.
        # An order that came later than anybody waited for it, too.
        await self._bus.purge(ORDERS, OrderTo.filter(tenant=key[0], job=key[1]))
        await self._bus.purge(JOBS, str(Spec(*key)))
        crash_point("scheduler.after-spec-before-record-purge")
        await self._bus.purge(JOBS, str(Job(*key)))
        return [JobGone(key, seq)]


def _by_the_placed(accepted: AttemptAccepted, record: JobRecord) -> bool:
    placement = record.placement
    return placement is not None and (accepted.cluster, accepted.machine) == (placement.cluster, placement.target)


def headers(fact: BusFact, id_: str) -> Headers:
    """CloudEvents, binary mode."""
    return {"ce-specversion": "1.0", CE_TYPE: fact.event_type(), "ce-source": SOURCE, "ce-id": id_}


def _moved(record: JobRecord, over: Over | None) -> None:
    _tell_move(record)
    if over is None:
        return
    for measured in measure(record, over) if measuring() else ():
        measured.tell()
    if over.ended is not None and exporting(record.traceparent):
        tell(attempt_span(over.before, over.ended))


def _tell_move(record: JobRecord) -> None:
    about = {"tenant": record.tenant, "job": record.job, "epoch": record.epoch}
    match record.state:
        case JobState.PLACED if record.placement is not None and not record.cancel_requested:
            log.info("job_placed", **about, cluster=record.placement.cluster, machine=record.placement.target)
        case JobState.PLACED:
            log.info("job_asked_to_end", **about)
        case JobState.QUEUED:
            log.info("job_waits", **about, code=record.waiting_for, after=record.message)
        case _:
            reason = record.reason.value if record.reason else None
            log.info("job_ended", **about, state=record.state.value, reason=reason)
