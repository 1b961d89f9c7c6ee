"""An agent. Mirrors runner/agent/{wiring,agent,claiming}.py around the real `policy.reconcile` and `OrderBook`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner.agent.agent import ENDINGS, STOPPED, Ending
from runner.agent.model import Claim, Decline, Effect, End, Hold, Key, Local, Refuse, Release, View
from runner.agent.orders import OrderBook
from services.gateway.grants import check_claim, check_placed
from shared.errors import OverspillError, Rejected, Unavailable, WrongSequence
from shared.facts import AttemptAccepted, AttemptEnded, Desired, MachineBeat, Order
from shared.facts.machine import Running
from shared.flow import Edge
from shared.lifecycle import Reason
from shared.requests import GrantAsked
from shared.tenancy import ClusterRecord
from tests.simulation.attempt import NS, Directory
from tests.simulation.cores import TIMES, Cores
from tests.simulation.custody import Custody
from tests.simulation.kernel import START, Party, Resume, Work, both, sleep
from tests.simulation.streams import Net

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

CLUSTER = ClusterRecord(cluster="c", bus_urls=["nats://bus"])
RETRY = 1.0


class GivenUp(Exception):
    """A claim that isn't wanted any more."""


class ClaimedBefore(OverspillError):
    """The attempt was accepted before, and nothing of it is here."""


class Claiming:
    __slots__ = ("ending", "order", "resume", "tasks")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.ending: Ending | None = None
        self.resume: Resume | None = None
        self.tasks: list[Any] = []


class Agent(Party):
    def __init__(self, machine: "Machine", net: Net, cores: Cores) -> None:
        super().__init__(machine.kernel, f"agent of {machine.name}", machine.link)
        self.machine, self._net, self._cores = machine, net, cores

    def start(self) -> None:
        super().start()
        self.note(None, "starts")
        self.book = OrderBook()
        self.draining = False
        self._claiming: dict[Key, Claiming] = {}
        self._custodies: dict[Key, Custody] = {}
        self._settled: dict[Key, None] = {}
        self._intents: set[Key] = set()
        self._inherited: frozenset[Key] | None = None
        self._pending = False
        self._claims = 0
        self._contact: float | None = None
        self._asking, self._ask_id, self._ask_more = False, 0, False
        self._beaten: list[Running] | None = None
        self._beat: MachineBeat | None = None
        for key, directory in list(self.machine.disk.items()):
            if directory.laid_out:
                self.note(directory.key, "adopts attempt %s", key.epoch)
                self._take(directory)
                if directory.fenced and directory.boot != self.machine.boot:
                    directory.end("fenced")  # since when it had no contact, nobody knows
            else:
                self._intents.add(key)
        self.changed()
        self.ask()
        self._beat_on()

    def watcher(self, look: Callable[[], None]) -> Callable[[], None]:
        life = self.life
        return lambda: look() if life == self.life else None

    # What is here

    def locals(self) -> tuple[Local, ...]:
        claiming = (Local(key, claiming.order.needs, "claiming") for key, claiming in self._claiming.items())
        return (*claiming, *(custody.local for custody in self._custodies.values()))

    @property
    def idle(self) -> bool:
        return not self._claiming and not self._custodies

    # Orders

    def on_desired(self, order: Order) -> None:
        if self.alive:
            self.book.live(order, self.kernel.now)
            self.changed()

    def ask(self) -> None:
        """Now: a connection came back, or the time has come."""
        if not self.alive:
            return
        if self._asking:
            self._ask_more = True
            return
        self._asking = True
        self.spawn(self._ask())

    def _ask(self) -> Work:
        asked_at = self.kernel.now
        try:
            orders = yield self._net.ask(self.machine.standing_orders)
        except Unavailable:
            pause = 1.5
        else:
            self._contact = asked_at
            self.book.told(orders, asked_at)
            fences = [
                order.fence_seconds
                for key, order in self.book.orders.items()
                if order.on_lost == "rerun-fenced" and key in self._custodies
            ]
            pause = min(TIMES.orders, min(fences) / 4) if fences else TIMES.orders
            self.changed()
        self._asking = False
        if self._ask_more:
            self._ask_more = False
            pause = 0.0
        self._ask_id += 1
        self.after(pause, self._ask_due, self._ask_id)

    def _ask_due(self, number: int) -> None:
        if number == self._ask_id:
            self.ask()

    # Beats

    def _beat_on(self) -> None:
        self.beat()
        self.after(TIMES.beat, self._beat_on)

    def beat(self, *, leaving: bool = False) -> None:
        keys = sorted({*self._claiming, *self._custodies})
        running = [Running(tenant=key.tenant, job=key.job, epoch=key.epoch) for key in keys]
        if self._beat is None or running != self._beaten or leaving or self.draining:
            self._beaten = running
            self._beat = MachineBeat(
                cluster="c",
                machine=self.machine.name,
                pool="p",
                session=str(self.life),
                version="0",
                protocol=1,
                isolation="process",
                arch="amd64",
                allocatable=self.machine.capacity,
                attempts=running,
                draining=self.draining,
                leaving=leaving,
                beat_seconds=TIMES.beat,
            )
        if self._net.reaches(self):
            self.machine.send_beat(self._beat)

    # Effects

    def changed(self) -> None:
        if not self._pending:
            self._pending = True
            self.after(0.0, self._reconcile)

    def _reconcile(self) -> None:
        self._pending = False
        if self._inherited is None and self.book.complete:
            self._inherited = frozenset(self.book.orders)
        view = View(
            self.book.orders,
            self.book.complete,
            self.locals(),
            frozenset(self._settled),
            self.machine.capacity,
            self.draining,
        )
        for effect in self._cores.reconcile(view):
            self._perform(effect)
        if self.book.complete and self._intents:
            for key in sorted(self._intents - self.book.orders.keys() - self._claiming.keys()):
                self.machine.disk.pop(key, None)
            self._intents.clear()
        if self._contact is not None:
            self.machine.contact, self._contact = self._contact, None
        self.machine.check_room(self.locals())
        if [(k.tenant, k.job, k.epoch) for k in sorted({*self._claiming, *self._custodies})] != [
            (one.tenant, one.job, one.epoch) for one in self._beaten or ()
        ]:
            self.beat()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Claim(order):
                claiming = self._claiming[Key.of(order)] = Claiming(order)
                self.note((order.tenant, order.job), "claims attempt %s", order.epoch)
                self.spawn(self._claim(claiming))
            case Refuse(order, why):
                self._settled[Key.of(order)] = None
                self.spawn(self._end_here(Key.of(order), ("error", Reason.REFUSED, why)))
            case Decline(order):
                self._settled[Key.of(order)] = None
                word = "timeout" if order.desired is Desired.TIMEOUT else "cancel"
                self.spawn(self._end_here(Key.of(order), ENDINGS[word]))
            case End(key, word) if key in self._claiming:
                self._give_up(self._claiming[key], ENDINGS[word])
            case End(key, word):
                self._custodies[key].end(word)
            case Hold() | Release():
                raise AssertionError("nobody orders holds here")

    def _give_up(self, claiming: Claiming, ending: Ending) -> None:
        if claiming.ending is None:
            claiming.ending = ending
            if claiming.resume is not None:
                for task in claiming.tasks:
                    task.cancel()
                self.after(0.0, claiming.resume, None, GivenUp())
                claiming.resume = None

    def _end_here(self, key: Key, ending: Ending) -> Work:
        self._settled[key] = None
        yield from self.tell_ended(key, *ending)
        self.machine.disk.pop(key, None)

    def _claim(self, claiming: Claiming) -> Work:
        order, key, began = claiming.order, Key.of(claiming.order), self.kernel.now
        disk = self.machine.disk
        directory = disk.setdefault(key, Directory(order, self.machine.steps_of(order)))
        unsure = directory.claim is not None
        if directory.claim is None:
            self._claims += 1
            directory.claim = f"{self.name}-{self.life}-{self._claims}"
        try:
            accepting = self._accept(order, directory.claim, unsure=unsure, inherited=key in (self._inherited or ()))
            yield (self._until_asked, claiming, accepting, self._grant(order, None))
            claiming.resume = None
            yield sleep(0.002 + 0.02 * self.kernel.chance())
            if claiming.ending is not None:
                raise GivenUp  # noqa: TRY301 - as if it had come while we were still asking
            directory.laid_out, directory.begun_at, directory.boot = True, began, self.machine.boot
            directory.contact = lambda: self.machine.contact
            self._take(directory)
        except GivenUp:
            yield from self._end_here(key, claiming.ending or STOPPED)
        except ClaimedBefore as error:
            yield from self._end_here(key, ("error", Reason.RUNNER_LOST, str(error)))
        except Rejected as error:
            yield from self._end_here(key, ("error", Reason.REFUSED, str(error)))
        del self._claiming[key]
        self.changed()

    def _until_asked(self, party: Party, resume: Resume, claiming: Claiming, one: Work, other: Work) -> None:
        claiming.resume = resume
        wait = both(one, other, claiming.tasks)
        wait[0](party, self._asked(claiming, resume), *wait[1:])

    def _asked(self, claiming: Claiming, resume: Resume) -> Resume:
        def asked(value: Any, error: BaseException | None) -> None:
            if claiming.resume is not None:
                claiming.resume = None
                resume(value, error)

        return asked

    def _accept(self, order: Order, claim: str, *, unsure: bool, inherited: bool) -> Work:
        fact = AttemptAccepted(
            tenant=order.tenant,
            job=order.job,
            epoch=order.epoch,
            at_unix_ns=int((self.kernel.now - START) * NS),
            cluster="c",
            machine=self.machine.name,
            claim=claim,
        )
        subject = (order.tenant, order.job, order.epoch, fact.token())
        while True:
            try:
                yield self._net.publish(self._net.evt, subject, fact, 0)
            except WrongSequence:
                if not unsure:
                    raise ClaimedBefore from None
                yield from self._confirm(order, claim)
                return
            except Unavailable:
                unsure = True
                yield sleep(RETRY)
            else:
                if inherited:
                    yield from self._confirm(order, claim)
                return

    def _confirm(self, order: Order, claim: str) -> Work:
        try:
            yield from self._grant(order, claim)
        except Rejected as error:
            raise ClaimedBefore from error

    def _grant(self, order: Order, claim: str | None) -> Work:
        asked = GrantAsked(tenant=order.tenant, job=order.job, epoch=order.epoch, claim=claim)
        at = Edge("c", self.machine.name, "grant")
        jobs, evt = self._net.jobs, self._net.evt

        def answer() -> None:
            stored = jobs.last.get((order.tenant, order.job))
            check_placed(stored.fact if stored else None, asked, at, CLUSTER)
            accepted = evt.last.get((order.tenant, order.job, order.epoch, AttemptAccepted.token()))
            ended = (order.tenant, order.job, order.epoch, AttemptEnded.token()) in evt.last
            check_claim(accepted.fact if accepted else None, asked, ended=ended)

        while True:
            try:
                yield self._net.ask(answer)
            except Unavailable:
                yield sleep(RETRY)
            else:
                return

    def tell_ended(self, key: Key, outcome: str, reason: Reason, message: str) -> Work:
        fact = AttemptEnded(
            tenant=key.tenant,
            job=key.job,
            epoch=key.epoch,
            at_unix_ns=int((self.kernel.now - START) * NS),
            outcome=outcome,
            reason=reason,
            message=message,
        )
        self.note((key.tenant, key.job), "tells the end of attempt %s: %s, %s", key.epoch, reason.value, message)
        while True:
            try:
                yield self._net.publish(self._net.evt, (key.tenant, key.job, key.epoch, fact.token()), fact, 0)
            except WrongSequence:
                return
            except Unavailable:
                yield sleep(RETRY)
            else:
                return

    def _take(self, directory: Directory) -> None:
        custody = self._custodies[Key.of(directory.order)] = Custody(self, directory)
        custody.run()

    def kept(self, custody: Custody) -> None:
        if self._custodies.pop(custody.key, None) is None:
            return
        self._settled[custody.key] = None
        self.machine.disk.pop(custody.key, None)
        self.note(custody.directory.key, "is done with attempt %s", custody.key.epoch)
        self.changed()

    # The end

    def drain(self, seconds: float, back: Callable[[], None]) -> None:
        """Mirrors Station.drain; then `back`."""
        self.draining = True
        self.note(None, "drains")
        self.changed()
        self.beat()
        self.spawn(self._drain(seconds, back))

    def _drain(self, seconds: float, back: Callable[[], None]) -> Work:
        until = self.kernel.now + seconds
        while not self.idle and self.kernel.now < until:
            yield sleep(0.5)
        for claiming in tuple(self._claiming.values()):
            self._give_up(claiming, STOPPED)
        for custody in self._custodies.values():
            custody.stop()
        until = self.kernel.now + TIMES.kill_grace + 5.0
        while not self.idle and self.kernel.now < until:
            yield sleep(0.5)
        self.beat(leaving=True)
        self.note(None, "has taken its leave")
        self.kill()
        back()
