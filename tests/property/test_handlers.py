"""Facts twice, late, reordered, missing, and services killed in between: the real handlers come to the same end."""

import itertools
import tempfile
from pathlib import Path

import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared import flow
from shared.facts import JobRecord
from shared.lifecycle import MOVES, JobState
from shared.wire import decode
from tests.property.platform import MACHINES, SERVICES, TENANT, Platform

HITS = 2
"""How often a machine may be struck: an attempt may be lost with it, and a job has three."""
FATES = st.lists(st.sampled_from(["ok", "ok", "lost", "untold"]), min_size=1, max_size=12)


class Disturbed(RuleBasedStateMachine):
    """Drives services/scheduler, services/cluster_metrics and the gateway's doors and projection."""

    def __init__(self) -> None:
        super().__init__()
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        self._scratch = tempfile.TemporaryDirectory()
        self.platform = Platform(self._fresh("disturbed"))
        self.jobs: list[str] = []
        self.wishes: list[tuple[str, str]] = []
        """(kind, on-lost) of each job."""
        self.cancelled: set[int] = set()
        self.hits = 0

    def _fresh(self, name: str) -> Path:
        path = Path(self._scratch.name) / name
        path.mkdir()
        return path

    # What people do

    @precondition(lambda self: len(self.jobs) < 6)
    @rule(
        kind=st.sampled_from(["good", "good", "bad", "slow", "endless"]),
        on_lost=st.sampled_from(["rerun", "rerun-fenced"]),
    )
    def submit(self, kind: str, on_lost: str) -> None:
        self.jobs.append(self.platform.submit(len(self.jobs), kind, on_lost))
        self.wishes.append((kind, on_lost))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.jobs) - 1))
        self.platform.submit(number, *self.wishes[number])

    @precondition(lambda self: any(self.platform.record(job) is not None for job in self.jobs))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        there = [
            number
            for number, job in enumerate(self.jobs)
            if self.wishes[number][0] == "endless" and self.platform.record(job) is not None
        ]
        if there:
            number = data.draw(st.sampled_from(there))
            self.cancelled.add(number)
            self.platform.cancel(self.jobs[number])

    # What the bus does

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0, 12.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.platform.pass_time(seconds)

    @rule(fates=FATES)
    def writes_get_no_answer(self, fates: list[str]) -> None:
        self.platform.server.twist.writes.extend(fates)

    @rule(copies=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=1, max_size=20))
    def pushes_are_lost_or_come_twice(self, copies: list[int]) -> None:
        self.platform.server.twist.pushes.extend(copies)

    @rule(stream=st.sampled_from(["JOBS", "EVT", "METRICS"]))
    def a_stream_lags(self, stream: str) -> None:
        self.platform.server.twist.held.add(stream)

    @rule()
    def copies_come_late(self) -> None:
        self.platform.server.twist.unsourced = True

    @rule()
    def streams_catch_up(self) -> None:
        twist = self.platform.server.twist
        twist.held.clear()
        twist.unsourced = False
        self.platform.server.source()
        self.platform.server.wake()

    @rule(data=st.data())
    def a_fact_is_stored_again(self, data: st.DataObject) -> None:
        facts = [m for m in self.platform.server.logs["EVT"].messages.values() if not m.subject.endswith(".record")]
        if facts:
            fact = data.draw(st.sampled_from(facts))
            self.platform.server.store(fact.subject, fact.data, fact.headers, None, None)

    # What breaks

    @rule(name=st.sampled_from(SERVICES), seconds=st.sampled_from([0.0, 1.0, 15.0]))
    def a_service_dies_and_comes_back(self, name: str, seconds: float) -> None:
        self.platform.kill(name)
        self.platform.pass_time(seconds)
        self.platform.start(name)

    @rule(name=st.sampled_from(SERVICES), seconds=st.sampled_from([0.5, 5.0, 20.0]))
    def a_service_is_cut_off(self, name: str, seconds: float) -> None:
        bus = self.platform.processes[name].bus
        bus.cut()
        self.platform.pass_time(seconds)
        self.platform.run(_restored(bus))

    @precondition(lambda self: self.hits < HITS)
    @rule(name=st.sampled_from(MACHINES), seconds=st.sampled_from([0.5, 5.0, 40.0]))
    def a_machine_is_cut_off(self, name: str, seconds: float) -> None:
        self.hits += 1
        self.a_service_is_cut_off(name, seconds)

    @precondition(lambda self: self.hits < HITS)
    @rule(name=st.sampled_from(MACHINES), seconds=st.sampled_from([0.0, 30.0]))
    def a_machine_forgets_everything(self, name: str, seconds: float) -> None:
        self.hits += 1
        self.a_service_dies_and_comes_back(name, seconds)

    # What always holds

    @invariant()
    def records_move_as_the_table_says_and_end_once(self) -> None:
        moves: dict[str, list[JobRecord]] = {}
        for message in self.platform.server.logs["JOBS"].messages.values():
            if message.subject.startswith("job."):
                moves.setdefault(message.subject, []).append(decode(JobRecord, message.data))
        for subject, records in moves.items():
            for before, after in itertools.pairwise(records):
                assert after.state in MOVES[before.state], f"{subject}: {before.state} to {after.state}"
                assert after.epoch in (before.epoch, before.epoch + 1), subject
            for record in records:
                assert record.state is not JobState.SUCCEEDED or record.exit_code == 0, subject

    @invariant()
    def a_cancelled_or_ended_job_has_one_claim_an_attempt(self) -> None:
        for job in self.jobs:
            record = self.platform.record(job)
            if record is not None:
                assert len(record.past_attempts) <= record.epoch, flow.Job(TENANT, job)

    # The end

    def teardown(self) -> None:
        try:
            self.streams_catch_up()
            self.platform.server.twist.writes.clear()
            self.platform.server.twist.pushes.clear()
            self.platform.pass_time(5.0)
            for number, (kind, _) in enumerate(self.wishes):
                if kind == "endless":
                    self.platform.cancel(self.jobs[number])
            assert self.platform.settle(self.jobs), self.platform.end_state(self.jobs)
            assert self.platform.end_state(self.jobs) == self._undisturbed()
        finally:
            self.platform.close()
            self._scratch.cleanup()
            structlog.reset_defaults()

    def _undisturbed(self) -> dict[str, object]:
        calm = Platform(self._fresh("calm"))
        try:
            jobs = [calm.submit(number, *wish) for number, wish in enumerate(self.wishes)]
            calm.pass_time(5.0)
            for number, (kind, _) in enumerate(self.wishes):
                if kind == "endless":
                    calm.cancel(jobs[number])
            assert calm.settle(jobs), calm.end_state(jobs)
            return calm.end_state(jobs)
        finally:
            calm.close()


async def _restored(bus: object) -> None:
    bus.restore()


Disturbed.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
test_whatever_comes_the_end_is_the_same = Disturbed.TestCase
