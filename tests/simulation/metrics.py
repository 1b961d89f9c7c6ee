"""Cluster-metrics: beats in, pictures out. Mirrors services/cluster_metrics/{wiring,handlers}.py."""

from services.cluster_metrics import policy
from services.cluster_metrics.handlers import STALL_SECONDS
from services.cluster_metrics.model import State, TellMachine
from shared.errors import OutcomeUnknown, Unavailable, WrongSequence
from shared.facts import MachineBeat
from tests.simulation.cores import METRICS, TIMES
from tests.simulation.kernel import START, Kernel, Party, Work, sleep
from tests.simulation.streams import Net


class Metrics(Party):
    def __init__(self, kernel: Kernel, net: Net) -> None:
        super().__init__(kernel, "cluster-metrics")
        self._net = net

    def start(self) -> None:
        super().start()
        self.note(None, "starts")
        self._state = State()
        self._ready = False
        self._ticking = False
        self._ticked_at = self.kernel.now
        self.spawn(self._run())

    def resumed(self) -> None:
        if self.alive:
            policy.resume(self._state, self.kernel.now)

    def _run(self) -> Work:
        metrics = self._net.metrics
        while True:
            try:
                last = yield self._net.ask(lambda: list(metrics.last.values()))
                break
            except Unavailable:
                yield sleep(1.0)
        for stored in last:
            policy.restore(self._state, stored.fact, stored.seq, self.kernel.now)
        self.resumed()
        self._ready = True
        while True:
            yield from self._tick()
            yield sleep(TIMES.metrics_tick)

    def on_beat(self, told: MachineBeat) -> None:
        now = self.kernel.now
        if self._ready and policy.beat(self._state, told, now, int((now - START) * 1e9), METRICS) and not self._ticking:
            self.spawn(self._tick())

    def _tick(self) -> Work:
        now = self.kernel.now
        stalled = now - self._ticked_at > STALL_SECONDS + TIMES.metrics_tick
        self._ticked_at = now
        if stalled or not self._net.reaches(self):
            self.resumed()
        if not self._net.reaches(self) or self._ticking:
            return
        self._ticking = True
        for effect in policy.tick(self._state, now, int((now - START) * 1e9), METRICS):
            if isinstance(effect, TellMachine):
                yield from self._tell(effect)
        self._ticking = False

    def _tell(self, effect: TellMachine) -> Work:
        seen = effect.seen
        subject = (seen.cluster, seen.machine)
        known = self._state.machines.get(subject)
        if known is None:
            return
        if seen.state != "ready":
            self.note(None, "says that %s is %s", seen.machine, seen.state)
        try:
            stored = yield self._net.publish(self._net.metrics, subject, seen, effect.expect_seq)
            known.seq = stored.seq
        except (WrongSequence, OutcomeUnknown):
            try:
                newest = yield self._net.last(self._net.metrics, subject)
            except Unavailable:
                known.told_picture = None
                return
            known.seq = newest.seq if newest else 0
            if newest is not None:
                known.version = max(known.version, newest.fact.version)
            known.told_picture = None
        except Unavailable:
            known.told_picture = None
