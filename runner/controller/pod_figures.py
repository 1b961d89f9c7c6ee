"""How the platform's own pods fare, by pool: phases, reasons, times. Pure; instants are monotonic seconds.

Starts are timed by this process' clock from the watch: what Kubernetes writes is whole seconds. Pulls are timed by the
kubelet itself, which says so, exact to the millisecond, in one event a pull.
"""

import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from runner.controller.model import LABEL, STEP_CTL, PodSeen
from runner.controller.pods import trouble
from shared.facts.machine import Percentiles, PodFigures
from shared.images import canonical
from shared.kube import Resource

POOL = f"{LABEL}/pool"
WINDOW_SECONDS = 600.0
SAMPLES = 512
"""Of one pool and kind."""
POOLS_SHOWN = 64
_PULLED = re.compile(r'Successfully pulled image "([^"]+)" in (\S+)(?:.*Image size: (\d+) bytes)?')
_GO_DURATION = re.compile(r"([0-9.]+)(h|ms|m|s|µs|us|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Fare:
    """Of one pod, what is counted."""

    pool: str
    phase: str
    pending: str | None


@dataclass(frozen=True, slots=True)
class Pull:
    image: str
    """By its canonical name."""
    seconds: float
    size_bytes: int
    """0 where the kubelet doesn't say, as before Kubernetes 1.30."""


@dataclass(slots=True)
class Times:
    """Samples of the last minutes."""

    _samples: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def add(self, seconds: float, now: float) -> None:
        self._samples.append((now, seconds))

    def percentiles(self, now: float) -> Percentiles | None:
        while self._samples and now - self._samples[0][0] > WINDOW_SECONDS:
            self._samples.popleft()
        if not self._samples:
            return None
        values = sorted(seconds for _, seconds in self._samples)
        ranks = [values[math.ceil(share * len(values)) - 1] for share in (0.5, 0.9, 0.99)]
        p50, p90, p99 = (round(value, 3) for value in ranks)
        return Percentiles(count=len(values), p50=p50, p90=p90, p99=p99)


@dataclass(slots=True)
class OwnPods:
    """All of them, as they were told."""

    _pods: dict[str, Fare] = field(default_factory=dict)
    """By uid."""
    _awaited: dict[str, float] = field(default_factory=dict)
    """Since when a pod that we saw being made is waited for."""
    _starts: dict[str, Times] = field(default_factory=dict)
    _pulls: dict[str, Times] = field(default_factory=dict)

    def put(self, pod: PodSeen, pool: str, now: float, *, is_new: bool) -> None:
        """`is_new`: it was made just now; others' starts can't be timed."""
        fare = Fare(pool, pod.phase, pending_reason(pod) if pod.phase == "Pending" else None)
        self._pods[pod.uid] = fare
        if is_new:
            self._awaited.setdefault(pod.uid, now)
        if any(container.state != "waiting" for container in pod.containers) or pod.over:
            began = self._awaited.pop(pod.uid, None)
            if began is not None:
                self._starts.setdefault(pool, Times()).add(now - began, now)

    def drop(self, uid: str) -> None:
        self._pods.pop(uid, None)
        self._awaited.pop(uid, None)

    def keep(self, uids: Iterable[str]) -> None:
        """These are all."""
        for uid in self._pods.keys() - set(uids):
            self.drop(uid)

    def pulled(self, uid: str, message: str, now: float) -> Pull | None:
        """An event's words about a pod, of whomever; the pull if it was for ours."""
        fare, pull = self._pods.get(uid), pull_of(message)
        if fare is None or pull is None:
            return None
        self._pulls.setdefault(fare.pool, Times()).add(pull.seconds, now)
        return pull

    def told(self, now: float) -> list[PodFigures]:
        phases: dict[str, Counter[str]] = {}
        pending: dict[str, Counter[str]] = {}
        for fare in self._pods.values():
            phases.setdefault(fare.pool, Counter())[fare.phase] += 1
            if fare.pending is not None:
                pending.setdefault(fare.pool, Counter())[fare.pending] += 1
        return [
            PodFigures(
                pool=pool,
                phases=dict(phases.get(pool, {})),
                pending=dict(pending.get(pool, {})),
                start=self._starts[pool].percentiles(now) if pool in self._starts else None,
                pull=self._pulls[pool].percentiles(now) if pool in self._pulls else None,
            )
            for pool in sorted({*phases, *self._starts, *self._pulls})[:POOLS_SHOWN]
        ]


def pending_reason(pod: PodSeen) -> str:
    """A word of ours, of a bounded set."""
    found = trouble(pod)
    if found is not None:
        return found[0]
    return "unscheduled" if pod.node is None else "starting"


def pull_of(message: str) -> Pull | None:
    """None for an image that was there already."""
    match = _PULLED.search(message)
    parts = _GO_DURATION.findall(match[2]) if match else []
    if match is None or not parts:
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return Pull(canonical(match[1]), seconds, int(match[3] or 0))


def step_images(resource: Resource) -> Iterator[str]:
    """By their canonical names."""
    for container in resource["spec"]["containers"]:
        if container["name"] != STEP_CTL:
            yield canonical(container["image"])
