"""What is run while processes die: small jobs of every kind, each with all that must be true of it in the end. Pure."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

TREE_FILE, TREE_CONTENT = "data.txt", b"".join(b"tree %d\n" % n for n in range(500))
NO_NEWLINE = b"\x1b[1mend\x00\xff\r without newline"
Cancel = Literal["no", "at once", "when it runs"]


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job and the truth about it. `logs`: what each step that ends writes; `runs`: how often a step's command is
    started in one attempt.
    """

    kind: str
    number: int
    door: Literal["http", "bus"]
    spec: Mapping[str, Any]
    state: str
    logs: Mapping[int, bytes]
    runs: Mapping[int, int]
    exit_code: int | None = 0
    step: int | None = None
    codes: Mapping[int, int] = field(default_factory=dict)
    """Exit codes of steps that exit with another than 0."""
    cancel: Cancel = "no"
    artifact: Mapping[str, bytes] = field(default_factory=dict)
    wants_tree: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}"

    @property
    def on_lost(self) -> str:
        return str(self.spec.get("on-lost", "rerun"))

    @property
    def cut_short(self) -> bool:
        """It is ended from outside: its logs are beginnings of what the steps would write."""
        return self.state in ("cancelled", "timed_out")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a kind is made from."""

    chance: random.Random
    mark: Callable[[int], str]
    """A line of shell that notes that step N was started."""

    def lines(self) -> tuple[str, bytes]:
        """A script that takes a moment, and what it writes."""
        first, second = self.chance.randint(1, 4000), self.chance.randint(1, 4000)
        pause = self.chance.choice((0, 0.2, 0.7))
        script = f"seq 1 {first}; sleep {pause}; seq 1 {second}; printf '\\033[1mend\\000\\377\\r without newline'"
        return script, b"".join(b"%d\n" % n for n in (*range(1, first + 1), *range(1, second + 1))) + NO_NEWLINE

    def step(self, number: int, script: str, **more: Any) -> dict[str, Any]:
        return {"name": f"step {number}", "run": f"{self.mark(number)}\n{script}", **more}


def _plain(scene: Scene) -> dict[str, Any]:
    script, log = scene.lines()
    return {"spec": {"steps": [scene.step(1, script)]}, "state": "succeeded", "logs": {1: log}, "runs": {1: 1}}


def _chain(scene: Scene) -> dict[str, Any]:
    parts = [scene.lines() for _ in range(scene.chance.randint(2, 4))]
    steps = [scene.step(n, script) for n, (script, _) in enumerate(parts, start=1)]
    last = len(steps) + 1
    steps[0]["run"] += '\necho "CARRIED=over" >>"$OVERSPILL_ENV"'
    steps.append(scene.step(last, 'echo "$CARRIED"'))
    logs = {n: log for n, (_, log) in enumerate(parts, start=1)} | {last: b"over\n"}
    return {"spec": {"steps": steps}, "state": "succeeded", "logs": logs, "runs": dict.fromkeys(logs, 1)}


def _background(scene: Scene) -> dict[str, Any]:
    script, log = scene.lines()
    server = scene.step(1, "echo serving; touch up; exec sleep 600", background=True, ready="test -e up")
    spec = {"steps": [server, scene.step(2, f"rm up; {script}")]}
    return {"spec": spec, "state": "succeeded", "logs": {1: b"serving\n", 2: log}, "runs": {1: 1, 2: 1}}


def _failing(scene: Scene) -> dict[str, Any]:
    script, log = scene.lines()
    steps = [
        scene.step(1, script),
        scene.step(2, "echo bad; exit 7"),
        scene.step(3, "echo never"),
        scene.step(4, "echo cleaned", **{"if": "always()"}),
    ]
    logs = {1: log, 2: b"bad\n", 4: b"cleaned\n"}
    about = {"state": "failed", "logs": logs, "runs": dict.fromkeys(logs, 1), "step": 2}
    return {"spec": {"steps": steps}, "exit_code": 0, "codes": {2: 7}, **about}


def _retried(scene: Scene) -> dict[str, Any]:
    script = 'n=$(cat n 2>/dev/null || echo 0); echo "try $n"; echo $((n + 1)) >n; [ "$n" -ge 1 ]'
    spec = {"steps": [scene.step(1, script, retry=2)]}
    return {"spec": spec, "state": "succeeded", "logs": {1: b"try 0\ntry 1\n"}, "runs": {1: 2}}


def _artifact(scene: Scene) -> dict[str, Any]:
    script, log = scene.lines()
    size = scene.chance.randint(1, 20_000)
    spec = {
        "steps": [scene.step(1, f"mkdir -p out; seq 1 {size} >out/numbers; {script}")],
        "artifacts": [{"name": "numbers", "paths": ["out/numbers"]}],
    }
    made = {"out/numbers": b"".join(b"%d\n" % n for n in range(1, size + 1))}
    return {"spec": spec, "state": "succeeded", "logs": {1: log}, "runs": {1: 1}, "artifact": made}


def _source(scene: Scene) -> dict[str, Any]:
    spec = {"steps": [scene.step(1, f"cat {TREE_FILE}"), scene.step(2, "echo second")]}
    logs = {1: TREE_CONTENT, 2: b"second\n"}
    return {"spec": spec, "state": "succeeded", "logs": logs, "runs": {1: 1, 2: 1}, "wants_tree": True}


def _lost_fails(scene: Scene) -> dict[str, Any]:
    about = _plain(scene)
    return about | {"spec": about["spec"] | {"on-lost": "fail"}}


def _cancelled(scene: Scene) -> dict[str, Any]:
    spec = {"steps": [scene.step(1, "echo begun; exec sleep 600")]}
    about = {"logs": {1: b"begun\n"}, "runs": {1: 1}, "exit_code": None, "step": None, "cancel": "when it runs"}
    return {"spec": spec, "state": "cancelled", **about}


def _cancelled_at_once(scene: Scene) -> dict[str, Any]:
    return _cancelled(scene) | {"cancel": "at once"}


def _timed_out(scene: Scene) -> dict[str, Any]:
    spec = {"timeout": "3s", "steps": [scene.step(1, "echo begun; exec sleep 600")]}
    return {"spec": spec, "state": "timed_out", "logs": {1: b"begun\n"}, "runs": {1: 1}, "exit_code": None}


KINDS: Mapping[str, Callable[[Scene], dict[str, Any]]] = {
    "plain": _plain,
    "chain": _chain,
    "background": _background,
    "failing": _failing,
    "retried": _retried,
    "artifact": _artifact,
    "source": _source,
    "lost-fails": _lost_fails,
    "cancelled": _cancelled,
    "cancelled-at-once": _cancelled_at_once,
    "timed-out": _timed_out,
}
SIZE = {"cpu": "500m", "memory": "64Mi", "disk": "64Mi"}


def make_jobs(chance: random.Random, count: int, runs: Path) -> tuple[JobPlan, ...]:
    """`count` jobs: every kind as long as there is room, then any, in any order. Each start of a step leaves a line in
    a file below `runs`.
    """
    kinds = [*list(KINDS)[:count], *(chance.choice(list(KINDS)) for _ in range(count - len(KINDS)))]
    chance.shuffle(kinds)
    return tuple(_job(chance, kind, number, runs) for number, kind in enumerate(kinds))


def _job(chance: random.Random, kind: str, number: int, runs: Path) -> JobPlan:
    def mark(step: int) -> str:
        return f'echo "$OVERSPILL_EPOCH {step}" >>{runs}/{kind}-{number}'

    about = KINDS[kind](Scene(chance, mark))
    about["spec"] = {"name": f"{kind}-{number}", "machineType": SIZE, **about["spec"]}
    return JobPlan(kind=kind, number=number, door=chance.choice(("http", "http", "bus")), **about)
