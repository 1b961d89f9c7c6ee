"""What a pod's status means. Pure.

Kubernetes says the same thing in several places and orders; here each of its words is looked for once. Sources: the
kubelet's reasons (pkg/kubelet/images, pkg/kubelet/container), and what a real node answered in the tests.
"""

from typing import Any, Literal

from runner.agent.model import Key
from runner.controller.model import EPOCH, JOB, STEP_CTL, STEPS, TENANT, ContainerSeen, PodSeen, Trouble
from runner.controller.quantities import whole
from shared.errors import Poison
from shared.kube import Resource, labels_of

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "CreatePodSandboxError"})
_COMMAND = frozenset({"StartError", "RunContainerError", "ContainerCannotRun"})
_SIGNALLED = 128
"""Exit codes above it say by which signal."""
_CANNOT = 70
"""An entrypoint's own word."""
_KILLED = 137
"""128 + SIGKILL"""
_NODE = frozenset(
    {
        "NodeLost",
        "NodeShutdown",
        "Terminated",
        "NodeAffinity",
        "Shutdown",
        "TerminationByKubelet",
        "DeletionByPodGC",
        "DeletionByTaintManager",
    }
)
"""The last two: the node was deleted; it has long not been ready."""


def read(resource: Resource) -> PodSeen:
    """Raises Poison for a pod that carries our label and not our names."""
    about, status, labels = resource["metadata"], resource.get("status") or {}, labels_of(resource)
    try:
        key = Key(labels[TENANT], labels[JOB], int(labels[EPOCH]))
    except (KeyError, ValueError) as error:
        raise Poison(why=f"pod {about.get('namespace')}/{about.get('name')} lacks our labels: {error!r}") from error
    if about["name"] != key.name:
        raise Poison(why=f"pod {about['namespace']}/{about['name']} carries the labels of {key.name}")
    return PodSeen(
        key=key,
        namespace=about["namespace"],
        uid=about["uid"],
        phase=status.get("phase", "Pending"),
        node=resource["spec"].get("nodeName"),
        reason=status.get("reason") or _disruption(status),
        message=status.get("message") or "",
        deleting=about.get("deletionTimestamp") is not None,
        deletion_grace_seconds=float(about.get("deletionGracePeriodSeconds") or 0),
        finalizers=tuple(about.get("finalizers") or ()),
        unschedulable=_unschedulable(status),
        containers=tuple(
            _container(told) for of in ("initContainerStatuses", "containerStatuses") for told in status.get(of) or ()
        ),
        steps=_steps(about.get("annotations") or {}),
        memory_bytes=_memory_limit(resource["spec"]),
    )


def slim(resource: Resource) -> Resource:
    """A pod without what nobody here looks at, which is most of it."""
    about, spec = resource["metadata"], resource["spec"]
    containers = [{name: each[name] for name in _OF_CONTAINER if name in each} for each in spec["containers"]]
    return {
        "metadata": {name: value for name, value in about.items() if name != "managedFields"},
        "spec": {**{name: spec[name] for name in _OF_SPEC if name in spec}, "containers": containers},
        "status": resource.get("status") or {},
    }


_OF_CONTAINER = ("name", "image", "resources", "restartPolicy")
_OF_SPEC = ("nodeName", "initContainers", "resources", "overhead")


def _condition(status: Resource, kind: str) -> Resource | None:
    return next((told for told in status.get("conditions") or () if told["type"] == kind), None)


def _unschedulable(status: Resource) -> str | None:
    told = _condition(status, "PodScheduled")
    if told is None or told["status"] != "False" or told.get("reason") != "Unschedulable":
        return None
    return told.get("message") or "no node fits"


def _disruption(status: Resource) -> str:
    """Why Kubernetes itself is ending the pod, as it says since 1.26."""
    told = _condition(status, "DisruptionTarget")
    return str(told.get("reason") or "") if told is not None and told["status"] == "True" else ""


def _container(told: Resource) -> ContainerSeen:
    state: dict[str, Any] = told.get("state") or {}
    kind: Literal["waiting", "running", "terminated"] = (
        "terminated" if "terminated" in state else "running" if "running" in state else "waiting"
    )
    detail = state.get(kind) or {}
    last = (told.get("lastState") or {}).get("terminated") or {}
    return ContainerSeen(
        name=told["name"],
        state=kind,
        reason=detail.get("reason") or "",
        message=detail.get("message") or "",
        exit_code=detail.get("exitCode"),
        restarts=told.get("restartCount", 0),
        last_reason=last.get("reason") or "",
        last_exit_code=last.get("exitCode"),
        last_message=last.get("message") or "",
    )


def _memory_limit(spec: Resource) -> int | None:
    step: Resource = next((each for each in spec["containers"] if each["name"] != STEP_CTL), {})
    limits = (step.get("resources") or {}).get("limits") or {}
    return whole(limits["memory"]) if "memory" in limits else None


def _steps(annotations: Resource) -> dict[str, tuple[int, ...]]:
    pairs = (word.partition("=") for word in str(annotations.get(STEPS, "")).split())
    return {
        name: tuple(int(number) for number in numbers.split(",") if number.isdecimal()) for name, _, numbers in pairs
    }


def trouble(pod: PodSeen) -> tuple[Trouble, ContainerSeen | None] | None:
    """What keeps the pod from running its attempt to the end, and which container it is about; None while all may
    still go well.
    """
    if pod.reason == "DeadlineExceeded":
        return "deadline", None
    if pod.reason == "Evicted" or "Eviction" in pod.reason or "Preemption" in pod.reason:
        return "evicted", None
    if pod.reason in _NODE or pod.phase == "Unknown":
        return "node_lost", None
    for container in pod.containers:
        if (found := _of_container(container)) is not None:
            return found, container
    return ("unschedulable", None) if pod.unschedulable is not None else None


def _of_container(container: ContainerSeen) -> Trouble | None:
    if container.reason in _COMMAND or container.last_reason in _COMMAND:
        return "bad_command"
    # Where control groups are of version 1 a killed child leaves this word behind though the container went on: the
    # container's own exit code tells the two apart.
    ends = ((container.reason, container.exit_code), (container.last_reason, container.last_exit_code))
    if ("OOMKilled", _KILLED) in ends and container.name != STEP_CTL:
        return "out_of_memory"
    if container.state != "waiting":
        return None
    if _is_no_entrypoint(container):
        return "no_entrypoint"
    return "image_pull" if container.reason in _IMAGE else "config" if container.reason in _CONFIG else None


def _is_no_entrypoint(container: ContainerSeen) -> bool:
    """An entrypoint exits 0 whatever its steps did, or says that it can't do its work, which it may once; when it was
    killed it goes on from the files. Any other code is not its own: what a node's processor can't run ends a container
    only after the runtime started it.
    """
    code = container.last_exit_code or 0
    may_go_well = code == 0 or code > _SIGNALLED or (code == _CANNOT and container.restarts == 0)
    return container.reason == "CrashLoopBackOff" and container.name != STEP_CTL and not may_go_well
