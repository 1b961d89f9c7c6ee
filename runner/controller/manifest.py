"""An attempt's pod and its secret, as JSON. Pure: the same plan gives the same bytes, and golden files hold them.

All containers start at once, step-ctl among them; nothing is pulled or run before them. The entrypoint lies
in a ConfigMap volume, scripts and environments in a Secret's: the pod's spec shows neither.
"""

import base64
from collections.abc import Mapping
from typing import Any

from runner.controller.model import APP, CLUSTER, EPOCH, FINALIZER, JOB, LABEL, STEP_CTL, STEPS, TENANT, PodPlan
from runner.protocol.attempt import NODE_VARIABLE
from shared.kube import Resource
from shared.needs import Needs

BIN, PLAN, ATTEMPT, OWN = "/overspill/bin", "/overspill/plan", "/overspill/job", "/overspill/own"
"""Where a container finds the entrypoint, its plan, the attempt directory; where step-ctl finds its credential."""
ENTRYPOINTS = "overspill-entrypoint"
"""The immutable ConfigMap with the binary, a key per architecture."""
IMAGE_ENTRYPOINT = "/opt/overspill/entrypoint/own"
"""Where step-ctl's image has the one of its own architecture."""
INSTALLER = "entrypoint"
ATTEMPT_KEY = "attempt.json"
DEADLINE_EXTRA_SECONDS = 120
STEP_CTL_EXTRA_SECONDS = 20
"""Past the steps' grace: to tell how they ended, and what they wrote."""
STEP_CTL_GROUP = 65532
"""Owns the pod's volumes: step-ctl runs as a user of this group, and so do the steps beside what their image says."""
STEP_CTL_CPU_MILLIS, STEP_CTL_MEMORY_BYTES = 1000, 128 * 2**20
"""What step-ctl may use beyond the job's machine; not requested, for it is idle most of the time."""
_BINARY_LIMIT = "8Mi"
_READ_ONLY, _EXECUTABLE, _GROUP_ONLY = 0o444, 0o555, 0o440


def pod(plan: PodPlan, architecture: str = "amd64") -> Resource:
    template = plan.template
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": plan.name,
            "namespace": plan.namespace,
            "labels": {**template.labels, **labels(plan)},
            "annotations": {**template.annotations, **_annotations(plan)},
            "finalizers": [FINALIZER],
        },
        "spec": {
            # Whoever is killed comes back and goes on from the files; who is done exits 0, whatever a step did.
            "restartPolicy": "OnFailure",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": round(plan.timeout_seconds + plan.grace_seconds) + DEADLINE_EXTRA_SECONDS,
            "terminationGracePeriodSeconds": round(plan.grace_seconds) + STEP_CTL_EXTRA_SECONDS,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "fsGroup": STEP_CTL_GROUP},
            **({"initContainers": [_installer(plan)]} if _is_installed(plan) else {}),
            "containers": _containers(plan),
            "volumes": _volumes(plan, architecture),
            **_placement(plan),
            **({"resources": _machine(plan.needs)} if template.pod_resources else {}),
        },
    }


def secret(plan: PodPlan, plans: Mapping[str, bytes], attempt: bytes) -> Resource:
    """`plans`: by step, as `runner.protocol.plan` packs them. `attempt`: attempt.json."""
    data = {ATTEMPT_KEY: attempt, **plans}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": plan.name, "namespace": plan.namespace, "labels": labels(plan)},
        "immutable": True,
        "type": f"{LABEL}/attempt",
        "data": {key: base64.b64encode(value).decode() for key, value in sorted(data.items())},
    }


def labels(plan: PodPlan) -> dict[str, str]:
    return {
        "app": APP,
        "app.kubernetes.io/managed-by": "overspill",
        CLUSTER: plan.cluster,
        TENANT: plan.key.tenant,
        JOB: plan.key.job,
        EPOCH: str(plan.key.epoch),
    }


def container_name(group: tuple[int, ...]) -> str:
    return f"step-{group[0]}"


def _annotations(plan: PodPlan) -> dict[str, str]:
    named = {
        f"{LABEL}/pool": plan.pool,
        STEPS: " ".join(f"{container_name(group)}={','.join(map(str, group))}" for group in plan.groups),
    }
    return named if plan.traceparent is None else {**named, f"{LABEL}/traceparent": plan.traceparent}


def _containers(plan: PodPlan) -> list[Resource]:
    """As a kubelet starts them, one after the other. The first step needs nobody to begin, unless there is a source to
    fetch; step-ctl, whose own start is on the way to the verdict, is next.
    """
    steps = [_steps(plan, group) for group in plan.groups]
    first = steps[:1] if plan.spec.source == "none" else []
    return [*first, _step_ctl(plan), *steps[len(first) :]]


def _is_installed(plan: PodPlan) -> bool:
    return plan.template.entrypoint_from == "init-container"


def _installer(plan: PodPlan) -> Resource:
    """Where no ConfigMap's file may be executed: the binary of step-ctl's image, which is the node's."""
    return {
        "name": INSTALLER,
        "image": plan.step_ctl_image,
        "imagePullPolicy": "IfNotPresent",
        "command": [IMAGE_ENTRYPOINT, "install", BIN],
        "volumeMounts": [_mount("bin", BIN)],
        "securityContext": _AS_STEP_CTL,
        "resources": {"requests": _NOTHING, "limits": _amounts(plan.needs)},
    }


def _step_ctl(plan: PodPlan) -> Resource:
    return {
        "name": STEP_CTL,
        "image": plan.step_ctl_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--pod", ATTEMPT, "--attempt", f"{OWN}/{ATTEMPT_KEY}"],
        "env": [
            {"name": NODE_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            *({"name": name, "value": value} for name, value in sorted(plan.environment.items())),
        ],
        "volumeMounts": [
            _mount("attempt", ATTEMPT),
            _mount("own", OWN, read_only=True),
            _mount("bin", BIN, read_only=True),
        ],
        "securityContext": _AS_STEP_CTL,
        "resources": {
            "requests": _NOTHING if plan.template.pod_resources else _amounts(plan.needs),
            "limits": _amounts(plan.needs, STEP_CTL_CPU_MILLIS, STEP_CTL_MEMORY_BYTES),
        },
    }


def _steps(plan: PodPlan, group: tuple[int, ...]) -> Resource:
    numbers = [f"{number:03d}" for number in group]
    user = plan.template.run_as_user
    return {
        "name": container_name(group),
        "image": plan.spec.steps[group[0] - 1].image or plan.default_image,
        "imagePullPolicy": "IfNotPresent",
        "command": [f"{BIN}/entrypoint", "run", "--tee", "--plan", PLAN, ATTEMPT, *numbers],
        "workingDir": ATTEMPT,
        "volumeMounts": [
            _mount("attempt", ATTEMPT),
            _mount("plan", PLAN, read_only=True),
            _mount("bin", BIN, read_only=True),
        ],
        "securityContext": _LOCKED if user is None else {**_LOCKED, "runAsUser": user, "runAsNonRoot": True},
        "resources": {"requests": _NOTHING, "limits": _amounts(plan.needs)},
    }


_LOCKED: Resource = {
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "capabilities": {"drop": ["ALL"]},
}
_AS_STEP_CTL: Resource = {
    **_LOCKED,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": STEP_CTL_GROUP,
}


def _mount(name: str, path: str, *, read_only: bool = False) -> Resource:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _volumes(plan: PodPlan, architecture: str) -> list[Resource]:
    steps = [f"{number:03d}" for number in range(1, len(plan.spec.steps) + 1)]
    return [
        {"name": "attempt", "emptyDir": {"sizeLimit": str(plan.needs.disk_bytes)}},
        {"name": "bin", **_binary(plan, architecture)},
        {"name": "plan", "secret": _of_secret(plan, steps, _READ_ONLY)},
        {"name": "own", "secret": _of_secret(plan, [ATTEMPT_KEY], _GROUP_ONLY)},
    ]


def _binary(plan: PodPlan, architecture: str) -> Resource:
    if _is_installed(plan):
        return {"emptyDir": {"sizeLimit": _BINARY_LIMIT}}
    items = [{"key": architecture, "path": "entrypoint"}]
    return {"configMap": {"name": ENTRYPOINTS, "items": items, "defaultMode": _EXECUTABLE}}


def _of_secret(plan: PodPlan, keys: list[str], mode: int) -> Resource:
    return {
        "secretName": plan.name,
        "items": [{"key": key, "path": key} for key in keys],
        "defaultMode": mode,
    }


def _placement(plan: PodPlan) -> Resource:
    template = plan.template
    placed: dict[str, Any] = {}
    if template.node_selector:
        placed["nodeSelector"] = dict(template.node_selector)
    if template.tolerations:
        placed["tolerations"] = list(template.tolerations)
    if template.runtime_class is not None:
        placed["runtimeClassName"] = template.runtime_class
    if template.image_pull_secrets:
        placed["imagePullSecrets"] = [{"name": name} for name in template.image_pull_secrets]
    if plan.node is not None:
        match = {"key": "metadata.name", "operator": "In", "values": [plan.node]}
        preference = {"weight": 100, "preference": {"matchFields": [match]}}
        placed["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}
    return placed


_NOTHING: Resource = {"cpu": "0", "memory": "0"}


def _machine(needs: Needs) -> Resource:
    """One machine for the job, not one a step: it is requested once, by the pod or, where the server knows no resources
    of pods, by step-ctl's container. A step is limited to all of it; step-ctl has room of its own beyond that, so that
    it is as quick beside a small machine's steps as beside a large one's.
    """
    return {
        "requests": _amounts(needs),
        "limits": _amounts(needs, STEP_CTL_CPU_MILLIS, STEP_CTL_MEMORY_BYTES),
    }


def _amounts(needs: Needs, cpu_millis: int = 0, memory_bytes: int = 0) -> Resource:
    return {"cpu": f"{needs.cpu_millis + cpu_millis}m", "memory": str(needs.memory_bytes + memory_bytes)}
