"""The safety properties, each a method with the promise as its name. `Broken` says which did not hold, and of what."""

from collections import defaultdict

from runner.agent.model import Local
from services.scheduler.check import validate_state
from services.scheduler.model import Effect, Key
from services.scheduler.state import State
from shared.facts import AttemptEnded, Desired, JobRecord, Order, StepEnded
from shared.lifecycle import MAX_ATTEMPTS, OUR_FAULT, JobState, Reason
from shared.needs import Capacity
from shared.placement import Amount
from tests.simulation.kernel import Kernel, Party
from tests.simulation.streams import Net, Stored

CANCEL_HEARD_SECONDS = 60.0
"""A cancel that was stored so long ago has been heard by whoever leads."""


class Broken(AssertionError):
    """A property did not hold."""

    def __init__(self, promise: str, about: Key | None, why: str) -> None:
        super().__init__(f"{promise}: {why}")
        self.promise, self.about = promise, about


class Checks:
    """Watches streams and machines of one history. `every`: each so-manieth fact the state is validated."""

    def __init__(
        self, kernel: Kernel, net: Net, limits: dict[str, int], capacities: dict[str, Capacity], every: int
    ) -> None:
        self._kernel, self._net, self._limits, self.every = kernel, net, limits, every
        self._room = {name: Amount.of(capacity) for name, capacity in capacities.items()}
        self.ended: dict[Key, JobRecord] = {}
        self._placed: dict[Key, JobRecord] = {}
        self._late: set[Key] = set()
        self._newest_term = 0
        self._codes: dict[tuple[str, str, int], dict[int, int]] = defaultdict(dict)
        self._runs: dict[Key, dict[int, str]] = defaultdict(dict)
        self._begun: set[tuple[str, str, int, int]] = set()
        self.unwatched: frozenset[str] = frozenset()
        net.jobs.on_store.append(self._on_record)
        net.orders.on_store.append(self._on_order)
        net.done.on_store.append(self._on_done)

    # The scheduler's word

    def state_is_sound(self, state: State, who: Party) -> None:
        """What memory holds is consistent after every fact."""
        try:
            validate_state(state)
        except AssertionError as error:
            raise Broken("state_is_sound", None, f"{who.name}: {error}") from error

    def begins(self, who: Party, effect: Effect, holds: bool) -> None:
        self._newest_term = max(self._newest_term, getattr(who, "term", 0))
        if not holds:
            self.a_leader_begins_nothing_once_its_lease_lapsed(who, effect)

    def a_leader_begins_nothing_once_its_lease_lapsed(self, who: Party, effect: Effect) -> None:
        """No effect is begun by an instance whose lease is over by the server's clock."""
        raise Broken(
            "a_leader_begins_nothing_once_its_lease_lapsed",
            effect.key,
            f"{who.name} begins {type(effect).__name__} without a lease",
        )

    def _on_record(self, stored: Stored, before: Stored | None) -> None:
        record: JobRecord = stored.fact
        key: Key = stored.subject
        self._kernel.note("JOBS", key, "seq %s: %s, epoch %s%s", stored.seq, record.state.value, record.epoch,
                          f", {record.reason.value}" if record.reason else "")  # fmt: skip
        self.epochs_only_grow(key, record, before.fact if before else None)
        self.at_most_one_verdict(key, record)
        self._placed.pop(key, None)
        self._late.discard(key)
        if record.state is JobState.PLACED:
            self._placed[key] = record
            new = before is None or before.fact.epoch != record.epoch
            if record.term < self._newest_term:
                self._late.add(key)
            if new and record.epoch > 1:
                self.a_recorded_last_exit_code_is_never_run_again(key, record)
                self.a_cancelled_job_is_not_tried_again(key, record)
            if new and key not in self._late:
                self.never_over_a_tenants_limit(record)
                self.never_over_a_machines_room(record)
        if record.ended:
            self.ended[key] = record
            self.never_success_without_an_exit_code(key, record)
            self.a_verdict_is_that_of_its_attempt(key, record)
            self.no_job_is_given_up_early(key, record)

    def epochs_only_grow(self, key: Key, record: JobRecord, before: JobRecord | None) -> None:
        """A job's epoch never goes back: each placement has the next one, nothing else changes it."""
        placed = before is not None and before.state is JobState.QUEUED and record.state is JobState.PLACED
        known = before.epoch if before else 0
        if record.epoch != known + placed:
            raise Broken("epochs_only_grow", key, f"{record.state.value} with epoch {record.epoch} after {known}")

    def at_most_one_verdict(self, key: Key, record: JobRecord) -> None:
        """Once a job has ended its record never changes again."""
        if key in self.ended:
            raise Broken("at_most_one_verdict", key, f"{record.state.value} after {self.ended[key].state.value}")

    def never_success_without_an_exit_code(self, key: Key, record: JobRecord) -> None:
        """A job that succeeded has an exit code, and every one of its steps truly ended with 0 in that very attempt."""
        if record.state is not JobState.SUCCEEDED:
            return
        codes = self._codes[(*key, record.epoch)]
        if record.exit_code is None or any(codes.get(step) != 0 for step in range(1, record.step_count + 1)):
            raise Broken("never_success_without_an_exit_code", key, f"exit code {record.exit_code}, truly {codes}")

    def a_verdict_is_that_of_its_attempt(self, key: Key, record: JobRecord) -> None:
        """At most one attempt counts: success and failure are those told of the record's own epoch."""
        if record.state not in (JobState.SUCCEEDED, JobState.FAILED):
            return
        told = self._net.evt.last.get((*key, record.epoch, AttemptEnded.token()))
        if told is None or told.fact.outcome not in (record.state.value, "error"):
            raise Broken("a_verdict_is_that_of_its_attempt", key, f"{record.state.value}, told was {told}")

    def no_job_is_given_up_early(self, key: Key, record: JobRecord) -> None:
        """What was our fault is tried again, up to MAX_ATTEMPTS, unless `on-lost` or the last exit code forbid it."""
        if record.state is not JobState.ERROR or record.reason not in OUR_FAULT | {Reason.STALE}:
            return
        lost = record.on_lost == "fail" and record.reason in (Reason.MACHINE_LOST, Reason.RUNNER_LOST, Reason.EVICTED)
        if record.epoch < MAX_ATTEMPTS and not lost and not self._last_exits(key, record.epoch, None, record):
            raise Broken(
                "no_job_is_given_up_early", key, f"{record.reason.value} of attempt {record.epoch}: {record.message}"
            )

    def _last_exits(self, key: Key, epoch: int, until_seq: int | None, record: JobRecord) -> list[int | None]:
        """Exit codes of the last step that ended by itself, as EVT holds them."""
        subject = (*key, epoch, StepEnded.token())
        return [
            stored.fact.exit_code
            for stored in self._net.evt.log[:until_seq]
            if stored.subject == subject and stored.fact.step == record.step_count and stored.fact.state == "exited"
        ]

    def a_recorded_last_exit_code_is_never_run_again(self, key: Key, record: JobRecord) -> None:
        """No new attempt after one whose last step's exit code was stored in EVT before the attempt's end was."""
        ended = self._net.evt.last.get((*key, record.epoch - 1, AttemptEnded.token()))
        for code in self._last_exits(key, record.epoch - 1, ended.seq if ended else None, record):
            why = f"attempt {record.epoch} after the last step of {record.epoch - 1} ended with {code}"
            raise Broken("a_recorded_last_exit_code_is_never_run_again", key, why)

    def a_cancelled_job_is_not_tried_again(self, key: Key, record: JobRecord) -> None:
        """No further attempt of a job whose cancel was stored CANCEL_HEARD_SECONDS ago."""
        asked = self._net.evt.last.get((*key, 0, "job-cancel-requested"))
        if asked is not None and self._kernel.now - asked.at > CANCEL_HEARD_SECONDS:
            raise Broken("a_cancelled_job_is_not_tried_again", key, f"attempt {record.epoch} after its cancel")

    def never_over_a_tenants_limit(self, record: JobRecord) -> None:
        """A leader's placements keep to max_active_jobs exactly.

        The margin: what a deposed leader had sent before its lease lapsed and what arrives after its successor began.
        """
        active = [key for key in self._placed if key[0] == record.tenant and key not in self._late]
        if len(active) > self._limits[record.tenant]:
            raise Broken("never_over_a_tenants_limit", (record.tenant, record.job), f"{len(active)} are placed")

    def never_over_a_machines_room(self, record: JobRecord) -> None:
        """A leader's placements keep to what a machine has to give exactly; the margin is the same."""
        where = record.placement.target
        taken = Amount(0, 0, 0)
        for key, placed in self._placed.items():
            if placed.placement.target == where and key not in self._late:
                taken = taken.plus(Amount.of(placed.needs))
        if not taken.fits(self._room[where]) and "never_over_a_machines_room" not in self.unwatched:
            raise Broken("never_over_a_machines_room", (record.tenant, record.job), f"{taken} on {where}")

    def _on_order(self, stored: Stored, _: Stored | None) -> None:
        order: Order = stored.fact
        key = (order.tenant, order.job)
        if order.desired is Desired.RUN:
            self.an_order_follows_its_placement(key, order)

    def an_order_follows_its_placement(self, key: Key, order: Order) -> None:
        """No order to run an attempt that no record has placed there before."""
        for stored in self._net.jobs.log:
            record = stored.fact
            where = record.placement.target if record.placement is not None else None
            if (stored.subject, record.epoch, where) == (key, order.epoch, order.target):
                return
        raise Broken("an_order_follows_its_placement", key, f"epoch {order.epoch} on {order.target} was never placed")

    def _on_done(self, stored: Stored, _: Stored | None) -> None:
        if self.ended.get(stored.subject) != stored.fact:
            raise Broken("one_verdict_everywhere", stored.subject, f"DONE says {stored.fact.state}, JOBS doesn't")

    # The machines' truth

    def step_begins(self, order: Order, step: int, machine: str) -> None:
        key = (order.tenant, order.job)
        running = self._runs[key]
        if order.on_lost == "rerun-fenced":
            self.fenced_attempts_never_overlap(key, order.epoch, running)
        running[order.epoch] = machine
        self.a_step_is_begun_once(key, order.epoch, step)
        self._begun.add((*key, order.epoch, step))

    def fenced_attempts_never_overlap(self, key: Key, epoch: int, running: dict[int, str]) -> None:
        """Under `rerun-fenced` no step runs while one of another attempt does, in true time."""
        others = {other: where for other, where in running.items() if other != epoch}
        if others:
            raise Broken("fenced_attempts_never_overlap", key, f"attempt {epoch} begins while {others} run")

    def a_step_is_begun_once(self, key: Key, epoch: int, step: int) -> None:
        """Whatever restarts, no attempt begins the same step twice."""
        if (*key, epoch, step) in self._begun:
            raise Broken("a_step_is_begun_once", key, f"step {step} of attempt {epoch} again")

    def step_stops(self, order: Order, step: int, code: int | None) -> None:
        self._runs[order.tenant, order.job].pop(order.epoch, None)
        if code is not None:
            self._codes[order.tenant, order.job, order.epoch][step] = code

    def machine_has_room(self, machine: str, capacity: Capacity, locals_: tuple[Local, ...]) -> None:
        """A machine never runs more than it has to give: margin zero."""
        cpu = sum(local.needs.cpu_millis for local in locals_ if local.phase != "finishing")
        if cpu > capacity.cpu_millis:
            raise Broken("machine_has_room", None, f"{machine} runs {cpu} of {capacity.cpu_millis}")
