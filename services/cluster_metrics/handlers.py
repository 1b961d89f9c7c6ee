"""The bus edge: beats in, pictures out."""

import structlog

from services.cluster_metrics import counting, policy
from services.cluster_metrics.model import Effect, Forget, State, TellCluster, TellMachine
from services.cluster_metrics.settings import Settings
from shared import metrics
from shared.burying import bury
from shared.bus import Bus, Message
from shared.clock import Clock
from shared.crash_points import crash_point
from shared.errors import OutcomeUnknown, Poison, Unavailable, WrongSequence
from shared.facts import ClusterSeen, MachineBeat, MachineSeen
from shared.flow import CLUSTERS, METRICS, Beat, ClusterMetrics, Figures, MachineMetrics
from shared.telemetry import count, level, measuring, system_error
from shared.tenancy import ClusterRecord
from shared.wire import decode, encode

log = structlog.get_logger()

STALL_SECONDS = 2.0
"""A tick later than this means that we, not the machines, were silent."""


def _read(message: Message) -> MachineBeat:
    """Raises Poison, also when subject and payload name different machines."""
    where, told = Beat.parse(message.subject), decode(MachineBeat, message.data)
    if (where.cluster, where.machine) != (told.cluster, told.machine):
        raise Poison(why=f"a beat of {told.cluster}/{told.machine} came as {message.subject}")
    return told


class Watch:
    """Keeps the picture of all clusters, and tells it."""

    def __init__(self, settings: Settings, bus: Bus, clock: Clock) -> None:
        self._settings, self._bus, self._clock = settings, bus, clock
        self._state = State()
        self._ticked_at = clock.monotonic()
        self._tally = counting.Tally()
        self._counted_at = self._state.looked_at

    async def restore(self) -> None:
        """Read what was told before, so that versions go on. Raises Unavailable."""
        for message in await self._bus.last_each(METRICS, MachineMetrics.filter(), ClusterMetrics.filter()):
            try:
                self._restore_one(message)
            except Poison as poison:
                await self._bury(message, str(poison))
        self.resume()

    def _restore_one(self, message: Message) -> None:
        """Raises Poison."""
        if message.subject.endswith(".summary"):
            policy.restore_cluster(self._state, decode(ClusterSeen, message.data), message.seq)
        else:
            policy.restore(self._state, decode(MachineSeen, message.data), message.seq, self._clock.monotonic())

    def resume(self) -> None:
        """The connection is (again) there."""
        policy.resume(self._state, self._clock.monotonic())

    async def on_beat(self, message: Message) -> bool:
        """Whether a tick should follow at once."""
        try:
            told = _read(message)
            return policy.beat(self._state, told, self._clock.monotonic(), self._unix_ns(), self._settings)
        except Poison as poison:
            await self._bury(message, str(poison))
            return False

    async def _bury(self, message: Message, why: str) -> None:
        system_error("poison")
        log.warning("beat_buried", subject=message.subject, why=why)
        try:
            await bury(self._bus, "cluster-metrics", message, why)
        except Unavailable as error:
            log.warning("not_buried", why=str(error))

    def _unix_ns(self) -> int:
        return int(self._clock.now() * 1_000_000_000)

    async def follow_clusters(self) -> None:
        """Kinds of pools, as they are configured."""
        async for entry in self._bus.bucket(CLUSTERS).watch():
            if not entry.deleted:
                try:
                    policy.describe(self._state, decode(ClusterRecord, entry.value))
                except Poison as poison:
                    log.warning("cluster_record_ignored", cluster=entry.key, why=str(poison))

    async def tick(self) -> None:
        """Tell what is due. A bus that is out only delays it."""
        stalled = self._clock.monotonic() - self._ticked_at > STALL_SECONDS
        self._ticked_at = self._clock.monotonic()
        if stalled or not self._bus.connected:
            self.resume()
        if not self._bus.connected:
            return
        for effect in policy.tick(self._state, self._clock.monotonic(), self._unix_ns(), self._settings):
            await self._perform(effect)
        if self._state.looked_at != self._counted_at:
            self._counted_at = self._state.looked_at
            await self._count()

    async def _count(self) -> None:
        there = counting.capacity(self._state)
        for (cluster, pool), added in counting.look(self._tally, there, self._clock.monotonic()).items():
            where = {metrics.CLUSTER: cluster, metrics.POOL: pool}
            count(metrics.CPU_TIME, added.cores, where)
            count(metrics.MEMORY_TIME, added.memory_bytes, where)
        if measuring():
            level(metrics.CPU, {where: amount.cores for where, amount in there.items()})
            level(metrics.MEMORY, {where: amount.memory_bytes for where, amount in there.items()})
            level(metrics.WORKERS, counting.workers(self._state))
            level(metrics.PODS, counting.pods(self._state))
            level(metrics.PODS_PENDING, counting.pending_pods(self._state))
        for fact in counting.due(self._tally, self._unix_ns(), self._settings.count_seconds):
            # One a stretch and cluster, however many instances count.
            stretch = counting.stretch(fact.until_unix_ns, self._settings.count_seconds)
            subject, identity = Figures("cluster-metrics", fact.token()), f"capacity-{fact.cluster}-{stretch}"
            try:
                await self._bus.publish(subject, encode(fact), message_id=identity)
            except Unavailable as error:
                log.warning("capacity_not_counted", cluster=fact.cluster, why=str(error))

    async def _perform(self, effect: Effect) -> None:
        try:
            match effect:
                case TellMachine(seen, expect_seq):
                    await self._tell_machine(seen, expect_seq)
                case TellCluster(seen, expect_seq):
                    await self._tell_cluster(seen, expect_seq)
                case Forget(cluster, machine):
                    await self._bus.purge(METRICS, str(MachineMetrics(cluster, machine)))
                    log.info("machine_forgotten", cluster=cluster, machine=machine)
        except Unavailable as error:
            log.warning("picture_not_told", why=str(error))
            self._tell_again(effect)

    async def _tell_machine(self, seen: MachineSeen, expect_seq: int) -> None:
        subject = MachineMetrics(seen.cluster, seen.machine)
        known = self._state.machines.get((seen.cluster, seen.machine))
        if known is None:
            return
        try:
            stored = await self._bus.publish(subject, encode(seen), expect_seq=expect_seq)
            crash_point("cluster-metrics.after-publish")
            known.seq = stored.seq
            log.debug("machine_told", cluster=seen.cluster, machine=seen.machine, state=seen.state)
        except (WrongSequence, OutcomeUnknown):
            # Another instance told it, or our own word arrived without our knowing: go on from what stands.
            newest = await self._bus.last(METRICS, subject)
            known.seq = newest.seq if newest else 0
            if newest is not None:
                known.version = max(known.version, decode(MachineSeen, newest.data).version)
            known.told_picture = None

    async def _tell_cluster(self, seen: ClusterSeen, expect_seq: int) -> None:
        subject = ClusterMetrics(seen.cluster)
        known = self._state.clusters[seen.cluster]
        try:
            known.seq = (await self._bus.publish(subject, encode(seen), expect_seq=expect_seq)).seq
        except (WrongSequence, OutcomeUnknown):
            newest = await self._bus.last(METRICS, subject)
            known.seq = newest.seq if newest else 0
            if newest is not None:
                known.version = max(known.version, decode(ClusterSeen, newest.data).version)
            known.changed = True

    def _tell_again(self, effect: Effect) -> None:
        match effect:
            case TellMachine(seen, _):
                if known := self._state.machines.get((seen.cluster, seen.machine)):
                    known.told_picture = None
            case TellCluster(seen, _):
                self._state.clusters[seen.cluster].changed = True
            case Forget():
                log.info("machine_stays_in_metrics", machine=effect.machine)
