"""How the platform's pods fare, from what the API server says of them."""

from dataclasses import replace

import pytest

from runner.agent.model import Key
from runner.controller.model import ContainerSeen, PodSeen
from runner.controller.nodes import Nodes, Requests, read_node
from runner.controller.pod_figures import OwnPods, Pull, pull_of
from shared.needs import Capacity
from tests.unit.controller.test_nodes import node

POD = PodSeen(Key("acme", "j1", 1), "n", "u1", "Pending", node=None)
WAITING = ContainerSeen("step-1", "waiting", reason="ImagePullBackOff")
RUNNING = ContainerSeen("step-1", "running")


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ('Successfully pulled image "busybox:1" in 3.25s (4s including waiting). Image size: 1 bytes.', 3.25),
        ('Successfully pulled image "a/b@sha256:0" in 1m2.5s (1m2.5s including waiting)', 62.5),
        ('Successfully pulled image "busybox" in 812ms (812ms including waiting)', 0.812),
        ('Container image "busybox:1" already present on machine', None),
    ],
)
def test_the_kubelet_says_how_long_a_pull_took(message: str, seconds: float | None) -> None:
    pull = pull_of(message)
    assert (None if pull is None else pull.seconds) == (None if seconds is None else pytest.approx(seconds))


def test_the_kubelet_says_what_it_pulled_and_how_large_it_is() -> None:
    message = 'Successfully pulled image "busybox:1" in 3s (4s including waiting). Image size: 4211 bytes.'
    assert pull_of(message) == Pull("docker.io/library/busybox:1", 3.0, 4211)


def test_pods_are_counted_by_phase_and_why_they_wait() -> None:
    own = OwnPods()
    own.put(POD, "fixed", 0.0, is_new=True)
    own.put(replace(POD, uid="u2", node="n1", containers=(WAITING,)), "fixed", 0.0, is_new=True)
    own.put(replace(POD, uid="u3", phase="Running"), "eci", 0.0, is_new=False)
    eci, fixed = own.told(1.0)
    assert (fixed.phases, fixed.pending) == ({"Pending": 2}, {"unscheduled": 1, "image_pull": 1})
    assert (eci.phases, eci.pending) == ({"Running": 1}, {})
    own.keep(["u3"])
    assert [figures.pool for figures in own.told(1.0)] == ["eci"]


def test_only_a_start_that_was_seen_from_its_begin_is_timed_and_once() -> None:
    own = OwnPods()
    own.put(POD, "p", 10.0, is_new=True)
    own.put(replace(POD, uid="u2"), "p", 10.0, is_new=False)
    for at in (12.5, 20.0):
        for uid in ("u1", "u2"):
            own.put(replace(POD, uid=uid, phase="Running", containers=(RUNNING,)), "p", at, is_new=False)
    start = own.told(20.0)[0].start
    assert start is not None
    assert (start.count, start.p50, start.p99) == (1, 2.5, 2.5)
    assert own.told(1000.0)[0].start is None, "what is long ago counts no more"


def test_pulls_of_others_pods_are_not_ours() -> None:
    own = OwnPods()
    own.put(POD, "p", 0.0, is_new=True)
    for uid in ("u1", "other"):
        own.pulled(uid, 'Successfully pulled image "busybox:1" in 2s (2s including waiting)', 1.0)
    pull = own.told(1.0)[0].pull
    assert pull is not None
    assert (pull.count, pull.p50) == (1, 2.0)


def test_of_a_nodes_images_those_are_told_that_steps_use() -> None:
    nodes, told = Nodes(), node()
    told["status"]["images"] = [
        {"names": ["docker.io/library/python@sha256:aa", "docker.io/library/python:3.13"]},
        {"names": ["docker.io/library/nginx:1"]},
    ]
    nodes.put_node(read_node(told))
    assert nodes.changes()[0][1].seen.images == []
    nodes.use(["docker.io/library/python:3.13"])
    assert nodes.changes()[0][1].seen.images == ["docker.io/library/python:3.13"]
    nodes.use(["docker.io/library/python:3.13"])
    assert nodes.changes() == []


def test_what_our_pods_request_is_told_and_not_taken_from_what_the_hub_may_give() -> None:
    nodes = Nodes()
    nodes.put_node(read_node(node()))
    one = Capacity(cpu_millis=1000, memory_bytes=0, disk_bytes=0)
    nodes.put_pod("theirs", Requests("n1", one))
    nodes.put_own_pod("ours", Requests("n1", one))
    picture = nodes.changes()[0][1]
    assert picture.seen.requested is not None
    assert (picture.free.cpu_millis, picture.seen.requested.cpu_millis) == (3000, 2000)
