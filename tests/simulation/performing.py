"""Performs a scheduler's effects on the simulated streams. Mirrors services/scheduler/performing.py."""

from typing import Any

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
    PurgeJob,
    PurgeOrder,
    ReadBack,
    RecordSeen,
    Weigh,
    Weighed,
    WriteDone,
)
from services.scheduler.performing import _by_the_placed
from shared.errors import OutcomeUnknown, Unavailable, WrongSequence
from shared.facts import AttemptAccepted, AttemptEnded, JobRecord, StepEnded
from shared.placement import Target
from tests.simulation.cores import Cores
from tests.simulation.kernel import Party, Work
from tests.simulation.streams import Net


class Performer:
    """As the leader of `term`."""

    def __init__(self, net: Net, cores: Cores, party: Party, term: int) -> None:
        self._net, self._cores, self._party, self._term = net, cores, party, term
        self._writes = 0

    def perform(self, effect: Effect) -> Work:  # noqa: PLR0911 - one for each effect
        """The facts it brings. Raises Unavailable."""
        match effect:
            case Move():
                return self._move(effect)
            case ReadBack(key, seq):
                return self._read_back_all(key, seq)
            case Weigh(ended, record):
                return self._weigh(ended, record)
            case GiveOrder():
                return self._order(effect)
            case EndAttempt():
                return self._end(effect)
            case WriteDone(record):
                return self._done(record)
            case PurgeOrder(key, target):
                return self._purge_order(key, target)
            case PurgeJob(key, seq, _):
                return self._purge_job(key, seq)
        raise AssertionError(f"nobody performs {effect}")

    def _move(self, effect: Move) -> Work:
        self._writes += 1
        write_id = f"{self._party.name}-{self._term}-{self._writes}"
        record = effect.record.model_copy(update={"write_id": write_id, "term": self._term})
        self._party.note(effect.key, "writes the record: %s, epoch %s, on seq %s, term %s",
                         record.state.value, record.epoch, effect.expect_seq, self._term)  # fmt: skip
        try:
            stored = yield self._net.publish(self._net.jobs, effect.key, record, effect.expect_seq)
        except WrongSequence:
            return (yield from self._read_back(effect.key, effect.expect_seq))
        except OutcomeUnknown:
            found = yield from self._read_back(effect.key, effect.expect_seq)
            if any(isinstance(fact, RecordSeen) and fact.seq == effect.expect_seq for fact in found):
                raise
            return found
        return [RecordSeen(record, stored.seq)]

    def _read_back(self, key: Key, seq: int) -> Work:
        found = yield self._net.last(self._net.jobs, key)
        return [JobGone(key, seq)] if found is None else [RecordSeen(found.fact, found.seq)]

    def _read_back_all(self, key: Key, seq: int) -> Work:
        facts = yield from self._read_back(key, seq)
        orders = self._net.orders
        read = yield self._net.ask(
            lambda: tuple((stored.fact, stored.seq) for stored in orders.last.values() if stored.subject[2:] == key)
        )
        return [*facts, OrdersRead(key, read)]

    def _weigh(self, ended: AttemptEnded, record: JobRecord) -> Work:
        steps = yield from self._steps(ended)
        return [Weighed(self._cores.end_of_lost(ended, record, steps), self._cores.finished(ended, record, steps))]

    def _order(self, effect: GiveOrder) -> Work:
        order = effect.order.model_copy(update={"term": self._term})
        subject = (order.cluster, order.target, order.tenant, order.job)
        self._party.note(effect.key, "orders %s of epoch %s on %s", order.desired.value, order.epoch, order.target)
        try:
            stored = yield self._net.publish(self._net.orders, subject, order, effect.expect_seq)
        except (WrongSequence, OutcomeUnknown):
            found = yield self._net.last(self._net.orders, subject)
            if found is None:
                return [OrderGone(effect.key, Target(order.cluster, order.target))]
            return [OrderStands(found.fact, found.seq)]
        return [OrderStands(order, stored.seq)]

    def _end(self, effect: EndAttempt) -> Work:
        ended = effect.ended
        if effect.unless == "accepted":
            accepted = yield from self._told(ended, AttemptAccepted)
            if accepted is not None and _by_the_placed(accepted, effect.record):
                return [accepted]
        elif ended.outcome == "error":
            ended = self._cores.end_of_lost(ended, effect.record, (yield from self._steps(ended)))
        self._party.note(effect.key, "gives up attempt %s: %s, %s, exit code %s",
                         ended.epoch, ended.reason.value, ended.message, ended.exit_code)  # fmt: skip
        subject = (ended.tenant, ended.job, ended.epoch, ended.token())
        try:
            yield self._net.publish(self._net.evt, subject, ended, 0)
        except (WrongSequence, OutcomeUnknown):
            found = yield from self._told(ended, AttemptEnded)
            if found is None:
                raise Unavailable(what="the end", why="it was not stored") from None
            return [found]
        return [ended]

    def _told(self, about: AttemptEnded, kind: type[Any]) -> Work:
        found = yield self._net.last(self._net.evt, (about.tenant, about.job, about.epoch, kind.token()))
        return None if found is None else found.fact

    def _steps(self, about: AttemptEnded) -> Work:
        subject = (about.tenant, about.job, about.epoch, StepEnded.token())
        evt = self._net.evt
        return (yield self._net.ask(lambda: [stored.fact for stored in evt.read(1) if stored.subject == subject]))

    def _done(self, record: JobRecord) -> Work:
        key, expect = (record.tenant, record.job), 0
        while True:
            try:
                yield self._net.publish(self._net.done, key, record, expect)
            except (WrongSequence, OutcomeUnknown):
                found = yield self._net.last(self._net.done, key)
                if found is None:
                    raise Unavailable(what="DONE", why="it was not stored") from None
                if found.fact.write_id == record.write_id:
                    return [DoneStands(key)]
                expect = found.seq
            else:
                return [DoneStands(key)]

    def _purge_order(self, key: Key, target: Target) -> Work:
        orders = self._net.orders
        self._party.note(key, "purges the order on %s", target.machine)
        yield self._net.ask(lambda: orders.purge((target.cluster, target.machine, *key)))
        return [OrderGone(key, target)]

    def _purge_job(self, key: Key, seq: int) -> Work:
        jobs, orders = self._net.jobs, self._net.orders
        self._party.note(key, "purges the record")
        yield self._net.ask(lambda: [orders.purge(subject) for subject in list(orders.last) if subject[2:] == key])
        yield self._net.ask(lambda: jobs.purge(key))
        return [JobGone(key, seq)]
