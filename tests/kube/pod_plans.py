"""Plans that tests make pods of."""

from dataclasses import replace
from typing import Any

from runner.agent.model import Key
from runner.controller.grouping import containers
from runner.controller.model import PodPlan
from shared.needs import GIB, Needs
from shared.pods import PodTemplate
from shared.spec import JobSpec
from shared.spec_reading import admit_spec

NEEDS = Needs(cpu_millis=1000, memory_bytes=2 * GIB, disk_bytes=10 * GIB)


def spec_of(*steps: dict[str, Any], **more: Any) -> JobSpec:
    return admit_spec({"name": "a job", "steps": list(steps), **more})


def plan_of(spec: JobSpec, template: PodTemplate | None = None, **changes: Any) -> PodPlan:
    template = template or PodTemplate()
    plan = PodPlan(
        cluster="c1",
        key=Key("acme", "j0123456789", 1),
        namespace="overspill-acme",
        spec=spec,
        groups=tuple(containers(spec, template)),
        needs=NEEDS,
        template=template,
        step_ctl_image="registry.test/overspill-step-ctl:1",
        default_image="registry.test/base:1",
        pool="fixed",
        timeout_seconds=3600,
        grace_seconds=10,
    )
    return replace(plan, **changes)


ONE = plan_of(spec_of({"run": "make"}))
SEVERAL = plan_of(
    spec_of(
        {"name": "database", "image": "postgres:17", "run": "exec postgres", "background": True, "ready": "pg_isready"},
        {"name": "build", "image": "python:3.13", "run": "make", "env": {"SECRET": "s3cr3t"}},
        {"name": "test", "image": "python:3.13", "run": "make test"},
    ),
    node="node-7",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
)
ECI = plan_of(
    spec_of(
        *({"image": "python:3.13", "run": f"echo {n}"} for n in range(1, 25)),
        {"image": "golang:1.26", "run": "go test"},
    ),
    PodTemplate(
        labels={"alibabacloud.com/eci": "true"},
        annotations={
            "k8s.aliyun.com/eci-image-cache": "true",
            "k8s.aliyun.com/eci-spot-strategy": "SpotAsPriceGo",
            "k8s.aliyun.com/eci-use-specs": "2-4Gi,ecs.c6.large",
        },
        node_selector={"type": "virtual-kubelet"},
        tolerations=[{"key": "virtual-kubelet.io/provider", "value": "alibabacloud", "effect": "NoSchedule"}],
        container_limit=20,
        share_containers="limit",
        pod_resources=False,
    ),
    pool="eci",
)
LOCKED = plan_of(
    spec_of({"run": "make"}),
    PodTemplate(runtime_class="kata", image_pull_secrets=["registry"], run_as_user=1000),
)
INSTALLED = plan_of(spec_of({"run": "make"}), PodTemplate(entrypoint_from="init-container"))
PLANS = {
    "one-step": ONE,
    "several-steps": SEVERAL,
    "eci": ECI,
    "runtime-class": LOCKED,
    "init-container": INSTALLED,
}
